/* Features of suspicious elements: twins of link_ports, congestion_ports and devices (ml/wide.py) and Neighbours.near (ml/neighbours.py). */
#include "kernels.h"

static const double SOON = 2.0, MARGIN_MOST = 11.0, HUGE_VALUE_OF_TIME = 1e100;

/* numpy's fmin, and its minimum where either may be nan. */
INLINE double known_least(double a, double b) { return a <= b || b != b ? a : b; }
INLINE double either_least(double a, double b) { return a <= b || a != a ? a : b; }

INLINE double within(double value, double bound) {
  value = value > 0.0 ? value : 0.0; /* nan becomes 0 */
  return value < bound ? value : bound;
}

INLINE double closing(double rising, double left, double fewest) { return most(rising, 0.0) / most(left, fewest); }

INLINE double share(double base, double now) { return (base - now) / (base > 1.0 ? base : 1.0); }

struct signal { /* what is known of one signal of one row */
  double mean, usual, noise, brief, middle, level, quickly, moving, slope;
};

INLINE double sure(double slope, double error) { return copysign(most(fabs(slope) - 2.0 * error, 0.0), slope); }

INLINE struct signal signal(const struct wide *w, int64_t k, int64_t i) {
  int64_t n = w->rows, series = w->signals * n, at = k * n + i;
  const double *trend = w->trend + at, *lasting = w->levels + series + at, *spread = w->spread + at;
  const double *level = w->level + at, *slope = w->slope + at, *error = w->error + at;
  struct signal s;
  s.mean = (trend[0] > 0.0 ? trend[3 * LINES * series] / trend[0] : NAN) + trend[6 * LINES * series];
  s.usual = lasting[0] > 0.0 ? lasting[LEVELS * series] : NAN;
  s.noise = sqrt(most(spread[2 * series], 0.0) / most(spread[0], 1.0));
  s.brief = level[0];
  s.middle = level[series];
  s.level = level[2 * series];
  s.quickly = sure(slope[0], error[0]);
  s.moving = sure(slope[series], error[series]);
  s.slope = sure(slope[2 * series], error[2 * series]);
  return s;
}

/* The narrow features, and where the further ones begin. */
INLINE double *further(const struct wide *w) {
  for (int64_t k = 0; k < w->narrow_count; k++) {
    const double *from = w->narrow + k * w->rows;
    double *to = w->x + k * w->count;
    EACH(i, 0, w->count) to[i] = from[i];
  }
  return w->x + w->narrow_count * w->count;
}

/* What is usual at a time, of the seasonal signal. */
INLINE double season(const struct wide *w, int64_t row, double ahead) {
  if (!w->past) return NAN;
  double clock = w->newest[row] + ahead;
  int64_t phase = (int64_t)floor((fabs(clock) < HUGE_VALUE_OF_TIME ? clock : 0.0) * w->pace) % w->phases;
  return w->past[row * w->phases + (phase < 0 ? phase + w->phases : phase)];
}

#define COLUMN(value) do { *column = within((value), *bound++); column += m; } while (0)

enum { POWER, MARGIN, LOAD, QUEUE, TRIP, BIAS, WARM };

