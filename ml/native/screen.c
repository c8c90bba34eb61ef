/* The first stage for ports: twin of screen_ports (ml/screen.py) and Screen.score (ml/cascade.py). */
#include "kernels.h"

enum { POWER, MARGIN, LOAD, QUEUE, TRIP, BIAS };
enum { RECENT = 3, UP = 1, RAIN = 1 };
enum { LINK = 7, CONGESTION = 4, MODES = 2 };

INLINE double up_to(double value, double bound) {
  value = most(value, 0.0); /* nan stays */
  return least(value, bound);
}

INLINE double short_mean(const struct screen *s, int64_t signal, int64_t row, double *known) {
  int64_t n = s->rows, field = LINES * s->signals * n;
  const double *weight = s->trend + signal * n + row;
  *known = weight[0] > 0.0 ? 1.0 : 0.0;
  return (weight[3 * field] / most(weight[0], 1e-9) + weight[6 * field]) * *known;
}

/* All columns of one row, m numbers apart. */
INLINE void look(const struct screen *s, int64_t i, int64_t row, double *x, int64_t m) {
  int64_t n = s->rows;
  const double *deep = s->levels + (LEVELS * s->signals + s->signals) * n + row;
  const double *recent = s->counter + RECENT * s->counters * n + row;
  double known, measured, power = short_mean(s, POWER, row, &known), bias = short_mean(s, BIAS, row, &known);
  double load = short_mean(s, LOAD, row, &known), queue = short_mean(s, QUEUE, row, &known);
  double margin = short_mean(s, MARGIN, row, &measured), room = s->room[i];
  room = room != room ? 6.0 : most(room, 1.0);
  x[0] = up_to((7.0 - margin) * measured, 8.0);
  x[m] = up_to((deep[MARGIN * n] - margin) * measured, 8.0);
  x[2 * m] = up_to(deep[POWER * n] - power, 20.0);
  x[3 * m] = up_to(recent[0] + recent[n] + recent[4 * n], 1.0);
  x[4 * m] = up_to(1.0 - s->held[UP * n + row], 1.0);
  x[5 * m] = up_to(bias - deep[BIAS * n], 1.0);
  x[6 * m] = up_to(s->outside[RAIN * n + row], 20.0);
  x[7 * m] = up_to(load - 0.5, 1.0);
  x[8 * m] = up_to(load - deep[LOAD * n], 1.0);
  x[9 * m] = up_to(queue / room - 0.6, 2.0);
  x[10 * m] = up_to(recent[3 * n], 1.0);
}

/* Columns of each row; -1: no such row. */
EXPORT int64_t port_screen(const struct screen *s) {
  if (s->which) {
    if (!inside(s->which, s->count, s->rows)) return -1;
    EACH(i, 0, s->count) look(s, i, s->which[i], s->columns + i, s->count);
  } else {
    EACH(i, 0, s->count) look(s, i, i, s->columns + i, s->count);
  }
  return 0;
}

/* What is not known counts as 0. */
INLINE double score(const double *weights, const double *x, int64_t m, int count) {
  double sum = weights[0];
  for (int k = 0; k < count; k++) {
    double part = x[k * m] * weights[1 + k];
    sum += part == part ? part : 0.0;
  }
  return sum;
}

/* Those whose score is not below 0; -1: no such row, or more than there are. */
EXPORT int64_t port_suspects(const struct screen *s) {
  double x[(LINK + CONGESTION) * AT_ONCE], scores[MODES][AT_ONCE];
  if (s->count > s->rows || (s->which && !inside(s->which, s->count, s->rows))) return -1;
  s->found[0] = s->found[1] = 0;
  for (int64_t from = 0; from < s->count; from += AT_ONCE) {
    int64_t many = s->count - from < AT_ONCE ? s->count - from : AT_ONCE;
    if (s->which) {
      EACH(i, 0, many) look(s, from + i, s->which[from + i], x + i, AT_ONCE);
    } else {
      EACH(i, 0, many) look(s, from + i, from + i, x + i, AT_ONCE);
    }
    EACH(i, 0, many) {
      scores[0][i] = score(s->weights, x + i, AT_ONCE, LINK);
      scores[1][i] = score(s->weights + 1 + LINK, x + LINK * AT_ONCE + i, AT_ONCE, CONGESTION);
    }
    for (int mode = 0; mode < MODES; mode++)
      for (int64_t i = 0; i < many; i++)
        if (scores[mode][i] >= 0.0)
          s->suspects[mode * s->rows + s->found[mode]++] = s->which ? s->which[from + i] : from + i;
  }
  return s->found[0] + s->found[1];
}
