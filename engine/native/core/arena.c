/* Memory of one table's entries or LPM tree nodes: blocks of 1..64 units, carved from chunks that double up to 2 MiB.
 * Freed blocks are kept by size and reused; all goes back when the table is cleared. Large chunks are mapped without huge
 * pages: clearing one keeps packets waiting for milliseconds on virtual machines, and lookups were not faster.
 */
#include "sp_core.h"

#include <stdlib.h>
#include <sys/mman.h>

#define UNIT SP_ARENA_UNIT
_Static_assert(UNIT == sizeof(struct sp_lpm_node), "a node fills a unit");
#define FIRST_CHUNK (64u << 10)
#define LARGE_CHUNK (2u << 20)

struct sp_chunk {
    struct sp_chunk *next;
    void *base;
    size_t mapped; /* 0: from malloc */
};

static unsigned sp_units(size_t bytes) { return (unsigned)((bytes + UNIT - 1) / UNIT); }

void *sp_map(size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    (void)madvise(base, bytes, MADV_NOHUGEPAGE); /* clearing 2 MiB takes longer than a packet may wait */
    return base;
}

#define SMALL_ARRAY 2048u

void *sp_grow(void *array, size_t item, uint32_t *capacity, uint32_t limit)
{
    if (*capacity >= limit)
        return NULL;
    if (*capacity < SMALL_ARRAY) {
        uint32_t wanted = *capacity ? *capacity * 2 : 16;
        array = realloc(array, wanted * item);
        *capacity = array ? wanted : *capacity;
        return array;
    }
    void *large = sp_map(limit * item);
    if (!large)
        return NULL;
    memcpy(large, array, *capacity * item);
    free(array);
    *capacity = limit;
    return large;
}

void sp_grown_free(void *array, size_t item, uint32_t capacity)
{
    if (capacity <= SMALL_ARRAY)
        free(array);
    else
        munmap(array, capacity * item);
}

static bool sp_more(struct sp_arena *a)
{
    size_t size = a->chunk_size ? a->chunk_size * 2 : FIRST_CHUNK;
    size = size < LARGE_CHUNK ? size : LARGE_CHUNK;
    bool large = size == LARGE_CHUNK;
    struct sp_chunk *chunk = malloc(sizeof *chunk);
    void *base = chunk ? (large ? sp_map(size) : malloc(size)) : NULL;
    if (!base) {
        free(chunk);
        return false;
    }
    *chunk = (struct sp_chunk){a->chunks, base, large ? size : 0};
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