EXPORT int64_t wide_link(const struct wide *w) {
  int64_t m = w->count;
  double *own = further(w);
  for (int64_t i = 0; i < m; i++) {
    struct signal margin = signal(w, MARGIN, i), power = signal(w, POWER, i), bias = signal(w, BIAS, i);
    struct signal warm = signal(w, WARM, i);
    double *column = own + i;
    const double *bound = w->bound;
    COLUMN(MARGIN_MOST - margin.mean);
    COLUMN(MARGIN_MOST - known_least(margin.mean, margin.level));
    COLUMN(MARGIN_MOST - margin.level);
    COLUMN(margin.usual - margin.mean);
    COLUMN(-margin.slope);
    COLUMN(closing(-margin.slope, margin.level, 0.3));
    COLUMN(MARGIN_MOST - margin.middle);
    COLUMN(-margin.moving);
    COLUMN(closing(-margin.moving, margin.middle, 0.3));
    COLUMN(margin.noise);
    COLUMN(power.usual - power.mean);
    COLUMN(-power.slope);
    COLUMN(power.noise);
    COLUMN(bias.mean - bias.usual);
    COLUMN(bias.slope);
    COLUMN(warm.mean - warm.usual);
    COLUMN(w->near[i]);
    for (int64_t k = 0; k < w->conditions; k++) COLUMN(w->outside[k * w->all + w->which[i]]);
    COLUMN(share(margin.usual, margin.mean));
    COLUMN(share(margin.usual, margin.middle));
    COLUMN(share(margin.usual, margin.level));
    COLUMN(MARGIN_MOST - (margin.middle + SOON * margin.moving));
    COLUMN(MARGIN_MOST - (margin.brief + SOON * margin.quickly));
  }
  return 0;
}

enum { NOW, LATER, AHEAD, LONG_BELOW, LONG, MIDDLE, MIDDLE_BELOW, MIDDLING, NEXT }; /* shares of the room, as logs */

/* Logs of the queue over its room, whose exponentials wide_congestion reads. */
EXPORT int64_t wide_queues(const struct wide *w) {
  int64_t m = w->count;
  for (int64_t i = 0; i < m; i++) {
    struct signal queue = signal(w, QUEUE, i);
    double room = w->room[i], *work = w->work + i;
    work[NOW * m] = least(queue.mean - room, 1.0);
    work[LATER * m] = least(queue.level - room, 1.0);
    work[AHEAD * m] = least(queue.level + w->horizon * most(queue.slope, 0.0) - room, 1.0);
    work[LONG_BELOW * m] = least(queue.level - room, 0.0);
    work[LONG * m] = queue.level - room;
    work[MIDDLE * m] = least(queue.middle - room, 1.0);
    work[MIDDLE_BELOW * m] = least(queue.middle - room, 0.0);
    work[MIDDLING * m] = queue.middle - room;
    work[NEXT * m] = least(queue.middle + SOON * most(queue.moving, 0.0) - room, 1.0);
  }
  return 0;
}

/* What fills up: mean, long line, middle line; how far it is from what is usual, and how it swings. */
#define FILLING(load)                                                                                                  \
  do {                                                                                                                 \
    COLUMN(load.mean);                                                                                                 \
    COLUMN(load.level);                                                                                                \
    COLUMN(load.slope);                                                                                                \
    COLUMN(closing(load.slope, 1.0 - load.level, 0.05));                                                               \
    COLUMN(load.middle);                                                                                               \
    COLUMN(load.moving);                                                                                               \
    COLUMN(closing(load.moving, 1.0 - load.middle, 0.05));                                                             \
    COLUMN(load.mean - load.usual);                                                                                    \
    COLUMN(load.noise);                                                                                                \
  } while (0)
#define FILLED(load)                                                                                                   \
  do {                                                                                                                 \
    COLUMN(load.middle + SOON * load.moving);                                                                          \
    COLUMN(load.brief + SOON * load.quickly);                                                                          \
    COLUMN(either_least(either_least(load.mean, load.middle), load.level));                                            \
    COLUMN(load.middle - load.noise);                                                                                  \
  } while (0)

