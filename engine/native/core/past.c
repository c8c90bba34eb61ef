/* What packets see while a batch is written: the state before it.
 *
 * A batch changes tables as single writes do, in place and with packets in between; but lookups in a table that it has
 * touched come here, and see the past: what the table holds, without what the batch made (`born`), and with what it removed
 * or changed, which is kept aside (`gone`, `gone_tuples`; of a changed entry a copy, which counts for it meanwhile). When all
 * is written, or undone, lookups go back to their usual ways at once: nothing is moved at that moment, however large the
 * batch. Of ternary entries with equal priority that both match, another one may win meanwhile: P4Runtime leaves open which
 * does, and the copy of a changed entry stands behind the others. Usual lookups ask for none of this: `seen` is 0 and `direct` NULL meanwhile, as in an empty table.
 *
 * Where lookups have arrays of their own (LPM, direct_index), those are in the new state already; the identity hash, in
 * which every entry is, answers for them.
 */
#include "sp_wire.h"

#define ROOM (sizeof(struct sp_entry) / 8 + 256) /* words: an entry with the longest key */

/* An entry without more than a key; sp_entry_new() may not be called for packets. */
static struct sp_entry *sp_like(uint64_t room[ROOM], const uint64_t *key, unsigned words)
{
    struct sp_entry *like = (struct sp_entry *)room;
    memset(like, 0, sizeof *like);
    memcpy(like->key, key, words * 8u);
    return like;
}

static bool sp_is_born(const struct sp_table *t, const struct sp_entry *e) { return e->born == t->owner->batch; }

/* The entry with the same match before the batch. */
static struct sp_entry *sp_past_find(const struct sp_table *t, const struct sp_entry *like)
{
    struct sp_entry *e = sp_identity_find(t, &t->gone, like);
    if (!e && (e = sp_table_find(t, like)) && sp_is_born(t, e))
        e = NULL;
    return e;
}

struct sp_entry *sp_past_exact(const struct sp_table *t, const uint64_t *key)
{
    uint64_t room[ROOM];
    return sp_past_find(t, sp_like(room, key, t->desc->key_words));
}

struct sp_entry *sp_past_direct(const struct sp_table *t, uint64_t value)
{
    uint64_t key = value << (64 - 8 * t->desc->field[0].bytes);
    return sp_past_exact(t, &key);
}

/* One length after the other, as long as there have been such prefixes. */
void *sp_past_lpm(const struct sp_table *t, const uint64_t *key)
{
    uint64_t room[ROOM];
    unsigned words = t->desc->key_words;
    struct sp_entry *like = sp_like(room, key, words), *found = NULL;
    for (unsigned w = words + 1; w-- > 0 && !found;)
        for (uint64_t left = t->lpm.lengths_seen[w]; left && !found;) {
            unsigned bit = 63u - (unsigned)__builtin_clzll(left);
            left &= ~(1ull << bit);
            like->prefix = (uint16_t)(64 * w + bit);
            sp_mask_prefix(like->key, words, like->prefix); /* ever shorter ones */
            found = sp_past_find(t, like);
        }
    return found && t->desc->bare ? (void *)found->act : found;
}

/* The first of a chain that the packet matches and that was there. */
static struct sp_entry *sp_past_chain(const struct sp_table *t, struct sp_entry *e, const uint64_t *ranges, bool gone)
{
    const struct sp_table_desc *d = t->desc;
    while (e && ((!gone && sp_is_born(t, e)) ||
                 (d->ranges && !sp_in_ranges(e, d->key_words, ranges, d->ranges, d->range_words))))
        e = e->next;
    return e;
}

static struct sp_entry *sp_past_best(const struct sp_table *t, const struct sp_tuples *ts, const uint64_t *key,
                                     const uint64_t *ranges, struct sp_entry *best)
{
    unsigned words = t->desc->key_words;
    uint64_t masked[64];
    for (uint32_t i = 0; i < ts->count; i++) {
        const struct sp_tuple *tuple = ts->tuple[i];
        if (best && best->priority >= tuple->priority)
            break;
        for (unsigned w = 0; w < words; w++)
            masked[w] = key[w] & tuple->mask[w];
        struct sp_entry *e = sp_hash_find(&tuple->hash, sp_hash_words(masked, words), masked, words);
        e = sp_past_chain(t, e, ranges, ts == &t->gone_tuples);
        if (e && (!best || e->priority > best->priority))
            best = e;
    }
    return best;
}

struct sp_entry *sp_past_ternary(const struct sp_table *t, const uint64_t *key, const uint64_t *ranges)
{
    struct sp_entry *best = sp_past_best(t, &t->tuples, key, ranges, NULL);
    return sp_past_best(t, &t->gone_tuples, key, ranges, best);
}

static struct sp_replicas sp_no_replicas; /* in a map of what was: nothing */

const struct sp_replicas *sp_past_replicas(const struct sp_switch *sw, bool clone, uint32_t id)
{
    const struct sp_replicas *was = sp_map_get(clone ? &sw->gone_clones : &sw->gone_multicast, id);
    if (was)
        return was == &sp_no_replicas ? NULL : was;
    return sp_map_get(clone ? &sw->clones : &sw->multicast, id);
}

