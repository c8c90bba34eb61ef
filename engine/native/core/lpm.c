/* Longest prefix match: two arrays over the first 16 and the next 8 bits, then a tree bitmap with 6-bit strides.
 *
 * A lookup of an IPv4 address whose longest prefix has at most 24 bits reads two numbers: one of the root array (512
 * KiB), one of a chunk (1 KiB for each 16-bit block that holds longer prefixes). The second one is asked for while other
 * packets are still before this one (sp_ahead_lpm), so that the wait is over by then. Slots hold 32-bit ids of
 * actions or entries, and beside them the length of the prefix they come from, which only updates read.
 *
 * An update of a prefix of up to 16 bits rewrites up to 65536 neighbouring root slots (0.2 ms at most, for a default
 * route, with breaths for packets, which find the old action or the new one), one of up to 24 bits up to 128 slots of one
 * chunk, a longer one a path of tree nodes. Memory grows with the number of prefixes: about 1.3 KiB per 16-bit block in
 * use, and up to 100 bytes per prefix beyond 24 bits.
 *
 * After P. Gupta, S. Lin, N. McKeown, "Routing lookups in hardware at memory access speeds", INFOCOM 1998 (arrays), and
 * W. Eatherton, G. Varghese, Z. Dittia, "Tree Bitmap", SIGCOMM CCR 34(2), 2004 (the rest).
 */
#include "sp_core.h"

#include <stdlib.h>

#define BREATH 512u /* root slots: a page of them */
#define WINDOW 128u /* chunks that are touched at a time */
#define ROOTS (1u << SP_LPM_ROOT)
#define CHUNK (1u << (SP_LPM_SECOND - SP_LPM_ROOT)) /* slots */
#define SLOT_BYTES (SP_LPM_BLOCK * CHUNK * sizeof(uint32_t))
#define BLOCK_BYTES (SLOT_BYTES + SP_LPM_BLOCK * (CHUNK + sizeof(uint32_t))) /* slots, lengths, used */
#define FEW 256u /* prefixes: up to here a table touches only what it uses of the root array */
_Static_assert(SLOT_BYTES % (2u << 20) == 0, "slots fill huge pages");

/* For the 6 bits b: the heap positions (1 << length) - 2 + (b >> (6 - length)) of its prefixes of length 1..5. */
#define ANCESTORS(b)                                                                                                  \
    (1ull << ((b) >> 5) | 1ull << (2 + ((b) >> 4)) | 1ull << (6 + ((b) >> 3)) | 1ull << (14 + ((b) >> 2)) |           \
     1ull << (30 + ((b) >> 1)))
#define A4(b) ANCESTORS(b), ANCESTORS(b + 1), ANCESTORS(b + 2), ANCESTORS(b + 3)
#define A16(b) A4(b), A4(b + 4), A4(b + 8), A4(b + 12)

const uint64_t sp_lpm_ancestors[64] = {A16(0), A16(16), A16(32), A16(48)};

static unsigned sp_count(uint64_t map, uint64_t below) { return (unsigned)__builtin_popcountll(map & (below - 1)); }

/* The index of a prefix among a node's results. */
static unsigned sp_result_index(const struct sp_lpm_node *n, bool leaf, uint64_t bit)
{
    return leaf ? (unsigned)__builtin_popcountll(n->inner) + sp_count(n->leaf, bit) : sp_count(n->inner, bit);
}

static unsigned sp_result_total(const struct sp_lpm_node *n)
{
    return (unsigned)(__builtin_popcountll(n->inner) + __builtin_popcountll(n->leaf));
}

static uint64_t sp_prefix_bit(const uint64_t *key, unsigned words, unsigned pos, unsigned length, bool *leaf)
{
    unsigned b = sp_key_bits(key, words, pos, SP_LPM_STRIDE);
    *leaf = length == SP_LPM_STRIDE;
    return *leaf ? 1ull << b : 1ull << ((1u << length) - 2 + (b >> (SP_LPM_STRIDE - length)));
}

