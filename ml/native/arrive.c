/* What a bank keeps of each row beside its state, when samples arrive: twin of Bank.learn_many (ml/bank.py). */
#include "kernels.h"

INLINE int64_t place(const struct arrive *a, int64_t i) { return a->which ? a->which[i] : i; }

/* Marks rows as touched; how many samples have times that need a closer look: absurd, or far in the past; -1: no
 * such row. */
EXPORT int64_t arrive_look(const struct arrive *a) {
  int64_t odd = 0;
  for (int64_t i = 0; i < a->count; i++) {
    int64_t row = place(a, i);
    if (row < 0 || row >= a->rows) return -1;
    a->touched[row] = 1;
    odd += !(fabs(a->time[i]) < a->far) | (a->time[i] < a->newest[row] - a->back);
  }
  if (!odd)
    for (int64_t i = 0; i < a->count; i++) a->late[place(a, i)] = 0;
  return odd;
}

/* Fetches the state of rows into a block; -1: no such row. */
EXPORT int64_t arrive_fetch(const struct arrive *a) {
  if (!inside(a->which, a->count, a->rows)) return -1;
  for (int64_t k = 0; k < a->height; k++) {
    const double *from = a->state + k * a->rows;
    double *to = a->block + k * a->room;
    for (int64_t i = 0; i < a->count; i++) to[i] = from[a->which[i]];
  }
  return 0;
}

/* Puts it back. */
EXPORT int64_t arrive_keep(const struct arrive *a) {
  for (int64_t k = 0; k < a->height; k++) {
    const double *from = a->block + k * a->room;
    double *to = a->state + k * a->rows;
    for (int64_t i = 0; i < a->count; i++) to[a->which[i]] = from[i];
  }
  return 0;
}

/* After learning: which samples had news (fresh), which rows saw a counter begin anew; how many had none, or did. */
EXPORT int64_t arrive_done(const struct arrive *a) {
  int64_t odd = 0;
  for (int64_t i = 0; i < a->count; i++) {
    int64_t row = place(a, i);
    uint8_t fresh = 0;
    double resets = 0.0;
    for (int64_t k = 0; k < a->series; k++) fresh |= a->told[k * a->room + i];
    for (int64_t k = 0; k < a->counters; k++) resets += a->resets[k * a->room + i];
    if (fresh && !(a->newest[row] > a->time[i])) a->newest[row] = a->time[i];
    a->samples[row] += fresh;
    a->fresh[i] = fresh;
    a->again[i] = resets != a->known[row];
    a->known[row] = resets;
    odd += !fresh | a->again[i];
  }
  return odd;
}