/* -- remembering -------------------------------------------------------------------------------------------------- */

void sp_past_touch(struct sp_table *t)
{
    struct sp_journal *j = t->owner->journal;
    if (!j || t->past)
        return;
    t->past = t->tuples.past = true;
    t->default_next = t->default_act;
    t->next_past = j->tables;
    j->tables = t;
    sp_table_seen(t);
}

/* Keeps an entry aside that was there before the batch; false: out of memory. Of ternary tables it must not be in the
 * table any more, since there it is chained to others. */
static bool sp_gone_put(struct sp_table *t, struct sp_entry *e)
{
    if (t->desc->match == SP_TERNARY)
        return sp_tuples_insert(t, &t->gone_tuples, e);
    if (!sp_hash_reserve(&t->gone, t->owner->preparer, t->desc->size))
        return false;
    sp_hash_put(&t->gone, e, e->hash);
    return true;
}

static void sp_gone_remove(struct sp_table *t, struct sp_entry *e)
{
    if (t->desc->match == SP_TERNARY)
        sp_tuples_remove(t, &t->gone_tuples, e);
    else
        sp_hash_remove(&t->gone, e, e->hash);
}

bool sp_past_drop(struct sp_table *t, struct sp_entry *e, bool *kept)
{
    sp_past_touch(t);
    *kept = t->past && !sp_is_born(t, e);
    bool ternary = t->desc->match == SP_TERNARY;
    if (*kept && !ternary && !sp_gone_put(t, e)) /* first: dropping a short prefix lets packets pass */
        return false;
    sp_table_drop(t, e);
    if (!*kept || !ternary || sp_gone_put(t, e))
        return true;
    sp_table_add(t, e); /* its memory is still reserved */
    return false;
}

void sp_past_add(struct sp_table *t, struct sp_entry *e, bool kept)
{
    bool ternary = t->desc->match == SP_TERNARY;
    if (kept && ternary)
        sp_gone_remove(t, e);
    sp_table_add(t, e); /* its memory is still reserved */
    if (kept && !ternary)
        sp_gone_remove(t, e);
}

/* -- changed entries ---------------------------------------------------------------------------------------------- */

static void sp_version_end(struct sp_table *t, struct sp_entry *copy)
{
    copy->meter = NULL; /* the entry's, or on its way to be freed */
    sp_entry_free(t, copy);
}

static void sp_version_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_entry *e = s->at, *copy = s->old;
    (void)sw;
    sp_gone_remove(s->fresh, copy);
    e->born = copy->born;
    e->packets = copy->packets;
    e->bytes = copy->bytes;
    e->last_hit = copy->last_hit;
    e->reported_at = copy->reported_at;
    sp_version_end(s->fresh, copy);
}

/* What the copy has counted since is the entry's, unless the batch has set its counter. */
static void sp_version_keep(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_entry *e = s->at, *copy = s->old;
    (void)sw;
    if (!e->counted) {
        e->packets += copy->packets;
        e->bytes += copy->bytes;
    }
    if (copy->last_hit > e->last_hit)
        e->last_hit = copy->last_hit;
    sp_version_end(s->fresh, copy);
}

bool sp_past_version(struct sp_table *t, struct sp_entry *e)
{
    struct sp_switch *sw = t->owner;
    if (!sw->journal)
        return true;
    sp_past_touch(t);
    if (sp_is_born(t, e))
        return true;
    struct sp_entry *copy = sp_entry_new(t);
    if (!copy)
        return false;
    memcpy(copy, e, sizeof *e + sp_key_room(t->desc));
    if (copy->act)
        copy->act->uses++;
    if (!sp_gone_put(t, copy)) {
        sp_version_end(t, copy);
        return false;
    }
    e->born = sw->batch;
    e->packets = e->bytes = 0;
    sp_step_done(sw, (struct sp_step){
                         .undo = sp_version_undo, .keep = sp_version_keep, .at = e, .old = copy, .fresh = t});
    return true;
}

bool sp_past_keep_replicas(struct sp_switch *sw, bool clone, uint32_t id, struct sp_replicas *was)
{
    struct sp_id_map *gone = clone ? &sw->gone_clones : &sw->gone_multicast;
    if (!sw->journal || sp_map_get(gone, id))
        return true;
    return sp_map_put(gone, id, was ? was : &sp_no_replicas);
}

/* -- the end ------------------------------------------------------------------------------------------------------ */

void sp_past_end(struct sp_switch *sw, const struct sp_journal *j, bool stands)
{
    sw->past = false;
    for (struct sp_table *t = j->tables; t; t = t->next_past) {
        t->past = t->tuples.past = false;
        if (stands)
            t->default_act = t->default_next;
        sp_table_seen(t);
    }
}

void sp_past_forget(struct sp_switch *sw, const struct sp_journal *j)
{
    for (struct sp_table *t = j->tables, *next; t; t = next) {
        next = t->next_past;
        sp_hash_clear(&t->gone, sw->preparer);
        sp_tuples_clear(&t->gone_tuples, sw->preparer);
        t->default_next = NULL;
        t->next_past = NULL;
        sp_breathe(sw);
    }
    sp_map_clear(&sw->gone_multicast, NULL);
    sp_map_clear(&sw->gone_clones, NULL);
}