/* Where a node keeps its results: a single one needs no array. */
static void **sp_results(struct sp_lpm_node *n) { return sp_result_total(n) == 1 ? (void **)&n->results : n->results; }

/* Room for one more result at `at`; the caller sets the bit and the result afterwards. */
static bool sp_widen(struct sp_arena *arena, struct sp_lpm_node *n, unsigned at)
{
    unsigned total = sp_result_total(n);
    if (total == 0)
        return true;
    void **results = total == 1 ? sp_arena_alloc(arena, 2 * sizeof *results)
                                : sp_arena_resize(arena, n->results, total * sizeof *results,
                                                  (total + 1) * sizeof *results);
    if (!results)
        return false;
    if (total == 1)
        results[0] = n->results;
    memmove(results + at + 1, results + at, (total - at) * sizeof *results);
    n->results = results;
    return true;
}

/* Removes the result at `at`; the caller clears its bit afterwards. */
static void sp_narrow(struct sp_arena *arena, struct sp_lpm_node *n, unsigned at)
{
    unsigned total = sp_result_total(n);
    if (total == 1) {
        n->results = NULL;
        return;
    }
    memmove(n->results + at, n->results + at + 1, (total - at - 1) * sizeof *n->results);
    if (total == 2) {
        void *last = n->results[0];
        sp_arena_free(arena, n->results, 2 * sizeof *n->results);
        n->results = last;
        return;
    }
    /* a smaller block may be out of reach when memory is short; then the larger one must keep its size */
    void **smaller = sp_arena_resize(arena, n->results, total * sizeof *n->results, (total - 1) * sizeof *n->results);
    n->results = smaller ? smaller : n->results;
}

static bool sp_node_is_empty(const struct sp_lpm_node *n) { return !(n->child_map | n->inner | n->leaf); }

static struct sp_lpm_node *sp_child(struct sp_arena *arena, struct sp_lpm_node *n, unsigned b, bool create)
{
    uint64_t bit = 1ull << b;
    unsigned at = sp_count(n->child_map, bit), total = (unsigned)__builtin_popcountll(n->child_map);
    if (n->child_map & bit)
        return &n->children[at];
    if (!create)
        return NULL;
    struct sp_lpm_node *children =
        total ? sp_arena_resize(arena, n->children, total * sizeof *children, (total + 1) * sizeof *children)
              : sp_arena_alloc(arena, sizeof *children);
    if (!children)
        return NULL;
    memmove(children + at + 1, children + at, (total - at) * sizeof *children);
    memset(children + at, 0, sizeof *children);
    n->children = children;
    n->child_map |= bit;
    return &children[at];
}

/* The child is empty: it has neither children nor results. */
static void sp_remove_child(struct sp_arena *arena, struct sp_lpm_node *n, unsigned b)
{
    uint64_t bit = 1ull << b;
    unsigned at = sp_count(n->child_map, bit), total = (unsigned)__builtin_popcountll(n->child_map);
    memmove(n->children + at, n->children + at + 1, (total - at - 1) * sizeof *n->children);
    n->child_map &= ~bit;
    if (total == 1) {
        sp_arena_free(arena, n->children, sizeof *n->children);
        n->children = NULL;
        return;
    }
    struct sp_lpm_node *smaller =
        sp_arena_resize(arena, n->children, total * sizeof *smaller, (total - 1) * sizeof *smaller);
    n->children = smaller ? smaller : n->children;
}

/* Removes empty nodes on the key's path below n, which sits at `pos`. */
static void sp_prune(struct sp_arena *arena, struct sp_lpm_node *n, const uint64_t *key, unsigned words, unsigned pos,
                     unsigned prefix)
{
    if (prefix <= pos + SP_LPM_STRIDE)
        return;
    unsigned b = sp_key_bits(key, words, pos, SP_LPM_STRIDE);
    struct sp_lpm_node *child = sp_child(arena, n, b, false);
    if (!child)
        return;
    sp_prune(arena, child, key, words, pos + SP_LPM_STRIDE, prefix);
    if (sp_node_is_empty(child))
        sp_remove_child(arena, n, b);
}

