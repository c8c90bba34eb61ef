/* Internal to a pipeline: table lookups, inlined into generated code with constant key sizes. */
#ifndef SP_LOOKUP_H
#define SP_LOOKUP_H

#include "sp_core.h"

SP_INLINE uint64_t sp_mix(uint64_t h, uint64_t w)
{
    sp_u128 m = (sp_u128)(h ^ w ^ 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

SP_INLINE uint64_t sp_hash_words(const uint64_t *w, unsigned n)
{
    uint64_t h = 0x2545f4914f6cdd1dull;
    for (unsigned i = 0; i < n; i++)
        h = sp_mix(h, w[i]);
    return h;
}

SP_INLINE bool sp_equal_words(const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* The entry whose key begins with these words; see struct sp_hash. */
SP_INLINE struct sp_entry *sp_hash_find(const struct sp_hash *t, uint64_t h, const uint64_t *key, const unsigned words)
{
    for (uint32_t i = (uint32_t)h & t->mask; t->slots[i].entry; i = (i + 1) & t->mask)
        if (t->slots[i].hash == h && sp_equal_words(t->slots[i].entry->key, key, words))
            return t->slots[i].entry;
    if (SP_LIKELY(!t->old))
        return NULL;
    for (uint32_t i = (uint32_t)h & t->old_mask; t->old[i].entry; i = (i + 1) & t->old_mask)
        if (t->old[i].hash == h && t->old[i].entry != &sp_hash_gone &&
            sp_equal_words(t->old[i].entry->key, key, words))
            return t->old[i].entry;
    return NULL;
}

SP_INLINE struct sp_entry *sp_lookup_exact(const struct sp_table *t, const uint64_t *key, const unsigned words)
{
    if (!t->seen)
        return t->past ? sp_past_exact(t, key) : NULL;
    return sp_hash_find(&t->hash, sp_hash_words(key, words), key, words);
}

/* key: one field of `width` <= 16 bits */
SP_INLINE struct sp_entry *sp_lookup_direct(const struct sp_table *t, uint64_t value)
{
    if (!t->direct)
        return t->past ? sp_past_direct(t, value) : NULL;
    return t->direct[value];
}

extern const uint64_t sp_lpm_ancestors[64];

/* `bits` from bit `pos` of a key of `words` words; bits behind its end are zero */
SP_INLINE unsigned sp_key_bits(const uint64_t *key, const unsigned words, unsigned pos, unsigned bits)
{
    unsigned w = pos >> 6, o = pos & 63;
    uint64_t v = w < words ? key[w] << o : 0;
    if (o && w + 1 < words)
        v |= key[w + 1] >> (64 - o);
    return (unsigned)(v >> (64 - bits));
}

/* Position of an address's slot in its block; `first`: the key's first word. */
SP_INLINE uint32_t sp_lpm_position(uint32_t chunk, uint64_t first)
{
    return ((chunk - 1) % SP_LPM_BLOCK) << 8 | (uint32_t)(first >> (64 - SP_LPM_SECOND) & 0xff);
}

SP_INLINE uint32_t *sp_lpm_slot(const struct sp_lpm *lpm, uint32_t chunk, uint64_t first)
{
    return &lpm->block[(chunk - 1) / SP_LPM_BLOCK].slots[sp_lpm_position(chunk, first)];
}

SP_INLINE struct sp_lpm_longer *sp_lpm_longer_at(const struct sp_lpm *lpm, uint32_t slot)
{
    slot &= ~SP_LPM_LONGER;
    return &lpm->longer[slot / SP_LPM_LONGER_BLOCK][slot % SP_LPM_LONGER_BLOCK];
}

/* Asks for the slot that a packet's lookup will read, while others are still before it: in a large table that is a wait
 * for memory, longer than processing a packet takes otherwise. `first`: the first word of the key. */
SP_INLINE void sp_ahead_lpm(const struct sp_switch *sw, uint32_t table, uint64_t first)
{
    const struct sp_lpm *lpm = &sw->tables[table].lpm;
    uint32_t chunk = lpm->root ? lpm->root[first >> (64 - SP_LPM_ROOT)].chunk : 0;
    if (chunk) {
        const uint32_t *slot = sp_lpm_slot(lpm, chunk, first);
        __builtin_prefetch(slot);
        __asm__ volatile("" : : "r"(slot)); /* or the compiler takes the caller for a function without effect */
    }
}

/* The longest match in a tree, NULL if there is none. */
static inline __attribute__((unused)) void *sp_lookup_longer(const struct sp_lpm_node *n, const uint64_t *key,
                                                             const unsigned words)
{
    void *const *best = NULL;
    for (unsigned pos = SP_LPM_SECOND;; pos += SP_LPM_STRIDE) {
        unsigned b = sp_key_bits(key, words, pos, SP_LPM_STRIDE);
        uint64_t bit = 1ull << b, inner = n->inner & sp_lpm_ancestors[b];
        unsigned total = (unsigned)(__builtin_popcountll(n->inner) + __builtin_popcountll(n->leaf));
        if (n->leaf & bit) {
            unsigned at = (unsigned)(__builtin_popcountll(n->inner) + __builtin_popcountll(n->leaf & (bit - 1)));
            best = total == 1 ? (void *const *)&n->results : &n->results[at];
        } else if (inner) {
            uint64_t top = 1ull << (63 - __builtin_clzll(inner));
            best = total == 1 ? (void *const *)&n->results : &n->results[__builtin_popcountll(n->inner & (top - 1))];
        }
        if (!(n->child_map & bit))
            return best ? *best : NULL;
        n = &n->children[__builtin_popcountll(n->child_map & (bit - 1))];
    }
}

/* The entry, or in bare tables its action; values: the table's pool or the switch's actions by id. */
SP_INLINE void *sp_lookup_lpm(const struct sp_table *t, const uint64_t *key, const unsigned words, void *values)
{
    if (!t->seen)
        return t->past ? sp_past_lpm(t, key) : NULL;
    const struct sp_lpm_root *root = &t->lpm.root[key[0] >> (64 - SP_LPM_ROOT)];
    uint32_t value = root->value;
    if (root->chunk) {
        uint32_t slot = *sp_lpm_slot(&t->lpm, root->chunk, key[0]);
        if (SP_UNLIKELY(slot & SP_LPM_LONGER)) {
            const struct sp_lpm_longer *longer = sp_lpm_longer_at(&t->lpm, slot);
            void *found = sp_lookup_longer(&longer->node, key, words);
            if (found)
                return found;
            slot = longer->value;
        }
        value = slot ? slot : value;
    }
    return value ? ((void **)values)[value - 1] : NULL;
}

/* A big endian number of at most 8 * words bytes, its lowest bits in the last word. */
SP_INLINE void sp_number_words(uint64_t *out, const unsigned words, const uint8_t *p, unsigned bytes)
{
    for (unsigned i = words; i-- > 0;) {
        unsigned n = bytes < 8 ? bytes : 8;
        bytes -= n;
        out[i] = sp_load(p + bytes, n);
    }
}

SP_INLINE bool sp_less_words(const uint64_t *a, const uint64_t *b, const unsigned words)
{
    if (words == 2)
        return ((sp_u128)a[0] << 64 | a[1]) < ((sp_u128)b[0] << 64 | b[1]);
    for (unsigned i = 0; i < words; i++)
        if (a[i] != b[i])
            return a[i] < b[i];
    return false;
}

/* ranges: the values of the n range fields, each of `size` words as the bounds */
SP_INLINE bool sp_in_ranges(const struct sp_entry *e, const unsigned words, const uint64_t *ranges, const unsigned n,
                            const unsigned size)
{
    const uint64_t *r = e->key + 2 * words;
    for (unsigned i = 0; i < n; i++, r += 2 * size, ranges += size)
        if (sp_less_words(ranges, r, size) || sp_less_words(r + size, ranges, size))
            return false;
    return true;
}

SP_INLINE struct sp_entry *sp_lookup_ternary(const struct sp_table *t, const uint64_t *key, const unsigned words,
                                             const uint64_t *ranges, const unsigned n_ranges,
                                             const unsigned range_words)
{
    struct sp_entry *best = NULL;
    if (SP_UNLIKELY(t->tuples.past))
        return sp_past_ternary(t, key, ranges);
    for (uint32_t i = 0; i < t->tuples.count; i++) {
        const struct sp_tuple *tuple = t->tuples.tuple[i];
        if (best && best->priority >= tuple->priority)
            break;
        uint64_t masked[words];
        for (unsigned w = 0; w < words; w++)
            masked[w] = key[w] & tuple->mask[w];
        struct sp_entry *e = sp_hash_find(&tuple->hash, sp_hash_words(masked, words), masked, words);
        while (e && n_ranges && !sp_in_ranges(e, words, ranges, n_ranges, range_words))
            e = e->next;
        if (e && (!best || e->priority > best->priority))
            best = e;
    }
    return best;
}

/* The action of a member, of an entry, of a group. */
SP_INLINE const struct sp_act *sp_member_act(const struct sp_switch *sw, const struct sp_member *m)
{
    return SP_UNLIKELY(sw->past) && m->past ? m->past : m->act;
}

SP_INLINE const struct sp_act *sp_entry_act(const struct sp_switch *sw, const struct sp_entry *e)
{
    return SP_LIKELY(e->kind == 1) ? e->act : sp_member_act(sw, e->member);
}

/* hash: of the selector's input; its low 32 bits choose, as in BMv2: `identity` has up to 64. NULL: a group without live
 * members. */
SP_INLINE const struct sp_act *sp_group_act(const struct sp_switch *sw, const struct sp_group *g, uint64_t hash)
{
    if (SP_UNLIKELY(sw->past) && g->past)
        g = g->past;
    return g->live ? sp_member_act(sw, g->member[g->choice[(uint32_t)hash % g->live]].member) : NULL;
}

SP_INLINE void *sp_map_get(const struct sp_id_map *m, uint32_t id)
{
    if (!m->used)
        return NULL;
    for (uint32_t i = (uint32_t)(sp_mix(0, id)) & m->mask;; i = (i + 1) & m->mask) {
        if (!m->values[i])
            return NULL;
        if (m->ids[i] == id)
            return m->values[i];
    }
}

/* A multicast group or clone session as packets see it. */
SP_INLINE const struct sp_replicas *sp_replicas_seen(const struct sp_switch *sw, bool clone, uint32_t id)
{
    if (SP_UNLIKELY(sw->past))
        return sp_past_replicas(sw, clone, id);
    return sp_map_get(clone ? &sw->clones : &sw->multicast, id);
}

#endif
