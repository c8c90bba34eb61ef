/* Commands of the switch process itself (0x100 and above); the others go to the program.
 *
 *   HELLO         -                         -> JSON: version, pid, program, ports, statistics
 *   LOAD          path of a shared object   -> -
 *   PORTS         JSON {"add": [{"port": 1, "name": "s1-eth1"}], "remove": [2], "enabled": {"3": false}}
 *   DEVICE_STATE  [u8 keep: queue maxima]   -> struct device_record, n * struct port_record
 *   IMPAIR        JSON, see impair_command.c
 *   PACKET_OUT    frame with controller header, processed as coming from the CPU port
 *   SUBSCRIBE     u32 mask: 1 digests, 2 packet-ins, 4 port status, 8 idle time-outs, 32 traces;
 *                 [n * u32: numbers of the digests that are wanted, from protocol 2 on; without: all of them]
 *   STATE_PUT     u8 length, key, value     (empty value: forget it), see kept.c
 *   STATE_GET     key                       -> value; NOT_FOUND
 *   PKTGEN        JSON {"interval_us": 10000, "port_down": true}
 *   PCAP          directory; empty: stop
 *   SHUTDOWN      -
 *   TRACE         JSON {"path": variant with hooks, "port": 1, "count": 10, "per_second": 10}; events follow
 *   QUEUE         JSON {"port": 1, "priority": 3, "rate_pps": 100, "depth": 10}, see switchd.h
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "sp_engine.h"
#include "switchd.h"

enum {
    OP_HELLO = 0x100,
    OP_LOAD,
    OP_PORTS,
    OP_DEVICE_STATE,
    OP_IMPAIR,
    OP_PACKET_OUT,
    OP_SUBSCRIBE,
    OP_STATE_PUT,
    OP_STATE_GET,
    OP_PKTGEN,
    OP_PCAP,
    OP_SHUTDOWN,
    OP_TRACE,
    OP_QUEUE,
};

struct __attribute__((packed)) device_record {
    uint64_t time;
    double cpu, memory;
    uint32_t backlog, ports;
    uint64_t dropped;
};
struct __attribute__((packed)) port_record {
    uint16_t number;
    uint8_t up, disabled;
    char name[16];
    uint32_t queue_depth, queue_max;
    uint64_t rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, rate_bps;
    double rx_power_dbm, pre_fec_ber;
    uint64_t corrected, uncorrected;
};

/* A counter that senders write, too. */
static uint64_t current(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }

int command_refuse(struct buffer *out, int code, const char *what, const char *detail)
{
    buffer_consume(out, buffer_len(out));
    buffer_printf(out, "%s%s%s", what, detail ? ": " : "", detail ? detail : "");
    return code;
}

static struct json *parse(const uint8_t *data, uint32_t len, struct buffer *out)
{
    size_t offset;
    struct json *v = json_parse((const char *)data, len, &offset);
    if (v && v->type == JSON_OBJECT)
        return v;
    buffer_printf(out, v ? "not a JSON object" : "malformed JSON at byte %zu", offset);
    json_free(v);
    return NULL;
}

/* Every member must be one of `known` (NULL-terminated). */
bool command_keys(const struct json *object, const char *const *known, struct buffer *out)
{
    for (const struct json *m = object->first; m; m = m->next) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], m->key) != 0)
            i++;
        if (!known[i]) {
            buffer_printf(out, "unknown key '%s'", m->key);
            return false;
        }
    }
    return true;
}

struct port *command_port(struct switchd *sw, const struct json *v)
{
    if (!v || v->type != JSON_NUMBER || v->number < 0 || v->number >= MAX_PORTS || v->number != floor(v->number))
        return NULL;
    return sw->by_number[(int)v->number];
}

/* ---- ports ---- */

/* {"1": false}: administrative states by port number. */
static int enabled_command(struct switchd *sw, const struct json *states, struct buffer *out)
{
    if (states && states->type != JSON_OBJECT)
        return command_refuse(out, SP_INVALID_ARGUMENT, "enabled must be an object", NULL);
    for (int apply = 0; apply < 2; apply++) /* all or nothing */
        for (const struct json *m = states ? states->first : NULL; m; m = m->next) {
            char *end;
            unsigned long number = strtoul(m->key, &end, 10);
            struct port *port = *m->key && !*end && number < MAX_PORTS ? sw->by_number[number] : NULL;
            if (!port)
                return command_refuse(out, SP_NOT_FOUND, "no such port", m->key);
            if (m->type != JSON_BOOL)
                return command_refuse(out, SP_INVALID_ARGUMENT, "enabled: true or false", NULL);
            if (apply)
                port_enable(sw, port, m->boolean);
        }
    return SP_OK;
}

