/* Memory that is there before it is needed.
 *
 * Whoever touches fresh memory first pays for it: half a microsecond a page, now and then 150 when the machine below looks
 * for memory of its own, and a large block takes milliseconds to unmap. None of that may come between packets, so a
 * thread of low priority does it for all tables of a switch: it maps and touches what they will need next, and unmaps
 * what they have left. Nobody waits for it. What is not ready in time is mapped on the spot, and costs what it costs.
 *
 * Requests stand in a table of atomic states, no locks: a lock could be held by a thread that gets no processor.
 */
#define _GNU_SOURCE /* SCHED_BATCH */
#include "sp_prepare.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14; older ones refuse it, and pages come when they are touched */
#define MADV_POPULATE_WRITE 23
#endif

#define ORDERS 256u
#define PAGE 4096u
#define HUGE ((size_t)2 << 20)
#define SLICE ((size_t)64 << 10) /* the kernel holds a lock of the process for as long as one of these takes */
#define STACK ((size_t)256 << 10)

enum { FREE, ASKED, READY, DROPPED };
enum { MAKE, TOUCH, RELEASE };

struct sp_order {
    _Atomic int state; /* FREE and READY to ASKED, DROPPED: by the tables; ASKED to READY, FREE: by the thread */
    int kind;
    uint8_t *base;
    size_t bytes, ready, huge;
};

struct sp_preparer {
    pthread_t thread;
    sem_t work;
    atomic_bool stop;
    pid_t process; /* a forked child has no such thread */
    uint32_t next; /* where the tables look for a free order */
    struct sp_order order[ORDERS];
};

void *sp_map(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    (void)madvise(base, bytes, MADV_NOHUGEPAGE); /* clearing 2 MiB takes longer than a packet may wait */
    return base;
}

static void sp_touch_fresh(const struct sp_order *order, uint8_t *base, size_t from)
{
    for (size_t at = from; at < order->ready && atomic_load_explicit(&order->state, memory_order_relaxed) == ASKED;
         at += PAGE)
        ((volatile uint8_t *)base)[at] = 0;
}

static uint8_t *sp_make(const struct sp_order *order)
{
    if (!order->huge) {
        uint8_t *base = sp_map(order->bytes);
        if (base)
            sp_touch_fresh(order, base, 0);
        return base;
    }
    size_t room = order->bytes + HUGE;
    uint8_t *mapped = sp_map(room);
    if (!mapped)
        return NULL;
    uint8_t *base = mapped + (HUGE - (uintptr_t)mapped % HUGE) % HUGE;
    if (base > mapped)
        munmap(mapped, (size_t)(base - mapped));
    if (base + order->bytes < mapped + room)
        munmap(base + order->bytes, (size_t)(mapped + room - base) - order->bytes);
    if (order->huge < order->ready)
        sp_touch_fresh(order, base, order->huge);
    (void)madvise(base, order->huge, MADV_HUGEPAGE);
    sp_touch_fresh(order, base, 0); /* a huge page comes with its first byte */
    return base;
}

static void sp_unmap(uint8_t *base, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 4 * SLICE)
        (void)madvise(base + at, bytes - at < 4 * SLICE ? bytes - at : 4 * SLICE, MADV_DONTNEED);
    munmap(base, bytes);
}

static void sp_execute(struct sp_order *order)
{
    int asked = ASKED;
    switch (order->kind) {
    case MAKE:
        order->base = sp_make(order);
        if (atomic_compare_exchange_strong(&order->state, &asked, READY))
            return;
        if (order->base) /* dropped meanwhile */
            sp_unmap(order->base, order->bytes);
        break;
    case TOUCH:
        for (size_t at = 0; at < order->bytes; at += SLICE)
            if (madvise(order->base + at, order->bytes - at < SLICE ? order->bytes - at : SLICE, MADV_POPULATE_WRITE))
                break;
        break;
    default:
        sp_unmap(order->base, order->bytes);
    }
    atomic_store(&order->state, FREE);
}

