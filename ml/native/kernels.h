/* Compiled twins of the analyzer's array code. The Python modules named in each file say what is computed and why; these
 * functions do the same operations in the same order, so results are the same bits. Logarithms and exponentials are left
 * to numpy, in between: another library's last bit may differ.
 *
 * Every function takes one of the structs below, which ml/kernels.py reads from this file and fills by the names of their
 * members. All members are 8 bytes. Arrays are contiguous; (a, b) is their shape, the last one varies fastest.
 */
#ifndef SP_ML_KERNELS_H
#define SP_ML_KERNELS_H

#include <math.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define EACH(i, from, to) _Pragma("GCC ivdep") for (int64_t i = (from); i < (to); i++)

enum { LINES = 3, LEVELS = 2, TREND = 11, COUNTER = 8, AT_ONCE = 128 };

/* numpy's maximum and minimum where b is a number: a that is nan stays so. */
INLINE double most(double a, double b) { return a < b ? b : a; }
INLINE double least(double a, double b) { return a > b ? b : a; }

/* Whether all of these are rows. */
INLINE int inside(const int64_t *which, int64_t count, int64_t rows) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += which[i] < 0 || which[i] >= rows;
  return !wrong;
}

/* A block of rows learns: ml/block.py, ml/estimators. */
struct learn {
  int64_t rows, inputs, gauges, signals, counters;
  double *raw, *values;                          /* (inputs, rows), (signals, rows) */
  const double *low, *high, *time;               /* (inputs), (inputs), (rows) */
  uint8_t *bad, *newer, *told;                   /* (inputs, rows), twice (signals + counters, rows) */
  double *elapsed, *last;                        /* (signals + counters, rows) */
  double *trend, *levels, *cusum, *spread, *counter; /* state: (fields, series, rows) */
  double *counts, *counting, *counter_fade;      /* (counters, rows), twice; (2, counters, rows) */
  const double *counter_rates;                   /* (2, counters) */
  const double *rates;                           /* (lines and baselines, signals) */
  double *fade;                                  /* (lines and baselines, signals, rows) */
  const double *floor, *jump, *jump_rate;        /* (signals), (lines, signals), (lines, signals) */
  double drift, clip, cap, level_clip;
};

/* Samples of some rows arrive at a bank: ml/bank.py. */
struct arrive {
  int64_t rows, height, series, counters;        /* of the bank, numbers of a row's state, signals and counters, counters */
  int64_t count, room;                           /* samples, rows of the block */
  const int64_t *which;                          /* (count), or null: all */
  const double *time;                            /* (count) */
  double *state, *block;                         /* (height, rows), (height, room) */
  const uint8_t *told;                           /* (series, room) */
  const double *resets;                          /* (counters, room) */
  double *newest, *known;                        /* (rows): times; resets seen */
  int64_t *samples, *late;                       /* (rows) */
  uint8_t *touched;                              /* (rows) */
  uint8_t *fresh, *again;                        /* (count) */
  double far, back;
};

/* The signals of ports: ml/features.py, ml/physics.py. */
struct port_signals {
  int64_t rows;
  const double *raw, *counter;                   /* (inputs, rows), (fields, counters, rows) */
  double *values, *held;                         /* (signals, rows), (3, rows) */
  const uint8_t *counted;                        /* (counters, rows) */
  int64_t counters;
  double bits, most_load, best, worst, least_q;
};

/* Lines are fitted to some series of a state: ml/estimators/trend.py. */
struct fit {
  int64_t rows, count, series;                   /* of those in the state */
  const int64_t *which;                          /* (count) */
  const double *trend, *rates;                   /* (fields, series, rows), (count) */
  double *level, *slope, *error;                 /* (count, rows) */
};

/* Features of ports or devices: ml/features.py. Lines are (2 or 3, signals, rows). */
struct features {
  int64_t rows, signals, series, counters;
  int64_t line_signals;                          /* in the arrays of lines */
  const double *level, *slope, *error;
  const double *trend, *levels, *cusum, *held;
  const double *logs;                            /* (counters, rows): log(1 + recent increments) */
  const double *bound;                           /* (features) */
  double *x;                                     /* (features, rows) */
  double cap, trip_floor;
};

/* Trees of at most eight leaves: ml/trees.py. */
struct forest {
  int64_t rows, capacity, trees, sums;
  const int64_t *feature, *first;                /* (splits, trees), (sums + 1) */
  const double *threshold, *value;               /* (splits, trees), (trees, leaves + 1) */
  const int64_t *struck;                         /* (splits, trees) */
  const double *x;                               /* (features, capacity) */
  double *found;                                 /* (sums, capacity) */
};

/* Several linear models: ml/hazard.py. */
struct hazard {
  int64_t rows, models, intervals;
  double *each;                                  /* (intervals, models, rows); what is found, in the first interval's */
  const double *intercepts, *slope, *offset;     /* (intervals, models), (models), (models) */
  const uint8_t *missing;                        /* (intervals, models) */
};

/* The first stage for ports: ml/screen.py, ml/cascade.py. */
struct screen {
  int64_t rows, count, signals, counters;        /* of the bank, looked at */
  const int64_t *which;                          /* (count), or null: all */
  const double *trend, *levels, *counter, *held, *outside; /* state; (context, rows) */
  const double *room;                            /* (count): log(1 + queue limit), nan: not told */
  double *columns;                               /* (columns of both modes, count) */
  double *weights;                               /* offset and weight of each column, of both modes */
  int64_t *suspects;                             /* (modes, rows), in order */
  int64_t *found;                                /* (modes): how many are suspicious */
};

/* Features of suspicious elements: ml/wide.py. The state is that of a block, lines are (3, signals, rows). */
struct wide {
  int64_t rows, count, signals, narrow_count;    /* of the block, of which so many are used */
  const double *trend, *levels, *spread, *level, *slope, *error;
  const double *narrow;                          /* (narrow features, rows) */
  const double *bound;                           /* (further features) */
  double *x;                                     /* (features, count) */
  const int64_t *which;                          /* (count): rows of the bank */
  const double *near;                            /* (count) */
  int64_t all, conditions;                       /* rows of the bank; */
  const double *outside;                         /* (conditions, all) */
  const double *room;                            /* (count): log(1 + queue limit) */
  double *work;                                  /* (9, count): logs, then shares of the room */
  const double *newest;                          /* (all) */
  const float *past;                             /* (all, phases), or null: no seasons */
  int64_t phases;
  double pace, ahead, horizon;                   /* phases per unit; units ahead, of seasons and of the longest line */
};

/* What others of a shared risk do: ml/neighbours.py. */
struct near {
  int64_t rows, signals, count;
  const int64_t *which;                          /* (count) */
  const double *trend, *levels;                  /* state of the bank */
  const int64_t *row_first, *row_group;          /* groups of each row: (rows + 1), (memberships) */
  const int64_t *group_first, *member;           /* members of each group: (groups + 1), (memberships) */
  double *sum;                                   /* (groups) */
  uint8_t *fresh;                                /* (groups): not yet summed, all 0 before and after */
  double *found;                                 /* (count) */
};

#endif
