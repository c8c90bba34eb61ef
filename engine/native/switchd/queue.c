/* Queues before the ports: eight of strict priority, larger first, served while the line or their own rate lets them.
 *
 * A queue may have a rate, in packets or in bits per second, and a depth of its own, as BMv2's set_queue_rate and
 * set_queue_depth give them. One that has to wait for its own rate does not keep the others waiting. */
#include <math.h>
#include <string.h>

#include "json.h"
#include "sp_engine.h"
#include "switchd.h"

void queue_configure(struct port *port, uint64_t now)
{
    port->tx_shaped = impairment_active(&port->base, &port->fault, P_RATE_MBPS, now);
    for (int b = 0; b < QUEUE_BANDS; b++)
        port->tx_shaped |= port->bands[b].pps > 0 || port->bands[b].mbps > 0;
}

static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ns that a packet keeps its queue from sending the next one. */
static uint64_t band_interval(const struct queue_band *band, uint32_t len)
{
    double ns = band->pps > 0 ? 1e9 / band->pps : 0;
    return (uint64_t)fmax(ns, band->mbps > 0 ? len * 8000.0 / band->mbps : 0);
}

/* When the next packet can start, with its queue; NEVER if there is none. */
static uint64_t next_start(const struct port *port, int *chosen)
{
    uint64_t best = NEVER;
    for (int b = QUEUE_BANDS - 1; b >= 0; b--) {
        const struct queue_band *band = &port->bands[b];
        if (!band->packets.head)
            continue;
        uint64_t start = later(later(band->packets.head->time, port->link_free), band->next);
        if (start < best) {
            best = start;
            *chosen = b;
        }
    }
    return best;
}

void queue_put(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len, unsigned priority)
{
    if (!port->tx_shaped && !port->queued && !port->sending) {
        port_send(sw, port, data, len);
        return;
    }
    struct queue_band *band = &port->bands[priority < QUEUE_BANDS ? priority : QUEUE_BANDS - 1];
    double limit = band->depth;
    if (!band->depth)
        limit = impairment_value(&port->base, &port->fault, P_QUEUE_PACKETS, sw->now);
    struct packet *p = band->packets.count < limit ? packet_new(data, len) : NULL;
    if (!p) {
        port->count.tx_dropped++;
        band->dropped++;
        return;
    }
    p->time = sw->now;
    fifo_push(&band->packets, p);
    if (++port->queued > port->queue_max)
        port->queue_max = port->queued;
    queue_run(sw, port, sw->now);
}

uint64_t queue_due(const struct port *port)
{
    int band;
    if (port->sending)
        return port->sending->time;
    return port->queued ? next_start(port, &band) : NEVER;
}

void queue_run(struct switchd *sw, struct port *port, uint64_t now)
{
    for (;;) {
        if (port->sending) {
            if (port->sending->time > now)
                return;
            port_send(sw, port, port->sending->data, port->sending->len);
            packet_free(port->sending);
            port->sending = NULL;
        }
        int b = 0;
        uint64_t start = port->queued ? next_start(port, &b) : NEVER;
        if (start > now)
            return; /* until then a packet of higher priority may come */
        struct queue_band *band = &port->bands[b];
        struct packet *p = fifo_pop(&band->packets);
        port->queued--;
        double mbps = impairment_value(&port->base, &port->fault, P_RATE_MBPS, start);
        band->next = start + band_interval(band, p->len);
        port->link_free = start + (mbps > 0 ? (uint64_t)(p->len * 8000.0 / mbps) : 0);
        p->time = port->link_free;
        port->sending = p;
    }
}

uint32_t queue_length(const struct port *port, unsigned priority)
{
    return port->bands[priority < QUEUE_BANDS ? priority : QUEUE_BANDS - 1].packets.count;
}

uint64_t queue_wait(struct port *port, unsigned priority, uint64_t now)
{
    unsigned own = priority < QUEUE_BANDS ? priority : QUEUE_BANDS - 1;
    const struct queue_band *band = &port->bands[own];
    double mbps = impairment_value(&port->base, &port->fault, P_RATE_MBPS, now), bytes = 0;
    for (unsigned b = own; b < QUEUE_BANDS; b++) /* these go first */
        bytes += (double)port->bands[b].packets.bytes;
    double line = port->link_free > now ? (double)(port->link_free - now) : 0;
    line += mbps > 0 ? bytes * 8000 / mbps : 0;
    double rate = band->next > now ? (double)(band->next - now) : 0;
    double each = band->pps > 0 ? band->packets.count * 1e9 / band->pps : 0;
    rate += fmax(each, band->mbps > 0 ? (double)band->packets.bytes * 8000 / band->mbps : 0);
    return (uint64_t)fmax(line, rate);
}

