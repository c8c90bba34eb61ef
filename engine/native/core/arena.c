/* Memory of one LPM table's tree nodes: blocks of 1..64 units, carved from chunks that double up to 2 MiB and then ask for huge
 * pages. A million prefixes spread over tens of megabytes; with small pages, looking them up misses the TLB as often
 * as the cache. Freed blocks are kept by size and reused; all goes back when the table is cleared.
 */
#include "sp_core.h"

#include <stdlib.h>
#include <sys/mman.h>

#define UNIT sizeof(struct sp_lpm_node)
#define FIRST_CHUNK (64u << 10)
#define HUGE_CHUNK SP_HUGE

struct sp_chunk {
    struct sp_chunk *next;
    void *base;
    size_t mapped; /* 0: from malloc */
};

static unsigned sp_units(size_t bytes) { return (unsigned)((bytes + UNIT - 1) / UNIT); }

void *sp_map_huge(void)
{
    uint8_t *raw = mmap(NULL, 2 * HUGE_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    uint8_t *base = (uint8_t *)(((uintptr_t)raw + HUGE_CHUNK - 1) & ~(uintptr_t)(HUGE_CHUNK - 1));
    if (base > raw)
        munmap(raw, (size_t)(base - raw));
    munmap(base + HUGE_CHUNK, (size_t)(raw + 2 * HUGE_CHUNK - base - HUGE_CHUNK));
    (void)madvise(base, HUGE_CHUNK, MADV_HUGEPAGE); /* a wish; ordinary pages do too */
    return base;
}

static bool sp_more(struct sp_arena *a)
{
    size_t size = a->chunk_size ? a->chunk_size * 2 : FIRST_CHUNK;
    size = size < HUGE_CHUNK ? size : HUGE_CHUNK;
    bool huge = size == HUGE_CHUNK;
    struct sp_chunk *chunk = malloc(sizeof *chunk);
    void *base = chunk ? (huge ? sp_map_huge() : malloc(size)) : NULL;
    if (!base) {
        free(chunk);
        return false;
    }
    *chunk = (struct sp_chunk){a->chunks, base, huge ? size : 0};
    a->chunks = chunk;
    a->chunk_size = size;
    a->fresh = base;
    a->left = size / UNIT;
    return true;
}

void *sp_arena_alloc(struct sp_arena *a, size_t bytes)
{
    unsigned units = sp_units(bytes);
    void *block = a->free[units];
    if (block) {
        memcpy(&a->free[units], block, sizeof block);
        return block;
    }
    if (a->left < units) {
        while (a->left) { /* the rest of the chunk becomes a free block */
            unsigned rest = a->left < SP_ARENA_UNITS ? (unsigned)a->left : SP_ARENA_UNITS;
            sp_arena_free(a, a->fresh, rest * UNIT);
            a->fresh += rest * UNIT;
            a->left -= rest;
        }
        if (!sp_more(a))
            return NULL;
    }
    block = a->fresh;
    a->fresh += units * UNIT;
    a->left -= units;
    return block;
}

void sp_arena_free(struct sp_arena *a, void *block, size_t bytes)
{
    if (!block)
        return;
    unsigned units = sp_units(bytes);
    memcpy(block, &a->free[units], sizeof(void *));
    a->free[units] = block;
}

/* As realloc(); nothing moves while the number of units stays the same. */
void *sp_arena_resize(struct sp_arena *a, void *block, size_t old, size_t bytes)
{
    if (block && sp_units(old) == sp_units(bytes))
        return block;
    void *fresh = sp_arena_alloc(a, bytes);
    if (!fresh)
        return NULL;
    memcpy(fresh, block, old < bytes ? old : bytes);
    sp_arena_free(a, block, old);
    return fresh;
}

void sp_arena_clear(struct sp_arena *a)
{
    while (a->chunks) {
        struct sp_chunk *chunk = a->chunks;
        a->chunks = chunk->next;
        if (chunk->mapped)
            munmap(chunk->base, chunk->mapped);
        else
            free(chunk->base);
        free(chunk);
    }
    memset(a, 0, sizeof *a);
}
