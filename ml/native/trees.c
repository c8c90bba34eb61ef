/* Trees of at most eight leaves: twin of Forest (ml/trees.py). */
#include "kernels.h"

enum { PATTERNS = 256, UNROLLED = 8, MOST_TREES = 128, SPLITS = 7 };

/* The order in which numpy adds up a column (its pairwise sum, of up to 128 numbers): eight sums side by side. */
INLINE double pairwise(const double *v, int64_t count) {
  if (count < UNROLLED) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) sum += v[i];
    return sum;
  }
  double r[UNROLLED];
  int64_t i = UNROLLED;
  for (int k = 0; k < UNROLLED; k++) r[k] = v[k];
  for (; i + UNROLLED <= count; i += UNROLLED)
    for (int k = 0; k < UNROLLED; k++) r[k] += v[i + k];
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < count; i++) sum += v[i];
  return sum;
}

enum { LANES = 8, HALF = 4 };
typedef double numbers __attribute__((vector_size(8 * HALF), aligned(8), may_alias));
typedef int64_t bits __attribute__((vector_size(8 * HALF)));

/* The values that LANES rows from row `from` reach in tree t. */
INLINE void reached(const struct forest *f, int64_t t, int64_t from, double *value) {
  bits low = {0}, high = {0};
  for (int64_t s = 0; s < SPLITS; s++) {
    int64_t place = s * f->trees + t;
    const double *x = f->x + f->feature[place] * f->capacity + from;
    double limit = f->threshold[place];
    low |= (bits)(*(const numbers *)x > limit) & f->struck[place];
    high |= (bits)(*(const numbers *)(x + HALF) > limit) & f->struck[place];
  }
  const double *values = f->value + t * PATTERNS;
  for (int k = 0; k < HALF; k++) {
    value[k] = values[low[k]];
    value[HALF + k] = values[high[k]];
  }
}

/* Sums of trees for all rows; capacity is a multiple of LANES, and what is beyond the rows may be anything. */
EXPORT int64_t forest(const struct forest *f) {
  double value[MOST_TREES][LANES], column[MOST_TREES];
  for (int64_t from = 0; from < f->rows; from += LANES) {
    for (int64_t sum = 0; sum < f->sums; sum++) {
      int64_t first = f->first[sum], count = f->first[sum + 1] - first;
      for (int64_t t = 0; t < count; t++) reached(f, first + t, from, value[t]);
      for (int k = 0; k < LANES && from + k < f->rows; k++) {
        for (int64_t t = 0; t < count; t++) column[t] = value[t][k];
        f->found[sum * f->capacity + from + k] = column[0] + pairwise(column + 1, count - 1);
      }
    }
  }
  return 0;
}
