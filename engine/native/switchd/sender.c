/* Sending on cores of their own: a group of ports for each.
 *
 * Sending a frame through the kernel takes five times as long as receiving it and running the program (it carries the
 * frame up to the receiver's socket). So it is what goes to other cores when there is much to send: the loop's thread
 * receives, runs the program, counts, shapes, and talks to clients, alone and in order as ever; it hands over whole
 * batches of finished frames. A port has one sender, its batches go in order, and so do a flow's packets.
 *
 *   loop thread --port_send--> slot of the port --> ring of the port's sender --sendmmsg--> interface
 *
 * Without --cores this begins when the loop's thread is busy and cores are free, and ends when there is less to do or it
 * did not help. Senders that have nothing to do look for work for a moment, then sleep.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "switchd.h"

enum { SLOTS = 8, SLOT_BYTES = 128 * 1024, RING = 2 * MAX_PORTS * SLOTS, MOST = 8 };

static const uint64_t LOOK = 50 * NS_PER_US; /* a sender looks for work that long before it sleeps */
static const uint64_t WINDOW = 20 * NS_PER_MS;
static const double BUSY = 0.8;            /* share of a core that the loop's thread takes: others shall help */
static const unsigned BUSY_WINDOWS = 3, CALM_WINDOWS = 20, TRIAL_WINDOWS = 20;
static const double GAIN = 1.05;           /* at least, or it is given up for BACK_OFF */
static const uint64_t BACK_OFF = 10 * NS_PER_S;

struct slot {
    uint8_t *arena; /* SLOT_BYTES, and as much as the last frame is longer */
    uint32_t used, count;
    struct mmsghdr messages[TX_BATCH];
    struct iovec vectors[TX_BATCH];
};

/* Slots of a port, filled by the loop's thread and emptied by the sender in turn. */
struct tx_queue {
    struct sender *sender;
    uint32_t filled; /* of the loop's thread */
    uint32_t sent;   /* of the sender; atomic, and a futex while the loop's thread waits */
    uint32_t awaited;
    uint32_t done; /* as `sent`, a little later: the sender does not look at the queue any more */
    struct slot slots[SLOTS];
};

struct sender {
    pthread_t thread;
    struct switchd *sw;
    uint32_t asleep; /* futex */
    bool stop;
    uint64_t busy; /* ns */
    uint32_t head, tail;
    struct port *ring[RING];
};

struct senders {
    struct sender *each[MOST];
    uint32_t count, wanted, served; /* running; allowed; ports so far */
    bool on, fixed;
    uint64_t window, cpu, packets, not_before, switched;
    double rate_before; /* packets/s when it began */
    unsigned busy, calm, windows;
};

static inline void relax(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

static uint64_t thread_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- the senders' side ---- */

static void sleep_for_work(struct sender *s)
{
    __atomic_store_n(&s->asleep, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&s->tail, __ATOMIC_SEQ_CST) == s->head && !__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &s->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
}

static void *sender_run(void *argument)
{
    struct sender *s = argument;
    uint64_t idle_since = 0;
    priority_helper();
    for (;;) {
        if (__atomic_load_n(&s->tail, __ATOMIC_ACQUIRE) == s->head) {
            uint64_t now = mono_ns();
            idle_since = idle_since ? idle_since : now;
            if (now - idle_since > LOOK) {
                if (__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST))
                    return NULL;
                sleep_for_work(s);
                idle_since = 0;
            } else {
                relax();
            }
            continue;
        }
        idle_since = 0;
        uint64_t begun = mono_ns();
        struct port *port = s->ring[s->head % RING];
        __atomic_store_n(&s->head, s->head + 1, __ATOMIC_RELEASE);
        struct tx_queue *q = port->queue;
        struct slot *slot = &q->slots[q->sent % SLOTS];
        port_transmit(s->sw, port, slot->messages, slot->count);
        slot->count = slot->used = 0;
        __atomic_store_n(&s->busy, s->busy + mono_ns() - begun, __ATOMIC_RELAXED);
        __atomic_store_n(&q->sent, q->sent + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&q->awaited, __ATOMIC_SEQ_CST))
            syscall(SYS_futex, &q->sent, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        __atomic_store_n(&q->done, q->done + 1, __ATOMIC_RELEASE); /* last: the port may go from here on */
    }
}

