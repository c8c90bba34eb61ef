/* Internal to a pipeline: what a program is (generated) and the state of a switch that runs it. Not an interface. */
#ifndef SP_STATE_H
#define SP_STATE_H

#include "sp_bits.h"
#include "sp_engine.h"
#include "sp_prepare.h"

#include <stdbool.h>

/* -- description of the program, generated ---------------------------------------------------------------------- */

enum sp_kind { SP_EXACT = 0, SP_LPM = 1, SP_TERNARY = 2, SP_RANGE = 3, SP_OPTIONAL = 4 };

/* One key field. Keys are the fields in whole bytes, big endian, concatenated (an LPM field last). */
struct sp_field_desc {
    uint8_t kind;
    uint16_t width;  /* bits */
    uint16_t bytes;  /* ceil(width / 8) */
    uint16_t offset; /* of its first byte in the key */
    uint16_t range;  /* number among the table's range fields */
};

struct sp_action_desc {
    const char *name;
    uint16_t params;
    uint16_t words; /* of 64 bits; see sp_act */
    const uint16_t *widths;
};

struct sp_table_desc {
    const char *name;
    uint8_t match; /* SP_EXACT, SP_LPM or SP_TERNARY (also ranges and optional) */
    uint8_t direct_index; /* exact key of one field of at most 16 bits: an array instead of a hash table */
    uint8_t immutable;    /* const entries */
    uint8_t const_default;
    uint16_t fields;
    uint16_t key_bytes;
    uint16_t key_words;
    uint16_t ranges;
    uint16_t range_words; /* of each bound: as the widest range field needs, at least 2 */
    uint16_t actions;
    int16_t profile;   /* -1: direct */
    int16_t meter;     /* direct meter, -1: none */
    uint8_t idle;      /* entries have idle time-outs */
    uint8_t bare;      /* LPM whose entries hold no state of their own: lookups find actions, not entries */
    uint32_t size;
    const struct sp_field_desc *field;
    const uint32_t *action;
};

struct sp_profile_desc {
    const char *name;
    uint32_t size;
    uint8_t selector;
};

struct sp_array_desc {
    const char *name;
    uint32_t size;
    uint16_t width; /* bits of a register cell */
    uint16_t cell;  /* bytes per register cell in memory: 1, 2, 4, 8, 16 (native) or ceil(width / 8) (big endian) */
    uint8_t kind;   /* meters: 0 packets, 1 bytes */
};

/* An update (engine/codec.py) that belongs to the program: const entries and default actions. */
struct sp_initial {
    const uint8_t *data;
    uint32_t len;
};

struct sp_switch;

struct sp_program {
    const char *name, *info, *key;
    const struct sp_table_desc *tables;
    const struct sp_action_desc *actions;
    const struct sp_profile_desc *profiles;
    const struct sp_array_desc *registers, *counters, *meters, *value_sets;
    const struct sp_initial *initial;
    uint32_t n_tables, n_actions, n_profiles, n_registers, n_counters, n_meters, n_value_sets, n_initial;
    size_t context_size; /* of the generated struct sp_context */
    void (*process)(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len, uint64_t now_ns);
};

/* -- places in arrays that are free now form a list: each holds the next one instead of a pointer ------------------- */

SP_INLINE void *sp_free_mark(uint32_t next) { return (void *)((uintptr_t)next << 1 | 1); }
SP_INLINE uint32_t sp_free_next(const void *mark) { return (uint32_t)((uintptr_t)mark >> 1); }
SP_INLINE bool sp_is_free(const void *place) { return (uintptr_t)place & 1; }

/* -- state ---------------------------------------------------------------------------------------------------- */

struct sp_chunk;

#define SP_ARENA_UNITS 64u
#define SP_ARENA_UNIT 40u /* bytes: an LPM node */

/* See arena.c. */
struct sp_arena {
    void *free[SP_ARENA_UNITS + 1]; /* by number of units */
    uint8_t *fresh;
    size_t left, low;  /* units; when so few are left the next chunk is ordered */
    size_t chunk_size; /* bytes of the last one */
    struct sp_chunk *chunks;
    struct sp_order *order; /* of `ordered` bytes */
    size_t ordered;
    struct sp_preparer *preparer;
};

/* An action with its parameters: one word each up to 64 bits, two (high, low) up to 128, beyond that big endian
 * bytes filling whole words. Equal ones are shared: a million routes to a few groups touch a few cache lines. */
struct sp_act {
    uint32_t action;
    uint32_t words;
    uint32_t uses;
    uint32_t id; /* index in the pool's by_id */
    uint64_t hash;
    struct sp_act *next; /* in the pool's bucket */
    struct sp_act_pool *pool;
    uint64_t data[];
};

/* Who prepares the memory of an array that grows, and what is on order. */
struct sp_grower {
    struct sp_preparer *preparer;
    struct sp_order *order;
};

