/* Internal to a pipeline: memory that is there before it is needed; see prepare.c. */
#ifndef SP_PREPARE_H
#define SP_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_preparer;
struct sp_order;

/* NULL: no thread; all below works without one, on the spot. */
struct sp_preparer *sp_preparer_start(void);
void sp_preparer_stop(struct sp_preparer *p); /* after the last release */

/* Asks for `bytes` of zeroed memory, the first `ready` of them touched and the first `huge` in huge pages, from a multiple
 * of 2 MiB on (0: none). NULL: not now. */
struct sp_order *sp_order(struct sp_preparer *p, size_t bytes, size_t ready, size_t huge);
/* The memory, when it is ready: the order is over and *order NULL. NULL: not yet, or there is no memory (then *order is
 * NULL, too). */
void *sp_ordered(struct sp_order **order);
bool sp_order_ready(const struct sp_order *order);
void sp_order_drop(struct sp_preparer *p, struct sp_order **order);

/* Touches pages of the caller's, soon; what is in them stays. */
void sp_touch(struct sp_preparer *p, void *base, size_t bytes);
/* Unmaps, soon. */
void sp_release(struct sp_preparer *p, void *base, size_t bytes);

void *sp_map(size_t bytes); /* zeroed when they are touched, in small pages; sp_release() frees them */

#endif
