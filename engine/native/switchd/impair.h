/* Impairments as data: piecewise linear schedules of named parameters. */
#ifndef SWITCHD_IMPAIR_H
#define SWITCHD_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum parameter {
    P_LOSS,          /* probability, received frames */
    P_CORRUPT,       /* probability that a received frame has a bit flipped */
    P_DELAY_MS,      /* received frames */
    P_JITTER_MS,     /* uniform in 0..value, order kept */
    P_RATE_MBPS,     /* line rate of sent frames; 0: unlimited */
    P_QUEUE_PACKETS, /* limit of each queue while a rate is set */
    P_ATTENUATION_DB,
    P_POWER_NOISE_DB,
    P_CAPACITY_PPS, /* device; 0: unlimited */
    P_BACKLOG_PACKETS,
    P_BASE_LOAD, /* share of the capacity taken by something else */
    P_MEMORY,    /* reported memory use, 0..1 */
    PARAMETERS,
};
enum { SCHEDULE_POINTS = 4096 };
#define QUEUE_PACKETS_DEFAULT 256
#define BACKLOG_PACKETS_DEFAULT 1024

struct point {
    uint64_t time; /* mono ns */
    double value;
};
struct schedule {
    struct point *points; /* in time order; NULL: not set */
    uint32_t count;
    uint32_t cursor; /* last point at or before the time asked for last */
    double before;   /* value until the first point */
};
struct impairment {
    struct schedule schedules[PARAMETERS];
};

/* -1 when unknown. */
int parameter_by_name(const char *name);
const char *parameter_name(enum parameter p);
bool parameter_of_device(enum parameter p);
/* Message why `value` can't be, or NULL. */
const char *parameter_check(enum parameter p, double value);

/* Takes `points` (malloc'ed) over. Until its first point the value now in force is held. */
void schedule_set(struct schedule *s, struct point *points, uint32_t count, uint64_t now);
void schedule_clear(struct schedule *s);
static inline bool schedule_is_set(const struct schedule *s) { return s->count != 0; }
/* Linear between points, held after the last; two points at one time make a step. 0 when not set. */
double schedule_value(struct schedule *s, uint64_t time);
/* Smallest and largest value that can still occur at or after `time`. */
void schedule_bounds(const struct schedule *s, uint64_t time, double *low, double *high);

void impairment_clear(struct impairment *i);
/* A parameter's value with a fault on top of the base: delays add up, losses combine, rates: the smaller. */
double impairment_value(struct impairment *base, struct impairment *fault, enum parameter p, uint64_t time);
bool impairment_active(const struct impairment *base, const struct impairment *fault, enum parameter p, uint64_t now);

#endif