static int ports_command(struct switchd *sw, const struct json *request, struct buffer *out)
{
    static const char *const known[] = {"add", "remove", "enabled", NULL}, *const parts[] = {"port", "name", NULL};
    const struct json *add = json_get(request, "add"), *remove = json_get(request, "remove");
    const struct json *enabled = json_get(request, "enabled");
    char error[160];
    if (!command_keys(request, known, out))
        return SP_INVALID_ARGUMENT;
    if ((add && add->type != JSON_ARRAY) || (remove && remove->type != JSON_ARRAY))
        return command_refuse(out, SP_INVALID_ARGUMENT, "add and remove must be lists", NULL);
    for (const struct json *m = remove ? remove->first : NULL; m; m = m->next) {
        struct port *port = command_port(sw, m);
        if (!port)
            return command_refuse(out, SP_NOT_FOUND, "no such port", NULL);
        port_remove(sw, port);
    }
    for (const struct json *m = add ? add->first : NULL; m; m = m->next) {
        const struct json *number = json_get(m, "port"), *name = json_get(m, "name");
        if (m->type != JSON_OBJECT || !command_keys(m, parts, out) || !number || number->type != JSON_NUMBER ||
            !(number->number >= 0 && number->number < MAX_PORTS) || !name || name->type != JSON_STRING)
            return command_refuse(out, SP_INVALID_ARGUMENT, "a port needs port (0..510) and name", NULL);
        if (!port_add(sw, (uint16_t)number->number, name->string, error, sizeof error))
            return command_refuse(out, SP_INVALID_ARGUMENT, error, NULL);
    }
    return enabled_command(sw, enabled, out);
}

static int state_command(struct switchd *sw, bool keep, struct buffer *out)
{
    uint64_t now = mono_ns();
    struct device_record d = {.time = wall_ns(sw, now),
                              .backlog = sw->device.backlog.count,
                              .ports = sw->port_count,
                              .dropped = sw->device.dropped};
    double cpu, memory;
    device_load(sw, now, &cpu, &memory);
    d.cpu = cpu;
    d.memory = memory;
    bool ok = buffer_append(out, &d, sizeof d);
    for (uint32_t i = 0; i < sw->port_count; i++) {
        struct port *p = sw->ports[i];
        port_rx_statistics(p);
        stage_optics(p, now);
        double mbps = impairment_value(&p->base, &p->fault, P_RATE_MBPS, now);
        struct port_record r = {
            .number = p->number, .up = p->up, .disabled = p->disabled, .queue_depth = p->queued, .queue_max = p->queue_max,
            .rx_packets = p->count.rx_packets, .rx_bytes = p->count.rx_bytes,
            .rx_dropped = p->count.rx_dropped + p->count.delay_overflow, .rx_errors = p->count.rx_errors,
            .tx_packets = current(&p->count.tx_packets), .tx_bytes = current(&p->count.tx_bytes), .tx_dropped = p->count.tx_dropped,
            .rate_bps = (uint64_t)(mbps * 1e6), .rx_power_dbm = p->up ? p->optics.power_dbm : OPTICS_DARK_DBM,
            .pre_fec_ber = p->optics.ber, .corrected = (uint64_t)p->optics.corrected,
            .uncorrected = (uint64_t)p->optics.uncorrected};
        memcpy(r.name, p->name, sizeof r.name);
        if (!keep)
            p->queue_max = p->queued;
        ok = ok && buffer_append(out, &r, sizeof r);
    }
    return ok ? SP_OK : SP_RESOURCE_EXHAUSTED;
}

/* ---- the rest ---- */

