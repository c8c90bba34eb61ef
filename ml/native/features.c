/* Lines and features: twins of Trend.reader (ml/estimators/trend.py) and of bind_features (ml/features.py). */
#include "kernels.h"

INLINE void fit(const struct fit *f, int64_t k, int64_t from, int64_t to) {
  int64_t n = f->rows, field = f->series * n;
  const double *s0 = f->trend + f->which[k] * n, *s1 = s0 + field, *s2 = s1 + field, *y0 = s2 + field;
  const double *y1 = y0 + field, *yy = y1 + field, *origin = yy + field;
  double *level = f->level + k * n, *slope = f->slope + k * n, *error = f->error + k * n, rate = f->rates[k];
  EACH(i, from, to) {
    double inverse = 1.0 / most(s0[i], 1e-12);
    double age = s1[i] * inverse, mean = y0[i] * inverse;
    double spread = s2[i] * inverse - age * age, covariance = y1[i] * inverse - age * mean;
    int unable = (spread * rate * rate <= 1e-9) | (s0[i] <= 2.0);
    spread = unable ? 0.0 : 1.0 / most(spread, 1e-300);
    double tilt = covariance * spread;
    double squares = yy[i] * inverse - mean * mean - covariance * tilt;
    squares = most(squares, 0.0) * spread / most(s0[i] - 2.0, 0.5);
    double now = mean - tilt * age + origin[i];
    slope[i] = tilt;
    level[i] = s0[i] == 0.0 ? NAN : now;
    error[i] = sqrt(squares) * 0.5;
  }
}

EXPORT int64_t fit_lines(const struct fit *f) {
  for (int64_t from = 0; from < f->rows; from += AT_ONCE)
    for (int64_t k = 0; k < f->count; k++)
      fit(f, k, from, from + AT_ONCE < f->rows ? from + AT_ONCE : f->rows);
  return 0;
}

/* Bank.bind_lasting: the smaller of two slopes that agree, each less its doubt. */
INLINE double lasting(double near, double far, double near_error, double far_error) {
  double size = fabs(near) - near_error * 2.0, other = fabs(far) - far_error * 5.0;
  size = size < other ? size : other;
  size = (size > 0.0) & (near * far > 0.0) ? size : 0.0;
  return copysign(size, far);
}

INLINE double within(double value, double bound) {
  value = value > 0.0 ? value : 0.0; /* nan becomes 0 */
  return value < bound ? value : bound;
}

struct at { /* where lines of one signal are */
  const double *level[2], *slope[2], *error[2];
};

INLINE struct at at(const struct features *f, int64_t signal) {
  struct at found;
  for (int64_t k = 0; k < 2; k++) {
    int64_t place = (k * f->line_signals + signal) * f->rows;
    found.level[k] = f->level + place;
    found.slope[k] = f->slope + place;
    found.error[k] = f->error + place;
  }
  return found;
}

/* _filler: the first ten features of what fills up. */
INLINE void filling(const struct features *f, int64_t signal, int64_t first) {
  int64_t n = f->rows, field = f->series * n;
  struct at line = at(f, signal);
  const double *weight = f->trend + signal * n, *total = weight + 3 * field, *origin = weight + 6 * field;
  double *x = f->x + first * n;
  const double *bound = f->bound + first;
  EACH(i, 0, n) {
    double rises = most(lasting(line.slope[0][i], line.slope[1][i], line.error[0][i], line.error[1][i]), 0.0);
    double load = line.level[1][i], left = 1.0 - load, mean = total[i] / most(weight[i], 1e-12) + origin[i];
    x[0 * n + i] = within(line.level[0][i] - 0.5, bound[0]);
    x[1 * n + i] = within(load - 0.7, bound[1]);
    x[2 * n + i] = within(load - 0.85, bound[2]);
    x[3 * n + i] = within(mean - 0.7, bound[3]);
    x[4 * n + i] = within(mean - 0.92, bound[4]);
    x[5 * n + i] = within(rises * 0.5 + load - 0.85, bound[5]);
    x[6 * n + i] = within(rises + load - 0.85, bound[6]);
    x[7 * n + i] = within(rises, bound[7]);
    x[8 * n + i] = within(rises / most(left, 0.05), bound[8]);
    x[9 * n + i] = within(2.0 - most(left, 0.0) / most(rises, 1e-6), bound[9]);
  }
}

