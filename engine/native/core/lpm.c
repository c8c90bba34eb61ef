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
#define ROOTS (1u << SP_LPM_ROOT)
#define CHUNK (1u << (SP_LPM_SECOND - SP_LPM_ROOT)) /* slots */
#define SMALL_BLOCKS 3u
#define HUGE_SLOTS (SP_LPM_BLOCK * CHUNK * sizeof(uint32_t))
_Static_assert(HUGE_SLOTS % (2u << 20) == 0, "slots fill huge pages");

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

/* Chunks of a block: the first ones are small, so that small tables are. */
static uint32_t sp_block_room(uint32_t number)
{
    static const uint32_t few[] = {64, 256, 1024};
    return number < SMALL_BLOCKS ? few[number] : SP_LPM_BLOCK;
}

static size_t sp_block_bytes(uint32_t room) { return room * (CHUNK * (sizeof(uint32_t) + 1) + sizeof(uint32_t)); }

/* Lookups in 64 MiB of slots wait for the TLB as long as for the memory, unless the pages are huge; so those of full
 * blocks are, if they are prepared in time. */
static void sp_block_order(struct sp_lpm *lpm, uint32_t number)
{
    uint32_t room = sp_block_room(number);
    size_t bytes = sp_block_bytes(room);
    lpm->order = sp_order(lpm->arena.preparer, bytes, bytes, room == SP_LPM_BLOCK ? HUGE_SLOTS : 0);
}

static bool sp_block_new(struct sp_table *t)
{
    struct sp_lpm *lpm = &t->lpm;
    struct sp_lpm_block *block = &lpm->block[lpm->blocks];
    uint32_t room = sp_block_room(lpm->blocks);
    uint8_t *base = lpm->blocks ? sp_ordered(&lpm->order) : calloc(1, sp_block_bytes(room));
    if (!base && lpm->blocks) {
        if (room < SP_LPM_BLOCK) /* a late one of full size is the next block's */
            sp_order_drop(lpm->arena.preparer, &lpm->order);
        base = sp_map(sp_block_bytes(room));
    }
    if (!base)
        return false;
    *block = (struct sp_lpm_block){
        .slots = (uint32_t *)base,
        .lengths = base + room * CHUNK * sizeof(uint32_t),
        .used = (uint32_t *)(base + room * CHUNK * (sizeof(uint32_t) + 1)),
        .room = room,
    };
    lpm->last = 0;
    t->owner->deep |= lpm->blocks++ >= SMALL_BLOCKS;
    return true;
}

static void sp_blocks_free(struct sp_lpm *lpm)
{
    for (uint32_t i = 0; i < lpm->blocks; i++)
        if (i)
            sp_release(lpm->arena.preparer, lpm->block[i].slots, sp_block_bytes(lpm->block[i].room));
        else
            free(lpm->block[i].slots);
    sp_order_drop(lpm->arena.preparer, &lpm->order);
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
        if ((!lpm->blocks || lpm->last == lpm->block[lpm->blocks - 1].room) && !sp_block_new(t))
            return 0;
        chunk = (lpm->blocks - 1) * SP_LPM_BLOCK + ++lpm->last;
        uint32_t room = lpm->block[lpm->blocks - 1].room;
        if (lpm->last == (room < SP_LPM_BLOCK ? room / 4 * 3 : 1) && lpm->blocks < SP_LPM_BLOCKS && !lpm->order)
            sp_block_order(lpm, lpm->blocks);
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
    uint32_t block = lpm->longer_count / SP_LPM_LONGER_BLOCK, most = t->desc->size / SP_LPM_LONGER_BLOCK + 2;
    if (lpm->longer_count % SP_LPM_LONGER_BLOCK)
        return true;
    if (block == lpm->longer_room) {
        struct sp_lpm_longer **grown =
            sp_grow(&lpm->longer_grower, lpm->longer, sizeof *grown, &lpm->longer_room, most);
        if (!grown)
            return false;
        lpm->longer = grown;
    }
    sp_grown_ahead(&lpm->longer_grower, lpm->longer, sizeof *lpm->longer, lpm->longer_room, block, most);
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
    if (!sp_lpm_tree_is_empty(&longer->node))
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

static bool sp_insert_longer(struct sp_table *t, struct sp_entry *e, uint32_t *slot)
{
    struct sp_lpm_longer *longer = sp_longer_new(t, slot);
    if (!longer)
        return false;
    if (sp_lpm_tree_insert(t, e, &longer->node))
        return true;
    sp_longer_drop(&t->lpm, slot);
    return false;
}

bool sp_lpm_insert(struct sp_table *t, struct sp_entry *e)
{
    struct sp_lpm *lpm = &t->lpm;
    if (!lpm->root && !sp_root_new(lpm))
        return false;
    lpm->lengths_seen[e->prefix / 64] |= 1ull << e->prefix % 64;
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
        sp_lpm_tree_insert(t, e, &sp_lpm_longer_at(lpm, *sp_lpm_slot(lpm, chunk, e->key[0]))->node);
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
        sp_lpm_tree_remove(t, e, &sp_lpm_longer_at(lpm, *slot)->node);
        sp_longer_drop(lpm, slot);
    }
    sp_chunk_unuse(lpm, root);
}

void sp_lpm_clear(struct sp_lpm *lpm)
{
    struct sp_preparer *p = lpm->arena.preparer;
    sp_arena_clear(&lpm->arena);
    sp_blocks_free(lpm);
    sp_grown_free(&lpm->longer_grower, lpm->longer, sizeof *lpm->longer, lpm->longer_room);
    sp_root_free(lpm);
    memset(lpm, 0, sizeof *lpm);
    lpm->arena.preparer = lpm->longer_grower.preparer = p;
}