EXPORT int64_t wide_congestion(const struct wide *w) {
  int64_t m = w->count;
  double *own = further(w);
  for (int64_t i = 0; i < m; i++) {
    struct signal load = signal(w, LOAD, i), queue = signal(w, QUEUE, i);
    const double *of = w->work + i, *bound = w->bound;
    double *column = own + i;
    FILLING(load);
    COLUMN(season(w, w->which[i], 0.0));
    COLUMN(season(w, w->which[i], w->ahead));
    COLUMN(of[NOW * m]);
    COLUMN(of[LATER * m]);
    COLUMN(of[AHEAD * m]);
    COLUMN(closing(queue.slope * of[LONG_BELOW * m], 1.0 - of[LONG * m], 0.05));
    COLUMN(of[MIDDLE * m]);
    COLUMN(closing(queue.moving * of[MIDDLE_BELOW * m], 1.0 - of[MIDDLING * m], 0.05));
    COLUMN(queue.slope);
    COLUMN(w->near[i]);
    FILLED(load);
    COLUMN(of[NEXT * m]);
    COLUMN(queue.middle);
    COLUMN(queue.level);
  }
  return 0;
}

enum { CPU, MEMORY, BACKLOG };

EXPORT int64_t wide_overload(const struct wide *w) {
  int64_t m = w->count;
  double *own = further(w);
  for (int64_t i = 0; i < m; i++) {
    struct signal cpu = signal(w, CPU, i), memory = signal(w, MEMORY, i), backlog = signal(w, BACKLOG, i);
    const double *bound = w->bound;
    double *column = own + i;
    FILLING(cpu);
    COLUMN(season(w, w->which[i], w->ahead));
    COLUMN(memory.mean);
    COLUMN(memory.slope);
    COLUMN(closing(memory.slope, 1.0 - memory.level, 0.01));
    COLUMN(memory.level + w->horizon * most(memory.slope, 0.0));
    COLUMN(memory.mean - memory.usual);
    COLUMN(backlog.mean);
    FILLED(cpu);
    COLUMN(memory.level + SOON * most(memory.slope, 0.0));
    COLUMN(backlog.middle);
    COLUMN(backlog.level);
  }
  return 0;
}

/* short_mean of one signal of a row of the bank. */
INLINE double mean_of(const struct near *g, int64_t signal, int64_t row) {
  int64_t field = LINES * g->signals * g->rows;
  const double *trend = g->trend + signal * g->rows + row;
  return trend[3 * field] / trend[0] + trend[6 * field];
}

/* power_lost: dB below the lasting baseline. */
INLINE double power_lost(const struct near *g, int64_t row) {
  const double *lasting = g->levels + (g->signals + POWER) * g->rows + row;
  double lost = (lasting[0] > 0.0 ? lasting[LEVELS * g->signals * g->rows] : NAN) - mean_of(g, POWER, row);
  return within(lost, 20.0);
}

INLINE double load(const struct near *g, int64_t row) {
  double mean = mean_of(g, LOAD, row);
  return mean == mean ? mean : 0.0;
}

/* For each row the largest, over its groups, of the mean of what the other members lost (or carry); 0 without any. -1: no
 * such row. */
INLINE int64_t nearby(const struct near *g, double (*value)(const struct near *, int64_t)) {
  if (!inside(g->which, g->count, g->rows)) return -1;
  for (int64_t i = 0; i < g->count; i++)
    for (int64_t at = g->row_first[g->which[i]]; at < g->row_first[g->which[i] + 1]; at++) g->fresh[g->row_group[at]] = 1;
  for (int64_t i = 0; i < g->count; i++) {
    int64_t row = g->which[i];
    double own = value(g, row), found = 0.0;
    for (int64_t at = g->row_first[row]; at < g->row_first[row + 1]; at++) {
      int64_t group = g->row_group[at], first = g->group_first[group], end = g->group_first[group + 1];
      if (g->fresh[group]) {
        double sum = 0.0;
        for (int64_t k = first; k < end; k++) sum += value(g, g->member[k]);
        g->sum[group] = sum;
        g->fresh[group] = 0;
      }
      double mean = (g->sum[group] - own) / (double)(end - first - 1);
      found = mean > found ? mean : found;
    }
    g->found[i] = found;
  }
  return 0;
}

EXPORT int64_t near_power_lost(const struct near *g) { return nearby(g, power_lost); }

EXPORT int64_t near_load(const struct near *g) { return nearby(g, load); }