enum { POWER, MARGIN, LOAD, QUEUE, TRIP };
enum { LINK_FEATURES = 15, FILLING = 10 };

INLINE void link(const struct features *f) {
  int64_t n = f->rows, field = LEVELS * f->signals * n;
  struct at power = at(f, POWER), margin = at(f, MARGIN), trip = at(f, TRIP);
  const double *usual = f->levels + field + POWER * n, *usual_trip = f->levels + field + TRIP * n;
  const double *sigma = f->levels + 2 * field + TRIP * n, *fallen = f->cusum + f->signals * n, *up = f->held + n;
  const double *uncorrected = f->logs, *errors = uncorrected + n, *losses = f->logs + 4 * n;
  const double *bound = f->bound;
  double *x = f->x, cap = f->cap, floor = f->trip_floor;
  EACH(i, 0, n) {
    double fading = lasting(power.slope[0][i], power.slope[1][i], power.error[0][i], power.error[1][i]);
    double slope = lasting(margin.slope[0][i], margin.slope[1][i], margin.error[0][i], margin.error[1][i]);
    double first = margin.level[0][i], level = margin.level[1][i], drop = usual[i] - power.level[1][i];
    int blind = level != level; /* no bit error ratio: what the power lost, the margin lost */
    first = blind ? 8.0 - (usual[i] - power.level[0][i]) : first;
    slope = blind ? fading : slope;
    level = blind ? 8.0 - drop : level;
    double falls = most(-slope, 0.0);
    x[0 * n + i] = within(7.0 - first, bound[0]);
    x[1 * n + i] = within(5.0 - level, bound[1]);
    x[2 * n + i] = within(3.0 - level, bound[2]);
    x[3 * n + i] = within(3.0 - (level - falls * 0.5), bound[3]);
    x[4 * n + i] = within(3.0 - (level - falls), bound[4]);
    x[5 * n + i] = within(falls, bound[5]);
    x[6 * n + i] = within(falls / most(level, 0.3), bound[6]);
    x[7 * n + i] = within(2.0 - most(level, 0.0) / most(falls, 1e-6), bound[7]);
    x[8 * n + i] = within(drop, bound[8]);
    x[9 * n + i] = within(fallen[i] / cap, bound[9]);
    x[10 * n + i] = within(uncorrected[i], bound[10]);
    x[11 * n + i] = within(errors[i], bound[11]);
    x[12 * n + i] = within(losses[i], bound[12]);
    x[13 * n + i] = within((trip.level[0][i] - usual_trip[i]) / most(sigma[i], floor), bound[13]);
    x[14 * n + i] = within(1.0 - up[i], bound[14]);
  }
}

/* What stands last: a queue's or backlog's log, how it rises, and what was dropped. */
INLINE void waiting(const struct features *f, int64_t signal, const double *dropped, int64_t first) {
  int64_t n = f->rows;
  struct at line = at(f, signal);
  double *x = f->x + first * n;
  const double *bound = f->bound + first;
  EACH(i, 0, n) {
    double slope = lasting(line.slope[0][i], line.slope[1][i], line.error[0][i], line.error[1][i]);
    x[i] = within(line.level[1][i], bound[0]);
    x[n + i] = within(slope, bound[1]);
    x[2 * n + i] = within(dropped[i], bound[2]);
  }
}

EXPORT int64_t port_features(const struct features *f) {
  link(f);
  filling(f, LOAD, LINK_FEATURES);
  waiting(f, QUEUE, f->logs + 3 * f->rows, LINK_FEATURES + FILLING);
  return 0;
}

enum { CPU, MEMORY, BACKLOG };

EXPORT int64_t device_features(const struct features *f) {
  int64_t n = f->rows;
  struct at memory = at(f, MEMORY);
  double *high = f->x + FILLING * n, *closing = high + n, bound = f->bound[FILLING], close = f->bound[FILLING + 1];
  filling(f, CPU, 0);
  EACH(i, 0, n) {
    double rises = lasting(memory.slope[0][i], memory.slope[1][i], memory.error[0][i], memory.error[1][i]);
    double used = memory.level[1][i];
    high[i] = within(used - 0.85, bound);
    closing[i] = within(most(rises, 0.0) / most(1.0 - used, 0.05), close);
  }
  waiting(f, BACKLOG, f->logs, FILLING + 2);
  return 0;
}