static int hello_command(struct switchd *sw, struct buffer *out)
{
    const struct statistics *s = &sw->stats;
    buffer_printf(out, "{\"name\":\"shadowplane-switchd\",\"protocol\":2,\"pid\":%d,\"uptime_ns\":%llu,\"cpu_port\":%u,",
                  (int)getpid(), (unsigned long long)(mono_ns() - sw->started), sw->cpu_port);
    buffer_printf(out,
                  "\"pktgen\":{\"port\":%u,\"interval_us\":%llu,\"port_down\":%s,\"defer\":%s,\"relaxed\":%u,"
                  "\"ticks\":%llu,\"skipped\":%llu},",
                  sw->pktgen.port, (unsigned long long)(sw->pktgen.interval / NS_PER_US),
                  sw->pktgen.port_down ? "true" : "false", sw->pktgen.defer ? "true" : "false",
                  1u << sw->pktgen.stretch, (unsigned long long)sw->pktgen.ticks, (unsigned long long)sw->pktgen.skipped);
    buffer_printf(out, "\"senders\":");
    senders_statistics(sw, out);
    buffer_printf(out, ",\"program\":");
    buffer_json_string(out, pipeline_path(sw));
    buffer_printf(out,
                  ",\"statistics\":{\"turns\":%llu,\"sleeps\":%llu,\"packets\":%llu,\"emitted\":%llu,"
                  "\"unknown_port\":%llu,\"no_program\":%llu,\"packet_outs\":%llu,\"send_calls\":%llu,"
                  "\"digests\":%llu,\"digests_unwanted\":%llu,\"longest_pause_us\":%.1f},\"clients\":",
                  (unsigned long long)s->turns, (unsigned long long)s->sleeps, (unsigned long long)s->packets,
                  (unsigned long long)s->emitted, (unsigned long long)s->unknown_port,
                  (unsigned long long)s->no_program, (unsigned long long)s->packet_outs,
                  (unsigned long long)current(&s->send_calls), (unsigned long long)s->digests,
                  (unsigned long long)s->digests_unwanted, (double)s->longest_pause / 1e3);
    sw->stats.longest_pause = 0;
    control_statistics(sw->control, out);
    buffer_printf(out, ",\"ports\":[");
    for (uint32_t i = 0; i < sw->port_count; i++) {
        const struct port *p = sw->ports[i];
        buffer_printf(out, "%s{\"port\":%u,\"name\":", i ? "," : "", p->number);
        buffer_json_string(out, p->name);
        buffer_printf(out,
                      ",\"up\":%s,\"enabled\":%s,\"relaxed\":%s,\"mtu\":%u,\"delayed\":%u,\"injected_loss\":%llu,"
                      "\"injected_corruption\":%llu,"
                      "\"delay_overflow\":%llu,\"tx_failed\":%llu,\"tx_oversize\":%llu,\"capture_lost\":%llu",
                      p->up ? "true" : "false", p->disabled ? "false" : "true", p->relaxed ? "true" : "false", p->mtu, p->delayed.count,
                      (unsigned long long)p->count.injected_loss,
                      (unsigned long long)p->count.injected_corruption, (unsigned long long)p->count.delay_overflow,
                      (unsigned long long)current(&p->count.tx_failed),
                      (unsigned long long)current(&p->count.tx_oversize),
                      (unsigned long long)p->count.capture_lost);
        queue_statistics(p, out);
        buffer_printf(out, "}");
    }
    return buffer_printf(out, "]}") ? SP_OK : SP_RESOURCE_EXHAUSTED;
}