/* ---- the loop thread's side ---- */

static void wake(struct sender *s)
{
    if (__atomic_exchange_n(&s->asleep, 0, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &s->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static struct tx_queue *queue_new(struct switchd *sw, const struct port *port)
{
    struct tx_queue *q = calloc(1, sizeof *q);
    bool ok = q != NULL;
    for (int i = 0; i < SLOTS && ok; i++)
        ok = (q->slots[i].arena = malloc(SLOT_BYTES + MAX_FRAME)) != NULL;
    if (!ok) {
        for (int i = 0; q && i < SLOTS; i++)
            free(q->slots[i].arena);
        free(q);
        return NULL;
    }
    for (int i = 0; i < SLOTS; i++)
        for (int k = 0; k < TX_BATCH; k++) {
            q->slots[i].messages[k].msg_hdr.msg_iov = &q->slots[i].vectors[k];
            q->slots[i].messages[k].msg_hdr.msg_iovlen = 1;
        }
    q->sender = sw->senders->each[sw->senders->served++ % sw->senders->count]; /* in turn, as they begin to send */
    return q;
}

static bool queue_idle(const struct tx_queue *q) { return __atomic_load_n(&q->done, __ATOMIC_ACQUIRE) == q->filled; }

/* Until one more slot than `sent` is sent. Asleep after a moment: our thread may have real-time priority, and the sender
 * wait for this very core. */
static void await(struct tx_queue *q, uint32_t sent)
{
    for (unsigned spins = 0; spins < 200; spins++) {
        if (__atomic_load_n(&q->sent, __ATOMIC_ACQUIRE) != sent)
            return;
        relax();
    }
    __atomic_store_n(&q->awaited, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&q->sent, __ATOMIC_SEQ_CST) == sent)
        syscall(SYS_futex, &q->sent, FUTEX_WAIT_PRIVATE, sent, NULL, NULL, 0);
    __atomic_store_n(&q->awaited, 0, __ATOMIC_SEQ_CST);
}

void sender_drain(struct port *port)
{
    struct tx_queue *q = port->queue;
    if (!q)
        return;
    sender_publish(port);
    for (uint32_t sent; (sent = __atomic_load_n(&q->sent, __ATOMIC_ACQUIRE)) != q->filled;)
        await(q, sent);
    while (!queue_idle(q))
        nanosleep(&(struct timespec){0, 1000}, NULL);
}

void sender_forget(struct port *port)
{
    if (!port->queue)
        return;
    sender_drain(port);
    for (int i = 0; i < SLOTS; i++)
        free(port->queue->slots[i].arena);
    free(port->queue);
    port->queue = NULL;
}

/* The slot being filled; waits until there is a free one. */
static struct slot *open_slot(struct tx_queue *q)
{
    for (uint32_t sent; q->filled - (sent = __atomic_load_n(&q->sent, __ATOMIC_ACQUIRE)) == SLOTS;)
        await(q, sent);
    return &q->slots[q->filled % SLOTS];
}

void sender_publish(struct port *port)
{
    struct tx_queue *q = port->queue;
    if (!q || q->filled - __atomic_load_n(&q->sent, __ATOMIC_ACQUIRE) == SLOTS || !q->slots[q->filled % SLOTS].count)
        return; /* with all slots handed over, none is open */
    struct sender *s = q->sender;
    q->filled++;
    s->ring[s->tail % RING] = port; /* never full: it holds all slots of all ports */
    __atomic_store_n(&s->tail, s->tail + 1, __ATOMIC_SEQ_CST);
    wake(s);
}

bool sender_send(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len)
{
    if (!sw->senders->on)
        return false;
    if (!port->queue && !(port->queue = queue_new(sw, port)))
        return false;
    struct slot *slot = open_slot(port->queue);
    struct iovec *v = &slot->vectors[slot->count++];
    v->iov_base = slot->arena + slot->used;
    v->iov_len = len;
    memcpy(v->iov_base, data, len);
    slot->used += (len + 63) & ~63u;
    if (slot->count == TX_BATCH || slot->used >= SLOT_BYTES)
        sender_publish(port);
    return true;
}

static bool start(struct switchd *sw)
{
    struct senders *all = sw->senders;
    for (; all->count < all->wanted; all->count++) {
        struct sender *s = calloc(1, sizeof *s);
        if (!s)
            break;
        s->sw = sw;
        if (pthread_create(&s->thread, NULL, sender_run, s) != 0) {
            free(s);
            break;
        }
        all->each[all->count] = s;
    }
    return all->count > 0;
}

static void turn_on(struct switchd *sw, bool on)
{
    struct senders *all = sw->senders;
    if (on == all->on || (on && !all->count && !start(sw)))
        return;
    ports_flush(sw); /* what one way holds is out before the other begins */
    for (uint32_t i = 0; i < sw->port_count; i++)
        sender_drain(sw->ports[i]);
    all->on = on;
    all->switched++;
    all->busy = all->calm = all->windows = 0;
    log_debug("sending %s", on ? "on cores of its own" : "on the loop's core");
}

bool senders_start(struct switchd *sw, unsigned cores)
{
    struct senders *all = sw->senders = calloc(1, sizeof *all);
    if (!all)
        return false;
    cpu_set_t set;
    unsigned available = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    unsigned automatic = available > MOST ? MOST : available;
    all->fixed = cores > 0;
    all->wanted = (cores ? cores : automatic) - 1;
    all->wanted = all->wanted < MOST ? all->wanted : MOST;
    if (all->fixed && all->wanted)
        turn_on(sw, true);
    return true;
}

void senders_stop(struct switchd *sw)
{
    struct senders *all = sw->senders;
    turn_on(sw, false);
    for (uint32_t i = 0; i < all->count; i++) {
        struct sender *s = all->each[i];
        __atomic_store_n(&s->stop, true, __ATOMIC_SEQ_CST);
        __atomic_store_n(&s->asleep, 0, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &s->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        pthread_join(s->thread, NULL);
        free(s);
    }
    free(all);
    sw->senders = NULL;
}

/* Begins when the loop's thread is busy, ends when the rate has fallen to half or never rose. */
void senders_turn(struct switchd *sw, uint64_t now)
{
    struct senders *all = sw->senders;
    if (all->fixed || !all->wanted || now - all->window < WINDOW)
        return;
    uint64_t cpu = thread_cpu(), took = now - all->window;
    double share = (double)(cpu - all->cpu) / (double)took;
    double rate = (double)(sw->stats.packets - all->packets) * 1e9 / (double)took;
    bool usual = took < 2 * WINDOW; /* otherwise we slept: figures of a time of rest */
    all->window = now;
    all->cpu = cpu;
    all->packets = sw->stats.packets;
    if (!all->on) {
        bool free_cores = now >= all->not_before && !priority_contended(now);
        all->busy = usual && share > BUSY && free_cores ? all->busy + 1 : 0;
        all->rate_before = all->busy == 1 ? rate : rate > all->rate_before ? rate : all->rate_before;
        if (all->busy >= BUSY_WINDOWS)
            turn_on(sw, true);
        return;
    }
    all->calm = !usual || rate < all->rate_before / 2 ? all->calm + 1 : 0;
    bool useless = ++all->windows == TRIAL_WINDOWS && share > BUSY && rate < all->rate_before * GAIN;
    if (useless)
        all->not_before = now + BACK_OFF;
    if (all->calm >= CALM_WINDOWS || useless || (all->calm && !usual) || priority_contended(now))
        turn_on(sw, false);
}

void senders_statistics(const struct switchd *sw, struct buffer *out)
{
    const struct senders *all = sw->senders;
    buffer_printf(out, "{\"allowed\":%u,\"running\":%u,\"on\":%s,\"switched\":%llu,\"busy_ns\":[", all->wanted,
                  all->count, all->on ? "true" : "false", (unsigned long long)all->switched);
    for (uint32_t i = 0; i < all->count; i++)
        buffer_printf(out, "%s%llu", i ? "," : "",
                      (unsigned long long)__atomic_load_n(&all->each[i]->busy, __ATOMIC_RELAXED));
    buffer_printf(out, "]}");
}