/* -- arrays ------------------------------------------------------------------------------------------------------- */

/* What slots hold for an entry: 1 + the index of its action (bare tables) or of itself. */
static uint32_t sp_value_id(const struct sp_table *t, const struct sp_entry *e)
{
    return 1 + (t->desc->bare ? e->act->id : e->slot);
}

static void sp_root_free(struct sp_lpm *lpm)
{
    sp_release(lpm->arena.preparer, lpm->root, ROOTS * sizeof *lpm->root);
    sp_release(lpm->arena.preparer, lpm->lengths, ROOTS);
}

static bool sp_root_new(struct sp_lpm *lpm)
{
    lpm->root = sp_map(ROOTS * sizeof *lpm->root);
    lpm->lengths = sp_map(ROOTS);
    if (lpm->root && lpm->lengths)
        return true;
    sp_root_free(lpm);
    lpm->root = NULL;
    lpm->lengths = NULL;
    return false;
}

/* Lookups in 64 MiB of slots wait for the TLB as long as for the memory, unless the pages are huge; those are prepared
 * aside, for the next block when half of the last one is used. A block that is not ready in time, and the first one,
 * has small pages. */
static bool sp_block_new(struct sp_lpm *lpm, uint32_t number)
{
    struct sp_lpm_block *block = &lpm->block[number];
    uint8_t *base = sp_ordered(&lpm->order);
    block->whole = base != NULL;
    if (!base && !(base = sp_map(BLOCK_BYTES)))
        return false;
    block->slots = (uint32_t *)base;
    block->lengths = base + SLOT_BYTES;
    block->used = (uint32_t *)(base + SLOT_BYTES + SP_LPM_BLOCK * CHUNK);
    return true;
}

/* A block with small pages: some hundred chunks more than are used have been touched. */
static void sp_chunks_ahead(struct sp_lpm *lpm, uint32_t chunk)
{
    const struct sp_lpm_block *block = &lpm->block[chunk / SP_LPM_BLOCK];
    uint32_t at = chunk % SP_LPM_BLOCK, window = at < 4 * WINDOW ? WINDOW : 2 * WINDOW, from = at + window;
    if (block->whole || at % window || from >= SP_LPM_BLOCK)
        return;
    sp_touch(lpm->arena.preparer, block->slots + from * CHUNK, window * CHUNK * sizeof *block->slots);
    sp_touch(lpm->arena.preparer, block->lengths + from * CHUNK, window * CHUNK);
}

static uint32_t *sp_used(struct sp_lpm *lpm, uint32_t chunk)
{
    return &lpm->block[(chunk - 1) / SP_LPM_BLOCK].used[(chunk - 1) % SP_LPM_BLOCK];
}

/* The number of the root slot's chunk, made when missing; 0 when out of memory. */
static uint32_t sp_chunk(struct sp_table *t, struct sp_lpm_root *root)
{
    struct sp_lpm *lpm = &t->lpm;
    if (root->chunk)
        return root->chunk;
    uint32_t chunk = lpm->free_chunk;
    if (chunk) {
        lpm->free_chunk = *sp_used(lpm, chunk);
    } else {
        if (lpm->chunks % SP_LPM_BLOCK == 0 && !lpm->block[lpm->chunks / SP_LPM_BLOCK].slots &&
            !sp_block_new(lpm, lpm->chunks / SP_LPM_BLOCK))
            return 0;
        sp_chunks_ahead(lpm, lpm->chunks);
        chunk = ++lpm->chunks;
        t->owner->deep |= chunk > SP_LPM_DEEP;
        uint32_t next = chunk / SP_LPM_BLOCK + 1;
        if (chunk % SP_LPM_BLOCK == SP_LPM_BLOCK / 2 && next < SP_LPM_BLOCKS && !lpm->order)
            lpm->order = sp_order(lpm->arena.preparer, BLOCK_BYTES, SLOT_BYTES);
    }
    *sp_used(lpm, chunk) = 0;
    return root->chunk = chunk;
}

