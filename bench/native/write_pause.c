/* How long packets wait while tables are written, in memory: the switch process's loop without its interfaces.
 *
 * As there, one thread processes packets and executes commands: a packet after each command and, in the middle of one,
 * whenever the program offers it and LOOK has passed. A pause is the thread's processor time from one packet's end to the
 * next one's start, so that other people's processes do not count.
 */
#include "sp_engine.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK = 20000, SLOTS = 4096 }; /* ns, as BREATH in loop.c; slots of the histogram, one microsecond each */

struct pauses {
    uint64_t count, longest, total, failed;
    uint64_t histogram[SLOTS];
};

static struct state {
    const struct sp_engine *engine;
    struct sp_switch *sw;
    struct pauses *out;
    const uint8_t *frame;
    uint32_t len;
    uint64_t ended, now;
} s;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void packet(void *user)
{
    (void)user;
    uint64_t now = cpu_ns(), pause = now - s.ended;
    if (!s.out || pause < LOOK)
        return;
    s.out->count++;
    s.out->histogram[pause / 1000 < SLOTS ? pause / 1000 : SLOTS - 1]++;
    if (pause > s.out->longest)
        s.out->longest = pause;
    s.engine->process(s.sw, 1, s.frame, s.len, ++s.now);
    s.ended = cpu_ns();
}

__attribute__((visibility("default"))) struct sp_switch *pause_create(const struct sp_engine *engine)
{
    struct sp_options options = {.abi = SP_ENGINE_ABI, .drop_port = 511, .breathe = packet};
    s = (struct state){.engine = engine, .now = 1};
    return engine->create(&options);
}

/* Writes `count` updates of `size` bytes each (their lengths included), `batch` to a message. */
__attribute__((visibility("default"))) int pause_write(struct sp_switch *sw, const uint8_t *updates, uint32_t size,
                                                       uint32_t count, uint32_t batch, const uint8_t *frame,
                                                       uint32_t len, struct pauses *out)
{
    uint8_t *message = malloc(5 + (size_t)batch * size);
    if (!message)
        return -1;
    memset(out, 0, sizeof *out);
    s.sw = sw;
    s.out = out;
    s.frame = frame;
    s.len = len;
    uint64_t begun = s.ended = cpu_ns();
    for (uint32_t done = 0; done < count; done += batch) {
        uint32_t n = count - done < batch ? count - done : batch;
        message[0] = 0;
        memcpy(message + 1, &n, 4);
        memcpy(message + 5, updates + (size_t)done * size, (size_t)n * size);
        const uint8_t *reply;
        uint32_t reply_len;
        s.ended = cpu_ns(); /* copying is the benchmark's */
        uint32_t code = s.engine->command(sw, SP_OP_TABLE_WRITE, message, 5 + n * size, s.now, &reply, &reply_len);
        for (uint32_t i = 0; i < reply_len && code == SP_OK; i++)
            out->failed += reply[i] != SP_OK;
        out->failed += code != SP_OK ? n : 0;
        packet(NULL);
    }
    out->total = cpu_ns() - begun;
    s.out = NULL;
    free(message);
    return 0;
}

/* Any command, once. */
__attribute__((visibility("default"))) uint32_t pause_command(struct sp_switch *sw, uint32_t op, const uint8_t *request,
                                                              uint32_t size, const uint8_t *frame, uint32_t len,
                                                              struct pauses *out)
{
    const uint8_t *reply;
    uint32_t reply_len;
    s.sw = sw;
    s.out = out;
    s.frame = frame;
    s.len = len;
    s.ended = cpu_ns();
    uint32_t code = s.engine->command(sw, op, request, size, s.now, &reply, &reply_len);
    packet(NULL);
    s.out = NULL;
    return code;
}

/* The same clock read in a loop for as long: pauses that are the machine's own. */
__attribute__((visibility("default"))) void pause_nothing(uint64_t ns, struct pauses *out)
{
    memset(out, 0, sizeof *out);
    uint64_t begun = cpu_ns(), before = begun, now;
    for (; (now = cpu_ns()) - begun < ns; before = now)
        if (now - before > out->longest)
            out->longest = now - before;
    out->total = ns;
}
