/* The front panel of a switch that has no impairments of its own (simple_switch_grpc): port N is where its port N's
 * cable is plugged in, port N + 256 leads to the switch behind it, and what comes in at one leaves at the other.
 *
 * The ports lose, delay, limit and queue as the embedded switch's do. Heartbeats overtake the queue, as they do in the
 * embedded switch, where the program gives them the highest priority. There are no tables: every command but INFO and
 * STATS is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "sp_engine.h"

enum { BEHIND = 256, ETHERTYPE_OFFSET = 12, HEARTBEAT = 0x88b5, HIGHEST_PRIORITY = 7 };

struct sp_switch {
    struct sp_options options;
    struct sp_stats stats;
};

static const char INFO[] =
    "{\"name\":\"front\",\"tables\":[],\"actions\":[],\"profiles\":[],\"registers\":[],\"counters\":[],\"meters\":[],"
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
    if (len >= ETHERTYPE_OFFSET + 2 && (frame[ETHERTYPE_OFFSET] << 8 | frame[ETHERTYPE_OFFSET + 1]) == HEARTBEAT)
        tx.priority = HIGHEST_PRIORITY;
    sw->stats.received++;
    sw->stats.emitted++;
    sw->options.emit(sw->options.user, port ^ BEHIND, frame, len, &tx);
}

static uint32_t command(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now,
                        const uint8_t **reply, uint32_t *reply_len)
{
    static const char refusal[] = "a front panel has no tables";
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

/* Nothing is looked up here. */
static int ahead(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len)
{
    (void)sw, (void)port, (void)frame, (void)len;
    return 0;
}

__attribute__((visibility("default"))) const struct sp_engine *sp_engine(void)
{
    static const struct sp_engine engine = {
        .abi = SP_ENGINE_ABI, .name = "front", .info = INFO, .key = "front", .create = create, .destroy = destroy,
        .process = process, .command = command, .port_status = port_status, .tick = tick, .stats = stats,
        .ahead = ahead,
    };
    return &engine;
}
