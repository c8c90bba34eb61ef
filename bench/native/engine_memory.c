/* Drives a compiled pipeline in memory, without Python in the loop: as the switch process does, each packet is announced
 * when some others are still before it. */
#include "sp_engine.h"

#include <time.h>

static uint64_t emitted, emitted_bytes;

static void count(void *user, uint32_t port, const uint8_t *data, uint32_t len, const struct sp_tx *tx)
{
    (void)user, (void)port, (void)data, (void)tx;
    emitted++;
    emitted_bytes += len;
}

__attribute__((visibility("default"))) struct sp_switch *bench_create(const struct sp_engine *engine)
{
    struct sp_options options = {.abi = SP_ENGINE_ABI, .drop_port = 511, .emit = count};
    return engine->create(&options);
}

__attribute__((visibility("default"))) uint64_t bench_emitted(void) { return emitted; }

/* Processes `total` packets, taking `n` frames of `len` bytes in turn, and announces each one `ahead` packets before (0:
 * never); nanoseconds of CPU time. */
__attribute__((visibility("default"))) uint64_t bench_run(const struct sp_engine *engine, struct sp_switch *sw,
                                                          const uint8_t *frames, uint32_t n, uint32_t len,
                                                          uint32_t port, uint64_t now_ns, uint64_t total,
                                                          uint32_t ahead)
{
    struct timespec a, b;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (uint64_t i = 0, k = 0, next = ahead % n; i < total; i++, k = k + 1 == n ? 0 : k + 1) {
        if (ahead && engine->ahead(sw, port, NULL, 0))
            engine->ahead(sw, port, frames + next * len, len);
        next = next + 1 == n ? 0 : next + 1;
        engine->process(sw, port, frames + k * len, len, now_ns + i);
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
}