void queue_clear(struct port *port)
{
    for (int b = 0; b < QUEUE_BANDS; b++)
        fifo_clear(&port->bands[b].packets);
    packet_free(port->sending);
    port->sending = NULL;
    port->queued = 0;
}

void queue_statistics(const struct port *port, struct buffer *out)
{
    bool first = true;
    buffer_printf(out, ",\"queues\":[");
    for (int b = 0; b < QUEUE_BANDS; b++) {
        const struct queue_band *band = &port->bands[b];
        if (!band->packets.count && !band->dropped && !band->pps && !band->mbps && !band->depth)
            continue;
        buffer_printf(out,
                      "%s{\"priority\":%d,\"packets\":%u,\"dropped\":%llu,\"rate_pps\":%.17g,\"rate_mbps\":%.17g,"
                      "\"depth\":%u}",
                      first ? "" : ",", b, band->packets.count, (unsigned long long)band->dropped, band->pps,
                      band->mbps, band->depth);
        first = false;
    }
    buffer_printf(out, "]");
}

/* A number of [0, most], or null for 0; left alone when it is absent. */
static bool setting(const struct json *request, const char *name, double most, double *value, bool *given)
{
    const struct json *v = json_get(request, name);
    *given = v != NULL;
    *value = 0;
    if (!v || v->type == JSON_NULL)
        return true;
    *value = v->number;
    return v->type == JSON_NUMBER && v->number >= 0 && v->number <= most;
}

int queue_command(struct switchd *sw, const struct json *request, struct buffer *out)
{
    static const char *const known[] = {"port", "priority", "rate_pps", "rate_mbps", "depth", NULL};
    const struct json *number = json_get(request, "port"), *priority = json_get(request, "priority");
    bool every = !number || number->type == JSON_NULL, all = !priority || priority->type == JSON_NULL;
    struct port *port = every ? NULL : command_port(sw, number);
    double pps, mbps, depth;
    bool has_pps, has_mbps, has_depth;
    if (!command_keys(request, known, out))
        return SP_INVALID_ARGUMENT;
    if (!every && !port)
        return command_refuse(out, SP_NOT_FOUND, "no such port", NULL);
    if (!all && (priority->type != JSON_NUMBER || !(priority->number >= 0 && priority->number < QUEUE_BANDS) ||
                 priority->number != floor(priority->number)))
        return command_refuse(out, SP_INVALID_ARGUMENT, "priority must be 0 to 7", NULL);
    if (!setting(request, "rate_pps", 1e9, &pps, &has_pps))
        return command_refuse(out, SP_INVALID_ARGUMENT, "rate_pps must be 0 (unlimited) to 1e9", NULL);
    if (!setting(request, "rate_mbps", 1e6, &mbps, &has_mbps))
        return command_refuse(out, SP_INVALID_ARGUMENT, "rate_mbps must be 0 (unlimited) to 1e6", NULL);
    if (!setting(request, "depth", 1e6, &depth, &has_depth) || depth != floor(depth))
        return command_refuse(out, SP_INVALID_ARGUMENT, "depth must be 0 (the port's) to 1000000 packets", NULL);
    if (!has_pps && !has_mbps && !has_depth)
        return command_refuse(out, SP_INVALID_ARGUMENT, "needs rate_pps, rate_mbps or depth", NULL);
    uint64_t now = mono_ns();
    for (uint32_t i = 0; i < sw->port_count; i++) {
        struct port *one = sw->ports[i];
        if (port && one != port)
            continue;
        for (int b = 0; b < QUEUE_BANDS; b++) {
            struct queue_band *band = &one->bands[b];
            if (!all && b != (int)priority->number)
                continue;
            if (has_pps)
                band->pps = pps;
            if (has_mbps)
                band->mbps = mbps;
            if (has_depth)
                band->depth = (uint32_t)depth;
            if (has_pps || has_mbps)
                band->next = 0; /* a slower rate's turn may be far away */
        }
        queue_configure(one, now);
    }
    return SP_OK;
}