/* See acts.c. */
struct sp_act_pool {
    struct sp_act **buckets;
    uint32_t used;
    uint32_t base, split; /* linear hashing: `base` buckets, a power of two, and the first `split` of them divided */
    uint32_t room;        /* in buckets[] */
    struct sp_grower buckets_grower, ids_grower;
    struct sp_act **by_id;   /* or a mark, where an id is free: sp_free_mark() */
    uint32_t ids, free_id;   /* ever given; 1 + the first free one */
    uint32_t capacity, limit; /* room in by_id; of ids */
    struct sp_arena arena;
};

struct sp_rate {
    double per_us;
    uint64_t burst, tokens, tokens_last;
};

/* A two-rate three-colour meter as BMv2 computes it: peak rate first, then committed rate. */
struct sp_meter {
    uint8_t configured;
    uint64_t config[4]; /* cir, cburst, pir, pburst as given */
    struct sp_rate peak, committed;
};

struct sp_member {
    uint32_t id;
    uint32_t uses; /* entries and groups that refer to it */
    struct sp_act *act;
    struct sp_act *past; /* what packets see instead while a batch is written; NULL: the same */
};

struct sp_group_member {
    struct sp_member *member;
    uint32_t weight;
    int32_t watch;
};

struct sp_group {
    uint32_t id;
    uint32_t uses;
    uint32_t members;
    uint32_t live; /* length of choice[] */
    struct sp_group_member *member;
    uint16_t *choice; /* positions in member[] of the live ones, once per unit of weight, ascending id */
    struct sp_group *past; /* as in sp_member */
};

struct sp_entry {
    struct sp_entry *next; /* same masked key in a tuple, by falling priority */
    uint64_t hash;
    struct sp_act *act; /* direct action */
    struct sp_member *member;
    struct sp_group *group;
    uint64_t packets, bytes, last_hit, idle_ns; /* idle_ns 0: never idle */
    uint64_t reported_at;   /* when it was last reported as idle; 0: not since the last hit */
    struct sp_meter *meter; /* NULL: not configured */
    uint32_t slot; /* position in the table's pool */
    int32_t priority;
    uint16_t prefix; /* LPM: bits of the whole key */
    uint8_t kind;    /* 1 direct, 2 member, 3 group */
    uint8_t constant : 1;
    uint8_t counted : 1; /* the batch being executed has set the counter */
    uint32_t born; /* the batch that made it, or gave it what it is: past.c */
    uint64_t key[]; /* value; then mask (ternary); then low, high per range, the first word the highest */
};

struct sp_slot {
    uint64_t hash;
    struct sp_entry *entry;
};

/* Open addressing over entries; the hash covers whatever the owner chose.
 *
 * A growing table moves a few entries with each insert, so that none takes long: until all have moved, what is not found
 * in `slots` may be in `old`. There nothing changes place; what is removed becomes sp_hash_gone. */
struct sp_hash {
    struct sp_slot *slots, *old; /* old: NULL unless growing */
    uint32_t mask;               /* capacity - 1 */
    uint32_t used;               /* entries in both */
    uint32_t old_mask, moved;    /* positions of `old` from 0 whose entries are in `slots` too */
    struct sp_order *order;      /* of the next slots, twice as many */
};

extern struct sp_entry sp_hash_gone;

/* Longest prefix match, see lpm.c. */
#define SP_LPM_ROOT 16u               /* bits of the first level */
#define SP_LPM_SECOND 24u             /* bits of the first two levels */
#define SP_LPM_STRIDE 6u              /* of the tree below */
#define SP_LPM_LONGER 0x80000000u     /* mark of a chunk's slot that holds the number of a sp_lpm_longer */
#define SP_LPM_BLOCK 2048u            /* chunks */
#define SP_LPM_BLOCKS 35u             /* room for a chunk below each root slot, though the first ones are not full */
#define SP_LPM_LONGER_BLOCK 32u /* they fill a block of the arena */

/* 6 bits of the key: prefixes of relative length 1..5 in `inner` (heap order), of length 6 in `leaf`. */
struct sp_lpm_node {
    uint64_t child_map, inner, leaf;
    void **results; /* inner ones first, then leaves; a single one sits in the pointer itself */
    struct sp_lpm_node *children;
};

/* `value`s: 1 + index of an action (bare tables) or of an entry in the table's pool; 0: none. */
struct sp_lpm_root {
    uint32_t value; /* of the longest prefix of at most SP_LPM_ROOT bits */
    uint32_t chunk; /* 1 + number of the array over the next 8 bits; 0: no longer prefix */
};

/* Below a chunk's slot: prefixes longer than SP_LPM_SECOND bits. */
struct sp_lpm_longer {
    uint32_t value; /* what the slot held */
    struct sp_lpm_node node;
};

struct sp_lpm_block {
    uint32_t *slots;  /* value or SP_LPM_LONGER | number */
    uint8_t *lengths; /* 1 + length of the prefix a slot's value comes from; 0: none */
    uint32_t *used;   /* prefixes in a chunk; of a free one: the next free */
    uint32_t room;    /* chunks */
};