/* A prefix left the chunk; the last one leaves nothing but zeros. */
static void sp_chunk_unuse(struct sp_lpm *lpm, struct sp_lpm_root *root)
{
    uint32_t *used = sp_used(lpm, root->chunk);
    if (--*used)
        return;
    *used = lpm->free_chunk;
    lpm->free_chunk = root->chunk;
    root->chunk = 0;
}

static uint8_t *sp_slot_length(struct sp_lpm *lpm, uint32_t chunk, uint64_t first)
{
    return &lpm->block[(chunk - 1) / SP_LPM_BLOCK].lengths[sp_lpm_position(chunk, first)];
}

static bool sp_longer_more(struct sp_table *t)
{
    struct sp_lpm *lpm = &t->lpm;
    struct sp_preparer *p = lpm->arena.preparer;
    uint32_t block = lpm->longer_count / SP_LPM_LONGER_BLOCK;
    if (lpm->longer_count % SP_LPM_LONGER_BLOCK)
        return true;
    if (block == lpm->longer_room) {
        uint32_t most = t->desc->size / SP_LPM_LONGER_BLOCK + 2;
        struct sp_lpm_longer **grown = sp_grow(p, lpm->longer, sizeof *grown, &lpm->longer_room, most);
        if (!grown)
            return false;
        lpm->longer = grown;
    }
    sp_grown_ahead(p, lpm->longer, sizeof *lpm->longer, lpm->longer_room, block);
    return (lpm->longer[block] = sp_arena_alloc(&lpm->arena, SP_LPM_LONGER_BLOCK * sizeof **lpm->longer)) != NULL;
}

/* The tree below a chunk's slot, made when missing; NULL when out of memory. */
static struct sp_lpm_longer *sp_longer_new(struct sp_table *t, uint32_t *slot)
{
    struct sp_lpm *lpm = &t->lpm;
    if (*slot & SP_LPM_LONGER)
        return sp_lpm_longer_at(lpm, *slot);
    uint32_t number = lpm->free_longer;
    if (number) {
        lpm->free_longer = sp_lpm_longer_at(lpm, number - 1)->value;
        number--;
    } else {
        if (!sp_longer_more(t))
            return NULL;
        number = lpm->longer_count++;
    }
    struct sp_lpm_longer *longer = sp_lpm_longer_at(lpm, number);
    *longer = (struct sp_lpm_longer){.value = *slot};
    *slot = number | SP_LPM_LONGER;
    return longer;
}

/* Drops an empty tree. */
static void sp_longer_drop(struct sp_lpm *lpm, uint32_t *slot)
{
    struct sp_lpm_longer *longer = sp_lpm_longer_at(lpm, *slot);
    if (!sp_node_is_empty(&longer->node))
        return;
    uint32_t number = *slot & ~SP_LPM_LONGER;
    *slot = longer->value;
    longer->value = lpm->free_longer;
    lpm->free_longer = number + 1;
}

/* In the slots of a prefix that hold prefixes of `from` to `to` bits (stored plus one, 0: none), puts another. */
static void sp_fill_root(struct sp_table *t, const struct sp_entry *range, unsigned from, unsigned to, uint32_t value,
                         unsigned length)
{
    struct sp_lpm *lpm = &t->lpm;
    uint32_t first = (uint32_t)(range->key[0] >> (64 - SP_LPM_ROOT)), count = ROOTS >> range->prefix;
    for (uint32_t i = first; i < first + count; i++) {
        if (lpm->lengths[i] >= from && lpm->lengths[i] <= to) {
            lpm->root[i].value = value;
            lpm->lengths[i] = (uint8_t)length;
        }
        if (i % BREATH == BREATH - 1)
            sp_breathe(t->owner);
    }
}

