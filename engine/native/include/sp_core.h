/* Internal to a pipeline: what the core offers to generated code, and its own parts to each other. Not an interface. */
#ifndef SP_CORE_H
#define SP_CORE_H

#include "sp_state.h"

/* -- helpers for generated code ------------------------------------------------------------------------------- */

/* Hashes over bytes as BMv2 names them (hash.c). */
uint64_t sp_hash_crc16(const uint8_t *p, size_t n);
uint64_t sp_hash_crc32(const uint8_t *p, size_t n);
uint64_t sp_hash_crc_ccitt(const uint8_t *p, size_t n);
uint64_t sp_hash_csum16(const uint8_t *p, size_t n);
uint64_t sp_hash_xor16(const uint8_t *p, size_t n);
uint64_t sp_hash_xor32(const uint8_t *p, size_t n);
uint64_t sp_hash_identity(const uint8_t *p, size_t n);

/* csum16 continued over a second, 16-bit aligned piece: sums of big endian words; fold at the end. */
SP_INLINE uint64_t sp_csum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

uint64_t sp_random(struct sp_switch *sw, uint64_t low, uint64_t high);
/* log_msg(): puts the values, decimal, in place of each {} of the format. */
void sp_log(struct sp_switch *sw, const char *format, const sp_s128 *values, unsigned count);
uint8_t sp_meter_run(struct sp_meter *meter, uint8_t bytes, uint32_t len, uint64_t now_ns);
bool sp_value_set_has(const struct sp_value_set *set, uint32_t width, const uint8_t *value, const uint8_t *mask);

/* -- core, called by the core ----------------------------------------------------------------------------------- */

bool sp_hash_reserve(struct sp_hash *h, struct sp_preparer *p, uint32_t limit); /* room for one more, of so many at most */
void sp_hash_clear(struct sp_hash *h, struct sp_preparer *p);
void sp_hash_put(struct sp_hash *h, struct sp_entry *e, uint64_t hash);
void sp_hash_remove(struct sp_hash *h, const struct sp_entry *e, uint64_t hash);
void sp_hash_replace(struct sp_hash *h, const struct sp_entry *e, struct sp_entry *by, uint64_t hash);

/* Lets packets pass in the middle of a long command. The caller's structures are consistent, what packets may still
 * find is not freed yet, and nobody comes in between but packets, and commands on cells of arrays (overtake.c). */
SP_INLINE void sp_breathe(struct sp_switch *sw)
{
    if (sw->options.breathe && !sw->still)
        sw->options.breathe(sw->options.user);
}

/* The same between two updates of one command: small writes of others may come in between, too. */
SP_INLINE void sp_pause(struct sp_switch *sw)
{
    sw->running.between = true;
    sp_breathe(sw);
    sw->running.between = false;
}

struct sp_act *sp_act_new(struct sp_act_pool *pool, uint32_t words); /* zeroed; NULL: out of memory */
void sp_act_free(struct sp_act_pool *pool, struct sp_act *act);      /* one that was never shared */
void sp_acts_prepare(struct sp_act_pool *pool, struct sp_preparer *p); /* before its first use */
void sp_acts_clear(struct sp_act_pool *pool);                        /* after the last release */
/* Shares an action with an equal one, freeing the given one, or adds it; NULL when out of memory (act is freed). */
struct sp_act *sp_act_share(struct sp_act_pool *pool, struct sp_act *act);
void sp_act_release(struct sp_act *act);

void *sp_arena_alloc(struct sp_arena *a, size_t bytes); /* at most SP_ARENA_UNITS LPM nodes; not zeroed */
void *sp_arena_resize(struct sp_arena *a, void *block, size_t old, size_t bytes);
void sp_arena_free(struct sp_arena *a, void *block, size_t bytes);
void sp_arena_clear(struct sp_arena *a);
/* Room for more items in an array of `limit` at most: it doubles while it is small, then gets address space for all at once,
 * so that it is never copied. Returns the array with *capacity raised, NULL when out of memory or beyond the limit. */
void *sp_grow(struct sp_grower *g, void *array, size_t item, uint32_t *capacity, uint32_t limit);
/* At each new item, of `used` before it: prepares what will be needed. */
void sp_grown_ahead(struct sp_grower *g, void *array, size_t item, uint32_t capacity, uint32_t used, uint32_t limit);
void sp_grown_free(struct sp_grower *g, void *array, size_t item, uint32_t capacity);

