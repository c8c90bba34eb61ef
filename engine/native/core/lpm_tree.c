/* Longest prefix match beyond 24 bits: a tree bitmap with 6-bit strides; see lpm.c. A node's results and children are arrays
 * of exactly their number, in the arena of the table.
 */
#include "sp_core.h"

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

bool sp_lpm_tree_is_empty(const struct sp_lpm_node *n) { return !(n->child_map | n->inner | n->leaf); }

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
    if (sp_lpm_tree_is_empty(child))
        sp_remove_child(arena, n, b);
}

/* -- prefixes ------------------------------------------------------------------------------------------------------ */

bool sp_lpm_tree_insert(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top)
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

void sp_lpm_tree_remove(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top)
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
