/* Memory with huge pages for large routing tables, prepared aside. */
#include "sp_core.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Lookups in 64 MiB of slots wait for the TLB as long as for the memory, unless the pages are huge. But to clear a huge page
 * takes milliseconds, so a thread prepares the next block when half of the last one is used; a block that is not ready
 * in time, and the first one, has small pages. */
struct sp_spare {
    pthread_t thread;
    atomic_bool done;
    uint8_t *mapped; /* NULL: no memory */
};

uint32_t *sp_spare_slots(uint8_t *mapped)
{
    return (uint32_t *)(mapped + (SP_LPM_BLOCK_BYTES - (uintptr_t)mapped % SP_LPM_BLOCK_BYTES) % SP_LPM_BLOCK_BYTES);
}

static void *sp_spare_make(void *argument)
{
    struct sp_spare *spare = argument;
    uint8_t *base = mmap(NULL, SP_SPARE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base != MAP_FAILED) {
        (void)madvise(base, SP_SPARE_BYTES, MADV_HUGEPAGE);
        /* The mapping's first fault holds a lock that other threads' mmap() needs: a small page, then the huge one. */
        ((volatile uint8_t *)base)[SP_SPARE_BYTES - 1] = 0;
        ((volatile uint32_t *)sp_spare_slots(base))[0] = 0;
        spare->mapped = base;
    }
    atomic_store(&spare->done, true);
    return NULL;
}

void sp_spare_start(struct sp_lpm *lpm)
{
    struct sp_spare *spare = lpm->spare ? NULL : calloc(1, sizeof *spare);
    if (!spare)
        return;
    if (pthread_create(&spare->thread, NULL, sp_spare_make, spare) == 0)
        lpm->spare = spare;
    else
        free(spare);
}

/* The prepared memory, if it is ready or `wait`; NULL otherwise. */
uint8_t *sp_spare_take(struct sp_lpm *lpm, bool wait)
{
    struct sp_spare *spare = lpm->spare;
    if (!spare || (!wait && !atomic_load(&spare->done)))
        return NULL;
    pthread_join(spare->thread, NULL);
    uint8_t *mapped = spare->mapped;
    free(spare);
    lpm->spare = NULL;
    return mapped;
}
