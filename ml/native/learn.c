/* Learning from samples: twin of Block.learn (ml/block.py) and of the recursions in ml/estimators. */
#include "kernels.h"

static const double FAR = 1e6;           /* estimators/base.py */
static const double SIGMA = 1.2533, SETTLING = 5.0; /* estimators/level.py */
static const double NEAR = 1.0 / 16.0;   /* estimators/counter.py */

/* Marks absurd measurements and makes them nan; how many there are. */
EXPORT int64_t absurd(const struct learn *l) {
  int64_t found = 0;
  for (int64_t k = 0; k < l->inputs; k++) {
    double *raw = l->raw + k * l->rows;
    uint8_t *bad = l->bad + k * l->rows;
    double low = l->low[k], high = l->high[k];
    EACH(i, 0, l->rows) {
      bad[i] = (raw[i] < low) | (raw[i] > high);
      found += bad[i];
    }
  }
  if (found) {
    EACH(i, 0, l->inputs * l->rows) l->raw[i] = l->bad[i] ? NAN : l->raw[i];
  }
  return found;
}

/* What is newer than what is known; which counters are news, and how they fade; how many are. */
EXPORT int64_t learn_begin(const struct learn *l) {
  int64_t n = l->rows, found = 0;
  for (int64_t k = 0; k < l->signals + l->counters; k++) {
    const double *last = l->last + k * n, *time = l->time;
    double *elapsed = l->elapsed + k * n;
    uint8_t *newer = l->newer + k * n;
    EACH(i, 0, n) {
      newer[i] = last[i] < time[i];
      elapsed[i] = least(time[i] - last[i], FAR);
    }
  }
  for (int64_t k = 0; k < l->counters; k++) {
    const double *total = l->raw + (l->gauges + k) * n;
    const uint8_t *newer = l->newer + (l->signals + k) * n;
    uint8_t *told = l->told + (l->signals + k) * n;
    double *elapsed = l->elapsed + (l->signals + k) * n, *counts = l->counts + k * n, *counting = l->counting + k * n;
    double *lately = l->counter_fade + k * n, *steady = l->counter_fade + (l->counters + k) * n;
    double rate = l->counter_rates[k], other = l->counter_rates[l->counters + k];
    EACH(i, 0, n) {
      told[i] = (total[i] == total[i]) & newer[i];
      found += told[i];
      counting[i] = told[i] ? 1.0 : 0.0;
      elapsed[i] *= counting[i];
      counts[i] = told[i] ? total[i] : 0.0;
      lately[i] = rate * elapsed[i];
      steady[i] = other * elapsed[i];
    }
  }
  return found;
}

/* One step back of a counter: it wrapped (what it grew by is returned), or began anew (negative). */
static double wrapped(double total, double value, double grown) {
  const double sizes[] = {4294967296.0, 18446744073709551616.0};
  for (int k = 0; k < 2; k++)
    if (total < sizes[k] && total > sizes[k] * (1.0 - NEAR) && value < sizes[k] * NEAR) return grown + sizes[k];
  return -1.0;
}

/* estimators/counter.py; counter_fade is exponentiated by now. */
EXPORT int64_t learn_counters(const struct learn *l) {
  int64_t n = l->rows, field = l->counters * n;
  for (int64_t k = 0; k < l->counters; k++) {
    double *seen = l->counter + k * n, *total = seen + field, *resets = total + field, *recent = resets + field;
    double *amount = recent + field, *span = amount + field, *grown = span + field, *interval = grown + field;
    const double *value = l->counts + k * n, *taken = l->counting + k * n;
    const double *elapsed = l->elapsed + (l->signals + k) * n;
    const double *lately = l->counter_fade + k * n, *steady = l->counter_fade + (l->counters + k) * n;
    const uint8_t *told = l->told + (l->signals + k) * n;
    int64_t back = 0;
    EACH(i, 0, n) back += told[i] & (seen[i] > 0.0) & (value[i] < total[i]);
    EACH(i, 0, n) {
      double living = told[i] & (seen[i] > 0.0) ? 1.0 : 0.0;
      double more = (value[i] - total[i]) * living;
      if (back && more < 0.0) {
        more = wrapped(total[i], value[i], more);
        if (more < 0.0) {
          resets[i] += 1.0;
          living = more = 0.0;
        }
      }
      double lived = elapsed[i] * living;
      recent[i] = recent[i] * lately[i] + more;
      amount[i] = amount[i] * steady[i] + more;
      span[i] = span[i] * steady[i] + lived;
      grown[i] = told[i] ? more : grown[i];
      interval[i] = told[i] ? lived : interval[i];
      total[i] = told[i] ? value[i] : total[i];
      seen[i] += taken[i];
    }
  }
  return 0;
}

