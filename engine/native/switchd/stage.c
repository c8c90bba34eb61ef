/* What happens to frames before the program: line and transceiver on reception, the device's own capacity behind
 * them. On transmission: queue.c. */
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "switchd.h"

enum { DELAYED_PACKETS = 65536, DELAYED_BYTES = 32 << 20 };
static const double LEAST_CAPACITY = 10; /* packets/s: an overloaded device still moves */
static const uint64_t LOAD_WINDOW = 50 * NS_PER_MS;

void stage_configure(struct port *port, uint64_t now)
{
    static const enum parameter staged[] = {P_LOSS,      P_CORRUPT,        P_DELAY_MS,
                                            P_JITTER_MS, P_ATTENUATION_DB, P_POWER_NOISE_DB};
    port->rx_staged = false;
    for (size_t i = 0; i < sizeof staged / sizeof *staged; i++)
        port->rx_staged |= impairment_active(&port->base, &port->fault, staged[i], now);
    queue_configure(port, now);
    stage_optics(port, now);
}

void stage_optics(struct port *port, uint64_t now)
{
    struct optics *o = &port->optics;
    if (now < o->updated + OPTICS_STEP_NS)
        return;
    /* After a long silence: at most a hundred readings, so that a ramp is followed at bounded cost. */
    uint64_t step = (now - o->updated) / 100;
    if (step < OPTICS_STEP_NS)
        step = OPTICS_STEP_NS;
    while (o->updated + step <= now) {
        uint64_t at = o->updated + step;
        optics_read(o, impairment_value(&port->base, &port->fault, P_ATTENUATION_DB, at),
                    impairment_value(&port->base, &port->fault, P_POWER_NOISE_DB, at), at);
    }
}

static bool happens(struct rng *r, double probability)
{
    return probability > 0 && rng_uniform(r) < probability;
}

void stage_receive(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len, uint64_t time, bool aside)
{
    (void)sw;
    struct rng *rng = &port->fate;
    struct impairment *base = &port->base, *fault = &port->fault;
    stage_optics(port, time);
    if (happens(rng, optics_frame_loss(port->optics.word_error, len))) {
        port->count.rx_errors++;
        return;
    }
    if (happens(rng, impairment_value(base, fault, P_LOSS, time))) {
        port->count.injected_loss++;
        return;
    }
    if (port->delayed.count >= DELAYED_PACKETS || port->delayed.bytes >= DELAYED_BYTES) {
        port->count.delay_overflow++;
        return;
    }
    struct packet *p = packet_new(data, len);
    if (!p) {
        port->count.rx_dropped++;
        return;
    }
    if (happens(rng, impairment_value(base, fault, P_CORRUPT, time))) {
        uint64_t bit = rng_next(rng) >> 16;
        p->data[bit / 8 % len] ^= (uint8_t)(1u << (bit % 8));
        port->count.injected_corruption++;
    }
    double delay = impairment_value(base, fault, P_DELAY_MS, time) * 1e6;
    double jitter = impairment_value(base, fault, P_JITTER_MS, time) * 1e6 + optics_jitter_ns(port->optics.ber);
    if (jitter > 0)
        delay += jitter * rng_uniform(rng);
    p->aside = aside;
    p->time = time + (uint64_t)(delay > 0 ? delay : 0);
    if (p->time < port->last_release)
        p->time = port->last_release;
    port->last_release = p->time;
    fifo_push(&port->delayed, p);
}

void device_configure(struct switchd *sw, uint64_t now)
{
    struct device *d = &sw->device;
    d->active = impairment_active(&d->base, &d->fault, P_CAPACITY_PPS, now);
}

static void device_window(struct device *d, uint64_t now)
{
    if (now < d->window + LOAD_WINDOW)
        return;
    d->utilization = fmin(1, d->busy_ns / (double)(now - d->window));
    d->busy_ns = 0;
    d->window = now;
}

static void device_serve(struct device *d)
{
    struct packet *p = fifo_pop(&d->backlog);
    if (!p)
        return;
    uint64_t start = p->time > d->free_at ? p->time : d->free_at;
    double capacity = impairment_value(&d->base, &d->fault, P_CAPACITY_PPS, start);
    capacity *= 1 - impairment_value(&d->base, &d->fault, P_BASE_LOAD, start);
    double service = 1e9 / fmax(capacity, LEAST_CAPACITY);
    if (!d->active)
        service = 0;
    device_window(d, start);
    d->busy_ns += service;
    d->free_at = start + (uint64_t)service;
    p->time = d->free_at;
    d->serving = p;
}

void device_receive(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, uint64_t time, bool aside)
{
    struct device *d = &sw->device;
    double limit = impairment_value(&d->base, &d->fault, P_BACKLOG_PACKETS, time);
    struct packet *p = d->backlog.count < limit ? packet_new(data, len) : NULL;
    if (!p) {
        d->dropped++;
        return;
    }
    p->time = p->arrived = time;
    p->port = port;
    p->aside = aside;
    fifo_push(&d->backlog, p);
    if (!d->serving)
        device_serve(d);
}

uint64_t device_due(const struct device *d) { return d->serving ? d->serving->time : NEVER; }

struct packet *device_next(struct switchd *sw, uint64_t now)
{
    struct device *d = &sw->device;
    struct packet *p = d->serving;
    if (!p || p->time > now)
        return NULL;
    d->serving = NULL;
    device_serve(d);
    return p;
}

static double resident_share(void)
{
    long size = 0, resident = 0, page = sysconf(_SC_PAGESIZE), pages = sysconf(_SC_PHYS_PAGES);
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return page > 0 && pages > 0 ? (double)resident / (double)pages : 0;
}

void device_load(struct switchd *sw, uint64_t now, double *cpu, double *memory)
{
    struct device *d = &sw->device;
    if (now >= d->cpu_checked + LOAD_WINDOW) {
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        uint64_t used = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
                        (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
        d->cpu_share = d->cpu_checked ? (double)(used - d->cpu_used) / (double)(now - d->cpu_checked) : 0;
        d->cpu_checked = now;
        d->cpu_used = used;
    }
    device_window(d, now);
    double base = impairment_value(&d->base, &d->fault, P_BASE_LOAD, now);
    double busy = d->active ? d->utilization : d->cpu_share;
    *cpu = fmin(1, base + (1 - base) * fmin(1, busy));
    double claimed = impairment_value(&d->base, &d->fault, P_MEMORY, now);
    *memory = claimed > 0 ? claimed : resident_share();
}
