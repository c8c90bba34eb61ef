/* Actions with parameters that equal ones share. Nothing here takes long, however many there are: buckets divide one at a
 * time (linear hashing, after W. Litwin, VLDB 1980), arrays are never copied, memory comes from an arena.
 */
#include "sp_core.h"

#include <stdlib.h>

#define FIRST_BUCKETS 64u

static bool sp_act_in_arena(size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    return false && bytes;
#else
    return bytes <= SP_ARENA_UNITS * SP_ARENA_UNIT;
#endif
}

struct sp_act *sp_act_new(struct sp_act_pool *pool, uint32_t words)
{
    size_t bytes = sizeof(struct sp_act) + words * 8u;
    struct sp_act *act = sp_act_in_arena(bytes) ? sp_arena_alloc(&pool->arena, bytes) : malloc(bytes);
    if (!act)
        return NULL;
    memset(act, 0, bytes);
    act->words = words;
    return act;
}

void sp_act_free(struct sp_act_pool *pool, struct sp_act *act)
{
    size_t bytes = sizeof(struct sp_act) + act->words * 8u;
    if (sp_act_in_arena(bytes))
        sp_arena_free(&pool->arena, act, bytes);
    else
        free(act);
}

static struct sp_act **sp_bucket(struct sp_act_pool *pool, uint64_t hash)
{
    uint32_t at = (uint32_t)hash & (2 * pool->base - 1);
    return &pool->buckets[at < pool->base + pool->split ? at : at & (pool->base - 1)];
}

/* One more bucket; without memory for it, chains grow longer instead. */
static void sp_divide(struct sp_act_pool *pool)
{
    uint32_t count = pool->base + pool->split;
    if (count == pool->room) {
        struct sp_act **buckets = sp_grow(&pool->buckets_grower, pool->buckets, sizeof *buckets, &pool->room, pool->limit);
        if (!buckets)
            return;
        pool->buckets = buckets;
    }
    sp_grown_ahead(&pool->buckets_grower, pool->buckets, sizeof *pool->buckets, pool->room, count, pool->limit);
    struct sp_act **from = &pool->buckets[pool->split], **to = &pool->buckets[count];
    *to = NULL;
    while (*from) {
        struct sp_act *act = *from;
        if (!(act->hash & pool->base)) {
            from = &act->next;
            continue;
        }
        *from = act->next;
        act->next = *to;
        *to = act;
    }
    if (++pool->split == pool->base) {
        pool->base *= 2;
        pool->split = 0;
    }
}

static bool sp_first_buckets(struct sp_act_pool *pool)
{
    pool->buckets = calloc(FIRST_BUCKETS, sizeof *pool->buckets);
    if (!pool->buckets)
        return false;
    pool->base = pool->room = FIRST_BUCKETS;
    return true;
}

/* Gives an action its id. Free ids form a list in their own places. */
static bool sp_id_take(struct sp_act_pool *pool, struct sp_act *act)
{
    if (pool->free_id) {
        act->id = pool->free_id - 1;
        pool->free_id = sp_free_next(pool->by_id[act->id]);
    } else {
        if (pool->ids == pool->capacity) {
            struct sp_act **by_id = sp_grow(&pool->ids_grower, pool->by_id, sizeof *by_id, &pool->capacity, pool->limit);
            if (!by_id)
                return false;
            pool->by_id = by_id;
        }
        sp_grown_ahead(&pool->ids_grower, pool->by_id, sizeof *pool->by_id, pool->capacity, pool->ids, pool->limit);
        act->id = pool->ids++;
    }
    pool->by_id[act->id] = act;
    return true;
}

struct sp_act *sp_act_share(struct sp_act_pool *pool, struct sp_act *act)
{
    act->hash = sp_mix(sp_hash_words(act->data, act->words), act->action);
    if (!pool->base && !sp_first_buckets(pool)) {
        sp_act_free(pool, act);
        return NULL;
    }
    struct sp_act **bucket = sp_bucket(pool, act->hash);
    for (struct sp_act *same = *bucket; same; same = same->next)
        if (same->hash == act->hash && same->action == act->action &&
            sp_equal_words(same->data, act->data, act->words)) {
            sp_act_free(pool, act);
            same->uses++;
            return same;
        }
    if (!sp_id_take(pool, act)) {
        sp_act_free(pool, act);
        return NULL;
    }
    act->pool = pool;
    act->uses = 1;
    act->next = *bucket;
    *bucket = act;
    if (++pool->used > pool->base + pool->split)
        sp_divide(pool);
    return act;
}

void sp_act_release(struct sp_act *act)
{
    if (!act || --act->uses)
        return;
    struct sp_act_pool *pool = act->pool;
    struct sp_act **at = sp_bucket(pool, act->hash);
    while (*at != act)
        at = &(*at)->next;
    *at = act->next;
    pool->used--;
    pool->by_id[act->id] = sp_free_mark(pool->free_id);
    pool->free_id = act->id + 1;
    sp_act_free(pool, act);
}

void sp_acts_prepare(struct sp_act_pool *pool, struct sp_preparer *p)
{
    pool->arena.preparer = pool->buckets_grower.preparer = pool->ids_grower.preparer = p;
}

void sp_acts_clear(struct sp_act_pool *pool)
{
    struct sp_preparer *p = pool->arena.preparer;
    sp_grown_free(&pool->buckets_grower, pool->buckets, sizeof *pool->buckets, pool->room);
    sp_grown_free(&pool->ids_grower, pool->by_id, sizeof *pool->by_id, pool->capacity);
    sp_arena_clear(&pool->arena);
    *pool = (struct sp_act_pool){.limit = pool->limit};
    sp_acts_prepare(pool, p);
}