struct sp_lpm {
    struct sp_lpm_root *root;
    uint8_t *lengths; /* of the root's values, as in sp_lpm_block */
    struct sp_lpm_block block[SP_LPM_BLOCKS];
    struct sp_lpm_longer **longer;
    uint32_t blocks, last, free_chunk; /* blocks; chunks ever made in the last one; first free chunk, 0: none */
    uint32_t longer_count, longer_room, free_longer;
    struct sp_grower longer_grower;
    struct sp_order *order; /* of the next block */
    struct sp_arena arena;
    uint64_t lengths_seen[33]; /* bit map of prefix lengths that entries have had: keys have at most 2,048 bits */
};

struct sp_tuple {
    uint64_t *mask;
    struct sp_hash hash;
    uint32_t entries;
    int32_t priority; /* no entry has a higher one */
};

struct sp_tuples {
    struct sp_tuple **tuple; /* by falling priority */
    uint32_t count, capacity;
    bool past; /* as in the table */
};

struct sp_table {
    const struct sp_table_desc *desc;
    struct sp_switch *owner;
    uint32_t index;
    uint32_t count;
    uint32_t seen;           /* as count; 0 while packets see the past, so that lookups ask for nothing else */
    bool past;               /* a batch has changed the table, and packets must not see it yet: past.c */
    struct sp_hash hash;     /* identity of entries; for exact tables also the lookup */
    struct sp_entry **direct; /* `places` where there are some; NULL while packets see the past */
    struct sp_lpm lpm;
    struct sp_tuples tuples;
    struct sp_act *default_act;  /* NULL: no action on a miss */
    struct sp_act *program_act;  /* the program's own default */
    struct sp_entry **pool;  /* or a mark, where a place is free: sp_table_entry() */
    struct sp_arena entries; /* their memory */
    struct sp_grower pool_grower;
    uint32_t pool_len, pool_capacity, free_slot; /* free_slot: 1 + the first free place */
    struct sp_entry **places;      /* direct_index: by value of the key */
    struct sp_hash gone;           /* entries as they were before the batch, by identity (exact, LPM) ... */
    struct sp_tuples gone_tuples;  /* ... or by mask */
    struct sp_act *default_next;   /* after the batch */
    struct sp_table *next_past;    /* of the batch's tables */
};

struct sp_id_map { /* id -> pointer, open addressing */
    uint32_t *ids;
    void **values;
    uint32_t mask, used;
    uint32_t limit; /* ids that it will ever hold; 0: not known */
    bool whole;     /* there is room for all of them */
    struct sp_preparer *preparer;
    struct sp_order *order; /* of that room, for `ordered` ids */
    uint64_t ordered;
};

struct sp_profile {
    const struct sp_profile_desc *desc;
    struct sp_id_map members, groups;
};

struct sp_cell {
    uint64_t packets, bytes;
};

struct sp_replica {
    uint32_t port, instance;
};

#define SP_BACKUP 0x80000000u /* in a given replica's port: a backup of the replica before it */

/* A multicast group or clone session. A replica goes to the first of its ports (its own, then the backups) that is up;
 * to its own when none is, where it is lost. */
struct sp_replicas {
    uint32_t id, count, length, class; /* count: replicas in force; length: truncation, 0 none; class: 0..7 */
    uint32_t given;                    /* replicas and backups as written; they follow those in force */
    struct sp_replica replica[];
};

struct sp_value_set {
    uint32_t count, next_count;
    uint8_t *values; /* count * (value, mask), each ceil(width / 8) bytes */
    uint8_t *next;   /* after the batch being executed; NULL: the same */
};

struct sp_reply {
    uint8_t *data;
    uint32_t len, capacity;
    bool failed; /* out of memory */
};

struct sp_journal;

/* The command that is being executed: overtake.c. */
struct sp_running {
    bool busy;
    bool between;      /* at this moment one of its updates is done and the next one has not begun */
    uint32_t op, first; /* first: number in its request, the array or table that it is about */
};

struct sp_switch {
    const struct sp_program *program;
    struct sp_options options;
    struct sp_preparer *preparer;
    bool deep; /* some LPM table is so large that lookups should begin ahead */
    struct sp_table *tables;
    struct sp_profile *profiles;
    void **registers;
    struct sp_cell **counters;
    struct sp_meter **meters;
    struct sp_value_set *value_sets;
    struct sp_id_map multicast, clones;
    struct sp_id_map gone_multicast, gone_clones; /* as they were before the batch, by id: sp_past_replicas() */
    struct sp_act_pool acts;
    uint8_t port_down[8192]; /* bit map */
    uint64_t random;
    struct sp_stats stats;
    struct sp_reply reply;
    bool still;   /* no packets now: something half done must not be seen */
    uint8_t *out; /* frame being deparsed */
    void *contexts; /* of the generated pipeline */
    uint64_t now;
    struct sp_journal *journal; /* of the batch being executed */
    uint32_t batch;             /* its number */
    bool past;                  /* packets see what was before it */
    struct sp_running running;
    bool overtaken;                /* by another command, which is being executed */
    struct sp_reply reply_between; /* of that one */
};

#endif
