/* Hash tables of entries, maps from ids, and the hash algorithms of v1model. */
#include "sp_core.h"

#include <stdlib.h>
#include <sys/mman.h>

/* -- open addressing over entries; deletion shifts later entries back, so lookups need no tombstones -------------- */

#define MOVES 8u            /* positions per insert: done long before the next growth */
#define DROPPED 4096u       /* positions (64 KiB) */
#define MAPPED (32u << 10)  /* bytes from which slots are mapped: zeroed page by page, when they are touched */

struct sp_entry sp_hash_gone;

static struct sp_slot *sp_slots_new(uint32_t capacity)
{
    size_t bytes = capacity * sizeof(struct sp_slot);
    if (bytes < MAPPED)
        return calloc(1, bytes);
    return sp_map(bytes);
}

static void sp_slots_free(struct sp_slot *slots, uint32_t capacity)
{
    if (!slots)
        return;
    if (capacity * sizeof *slots < MAPPED)
        free(slots);
    else
        munmap(slots, capacity * sizeof *slots);
}

static void sp_slots_put(struct sp_slot *slots, uint32_t mask, struct sp_slot slot)
{
    uint32_t at = (uint32_t)slot.hash & mask;
    while (slots[at].entry)
        at = (at + 1) & mask;
    slots[at] = slot;
}

/* Unmapping many megabytes at once takes milliseconds, so `old` goes piece by piece, up to an empty position: no probe
 * for what has not moved yet passes it, and in pages given back it finds zeros. */
static void sp_hash_drop(struct sp_hash *h)
{
    if (h->empty - h->dropped < DROPPED || (h->old_mask + 1) * sizeof *h->old < MAPPED)
        return;
    (void)madvise(h->old + h->dropped, DROPPED * sizeof *h->old, MADV_DONTNEED);
    h->dropped += DROPPED;
}

static void sp_hash_move(struct sp_hash *h)
{
    for (unsigned i = 0; i < MOVES && h->moved <= h->old_mask; i++, h->moved++) {
        if (!h->old[h->moved].entry)
            h->empty = h->moved;
        else if (h->old[h->moved].entry != &sp_hash_gone)
            sp_slots_put(h->slots, h->mask, h->old[h->moved]);
    }
    sp_hash_drop(h);
    if (h->moved > h->old_mask) {
        sp_slots_free(h->old, h->old_mask + 1);
        h->old = NULL;
    }
}

bool sp_hash_reserve(struct sp_hash *h)
{
    if (h->old)
        sp_hash_move(h);
    if (h->slots && ((uint64_t)h->used + 1) * 2 <= (uint64_t)h->mask + 1)
        return true;
    while (h->old)
        sp_hash_move(h);
    uint32_t capacity = h->slots ? (h->mask + 1) * 2 : 16;
    struct sp_slot *slots = capacity ? sp_slots_new(capacity) : NULL;
    if (!slots)
        return false;
    h->old = h->slots;
    h->old_mask = h->mask;
    h->moved = h->empty = h->dropped = 0;
    h->slots = slots;
    h->mask = capacity - 1;
    return true;
}

void sp_hash_clear(struct sp_hash *h)
{
    sp_slots_free(h->slots, h->mask + 1);
    sp_slots_free(h->old, h->old_mask + 1);
    memset(h, 0, sizeof *h);
}

bool sp_hash_give_back(struct sp_hash *h)
{
    if (h->old) { /* nothing in it is of use */
        h->moved = h->old_mask + 1;
        h->empty = h->old_mask;
        sp_hash_drop(h);
        if (h->empty - h->dropped >= DROPPED)
            return false;
        sp_slots_free(h->old, h->old_mask + 1);
        h->old = NULL;
        h->dropped = 0;
    }
    if (!h->slots || (h->mask + 1) * sizeof *h->slots < MAPPED)
        return true;
    if (h->mask + 1 - h->dropped < DROPPED)
        return true;
    (void)madvise(h->slots + h->dropped, DROPPED * sizeof *h->slots, MADV_DONTNEED);
    h->dropped += DROPPED;
    return false;
}