/* Which signals are news, and how lines and baselines fade; how many are. */
EXPORT int64_t learn_news(const struct learn *l) {
  int64_t n = l->rows, found = 0;
  for (int64_t k = 0; k < l->signals; k++) {
    double *value = l->values + k * n, *elapsed = l->elapsed + k * n;
    const uint8_t *newer = l->newer + k * n;
    uint8_t *told = l->told + k * n;
    EACH(i, 0, n) {
      told[i] = (value[i] == value[i]) & newer[i];
      found += told[i];
      elapsed[i] *= told[i] ? 1.0 : 0.0;
      value[i] = told[i] ? value[i] : 0.0;
    }
    for (int64_t s = 0; s < LINES + LEVELS; s++) {
      double rate = l->rates[s * l->signals + k], *fade = l->fade + (s * l->signals + k) * n;
      EACH(i, 0, n) fade[i] = elapsed[i] * rate;
    }
  }
  return found;
}

/* estimators/cusum.py, of how far values are from what is usual, before they have a part in that. */
INLINE void change(const struct learn *l, int64_t k) {
  int64_t n = l->rows, field = l->signals * n;
  const double *weight = l->levels + k * n, *usual = l->levels + LEVELS * field + k * n;
  const double *sigma = l->levels + 2 * LEVELS * field + k * n;
  double *up = l->cusum + k * n, *down = up + field, *up_since = down + field, *down_since = up_since + field;
  const double *value = l->values + k * n, *elapsed = l->elapsed + k * n;
  const uint8_t *told = l->told + k * n;
  double floor = l->floor[k], clip = l->clip, cap = l->cap, drift = l->drift;
  EACH(i, 0, n) {
    double known = told[i] & (weight[i] > 0.0) ? 1.0 : 0.0;
    double score = (value[i] - usual[i]) * known / most(sigma[i], floor);
    score = least(most(score, -clip), clip);
    double rising = least(most(up[i] + score - known * drift, 0.0), cap);
    double falling = least(most(down[i] - score - known * drift, 0.0), cap);
    double rose = up_since[i] + elapsed[i], fell = down_since[i] + elapsed[i];
    up[i] = rising;
    down[i] = falling;
    up_since[i] = rising == 0.0 ? 0.0 : rose;
    down_since[i] = falling == 0.0 ? 0.0 : fell;
  }
}

/* estimators/spread.py, which forgets as the middle line does. */
INLINE void scatter(const struct learn *l, int64_t k) {
  int64_t n = l->rows, field = l->signals * n;
  double *weight = l->spread + k * n, *mean = weight + field, *squares = mean + field;
  const double *value = l->values + k * n, *fade = l->fade + (l->signals + k) * n;
  const uint8_t *told = l->told + k * n;
  EACH(i, 0, n) {
    double taken = told[i] ? 1.0 : 0.0;
    double more = weight[i] * fade[i] + taken, residual = (value[i] - mean[i]) * taken;
    double middle = mean[i] + residual / most(more, 1.0);
    weight[i] = more;
    mean[i] = middle;
    squares[i] = squares[i] * fade[i] + residual * (value[i] - middle);
  }
}

/* estimators/trend.py: line s of signal k. */
INLINE void line(const struct learn *l, int64_t s, int64_t k) {
  int64_t n = l->rows, own = s * l->signals + k, field = LINES * l->signals * n;
  double *s0 = l->trend + own * n, *s1 = s0 + field, *s2 = s1 + field, *y0 = s2 + field, *y1 = y0 + field;
  double *yy = y1 + field, *origin = yy + field, *last = origin + field;
  double *change = last + field, *held = change + field, *span = held + field;
  const double *value = l->values + k * n, *elapsed = l->elapsed + k * n, *fade = l->fade + own * n;
  const uint8_t *told = l->told + k * n;
  double jump = l->jump[own], jump_rate = l->jump_rate[own];
  EACH(i, 0, n) {
    int fresh = s0[i] == 0.0, ok = told[i];
    double taken = ok ? 1.0 : 0.0, v = value[i], t = elapsed[i], left = fade[i];
    double apart = v - last[i], more = change[i], once = held[i];
    int twice = (fabs(apart + more) > (t + span[i]) * jump_rate + jump) & (apart * more > 0.0) & ok & !fresh;
    int jumped = ((fabs(apart) > t * jump_rate + jump) & ok & !fresh) | twice;
    double again = (once - (last[i] - origin[i]) * 2.0) * once; /* what the line held of the first of two is taken back */
    double squares = twice ? yy[i] + again : yy[i], sum = twice ? y0[i] - once : y0[i];
    double start = jumped ? origin[i] + (twice ? apart + once : apart) : origin[i];
    start = fresh & ok ? v : start;
    change[i] = ok ? (twice | fresh ? 0.0 : apart) : more;
    held[i] = ok ? (jumped | fresh ? 0.0 : apart) : once;
    span[i] = ok ? t : span[i];
    double moved = s0[i] * t;
    double aged = s2[i] + (moved - s1[i] * 2.0) * t;
    double older = s1[i] - moved, beside = y1[i] - sum * t;
    double from = (v - start) * taken;
    origin[i] = start;
    last[i] = ok ? v : last[i];
    s0[i] = s0[i] * left + taken;
    s1[i] = older * left;
    s2[i] = aged * left;
    y0[i] = sum * left + from;
    y1[i] = beside * left;
    yy[i] = squares * left + from * from;
  }
}

