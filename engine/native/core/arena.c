/* Memory of one table's entries, of a switch's actions or of an LPM tree's nodes: blocks of 1..64 units, carved from chunks
 * that double up to 2 MiB. Freed blocks are kept by size and reused; all goes back when the table is cleared. Long before
 * a chunk is used up, the next one is ordered (prepare.c). Chunks have small pages: clearing a huge one keeps packets
 * waiting for milliseconds on virtual machines, and lookups were not faster.
 */
#include "sp_core.h"

#include <stdlib.h>

#define UNIT SP_ARENA_UNIT
_Static_assert(UNIT == sizeof(struct sp_lpm_node), "a node fills a unit");
#define FIRST_CHUNK ((size_t)16 << 10)
#define MAPPED ((size_t)128 << 10) /* from here on chunks are mapped, and ordered before they are needed */
#define LARGE_CHUNK ((size_t)2 << 20)

struct sp_chunk {
    struct sp_chunk *next;
    size_t bytes;
};

static unsigned sp_units(size_t bytes) { return (unsigned)((bytes + UNIT - 1) / UNIT); }

/* -- arrays that grow at their end -------------------------------------------------------------------------------- */

#define SMALL_ARRAY 2048u
#define WINDOW ((size_t)64 << 10) /* bytes that are touched at a time, before they are needed */

void *sp_grow(struct sp_grower *g, void *array, size_t item, uint32_t *capacity, uint32_t limit)
{
    if (*capacity >= limit)
        return NULL;
    if (*capacity < SMALL_ARRAY) {
        uint32_t wanted = *capacity ? *capacity * 2 : 16;
        array = realloc(array, wanted * item);
        *capacity = array ? wanted : *capacity;
        return array;
    }
    void *large = sp_ordered(&g->order);
    if (!large) {
        sp_order_drop(g->preparer, &g->order);
        large = sp_map(limit * item);
    }
    if (!large)
        return NULL;
    memcpy(large, array, *capacity * item);
    free(array);
    *capacity = limit;
    return large;
}

void sp_grown_ahead(struct sp_grower *g, void *array, size_t item, uint32_t capacity, uint32_t used, uint32_t limit)
{
    size_t each = WINDOW / item, at = used + each / 2; /* where the next window begins, in the middle of one */
    if (capacity <= SMALL_ARRAY) {
        if (used >= SMALL_ARRAY / 2 && limit > SMALL_ARRAY && !g->order)
            g->order = sp_order(g->preparer, limit * item, WINDOW < limit * item ? WINDOW : limit * item, 0);
        return;
    }
    if (used % each == each / 2 && at < capacity)
        sp_touch(g->preparer, (uint8_t *)array + at * item, (capacity - at < each ? capacity - at : each) * item);
}

void sp_grown_free(struct sp_grower *g, void *array, size_t item, uint32_t capacity)
{
    if (capacity <= SMALL_ARRAY)
        free(array);
    else
        sp_release(g->preparer, array, capacity * item);
    sp_order_drop(g->preparer, &g->order);
}

/* -- blocks ------------------------------------------------------------------------------------------------------- */

static size_t sp_next_size(const struct sp_arena *a)
{
    size_t size = a->chunk_size ? a->chunk_size * 2 : FIRST_CHUNK;
    return size < LARGE_CHUNK ? size : LARGE_CHUNK;
}

static bool sp_more(struct sp_arena *a)
{
    size_t size = a->ordered;
    struct sp_chunk *chunk = sp_ordered(&a->order);
    if (!chunk) {
        size = sp_next_size(a);
        if (!(chunk = size < MAPPED ? malloc(size) : sp_map(size)))
            return false;
    }
    *chunk = (struct sp_chunk){a->chunks, size};
    a->chunks = chunk;
    a->chunk_size = size;
    a->fresh = (uint8_t *)(chunk + 1);
    a->left = (size - sizeof *chunk) / UNIT;
    a->low = size < LARGE_CHUNK ? a->left / 2 : a->left; /* large ones at once */
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
    if (a->left < a->low) {
        a->low = 0; /* once in a chunk */
        if (!a->order && sp_next_size(a) >= MAPPED)
            a->order = sp_order(a->preparer, a->ordered = sp_next_size(a), sp_next_size(a), 0);
    }
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
    struct sp_preparer *p = a->preparer;
    for (struct sp_chunk *chunk = a->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (chunk->bytes < MAPPED)
            free(chunk);
        else
            sp_release(p, chunk, chunk->bytes);
    }
    sp_order_drop(p, &a->order);
    memset(a, 0, sizeof *a);
    a->preparer = p;
}