static int text_argument(const uint8_t *data, uint32_t len, char *text, size_t size, struct buffer *out)
{
    if (len >= size || memchr(data, 0, len))
        return command_refuse(out, SP_INVALID_ARGUMENT, "not a path", NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    return SP_OK;
}

static int load_command(struct switchd *sw, const uint8_t *data, uint32_t len, struct buffer *out)
{
    char path[1024], error[512];
    int code = text_argument(data, len, path, sizeof path, out);
    if (code == SP_OK && !pipeline_load(sw, path, error, sizeof error))
        return command_refuse(out, SP_INVALID_ARGUMENT, error, NULL);
    return code;
}

static int pcap_command(struct switchd *sw, const uint8_t *data, uint32_t len, struct buffer *out)
{
    char directory[sizeof sw->pcap_directory];
    int code = text_argument(data, len, directory, sizeof directory, out);
    if (code != SP_OK)
        return code;
    memcpy(sw->pcap_directory, directory, sizeof directory);
    bool started = true;
    for (uint32_t i = 0; i < sw->port_count; i++) {
        pcap_stop(sw, sw->ports[i]);
        started = started && (!directory[0] || pcap_start(sw, sw->ports[i], directory));
    }
    if (started)
        return SP_OK;
    sw->pcap_directory[0] = '\0';
    for (uint32_t i = 0; i < sw->port_count; i++)
        pcap_stop(sw, sw->ports[i]);
    return command_refuse(out, SP_INVALID_ARGUMENT, directory, "no capture files can be written there");
}

static int pktgen_command(struct switchd *sw, const struct json *request, struct buffer *out)
{
    static const char *const known[] = {"interval_us", "port_down", "defer", "relaxed", NULL};
    const struct json *interval = json_get(request, "interval_us"), *down = json_get(request, "port_down");
    const struct json *defer = json_get(request, "defer"), *relaxed = json_get(request, "relaxed");
    if (!command_keys(request, known, out))
        return SP_INVALID_ARGUMENT;
    if (!interval || interval->type != JSON_NUMBER || (down && down->type != JSON_BOOL) ||
        (defer && defer->type != JSON_BOOL) ||
        (relaxed && (relaxed->type != JSON_NUMBER || !(relaxed->number >= 1 && relaxed->number <= 8))) ||
        (interval->number != 0 && !(interval->number >= 100 && interval->number <= 1e9)))
        return command_refuse(out, SP_INVALID_ARGUMENT, "interval_us must be 0 or 100..1e9",
                              "port_down and defer true or false, relaxed 1..8");
    pktgen_configure(sw, (uint64_t)(interval->number * 1e3), down ? down->boolean : interval->number > 0,
                     defer && defer->boolean, relaxed ? (uint32_t)relaxed->number : 1);
    return SP_OK;
}

static int subscribe_command(struct switchd *sw, void *client, const uint8_t *data, uint32_t len, struct buffer *out)
{
    uint32_t mask;
    if (len < sizeof mask || len % sizeof mask)
        return command_refuse(out, SP_INVALID_ARGUMENT, "needs a mask and digests of 4 bytes each", NULL);
    memcpy(&mask, data, sizeof mask);
    control_subscribe(sw, client, mask, data + sizeof mask, len / sizeof mask - 1);
    return SP_OK;
}

static int json_command(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out)
{
    struct json *request = parse(data, len, out);
    if (!request)
        return SP_INVALID_ARGUMENT;
    int code = op == OP_IMPAIR ? impair_command(sw, request, out)
             : op == OP_PORTS  ? ports_command(sw, request, out)
             : op == OP_TRACE  ? pipeline_trace(sw, request, out)
             : op == OP_QUEUE  ? queue_command(sw, request, out)
                               : pktgen_command(sw, request, out);
    json_free(request);
    return code;
}

int command_overtake(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out)
{
    if (op == OP_PACKET_OUT) /* packets pass now */
        return command_execute(sw, NULL, op, data, len, out);
    return op < OP_HELLO ? pipeline_overtake(sw, op, data, len, out) : SP_LATER;
}

int command_execute(struct switchd *sw, void *client, uint16_t op, const uint8_t *data, uint32_t len,
                    struct buffer *out)
{
    if (op < OP_HELLO)
        return pipeline_command(sw, op, data, len, out);
    switch (op) {
    case OP_HELLO:
        return hello_command(sw, out);
    case OP_LOAD:
        return load_command(sw, data, len, out);
    case OP_PORTS:
    case OP_IMPAIR:
    case OP_PKTGEN:
    case OP_TRACE:
    case OP_QUEUE:
        return json_command(sw, op, data, len, out);
    case OP_DEVICE_STATE:
        return state_command(sw, len > 0 && data[0], out);
    case OP_PACKET_OUT:
        if (!pipeline_loaded(sw))
            return command_refuse(out, SP_FAILED_PRECONDITION, "no program is loaded", NULL);
        if (len > MAX_FRAME)
            return command_refuse(out, SP_INVALID_ARGUMENT, "frame longer than 65535 bytes", NULL);
        sw->stats.packet_outs++;
        sw->now = mono_ns();
        pipeline_process(sw, sw->cpu_port, data, len, sw->now);
        ports_flush(sw);
        return SP_OK;
    case OP_SUBSCRIBE:
        return subscribe_command(sw, client, data, len, out);
    case OP_STATE_PUT:
        return kept_put(data, len, out);
    case OP_STATE_GET:
        return kept_get(data, len, out);
    case OP_PCAP:
        return pcap_command(sw, data, len, out);
    case OP_SHUTDOWN:
        sw->stop = true;
        return SP_OK;
    default:
        buffer_printf(out, "unknown operation 0x%x", op);
        return SP_UNIMPLEMENTED;
    }
}
