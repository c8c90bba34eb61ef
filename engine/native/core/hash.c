/* Hash tables of entries, maps from ids, and the hash algorithms of v1model. */
#include "sp_core.h"

#include <stdlib.h>

/* -- open addressing over entries; deletion shifts later entries back, so lookups need no tombstones -------------- */

#define MOVES 8u           /* positions per insert: done long before the next growth */
#define MAPPED (32u << 10) /* bytes from which slots are mapped, and ordered before they are needed */

struct sp_entry sp_hash_gone;

static size_t sp_slots_bytes(uint64_t capacity) { return capacity * sizeof(struct sp_slot); }

static void sp_slots_free(struct sp_preparer *p, struct sp_slot *slots, uint64_t capacity)
{
    if (sp_slots_bytes(capacity) < MAPPED)
        free(slots);
    else
        sp_release(p, slots, sp_slots_bytes(capacity));
}

static void sp_slots_put(struct sp_slot *slots, uint32_t mask, struct sp_slot slot)
{
    uint32_t at = (uint32_t)slot.hash & mask;
    while (slots[at].entry)
        at = (at + 1) & mask;
    slots[at] = slot;
}

static void sp_hash_move(struct sp_hash *h, struct sp_preparer *p)
{
    for (unsigned i = 0; i < MOVES && h->moved <= h->old_mask; i++, h->moved++)
        if (h->old[h->moved].entry && h->old[h->moved].entry != &sp_hash_gone)
            sp_slots_put(h->slots, h->mask, h->old[h->moved]);
    if (h->moved <= h->old_mask)
        return;
    sp_slots_free(p, h->old, (uint64_t)h->old_mask + 1);
    h->old = NULL;
}

/* Twice as many slots, those of small tables on the spot. */
static bool sp_hash_grow(struct sp_hash *h, struct sp_preparer *p)
{
    uint64_t capacity = h->slots ? ((uint64_t)h->mask + 1) * 2 : 16;
    if (capacity > 1u << 31)
        return false;
    struct sp_slot *slots = sp_ordered(&h->order);
    if (!slots) {
        sp_order_drop(p, &h->order);
        slots = sp_slots_bytes(capacity) < MAPPED ? calloc(1, sp_slots_bytes(capacity)) : sp_map(sp_slots_bytes(capacity));
    }
    if (!slots)
        return false;
    while (h->old)
        sp_hash_move(h, p);
    h->old = h->slots;
    h->old_mask = h->mask;
    h->moved = 0;
    h->slots = slots;
    h->mask = (uint32_t)(capacity - 1);
    return true;
}

/* Half of the slots are used at most, or two thirds while the next ones are being prepared: they are ordered when it is
 * seven sixteenths. */
bool sp_hash_reserve(struct sp_hash *h, struct sp_preparer *p, uint32_t limit)
{
    if (h->old)
        sp_hash_move(h, p);
    uint64_t capacity = h->slots ? (uint64_t)h->mask + 1 : 0, wanted = (uint64_t)h->used + 1;
    if (wanted * 16 >= capacity * 7 && !h->order && limit * 2ull > capacity && sp_slots_bytes(2 * capacity) >= MAPPED)
        h->order = sp_order(p, sp_slots_bytes(2 * capacity), sp_slots_bytes(2 * capacity), 0);
    if (wanted * 2 <= capacity)
        return true;
    if (h->order && !sp_order_ready(h->order) && wanted * 3 <= capacity * 2)
        return true;
    return sp_hash_grow(h, p) || wanted * 8 <= capacity * 7;
}

void sp_hash_clear(struct sp_hash *h, struct sp_preparer *p)
{
    if (h->slots)
        sp_slots_free(p, h->slots, (uint64_t)h->mask + 1);
    if (h->old)
        sp_slots_free(p, h->old, (uint64_t)h->old_mask + 1);
    sp_order_drop(p, &h->order);
    memset(h, 0, sizeof *h);
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

static size_t sp_map_bytes(const struct sp_id_map *m)
{
    return m->values ? ((size_t)m->mask + 1) * (sizeof *m->values + sizeof *m->ids) : 0;
}

static void sp_map_release(struct sp_id_map *m)
{
    if (m->whole)
        sp_release(m->preparer, m->values, sp_map_bytes(m));
    else
        free(m->values);
}

/* Room for all ids that can ever come. */
static uint64_t sp_map_whole(const struct sp_id_map *m)
{
    uint64_t all = 2 * (uint64_t)(m->limit ? m->limit : MANY_IDS), capacity = SMALL_MAP;
    while ((capacity < all || capacity <= m->mask) && capacity < 1u << 31)
        capacity *= 2;
    return capacity;
}

/* Small maps double. When there are some hundred ids, room for all that can ever come is ordered, and when it is there
 * they move: in microseconds, and nothing moves later. */
static bool sp_map_grow(struct sp_id_map *m)
{
    struct sp_id_map n = {.limit = m->limit, .preparer = m->preparer};
    uint64_t capacity = m->ordered;
    if (capacity <= m->mask) /* it took too long */
        sp_order_drop(m->preparer, &m->order);
    n.values = sp_ordered(&m->order);
    n.whole = n.values != NULL;
    if (!n.whole) {
        capacity = m->values ? (m->mask + 1ull) * 2 : 16;
        n.values = capacity <= 1u << 31 ? calloc(capacity, sizeof *n.values + sizeof *n.ids) : NULL;
    }
    if (!n.values)
        return false;
    n.mask = (uint32_t)(capacity - 1);
    n.ids = (uint32_t *)(n.values + capacity);
    n.order = m->order;
    n.ordered = m->ordered;
    for (uint32_t i = 0; m->values && i <= m->mask; i++)
        if (m->values[i])
            sp_map_put(&n, m->ids[i], m->values[i]);
    sp_map_release(m);
    *m = n;
    return true;
}

/* For one more. */
static bool sp_map_room(struct sp_id_map *m)
{
    if (m->values && (uint64_t)(m->used + 1) * 2 <= (uint64_t)m->mask + 1) {
        if (!m->whole && !m->order && m->used > SMALL_MAP / 4) {
            m->ordered = sp_map_whole(m);
            size_t bytes = m->ordered * (sizeof *m->values + sizeof *m->ids);
            m->order = sp_order(m->preparer, bytes, bytes, 0);
        }
        return true;
    }
    return sp_map_grow(m);
}

bool sp_map_put(struct sp_id_map *m, uint32_t id, void *value)
{
    if (!sp_map_room(m))
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
    for (uint32_t i = 0; release && m->values && i <= m->mask; i++)
        if (m->values[i])
            release(m->values[i]);
    sp_map_release(m);
    sp_order_drop(m->preparer, &m->order);
    *m = (struct sp_id_map){.limit = m->limit, .preparer = m->preparer};
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
