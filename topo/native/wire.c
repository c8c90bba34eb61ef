/* A pipeline without a program: ports 1 and 2 are the ends of one wire, 3 and 4 of the next, and so on.
 *
 * Links of switches that have no impairments of their own (simple_switch_grpc) run through a switch process with
 * this pipeline, whose ports lose, delay and limit as the embedded switch's do. It has no tables: every command but
 * INFO and STATS is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "sp_engine.h"

struct sp_switch {
    struct sp_options options;
    struct sp_stats stats;
};

static const char INFO[] =
    "{\"name\":\"wire\",\"tables\":[],\"actions\":[],\"profiles\":[],\"registers\":[],\"counters\":[],\"meters\":[],"
    "\"digests\":[],\"packet_out_bytes\":0,\"packet_in_bytes\":0,\"value_sets\":[]}";

static struct sp_switch *create(const struct sp_options *options)
{
    struct sp_switch *sw = calloc(1, sizeof *sw);
    if (sw)
        sw->options = *options;
    return sw;
}

static void destroy(struct sp_switch *sw) { free(sw); }

static void process(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len, uint64_t now)
{
    (void)now;
    struct sp_tx tx = {.ingress_port = port};
    uint32_t other = ((port - 1) ^ 1) + 1;
    sw->stats.received++;
    sw->stats.emitted++;
    sw->options.emit(sw->options.user, other, frame, len, &tx);
}

static uint32_t command(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now,
                        const uint8_t **reply, uint32_t *reply_len)
{
    static const char refusal[] = "a wire has no tables";
    (void)request;
    (void)len;
    (void)now;
    if (op == SP_OP_INFO) {
        *reply = (const uint8_t *)INFO;
        *reply_len = sizeof INFO - 1;
        return SP_OK;
    }
    if (op == SP_OP_STATS) {
        *reply = (const uint8_t *)&sw->stats;
        *reply_len = sizeof sw->stats;
        return SP_OK;
    }
    *reply = (const uint8_t *)refusal;
    *reply_len = sizeof refusal - 1;
    return SP_UNIMPLEMENTED;
}

static void port_status(struct sp_switch *sw, uint32_t port, int up)
{
    (void)sw;
    (void)port;
    (void)up;
}

static void tick(struct sp_switch *sw, uint64_t now)
{
    (void)sw;
    (void)now;
}

static const struct sp_stats *stats(const struct sp_switch *sw) { return &sw->stats; }

__attribute__((visibility("default"))) const struct sp_engine *sp_engine(void)
{
    static const struct sp_engine engine = {
        .abi = SP_ENGINE_ABI, .name = "wire", .info = INFO, .key = "wire", .create = create, .destroy = destroy,
        .process = process, .command = command, .port_status = port_status, .tick = tick, .stats = stats,
    };
    return &engine;
}
