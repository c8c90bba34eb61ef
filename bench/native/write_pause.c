/* How long packets wait while tables are written, in memory: the switch process's loop without its interfaces.
 *
 * As there, one thread processes packets and executes commands: a packet after each command and, in the middle of one,
 * whenever the program offers it and LOOK has passed. A pause is the thread's processor time from one packet's end to the
 * next one's start, so that other people's processes do not count. What the machine does to a thread counts, though
 * (interrupts, a virtual machine that stands still or whose memory is moved); so after each command the same loop runs for
 * as long without one, reads memory instead, and its pauses are counted apart.
 *
 * Besides, the time between each two offers is kept: they come at the same points of the same writes in every round, so
 * what the writes cost is the least of several rounds.
 */
#include "sp_engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
    LOOK = 20000, /* ns, as BREATH in loop.c */
    SLOTS = 4096, /* of the histogram, one microsecond each */
    FIELD = 1 << 24, /* numbers (128 MiB) that the loop without writes reads at random: tables are as large */
    READS = 8,       /* between two offers, about as many as a write needs */
};

/* In ns. Of pauses above the limit, `long_preempted`: in which the thread lost its processor (and found cold caches when it
 * came back); `long_faulted`: of the others, in which a page was touched for the first time; `long_plain`: the rest. */
struct pauses {
    uint64_t count, longest, total, failed, faults, long_preempted, long_faulted, long_plain;
    uint64_t histogram[SLOTS];
};

struct outcome {
    struct pauses writes, control;
    uint32_t *steps; /* time between offers, up to `room` of them */
    uint64_t room, used;
};

static const uint64_t LIMIT = 100000;

static struct state {
    const struct sp_engine *engine;
    struct sp_switch *sw;
    struct outcome *out;
    struct pauses *now_in;
    const uint8_t *frame;
    uint32_t len;
    uint64_t ended, looked, offered, now; /* ended: processor time; looked, offered: of the clock */
    struct rusage before;
} s;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void start(void)
{
    getrusage(RUSAGE_THREAD, &s.before);
    s.ended = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    s.looked = s.offered = clock_ns(CLOCK_MONOTONIC);
}

static void pause_seen(struct pauses *out, uint64_t pause)
{
    struct rusage after;
    getrusage(RUSAGE_THREAD, &after);
    out->count++;
    out->histogram[pause / 1000 < SLOTS ? pause / 1000 : SLOTS - 1]++;
    out->longest = pause > out->longest ? pause : out->longest;
    out->faults += (uint64_t)(after.ru_minflt - s.before.ru_minflt);
    if (pause > LIMIT)
        ++*(after.ru_nivcsw != s.before.ru_nivcsw   ? &out->long_preempted
            : after.ru_minflt != s.before.ru_minflt ? &out->long_faulted
                                                    : &out->long_plain);
}

/* A packet, when it is time. */
static void packet(void *user)
{
    (void)user;
    if (!s.out)
        return;
    uint64_t now = clock_ns(CLOCK_MONOTONIC);
    if (s.out->used < s.out->room && s.now_in == &s.out->writes)
        s.out->steps[s.out->used++] = now - s.offered < UINT32_MAX ? (uint32_t)(now - s.offered) : UINT32_MAX;
    if (now - s.looked < LOOK) {
        s.offered = clock_ns(CLOCK_MONOTONIC);
        return;
    }
    pause_seen(s.now_in, clock_ns(CLOCK_THREAD_CPUTIME_ID) - s.ended);
    s.engine->process(s.sw, 1, s.frame, s.len, ++s.now);
    start();
}

static uint64_t *field;
static volatile uint64_t sum;

static void read_field(void)
{
    static uint64_t at = 1;
    for (int i = 0; i < READS; i++) {
        at = at * 6364136223846793005u + 1442695040888963407u;
        sum += field[at >> 40];
    }
}

/* The same loop without writes, for `ns` of processor time: it reads memory instead. */
static void control(uint64_t ns)
{
    uint64_t begun = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    s.now_in = &s.out->control;
    start();
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun < ns)
        for (int i = 0; i < 20; i++) {
            read_field();
            packet(NULL);
        }
    s.out->control.total += clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun;
    s.now_in = &s.out->writes;
}

__attribute__((visibility("default"))) struct sp_switch *pause_create(const struct sp_engine *engine)
{
    struct sp_options options = {.abi = SP_ENGINE_ABI, .drop_port = 511, .breathe = packet};
    s = (struct state){.engine = engine, .now = 1};
    if (!field && (field = malloc(FIELD * sizeof *field)))
        memset(field, 1, FIELD * sizeof *field);
    return field ? engine->create(&options) : NULL;
}

/* One command, added to `out`, and as much of the control loop. */
__attribute__((visibility("default"))) uint32_t pause_command(struct sp_switch *sw, uint32_t op, const uint8_t *request,
                                                              uint32_t size, const uint8_t *frame, uint32_t len,
                                                              struct outcome *out)
{
    const uint8_t *reply;
    uint32_t reply_len;
    s.sw = sw;
    s.out = out;
    s.now_in = &out->writes;
    s.frame = frame;
    s.len = len;
    uint64_t begun = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    start();
    uint32_t code = s.engine->command(sw, op, request, size, s.now, &reply, &reply_len);
    packet(NULL);
    uint64_t took = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begun;
    out->writes.total += took;
    control(took);
    s.out = NULL;
    for (uint32_t i = 0; op == SP_OP_TABLE_WRITE && i < reply_len && code == SP_OK; i++)
        out->writes.failed += reply[i] != SP_OK; /* packets have not touched the reply; 50 us for 100,000 */
    return code;
}

/* Writes `count` updates of `size` bytes each (their lengths included), `batch` to a message. */
__attribute__((visibility("default"))) int pause_write(struct sp_switch *sw, const uint8_t *updates, uint32_t size,
                                                       uint32_t count, uint32_t batch, const uint8_t *frame,
                                                       uint32_t len, struct outcome *out)
{
    uint8_t *message = malloc(5 + (size_t)batch * size);
    if (!message)
        return -1;
    for (uint32_t done = 0; done < count; done += batch) {
        uint32_t n = count - done < batch ? count - done : batch;
        message[0] = 0;
        memcpy(message + 1, &n, 4);
        memcpy(message + 5, updates + (size_t)done * size, (size_t)n * size);
        if (pause_command(sw, SP_OP_TABLE_WRITE, message, 5 + n * size, frame, len, out) != SP_OK)
            out->writes.failed += n;
    }
    free(message);
    return 0;
}