static void sp_fill_chunk(struct sp_lpm *lpm, uint32_t chunk, const struct sp_entry *range, unsigned from, unsigned to,
                          uint32_t value, unsigned length)
{
    uint32_t count = 1u << (SP_LPM_SECOND - range->prefix);
    uint32_t *slot = sp_lpm_slot(lpm, chunk, range->key[0]);
    uint8_t *lengths = sp_slot_length(lpm, chunk, range->key[0]);
    for (uint32_t i = 0; i < count; i++)
        if (lengths[i] >= from && lengths[i] <= to) {
            *(slot[i] & SP_LPM_LONGER ? &sp_lpm_longer_at(lpm, slot[i])->value : &slot[i]) = value;
            lengths[i] = (uint8_t)length;
        }
}

/* -- prefixes ------------------------------------------------------------------------------------------------------ */

static bool sp_tree_insert(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top)
{
    unsigned words = t->desc->key_words, pos = SP_LPM_SECOND;
    struct sp_arena *arena = &t->lpm.arena;
    struct sp_lpm_node *n = top;
    for (; n && e->prefix > pos + SP_LPM_STRIDE; pos += SP_LPM_STRIDE)
        n = sp_child(arena, n, sp_key_bits(e->key, words, pos, SP_LPM_STRIDE), true);
    if (n) {
        bool leaf;
        uint64_t bit = sp_prefix_bit(e->key, words, pos, e->prefix - pos, &leaf);
        unsigned at = sp_result_index(n, leaf, bit);
        if (((leaf ? n->leaf : n->inner) & bit) || sp_widen(arena, n, at)) {
            *(leaf ? &n->leaf : &n->inner) |= bit;
            sp_results(n)[at] = t->desc->bare ? (void *)e->act : (void *)e;
            return true;
        }
    }
    sp_prune(arena, top, e->key, words, SP_LPM_SECOND, e->prefix);
    return false;
}

static void sp_tree_remove(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top)
{
    unsigned words = t->desc->key_words, pos = SP_LPM_SECOND;
    struct sp_arena *arena = &t->lpm.arena;
    struct sp_lpm_node *n = top;
    for (; e->prefix > pos + SP_LPM_STRIDE; pos += SP_LPM_STRIDE)
        n = sp_child(arena, n, sp_key_bits(e->key, words, pos, SP_LPM_STRIDE), false);
    bool leaf;
    uint64_t bit = sp_prefix_bit(e->key, words, pos, e->prefix - pos, &leaf);
    sp_narrow(arena, n, sp_result_index(n, leaf, bit));
    *(leaf ? &n->leaf : &n->inner) &= ~bit;
    sp_prune(arena, top, e->key, words, SP_LPM_SECOND, e->prefix);
}

static bool sp_insert_longer(struct sp_table *t, struct sp_entry *e, uint32_t *slot)
{
    struct sp_lpm_longer *longer = sp_longer_new(t, slot);
    if (!longer)
        return false;
    if (sp_tree_insert(t, e, &longer->node))
        return true;
    sp_longer_drop(&t->lpm, slot);
    return false;
}

bool sp_lpm_insert(struct sp_table *t, struct sp_entry *e)
{
    struct sp_lpm *lpm = &t->lpm;
    if (!lpm->root && !sp_root_new(lpm))
        return false;
    if (t->count == FEW) {
        sp_touch(lpm->arena.preparer, lpm->root, ROOTS * sizeof *lpm->root);
        sp_touch(lpm->arena.preparer, lpm->lengths, ROOTS);
    }
    if (e->prefix <= SP_LPM_ROOT) {
        sp_lpm_update(t, e);
        return true;
    }
    struct sp_lpm_root *root = &lpm->root[e->key[0] >> (64 - SP_LPM_ROOT)];
    uint32_t chunk = sp_chunk(t, root);
    if (!chunk)
        return false;
    ++*sp_used(lpm, chunk);
    if (e->prefix <= SP_LPM_SECOND) {
        sp_lpm_update(t, e);
        return true;
    }
    if (sp_insert_longer(t, e, sp_lpm_slot(lpm, chunk, e->key[0])))
        return true;
    sp_chunk_unuse(lpm, root);
    return false;
}