bool sp_lpm_insert(struct sp_table *t, struct sp_entry *e);
void sp_lpm_update(struct sp_table *t, struct sp_entry *e); /* after a change of e's action */
void sp_lpm_remove(struct sp_table *t, struct sp_entry *e);
void sp_lpm_clear(struct sp_lpm *lpm);
/* See lpm_tree.c; top: of the tree that e belongs to. Inserting one that is there puts its present action. */
bool sp_lpm_tree_insert(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top);
void sp_lpm_tree_remove(struct sp_table *t, struct sp_entry *e, struct sp_lpm_node *top);
bool sp_lpm_tree_is_empty(const struct sp_lpm_node *n);
bool sp_tuples_insert(struct sp_table *t, struct sp_tuples *ts, struct sp_entry *e);
void sp_tuples_remove(struct sp_table *t, struct sp_tuples *ts, struct sp_entry *e);
void sp_tuples_clear(struct sp_tuples *tuples, struct sp_preparer *p);

bool sp_map_put(struct sp_id_map *m, uint32_t id, void *value);
void sp_map_remove(struct sp_id_map *m, uint32_t id);
void sp_map_clear(struct sp_id_map *m, void (*release)(void *)); /* NULL: the values are others' */

/* Finds the entry with the same match (value, mask, ranges, prefix, priority). */
struct sp_entry *sp_table_find(const struct sp_table *t, const struct sp_entry *like);
struct sp_entry *sp_identity_find(const struct sp_table *t, const struct sp_hash *h, const struct sp_entry *like);
uint64_t sp_identity(const struct sp_table *t, const struct sp_entry *e);
void sp_mask_prefix(uint64_t *key, unsigned words, unsigned prefix); /* clears the bits behind it */
uint32_t sp_table_add(struct sp_table *t, struct sp_entry *e); /* code */
void sp_table_drop(struct sp_table *t, struct sp_entry *e);    /* unlinks, does not free */
void sp_table_seen(struct sp_table *t); /* after a change of `count`, `places` or `past` */
void sp_table_prepare(struct sp_table *t); /* before its first use */
void sp_table_clear(struct sp_table *t);

/* The entry at a place of the pool; NULL where there is none. */
SP_INLINE struct sp_entry *sp_table_entry(const struct sp_table *t, uint32_t place)
{
    return sp_is_free(t->pool[place]) ? NULL : t->pool[place];
}

/* Lookups in what was before the batch being executed; see past.c. */
struct sp_entry *sp_past_exact(const struct sp_table *t, const uint64_t *key);
struct sp_entry *sp_past_direct(const struct sp_table *t, uint64_t value);
void *sp_past_lpm(const struct sp_table *t, const uint64_t *key); /* an action, where the table is bare */
struct sp_entry *sp_past_ternary(const struct sp_table *t, const uint64_t *key, const uint64_t *ranges);
const struct sp_replicas *sp_past_replicas(const struct sp_switch *sw, bool clone, uint32_t id);

size_t sp_key_room(const struct sp_table_desc *d); /* bytes of sp_entry.key[] */
struct sp_entry *sp_entry_new(struct sp_table *t); /* zeroed, with room for the key; NULL: out of memory */
void sp_entry_free(struct sp_table *t, struct sp_entry *e);
void sp_entry_unref(struct sp_entry *e); /* releases its member or group */

struct sp_switch *sp_create(const struct sp_program *program, const struct sp_options *options);
void sp_destroy(struct sp_switch *sw);
bool sp_reset(struct sp_switch *sw);
void sp_port_status(struct sp_switch *sw, uint32_t port, int up);
void sp_group_refresh(struct sp_switch *sw, struct sp_group *g, bool unseen); /* unseen: by packets */
void sp_replicas_refresh(const struct sp_switch *sw, struct sp_replicas *g);
void sp_tick(struct sp_switch *sw, uint64_t now_ns);
uint32_t sp_command(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                    const uint8_t **reply, uint32_t *reply_len);
uint32_t sp_overtake(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                     const uint8_t **reply, uint32_t *reply_len);
const struct sp_stats *sp_get_stats(const struct sp_switch *sw);

#include "sp_lookup.h"

#endif
