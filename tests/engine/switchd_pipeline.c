/* A hand-written pipeline for tests of the switch process: no compiler of P4 programs needed.
 *
 *   ports      1 <-> 2; with register 0 cell 0 set, port 1 -> 3; 3 -> 1; 4 sends back where it came from
 *   0x88b6     punted to the CPU port behind a packet_in header (ingress port 9 bits, reason 7 bits)
 *   0x88b7     digest 0 with the frame's length (u32)
 *   0x88c0 + p with priority p; bytes 18 to 25 tell the queue's depth in packets and the wait in us
 *   CPU port   packet_out header: egress port 9 bits, opcode 7 bits
 *   generator  HEARTBEAT: a 60-byte frame of type 0x88b5 with the time; PORT_DOWN: digest 1 with the port (u32)
 *   register 1 cell i: time (us, 48 bits) of the last heartbeat seen on port i
 *   TABLE_WRITE of UINT32_MAX updates: sets register 1 cell 7, waits until a write that overtakes it sets register 0
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sp_engine.h"

struct sp_switch {
    struct sp_options options;
    uint8_t bit;
    uint64_t seen[8];
    uint64_t down[8]; /* as told by port_status */
    uint64_t writes, ahead;
    struct sp_stats stats;
    uint8_t reply[8192];
};

static struct sp_switch *create(const struct sp_options *options)
{
    struct sp_switch *sw = calloc(1, sizeof *sw);
    if (sw)
        sw->options = *options;
    return sw;
}

static void destroy(struct sp_switch *sw) { free(sw); }

static void put(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void emit(struct sp_switch *sw, uint32_t in, uint32_t out, const uint8_t *data, uint32_t len, uint32_t priority)
{
    struct sp_tx tx = {.ingress_port = in, .priority = priority};
    struct sp_queue queue = {0};
    sw->options.queue(sw->options.user, out, priority, &queue);
    sw->stats.emitted++;
    sw->options.emit(sw->options.user, out, data, len, &tx);
}

static void process(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len, uint64_t now)
{
    uint8_t out[60] = {0};
    sw->stats.received++;
    if (port == 509 && len >= 18) {
        uint32_t index = (uint32_t)frame[4] << 8 | frame[5];
        if ((frame[1] & 127) == 3) {
            memcpy(out, "\x01\x80\xc2\x00\x00\x0e\x02\x00\x00\x00\x00\x01\x88\xb5", 14);
            put(out + 14, now / 1000, 8);
            emit(sw, port, index, out, sizeof out, 7);
        } else {
            put(out, index, 4);
            sw->stats.digests++;
            sw->options.digest(sw->options.user, 1, out, 4, now);
        }
    } else if (port == 510 && len >= 2) {
        emit(sw, port, (uint32_t)frame[0] << 1 | frame[1] >> 7, frame + 2, len - 2, 0);
    } else if (len >= 14) {
        uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);
        if (type == 0x88b5) {
            sw->seen[port & 7] = now / 1000;
        } else if (type == 0x88b6 && len <= 4096) {
            uint8_t punted[4098];
            put(punted, port << 7, 2);
            memcpy(punted + 2, frame, len);
            emit(sw, port, 510, punted, len + 2, 0);
        } else if (type == 0x88b7) {
            put(out, len, 4);
            sw->stats.digests++;
            sw->options.digest(sw->options.user, 0, out, 4, now);
        } else {
            uint32_t to = port == 1 ? (sw->bit ? 3 : 2) : port == 4 ? 4 : 1;
            if ((type & 0xfff8) != 0x88c0 || len < 26 || len > 2048) {
                emit(sw, port, to, frame, len, 0);
                return;
            }
            uint8_t told[2048];
            struct sp_queue queue = {0};
            sw->options.queue(sw->options.user, to, type & 7, &queue);
            memcpy(told, frame, len);
            put(told + 18, queue.enq_qdepth, 4);
            put(told + 22, queue.deq_timedelta_us, 4);
            emit(sw, port, to, told, len, type & 7);
        }
    }
}

static const char INFO[] =
    "{\"name\":\"switchd-test\",\"tables\":[],\"actions\":[],\"profiles\":[],\"registers\":["
    "{\"name\":\"bit\",\"width\":1,\"size\":1,\"table\":null},{\"name\":\"seen\",\"width\":48,\"size\":8,\"table\":null},"
    "{\"name\":\"down\",\"width\":48,\"size\":8,\"table\":null}],"
    "\"counters\":[],\"meters\":[],\"digests\":[{\"name\":\"length\",\"fields\":[[\"length\",32]]},"
    "{\"name\":\"port_down\",\"fields\":[[\"port\",32]]}],\"packet_out_bytes\":2,\"packet_in_bytes\":2,\"value_sets\":[]}";

