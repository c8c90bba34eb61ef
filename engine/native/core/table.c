/* Entries of one table: identity, pool, and the lookup structure of its match kind. */
#include "sp_core.h"

#include <stdlib.h>

size_t sp_key_room(const struct sp_table_desc *d)
{
    size_t words = d->key_words;
    if (d->match == SP_TERNARY)
        words += d->key_words + 2u * d->range_words * d->ranges;
    return words * 8;
}

static bool sp_same(const struct sp_table *t, const struct sp_entry *a, const struct sp_entry *b)
{
    return a->prefix == b->prefix && a->priority == b->priority && !memcmp(a->key, b->key, sp_key_room(t->desc));
}

uint64_t sp_identity(const struct sp_table *t, const struct sp_entry *e)
{
    if (t->desc->match == SP_EXACT)
        return sp_hash_words(e->key, t->desc->key_words);
    uint64_t h = sp_hash_words(e->key, (unsigned)(sp_key_room(t->desc) / 8));
    return sp_mix(h, (uint64_t)e->prefix << 32 | (uint32_t)e->priority);
}

struct sp_entry *sp_identity_find(const struct sp_table *t, const struct sp_hash *h, const struct sp_entry *like)
{
    if (!h->used)
        return NULL;
    uint64_t hash = sp_identity(t, like);
    for (uint32_t i = (uint32_t)hash & h->mask; h->slots[i].entry; i = (i + 1) & h->mask)
        if (h->slots[i].hash == hash && sp_same(t, h->slots[i].entry, like))
            return h->slots[i].entry;
    for (uint32_t i = (uint32_t)hash & h->old_mask; h->old && h->old[i].entry; i = (i + 1) & h->old_mask)
        if (h->old[i].hash == hash && h->old[i].entry != &sp_hash_gone && sp_same(t, h->old[i].entry, like))
            return h->old[i].entry;
    return NULL;
}

struct sp_entry *sp_table_find(const struct sp_table *t, const struct sp_entry *like)
{
    return sp_identity_find(t, &t->hash, like);
}

static uint64_t sp_direct_value(const struct sp_table *t, const struct sp_entry *e)
{
    return e->key[0] >> (64 - 8 * t->desc->field[0].bytes);
}

/* Gives an entry its place in the pool. Free places form a list in themselves. */
static bool sp_pool_take(struct sp_table *t, struct sp_entry *e)
{
    if (t->free_slot) {
        e->slot = t->free_slot - 1;
        t->free_slot = sp_free_next(t->pool[e->slot]);
    } else {
        if (t->pool_len == t->pool_capacity) {
            struct sp_entry **pool = sp_grow(&t->pool_grower, t->pool, sizeof *pool, &t->pool_capacity, t->desc->size);
            if (!pool)
                return false;
            t->pool = pool;
        }
        sp_grown_ahead(&t->pool_grower, t->pool, sizeof *t->pool, t->pool_capacity, t->pool_len, t->desc->size);
        e->slot = t->pool_len++;
    }
    t->pool[e->slot] = e;
    return true;
}

static void sp_pool_return(struct sp_table *t, struct sp_entry *e)
{
    t->pool[e->slot] = sp_free_mark(t->free_slot);
    t->free_slot = e->slot + 1;
}

void sp_table_seen(struct sp_table *t)
{
    t->seen = t->past ? 0 : t->count;
    t->direct = t->past ? NULL : t->places;
}

uint32_t sp_table_add(struct sp_table *t, struct sp_entry *e)
{
    const struct sp_table_desc *d = t->desc;
    if (t->count >= d->size)
        return SP_RESOURCE_EXHAUSTED;
    if (!sp_hash_reserve(&t->hash, t->owner->preparer, d->size) || !sp_pool_take(t, e))
        return SP_RESOURCE_EXHAUSTED;
    bool ok = true;
    if (d->match == SP_LPM) {
        ok = sp_lpm_insert(t, e);
    } else if (d->match == SP_TERNARY) {
        ok = sp_tuples_insert(t, &t->tuples, e);
    } else if (d->direct_index) {
        if (!t->places)
            t->places = calloc((size_t)1 << d->field[0].width, sizeof *t->places);
        if ((ok = t->places != NULL))
            t->places[sp_direct_value(t, e)] = e;
    }
    if (!ok) {
        sp_pool_return(t, e);
        return SP_RESOURCE_EXHAUSTED;
    }
    e->hash = sp_identity(t, e);
    sp_hash_put(&t->hash, e, e->hash);
    t->count++;
    sp_table_seen(t);
    return SP_OK;
}

void sp_table_drop(struct sp_table *t, struct sp_entry *e)
{
    sp_hash_remove(&t->hash, e, e->hash);
    if (t->desc->match == SP_LPM)
        sp_lpm_remove(t, e);
    else if (t->desc->match == SP_TERNARY)
        sp_tuples_remove(t, &t->tuples, e);
    else if (t->places)
        t->places[sp_direct_value(t, e)] = NULL;
    sp_pool_return(t, e);
    t->count--;
    sp_table_seen(t);
}

void sp_entry_unref(struct sp_entry *e)
{
    if (e->member)
        e->member->uses--;
    if (e->group)
        e->group->uses--;
    e->member = NULL;
    e->group = NULL;
}

/* Entries of usual size live in the table's arena: malloc() stands still for tens of milliseconds when it tidies up
 * after a few hundred thousand of them. Sanitizers see more when each is a block of its own. */
static bool sp_in_arena(size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    return false && bytes;
#else
    return bytes <= SP_ARENA_UNITS * sizeof(struct sp_lpm_node);
#endif
}

struct sp_entry *sp_entry_new(struct sp_table *t)
{
    size_t bytes = sizeof(struct sp_entry) + sp_key_room(t->desc);
    if (!sp_in_arena(bytes))
        return calloc(1, bytes);
    struct sp_entry *e = sp_arena_alloc(&t->entries, bytes);
    return e ? memset(e, 0, bytes) : NULL;
}

void sp_entry_free(struct sp_table *t, struct sp_entry *e)
{
    if (!e)
        return;
    size_t bytes = sizeof(struct sp_entry) + sp_key_room(t->desc);
    sp_act_release(e->act);
    free(e->meter);
    if (sp_in_arena(bytes))
        sp_arena_free(&t->entries, e, bytes);
    else
        free(e);
}

/* Its parts know who prepares their memory. */
void sp_table_prepare(struct sp_table *t)
{
    struct sp_preparer *p = t->owner->preparer;
    t->entries.preparer = t->pool_grower.preparer = p;
    t->lpm.arena.preparer = t->lpm.longer_grower.preparer = p;
}

void sp_table_clear(struct sp_table *t)
{
    for (uint32_t i = 0; i < t->pool_len; i++)
        sp_entry_free(t, sp_table_entry(t, i));
    struct sp_preparer *p = t->owner->preparer;
    sp_arena_clear(&t->entries);
    sp_grown_free(&t->pool_grower, t->pool, sizeof *t->pool, t->pool_capacity);
    sp_hash_clear(&t->hash, p);
    free(t->places);
    sp_act_release(t->default_act);
    sp_act_release(t->program_act);
    sp_lpm_clear(&t->lpm);
    sp_tuples_clear(&t->tuples, p);
    *t = (struct sp_table){.desc = t->desc, .owner = t->owner, .index = t->index};
    sp_table_prepare(t);
}