/* estimators/level.py: baseline b of signal k. */
INLINE void level(const struct learn *l, int64_t b, int64_t k) {
  int64_t n = l->rows, own = b * l->signals + k, field = LEVELS * l->signals * n;
  double *weight = l->levels + own * n, *usual = weight + field, *sigma = usual + field;
  const double *value = l->values + k * n, *fade = l->fade + (LINES * l->signals + own) * n;
  const uint8_t *told = l->told + k * n;
  double clip = l->level_clip;
  EACH(i, 0, n) {
    double taken = told[i] ? 1.0 : 0.0;
    double middle = (weight[i] == 0.0) & told[i] ? value[i] : usual[i];
    double more = weight[i] * fade[i] + taken;
    double gain = taken / most(more, 1.0), residual = value[i] - middle, size = fabs(residual);
    double bound = more < SETTLING ? INFINITY : sigma[i] * clip;
    weight[i] = more;
    usual[i] = middle + copysign(least(size, bound), residual) * gain;
    sigma[i] += (least(size * SIGMA, bound * 1.5) - sigma[i]) * gain;
  }
}

/* Lines, baselines, change and variance of all signals; fade is exponentiated by now. */
EXPORT int64_t learn_signals(const struct learn *l) {
  for (int64_t k = 0; k < l->signals; k++) {
    change(l, k);
    scatter(l, k);
    for (int64_t s = 0; s < LINES; s++) line(l, s, k);
    for (int64_t b = 0; b < LEVELS; b++) level(l, b, k);
  }
  return 0;
}

/* Remembers when what was told; how much was. */
EXPORT int64_t learn_end(const struct learn *l) {
  int64_t n = l->rows, found = 0;
  for (int64_t k = 0; k < l->signals + l->counters; k++) {
    const uint8_t *told = l->told + k * n;
    double *last = l->last + k * n;
    EACH(i, 0, n) {
      last[i] = told[i] ? l->time[i] : last[i];
      found += told[i];
    }
  }
  return found;
}

enum { POWER, BER, QUEUE, TRIP, SPEED, UP, BIAS, WARM, ROOM }; /* inputs of ports, in this order */
enum { SENT = 2, AMOUNT = 4, SPAN = 5 };

/* What is told of settings is held; signals, before logarithms are taken of some. */
EXPORT int64_t port_signals(const struct port_signals *p) {
  int64_t n = p->rows;
  const int64_t inputs[] = {SPEED, UP, ROOM};
  const double above[] = {0.0, -1.0, 0.0};
  for (int k = 0; k < 3; k++) {
    const double *told = p->raw + inputs[k] * n;
    double *kept = p->held + k * n;
    EACH(i, 0, n) kept[i] = told[i] > above[k] ? told[i] : kept[i];
  }
  const double *raw = p->raw, *speed = p->held;
  const double *sent = p->counter + (AMOUNT * p->counters + SENT) * n;
  const double *span = p->counter + (SPAN * p->counters + SENT) * n;
  const uint8_t *moved = p->counted + SENT * n;
  double *power = p->values, *margin = power + n, *load = margin + n, *queue = load + n, *trip = queue + n;
  double *bias = trip + n, *warm = bias + n;
  EACH(i, 0, n) {
    power[i] = raw[POWER * n + i];
    margin[i] = least(most(raw[BER * n + i], p->best), p->worst);
    double share = least(sent[i] / most(span[i], 1e-6) * p->bits / speed[i], p->most_load);
    load[i] = (span[i] > 0.0) & moved[i] ? share : NAN;
    queue[i] = raw[QUEUE * n + i];
    trip[i] = raw[TRIP * n + i] + 1.0;
    bias[i] = most(raw[BIAS * n + i], 0.1);
    warm[i] = raw[WARM * n + i];
  }
  return 0;
}

/* Q over that of the limit, of the logarithm of a bit error ratio (ml/physics.py, Hastings' approximation). */
EXPORT int64_t port_margin(const struct port_signals *p) {
  double *margin = p->values + p->rows;
  EACH(i, 0, p->rows) {
    double t = sqrt(margin[i] * -2.0);
    double over = (t * 0.0 + 0.010328) * t + 0.802853, under = (t * 0.001308 + 0.189269) * t + 1.432788;
    margin[i] = (t - (over * t + 2.515517) / (under * t + 1.0)) / p->least_q;
  }
  return 0;
}
