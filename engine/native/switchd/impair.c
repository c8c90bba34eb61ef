/* Impairment schedules. */
#include "impair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    double low, high;
    bool device;
} KNOWN[PARAMETERS] = {
    [P_LOSS] = {"loss", 0, 1, false},
    [P_CORRUPT] = {"corrupt", 0, 1, false},
    [P_DELAY_MS] = {"delay_ms", 0, 60000, false},
    [P_JITTER_MS] = {"jitter_ms", 0, 60000, false},
    [P_RATE_MBPS] = {"rate_mbps", 0, 1e6, false},
    [P_QUEUE_PACKETS] = {"queue_packets", 1, 1e6, false},
    [P_ATTENUATION_DB] = {"attenuation_db", -10, 100, false},
    [P_POWER_NOISE_DB] = {"power_noise_db", 0, 20, false},
    [P_CAPACITY_PPS] = {"capacity_pps", 0, 1e9, true},
    [P_BACKLOG_PACKETS] = {"backlog_packets", 1, 1e6, true},
    [P_BASE_LOAD] = {"base_load", 0, 1, true},
    [P_MEMORY] = {"memory", 0, 1, true},
};

int parameter_by_name(const char *name)
{
    for (int p = 0; p < PARAMETERS; p++)
        if (strcmp(KNOWN[p].name, name) == 0)
            return p;
    return -1;
}

const char *parameter_name(enum parameter p) { return KNOWN[p].name; }

bool parameter_of_device(enum parameter p) { return KNOWN[p].device; }

const char *parameter_check(enum parameter p, double value)
{
    if (!isfinite(value))
        return "is not a number";
    return value < KNOWN[p].low || value > KNOWN[p].high ? "is out of range" : NULL;
}

void schedule_clear(struct schedule *s)
{
    free(s->points);
    memset(s, 0, sizeof *s);
}

void schedule_set(struct schedule *s, struct point *points, uint32_t count, uint64_t now)
{
    double before = schedule_is_set(s) ? schedule_value(s, now) : 0;
    schedule_clear(s);
    *s = (struct schedule){.points = points, .count = count, .before = before};
}

double schedule_value(struct schedule *s, uint64_t time)
{
    if (s->count == 0)
        return 0;
    if (time < s->points[s->cursor].time)
        s->cursor = 0; /* asked about the past: start again */
    if (time < s->points[0].time)
        return s->before;
    while (s->cursor + 1 < s->count && s->points[s->cursor + 1].time <= time)
        s->cursor++;
    const struct point *a = &s->points[s->cursor];
    if (s->cursor + 1 == s->count)
        return a->value;
    const struct point *b = a + 1;
    double share = (double)(time - a->time) / (double)(b->time - a->time);
    return a->value + (b->value - a->value) * share;
}

void schedule_bounds(const struct schedule *s, uint64_t time, double *low, double *high)
{
    struct schedule copy = *s;
    *low = *high = schedule_value(&copy, time);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->points[i].time < time)
            continue;
        *low = fmin(*low, s->points[i].value);
        *high = fmax(*high, s->points[i].value);
    }
}

void impairment_clear(struct impairment *i)
{
    for (int p = 0; p < PARAMETERS; p++)
        schedule_clear(&i->schedules[p]);
}

double impairment_value(struct impairment *base, struct impairment *fault, enum parameter p, uint64_t time)
{
    struct schedule *b = &base->schedules[p], *f = &fault->schedules[p];
    double under = schedule_value(b, time), over = schedule_value(f, time);
    switch (p) {
    case P_LOSS:
    case P_CORRUPT:
        return 1 - (1 - under) * (1 - over);
    case P_RATE_MBPS:
    case P_CAPACITY_PPS: /* 0 means unlimited */
        return under > 0 && over > 0 ? fmin(under, over) : fmax(under, over);
    case P_QUEUE_PACKETS:
    case P_BACKLOG_PACKETS: {
        double fallback = p == P_QUEUE_PACKETS ? QUEUE_PACKETS_DEFAULT : BACKLOG_PACKETS_DEFAULT;
        double value = over > 0 ? over : under;
        return value > 0 ? value : fallback;
    }
    case P_POWER_NOISE_DB:
        return hypot(under, over);
    case P_BASE_LOAD:
    case P_MEMORY:
        return fmax(under, over);
    default:
        return under + over;
    }
}

bool impairment_active(const struct impairment *base, const struct impairment *fault, enum parameter p, uint64_t now)
{
    double low, high;
    schedule_bounds(&base->schedules[p], now, &low, &high);
    if (low != 0 || high != 0)
        return true;
    schedule_bounds(&fault->schedules[p], now, &low, &high);
    return low != 0 || high != 0;
}