void sp_hash_put(struct sp_hash *h, struct sp_entry *e, uint64_t hash)
{
    sp_slots_put(h->slots, h->mask, (struct sp_slot){hash, e});
    h->used++;
}

/* The slot that holds an entry, NULL when none does. */
static struct sp_slot *sp_slots_position(struct sp_slot *slots, uint32_t mask, const struct sp_entry *e, uint64_t hash)
{
    if (!slots)
        return NULL;
    for (uint32_t at = (uint32_t)hash & mask; slots[at].entry; at = (at + 1) & mask)
        if (slots[at].entry == e)
            return &slots[at];
    return NULL;
}

void sp_hash_remove(struct sp_hash *h, const struct sp_entry *e, uint64_t hash)
{
    struct sp_slot *old = sp_slots_position(h->old, h->old_mask, e, hash);
    struct sp_slot *slot = sp_slots_position(h->slots, h->mask, e, hash);
    h->used--;
    if (old)
        old->entry = &sp_hash_gone;
    if (!slot)
        return;
    uint32_t hole = (uint32_t)(slot - h->slots), at = hole;
    for (;;) {
        at = (at + 1) & h->mask;
        if (!h->slots[at].entry)
            break;
        uint32_t home = (uint32_t)h->slots[at].hash & h->mask;
        if (((at - home) & h->mask) >= ((at - hole) & h->mask)) {
            h->slots[hole] = h->slots[at];
            hole = at;
        }
    }
    h->slots[hole] = (struct sp_slot){0, NULL};
}

void sp_hash_replace(struct sp_hash *h, const struct sp_entry *e, struct sp_entry *by, uint64_t hash)
{
    struct sp_slot *old = sp_slots_position(h->old, h->old_mask, e, hash);
    struct sp_slot *slot = sp_slots_position(h->slots, h->mask, e, hash);
    if (old)
        old->entry = by;
    if (slot)
        slot->entry = by;
}

/* -- maps from ids ------------------------------------------------------------------------------------------------ */

#define SMALL_MAP 2048u
#define MANY_IDS 65536u /* where nobody says how many there can be */

static void sp_map_release(struct sp_id_map *m)
{
    if (m->mask < SMALL_MAP) {
        free(m->ids);
        free(m->values);
        return;
    }
    if (m->ids)
        munmap(m->ids, ((size_t)m->mask + 1) * sizeof *m->ids);
    if (m->values)
        munmap(m->values, ((size_t)m->mask + 1) * sizeof *m->values);
}

/* Small maps double; beyond that one step makes room for all that can ever come, page by page as it is touched: moving
 * the few entries of then takes microseconds, and nothing moves later. */
static bool sp_map_grow(struct sp_id_map *m)
{
    uint32_t capacity = m->values ? (m->mask + 1) * 2 : 16;
    uint64_t all = 2 * (uint64_t)(m->limit ? m->limit : MANY_IDS);
    while (capacity > SMALL_MAP && capacity < all && capacity < 1u << 31)
        capacity *= 2;
    bool small = capacity <= SMALL_MAP;
    struct sp_id_map n = {.mask = capacity - 1, .limit = m->limit};
    n.ids = small ? calloc(capacity, sizeof *n.ids) : sp_map(capacity * sizeof *n.ids);
    n.values = small ? calloc(capacity, sizeof *n.values) : sp_map(capacity * sizeof *n.values);
    if (!n.ids || !n.values) {
        sp_map_release(&n);
        return false;
    }
    for (uint32_t i = 0; m->values && i <= m->mask; i++)
        if (m->values[i])
            sp_map_put(&n, m->ids[i], m->values[i]);
    sp_map_release(m);
    *m = n;
    return true;
}

bool sp_map_put(struct sp_id_map *m, uint32_t id, void *value)
{
    if ((!m->values || (uint64_t)(m->used + 1) * 2 > (uint64_t)m->mask + 1) && !sp_map_grow(m))
        return false;
    uint32_t at = (uint32_t)sp_mix(0, id) & m->mask;
    while (m->values[at] && m->ids[at] != id)
        at = (at + 1) & m->mask;
    if (!m->values[at])
        m->used++;
    m->ids[at] = id;
    m->values[at] = value;
    return true;
}