/* Everything that is asked for, from `at` on; returns where it ended. */
static uint32_t sp_execute_all(struct sp_preparer *p, uint32_t at)
{
    for (uint32_t quiet = 0; quiet < ORDERS; at = (at + 1) % ORDERS) {
        int state = atomic_load(&p->order[at].state);
        quiet = state == ASKED ? 0 : quiet + 1;
        if (state == ASKED)
            sp_execute(&p->order[at]);
        else if (state == DROPPED)
            atomic_store(&p->order[at].state, FREE);
    }
    return at;
}

/* It needs little time, but soon: ordinary priority (not the caller's, which may be a real-time one), in which it
 * interrupts nobody, and slices that packets can wait for where there is but one core (Linux 6.12). */
static void sp_be_modest(int nice)
{
    struct { /* struct sched_attr */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {.size = sizeof a, .policy = SCHED_BATCH, .nice = nice, .runtime = 100000};
    (void)syscall(SYS_sched_setattr, 0, &a, 0);
}

static void *sp_prepare_run(void *argument)
{
    struct sp_preparer *p = argument;
    int nice = getpriority(PRIO_PROCESS, 0);
    sp_be_modest(nice > 0 ? nice : 0);
    for (uint32_t at = 0; !atomic_load(&p->stop);) {
        while (sem_wait(&p->work))
            ;
        at = sp_execute_all(p, at);
    }
    return NULL;
}

struct sp_preparer *sp_preparer_start(void)
{
    struct sp_preparer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    pthread_attr_t small;
    sigset_t all, before; /* signals are the caller's business */
    sigfillset(&all);
    pthread_attr_init(&small);
    (void)pthread_attr_setstacksize(&small, STACK);
    p->process = getpid();
    sem_init(&p->work, 0, 0);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&p->thread, &small, sp_prepare_run, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&small);
    if (failed) {
        sem_destroy(&p->work);
        free(p);
        return NULL;
    }
    return p;
}

void sp_preparer_stop(struct sp_preparer *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    sem_post(&p->work);
    if (p->process == getpid())
        pthread_join(p->thread, NULL);
    sp_execute_all(p, 0);
    sem_destroy(&p->work);
    free(p);
}

static struct sp_order *sp_ask(struct sp_preparer *p, int kind, void *base, size_t bytes, size_t ready, size_t huge)
{
    for (uint32_t n = 0; p && n < ORDERS; n++) {
        struct sp_order *order = &p->order[p->next];
        p->next = (p->next + 1) % ORDERS;
        if (atomic_load(&order->state) != FREE)
            continue;
        order->kind = kind;
        order->base = base;
        order->bytes = bytes;
        order->ready = ready;
        order->huge = huge;
        atomic_store(&order->state, ASKED);
        sem_post(&p->work);
        return order;
    }
    return NULL;
}

struct sp_order *sp_order(struct sp_preparer *p, size_t bytes, size_t ready, size_t huge)
{
    return sp_ask(p, MAKE, NULL, bytes, ready, huge);
}

void *sp_ordered(struct sp_order **order)
{
    if (!*order || atomic_load(&(*order)->state) != READY)
        return NULL;
    void *base = (*order)->base;
    atomic_store(&(*order)->state, FREE);
    *order = NULL;
    return base;
}

bool sp_order_ready(const struct sp_order *order) { return atomic_load(&order->state) == READY; }

void sp_order_drop(struct sp_preparer *p, struct sp_order **order)
{
    int asked = ASKED;
    if (!*order)
        return;
    if (!atomic_compare_exchange_strong(&(*order)->state, &asked, DROPPED)) {
        size_t bytes = (*order)->bytes;
        sp_release(p, sp_ordered(order), bytes);
    }
    *order = NULL;
}

void sp_touch(struct sp_preparer *p, void *base, size_t bytes) { (void)sp_ask(p, TOUCH, base, bytes, 0, 0); }

void sp_release(struct sp_preparer *p, void *base, size_t bytes)
{
    if (base && !sp_ask(p, RELEASE, base, bytes, 0, 0))
        munmap(base, bytes);
}