static uint32_t say(struct sp_switch *sw, uint32_t code, const char *text, const uint8_t **reply, uint32_t *len)
{
    *len = (uint32_t)strlen(text);
    memcpy(sw->reply, text, *len);
    *reply = sw->reply;
    return code;
}

/* A command that ends when another one, which overtakes it, has set the bit: at the latest after a minute, ABORTED. */
static uint32_t wait(struct sp_switch *sw, const uint8_t **reply, uint32_t *reply_len)
{
    struct timespec now;
    sw->seen[7] = 1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    for (time_t end = now.tv_sec + 60; !sw->bit; clock_gettime(CLOCK_MONOTONIC, &now)) {
        if (now.tv_sec > end)
            return say(sw, SP_ABORTED, "nobody has overtaken", reply, reply_len);
        sw->options.breathe(sw->options.user);
    }
    return SP_OK;
}

static uint32_t command(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now,
                        const uint8_t **reply, uint32_t *reply_len)
{
    uint32_t reg = 0, index = 0, count = 0;
    *reply = sw->reply;
    *reply_len = 0;
    if (op == SP_OP_INFO)
        return say(sw, SP_OK, INFO, reply, reply_len);
    if (op == SP_OP_TABLE_WRITE) { /* slow on purpose: 2 us an update */
        if (len < 5)
            return say(sw, SP_INVALID_ARGUMENT, "too short", reply, reply_len);
        memcpy(&count, request + 1, 4);
        if (count == UINT32_MAX)
            return wait(sw, reply, reply_len);
        if (count > sizeof sw->reply)
            return say(sw, SP_RESOURCE_EXHAUSTED, "too many", reply, reply_len);
        for (volatile uint32_t i = 0; i < count * 2000; i++)
            ;
        sw->writes += count;
        memset(sw->reply, 0, count);
        *reply_len = count;
        return SP_OK;
    }
    if (op == SP_OP_STATS) {
        memcpy(sw->reply, &sw->stats, sizeof sw->stats);
        *reply_len = sizeof sw->stats;
        return SP_OK;
    }
    if (op != SP_OP_REGISTER_WRITE && op != SP_OP_REGISTER_READ)
        return say(sw, SP_UNIMPLEMENTED, "not in the test pipeline", reply, reply_len);
    if (len < 9)
        return say(sw, SP_INVALID_ARGUMENT, "too short", reply, reply_len);
    memcpy(&reg, request, 4);
    memcpy(&index, request + 4, 4);
    if (op == SP_OP_REGISTER_WRITE) {
        if (reg != 0 || index != 0 || len != 9)
            return say(sw, SP_NOT_FOUND, "no such cell", reply, reply_len);
        sw->bit = request[8];
        memcpy(sw->reply, &now, 8);
        *reply_len = 8;
        return SP_OK;
    }
    if (len != 12)
        return say(sw, SP_INVALID_ARGUMENT, "wrong length", reply, reply_len);
    memcpy(&count, request + 8, 4);
    if (reg > 2 || index >= 8 || count > 8 - index)
        return say(sw, SP_OUT_OF_RANGE, "no such cell", reply, reply_len);
    if (reg == 0) {
        sw->reply[0] = sw->bit;
        *reply_len = 1;
        return SP_OK;
    }
    for (uint32_t i = 0; i < count; i++)
        put(sw->reply + 6 * i, reg == 1 ? sw->seen[index + i] : sw->down[index + i], 6);
    *reply_len = 6 * count;
    return SP_OK;
}

/* In the middle of the command that waits for it, too. */
static uint32_t overtake(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now,
                         const uint8_t **reply, uint32_t *reply_len)
{
    if (op != SP_OP_REGISTER_WRITE && op != SP_OP_REGISTER_READ)
        return SP_LATER;
    return command(sw, op, request, len, now, reply, reply_len);
}

static void port_status(struct sp_switch *sw, uint32_t port, int up) { sw->down[port & 7] = !up; }

static void tick(struct sp_switch *sw, uint64_t now)
{
    (void)sw;
    (void)now;
}

static const struct sp_stats *stats(const struct sp_switch *sw) { return &sw->stats; }

/* Reads all of a frame that is still waiting: it must be there. */
static int ahead(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len)
{
    (void)port;
    for (uint32_t i = 0; frame && i < len; i++)
        sw->ahead += frame[i];
    return 1;
}

__attribute__((visibility("default"))) const struct sp_engine *sp_engine(void)
{
    static const struct sp_engine engine = {
        .abi = SP_ENGINE_ABI, .name = "switchd-test", .info = INFO, .key = "test", .create = create,
        .destroy = destroy, .process = process, .command = command, .port_status = port_status, .tick = tick,
        .stats = stats, .ahead = ahead, .overtake = overtake,
    };
    return &engine;
}
