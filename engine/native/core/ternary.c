/* Ternary, range and optional matches by tuple space search: one hash table per distinct mask, tried in order of the
 * highest priority that each holds. Range fields take part in the hash only when they hold a single value; otherwise
 * entries with the same masked key form a chain by falling priority whose ranges are compared one by one.
 * After V. Srinivasan, S. Suri, G. Varghese, "Packet classification using tuple space search", SIGCOMM 1999.
 */
#include "sp_core.h"

#include <stdlib.h>

static struct sp_tuple *sp_tuple_of(const struct sp_table *t, const struct sp_tuples *ts, const uint64_t *mask,
                                    uint32_t *position)
{
    for (uint32_t i = 0; i < ts->count; i++)
        if (!memcmp(ts->tuple[i]->mask, mask, t->desc->key_words * 8u)) {
            *position = i;
            return ts->tuple[i];
        }
    return NULL;
}

static struct sp_tuple *sp_tuple_new(const struct sp_table *t, struct sp_tuples *ts, const uint64_t *mask)
{
    if (ts->count == ts->capacity) {
        uint32_t capacity = ts->capacity ? ts->capacity * 2 : 8;
        struct sp_tuple **grown = realloc(ts->tuple, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        ts->tuple = grown;
        ts->capacity = capacity;
    }
    struct sp_tuple *tuple = calloc(1, sizeof *tuple);
    if (!tuple || !(tuple->mask = malloc(t->desc->key_words * 8u + 8u))) {
        free(tuple);
        return NULL;
    }
    memcpy(tuple->mask, mask, t->desc->key_words * 8u);
    tuple->priority = INT32_MIN;
    return tuple;
}

static void sp_tuple_free(struct sp_tuple *tuple, struct sp_preparer *p)
{
    free(tuple->mask);
    sp_hash_clear(&tuple->hash, p);
    free(tuple);
}

/* Moves the tuple at `i` (or a new one at the end) forward to its place. */
static void sp_tuples_sift(struct sp_tuples *ts, uint32_t i)
{
    for (; i > 0 && ts->tuple[i - 1]->priority < ts->tuple[i]->priority; i--) {
        struct sp_tuple *other = ts->tuple[i - 1];
        ts->tuple[i - 1] = ts->tuple[i];
        ts->tuple[i] = other;
    }
}

static struct sp_entry *sp_chain(const struct sp_table *t, const struct sp_tuple *tuple, const struct sp_entry *e,
                                 uint64_t hash)
{
    return tuple->hash.slots ? sp_hash_find(&tuple->hash, hash, e->key, t->desc->key_words) : NULL;
}

bool sp_tuples_insert(struct sp_table *t, struct sp_tuples *ts, struct sp_entry *e)
{
    unsigned words = t->desc->key_words;
    uint32_t position = ts->count;
    struct sp_tuple *tuple = sp_tuple_of(t, ts, e->key + words, &position);
    bool fresh = !tuple;
    if (fresh && !(tuple = sp_tuple_new(t, ts, e->key + words)))
        return false;
    uint64_t hash = sp_hash_words(e->key, words);
    struct sp_entry *head = sp_chain(t, tuple, e, hash);
    if (!head && !sp_hash_reserve(&tuple->hash, t->owner->preparer, t->desc->size)) {
        if (fresh)
            sp_tuple_free(tuple, t->owner->preparer);
        return false;
    }
    e->next = NULL;
    if (!head) {
        sp_hash_put(&tuple->hash, e, hash);
    } else if (e->priority > head->priority) {
        e->next = head;
        sp_hash_replace(&tuple->hash, head, e, hash);
    } else {
        while (head->next && head->next->priority >= e->priority)
            head = head->next;
        e->next = head->next;
        head->next = e;
    }
    tuple->entries++;
    if (fresh)
        ts->tuple[ts->count++] = tuple;
    if (e->priority > tuple->priority) {
        tuple->priority = e->priority;
        sp_tuples_sift(ts, position);
    }
    return true;
}

void sp_tuples_remove(struct sp_table *t, struct sp_tuples *ts, struct sp_entry *e)
{
    unsigned words = t->desc->key_words;
    uint32_t position = 0;
    struct sp_tuple *tuple = sp_tuple_of(t, ts, e->key + words, &position);
    uint64_t hash = sp_hash_words(e->key, words);
    struct sp_entry *head = sp_chain(t, tuple, e, hash);
    if (head == e) {
        if (e->next)
            sp_hash_replace(&tuple->hash, e, e->next, hash);
        else
            sp_hash_remove(&tuple->hash, e, hash);
    } else {
        while (head->next != e)
            head = head->next;
        head->next = e->next;
    }
    e->next = NULL;
    if (--tuple->entries == 0) {
        memmove(ts->tuple + position, ts->tuple + position + 1, (ts->count - position - 1) * sizeof *ts->tuple);
        ts->count--;
        sp_tuple_free(tuple, t->owner->preparer);
    }
    /* Otherwise the tuple's priority stays an upper bound, which is all that lookups need. */
}

void sp_tuples_clear(struct sp_tuples *ts, struct sp_preparer *p)
{
    for (uint32_t i = 0; i < ts->count; i++)
        sp_tuple_free(ts->tuple[i], p);
    free(ts->tuple);
    memset(ts, 0, sizeof *ts);
}