void sp_map_remove(struct sp_id_map *m, uint32_t id)
{
    if (!sp_map_get(m, id))
        return;
    uint32_t hole = (uint32_t)sp_mix(0, id) & m->mask;
    while (m->ids[hole] != id || !m->values[hole])
        hole = (hole + 1) & m->mask;
    for (uint32_t at = (hole + 1) & m->mask; m->values[at]; at = (at + 1) & m->mask) {
        uint32_t home = (uint32_t)sp_mix(0, m->ids[at]) & m->mask;
        if (((at - home) & m->mask) >= ((at - hole) & m->mask)) {
            m->ids[hole] = m->ids[at];
            m->values[hole] = m->values[at];
            hole = at;
        }
    }
    m->values[hole] = NULL;
    m->used--;
}

void sp_map_clear(struct sp_id_map *m, void (*release)(void *))
{
    for (uint32_t i = 0; m->values && i <= m->mask; i++)
        if (m->values[i])
            release(m->values[i]);
    if (m->values)
        sp_map_release(m);
    *m = (struct sp_id_map){.limit = m->limit};
}

/* -- v1model's algorithms (CRC parameters as published: CRC-16/ARC, CRC-32/ISO-HDLC, CRC-16/CCITT-FALSE) ---------- */

static uint16_t crc16_table[256];
static uint32_t crc32_table[256];
static uint16_t ccitt_table[256];

__attribute__((constructor)) static void sp_crc_tables(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint16_t a = (uint16_t)i, c = (uint16_t)(i << 8);
        uint32_t b = i;
        for (int k = 0; k < 8; k++) {
            a = (uint16_t)(a & 1 ? a >> 1 ^ 0xa001 : a >> 1);
            b = b & 1 ? b >> 1 ^ 0xedb88320u : b >> 1;
            c = (uint16_t)(c & 0x8000 ? c << 1 ^ 0x1021 : c << 1);
        }
        crc16_table[i] = a;
        crc32_table[i] = b;
        ccitt_table[i] = c;
    }
}

uint64_t sp_hash_crc16(const uint8_t *p, size_t n)
{
    uint16_t c = 0;
    while (n--)
        c = (uint16_t)(c >> 8 ^ crc16_table[(c ^ *p++) & 0xff]);
    return c;
}

uint64_t sp_hash_crc32(const uint8_t *p, size_t n)
{
    uint32_t c = 0xffffffffu;
    while (n--)
        c = c >> 8 ^ crc32_table[(c ^ *p++) & 0xff];
    return c ^ 0xffffffffu;
}

uint64_t sp_hash_crc_ccitt(const uint8_t *p, size_t n)
{
    uint16_t c = 0xffff;
    while (n--)
        c = (uint16_t)(c << 8 ^ ccitt_table[(c >> 8 ^ *p++) & 0xff]);
    return c;
}

uint64_t sp_hash_csum16(const uint8_t *p, size_t n)
{
    uint64_t sum = 0;
    for (; n >= 4; n -= 4, p += 4)
        sum += sp_load(p, 4);
    sum = (sum & 0xffffffff) + (sum >> 32);
    if (n >= 2) {
        sum += sp_load(p, 2);
        p += 2;
        n -= 2;
    }
    if (n)
        sum += (uint64_t)*p << 8;
    return sp_csum_fold(sum);
}

uint64_t sp_hash_xor16(const uint8_t *p, size_t n)
{
    uint16_t x = 0;
    for (; n >= 2; n -= 2, p += 2)
        x ^= (uint16_t)sp_load(p, 2);
    return n ? x ^ (uint16_t)(*p << 8) : x;
}

uint64_t sp_hash_xor32(const uint8_t *p, size_t n)
{
    uint32_t x = 0;
    for (; n >= 4; n -= 4, p += 4)
        x ^= (uint32_t)sp_load(p, 4);
    for (unsigned i = 0; i < n; i++)
        x ^= (uint32_t)p[i] << (24 - 8 * i);
    return x;
}

uint64_t sp_hash_identity(const uint8_t *p, size_t n)
{
    return sp_load(p, n < 8 ? (unsigned)n : 8);
}
