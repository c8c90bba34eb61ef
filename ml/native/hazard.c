/* Hazards of several linear models at once: twin of Together (ml/hazard.py), between its product and its logarithms. */
#include "kernels.h"

INLINE double extreme(double odds) { return least(most(odds, -30.0), 30.0); }

/* Log odds of failing in each interval. */
EXPORT int64_t hazard_odds(const struct hazard *h) {
  int64_t n = h->rows;
  for (int64_t k = 0; k < h->intervals * h->models; k++) {
    double *each = h->each + k * n, intercept = h->intercepts[k];
    EACH(i, 0, n) each[i] = extreme(each[i] + intercept);
  }
  return 0;
}

/* Odds of failing in any interval, of the odds of each: (1 + a)(1 + b) - 1, without losing small ones to the 1. */
EXPORT int64_t hazard_any(const struct hazard *h) {
  int64_t n = h->rows;
  for (int64_t model = 0; model < h->models; model++) {
    double *odds = h->each + model * n;
    for (int64_t k = 1; k < h->intervals; k++) {
      int64_t place = k * h->models + model;
      const double *more = h->each + place * n;
      double there = h->missing[place] ? 0.0 : 1.0;
      EACH(i, 0, n) odds[i] += (odds[i] + 1.0) * (more[i] * there);
    }
  }
  return 0;
}

/* Calibrated log odds, negative. */
EXPORT int64_t hazard_calibrated(const struct hazard *h) {
  int64_t n = h->rows;
  for (int64_t model = 0; model < h->models; model++) {
    double *odds = h->each + model * n, slope = h->slope[model], offset = h->offset[model];
    EACH(i, 0, n) odds[i] = -extreme(odds[i] * slope + offset);
  }
  return 0;
}

/* Probabilities, of exponentials of negative log odds. */
EXPORT int64_t hazard_probability(const struct hazard *h) {
  EACH(i, 0, h->models * h->rows) h->each[i] = 1.0 / (h->each[i] + 1.0);
  return 0;
}