void sp_lpm_update(struct sp_table *t, struct sp_entry *e)
{
    struct sp_lpm *lpm = &t->lpm;
    uint32_t value = sp_value_id(t, e), chunk = lpm->root[e->key[0] >> (64 - SP_LPM_ROOT)].chunk;
    if (e->prefix <= SP_LPM_ROOT)
        sp_fill_root(t, e, 0, e->prefix + 1u, value, e->prefix + 1u);
    else if (e->prefix <= SP_LPM_SECOND)
        sp_fill_chunk(lpm, chunk, e, 0, e->prefix + 1u, value, e->prefix + 1u);
    else
        sp_tree_insert(t, e, &sp_lpm_longer_at(lpm, *sp_lpm_slot(lpm, chunk, e->key[0]))->node);
}

/* The longest shorter prefix of at least `least` bits that covers e, which is not longer than 64 bits; by identity. */
static struct sp_entry *sp_cover(struct sp_table *t, const struct sp_entry *e, int least)
{
    uint64_t room[sizeof(struct sp_entry) / 8 + 64];
    struct sp_entry *like = (struct sp_entry *)room;
    memset(like, 0, sizeof *like + t->desc->key_words * 8u);
    for (int length = e->prefix - 1; length >= least; length--) {
        like->key[0] = length ? e->key[0] & ~0ull << (64 - length) : 0;
        like->prefix = (uint16_t)length;
        struct sp_entry *found = sp_table_find(t, like);
        if (found)
            return found;
    }
    return NULL;
}

/* e has already left the table's identity hash. */
void sp_lpm_remove(struct sp_table *t, struct sp_entry *e)
{
    struct sp_lpm *lpm = &t->lpm;
    unsigned own = e->prefix + 1u;
    struct sp_lpm_root *root = &lpm->root[e->key[0] >> (64 - SP_LPM_ROOT)];
    if (e->prefix <= SP_LPM_SECOND) {
        bool in_root = e->prefix <= SP_LPM_ROOT;
        struct sp_entry *by = sp_cover(t, e, in_root ? 0 : (int)SP_LPM_ROOT + 1);
        uint32_t value = by ? sp_value_id(t, by) : 0;
        unsigned length = by ? by->prefix + 1u : 0;
        if (in_root) {
            sp_fill_root(t, e, own, own, value, length);
            return;
        }
        sp_fill_chunk(lpm, root->chunk, e, own, own, value, length);
    } else {
        uint32_t *slot = sp_lpm_slot(lpm, root->chunk, e->key[0]);
        sp_tree_remove(t, e, &sp_lpm_longer_at(lpm, *slot)->node);
        sp_longer_drop(lpm, slot);
    }
    sp_chunk_unuse(lpm, root);
}

void sp_lpm_clear(struct sp_lpm *lpm)
{
    struct sp_preparer *p = lpm->arena.preparer;
    sp_arena_clear(&lpm->arena);
    sp_order_drop(p, &lpm->order);
    for (uint32_t i = 0; i < SP_LPM_BLOCKS && lpm->block[i].slots; i++)
        sp_release(p, lpm->block[i].slots, BLOCK_BYTES);
    sp_grown_free(p, lpm->longer, sizeof *lpm->longer, lpm->longer_room);
    sp_root_free(lpm);
    memset(lpm, 0, sizeof *lpm);
    lpm->arena.preparer = p;
}
