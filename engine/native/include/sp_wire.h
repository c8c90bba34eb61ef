/* Internal to the core: reading requests and writing replies (formats: engine/codec.py). */
#ifndef SP_WIRE_H
#define SP_WIRE_H

#include "sp_core.h"

#define SP_OUT_ROOM (SP_MAX_FRAME + 4096u)

/* A cursor that turns !ok instead of running over the end; then all reads give zero. */
struct sp_reader {
    const uint8_t *p;
    uint32_t left;
    bool ok;
};

static inline const uint8_t *sp_take(struct sp_reader *r, uint32_t n)
{
    static const uint8_t zeros[4096];
    if (!r->ok || n > r->left) {
        r->ok = false;
        return n <= sizeof zeros ? zeros : NULL;
    }
    r->p += n;
    r->left -= n;
    return r->p - n;
}

static inline uint8_t sp_u8(struct sp_reader *r) { return *sp_take(r, 1); }

static inline uint16_t sp_u16(struct sp_reader *r)
{
    uint16_t v;
    memcpy(&v, sp_take(r, 2), 2);
    return v;
}

static inline uint32_t sp_u32(struct sp_reader *r)
{
    uint32_t v;
    memcpy(&v, sp_take(r, 4), 4);
    return v;
}

static inline uint64_t sp_u64(struct sp_reader *r)
{
    uint64_t v;
    memcpy(&v, sp_take(r, 8), 8);
    return v;
}

void sp_reply_bytes(struct sp_switch *sw, const void *data, uint32_t len);

static inline void sp_reply_u8(struct sp_switch *sw, uint8_t v) { sp_reply_bytes(sw, &v, 1); }
static inline void sp_reply_u16(struct sp_switch *sw, uint16_t v) { sp_reply_bytes(sw, &v, 2); }
static inline void sp_reply_u32(struct sp_switch *sw, uint32_t v) { sp_reply_bytes(sw, &v, 4); }
static inline void sp_reply_u64(struct sp_switch *sw, uint64_t v) { sp_reply_bytes(sw, &v, 8); }

/* Replaces the reply by a message; returns code. */
uint32_t sp_fail(struct sp_switch *sw, uint32_t code, const char *format, ...) __attribute__((format(printf, 3, 4)));

void sp_write_entry(struct sp_switch *sw, const struct sp_table *t, const struct sp_entry *e, uint64_t now_ns);
void sp_write_act(struct sp_switch *sw, const struct sp_act *act);
uint32_t sp_read_act(struct sp_switch *sw, struct sp_reader *r, struct sp_act **act); /* after kind 1 */
/* Reads a full key into e; returns a code. */
uint32_t sp_read_key(struct sp_switch *sw, struct sp_reader *r, const struct sp_table *t, struct sp_entry *e);
uint32_t sp_apply_initial(struct sp_switch *sw, struct sp_reader *r);

uint32_t sp_cmd_table_write(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns);
uint32_t sp_cmd_table_read(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns);
uint32_t sp_cmd_default_read(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_direct_write(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_direct_meter(struct sp_switch *sw, struct sp_reader *r, bool write, uint64_t now_ns);
/* Reads a configuration (all ones: none) and starts the meter with it; returns a code. */
uint32_t sp_read_meter(struct sp_switch *sw, struct sp_reader *r, const char *name, struct sp_meter *m,
                       uint64_t now_ns);
void sp_write_meter(struct sp_switch *sw, const struct sp_meter *m); /* NULL: one that is not configured */
uint32_t sp_cmd_member_write(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_member_read(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_group_write(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_group_read(struct sp_switch *sw, struct sp_reader *r);
uint32_t sp_cmd_replicas_write(struct sp_switch *sw, struct sp_reader *r, bool clone);
uint32_t sp_cmd_replicas_read(struct sp_switch *sw, bool clone);
uint32_t sp_cmd_value_set(struct sp_switch *sw, struct sp_reader *r);
/* Reads the index of an array; NULL, with a message, when there is none. */
const struct sp_array_desc *sp_pick_array(struct sp_switch *sw, struct sp_reader *r, const struct sp_array_desc *arrays,
                                          uint32_t n, uint32_t *index);
uint32_t sp_cmd_occupancy(struct sp_switch *sw);
uint32_t sp_cmd_batch(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns);
uint32_t sp_dispatch(struct sp_switch *sw, uint32_t op, struct sp_reader *r, uint64_t now_ns);

/* How to take back one change, or to let it stand; see batch.c. What the members mean is the maker's business. */
struct sp_step {
    void (*undo)(struct sp_switch *sw, struct sp_step *step);
    void (*keep)(struct sp_switch *sw, struct sp_step *step); /* NULL: nothing to give back */
    void *at, *old, *fresh;
    uint32_t id;
};

struct sp_journal {
    struct sp_arena arena; /* of all that it holds */
    struct sp_steps *first, *last;
    struct sp_waiting *waiting;           /* cells, by array, that are written at the end */
    struct sp_table *tables;              /* that have changed */
    void **images;                        /* of registers that are filled, by index */
};

bool sp_step_room(struct sp_switch *sw); /* for two steps; call before the change; false: out of memory */
/* After the change: remembers the step in a batch, otherwise keeps it at once. */
void sp_step_done(struct sp_switch *sw, struct sp_step step);
void *sp_step_memory(struct sp_switch *sw, size_t bytes); /* until the end of the batch; NULL: out of memory */
/* Writes a cell of an array of `cells` that packets write, too: now, or at the end of the batch. False: out of memory. */
bool sp_cell_write(struct sp_switch *sw, void *array, uint32_t cells, uint32_t index, const void *value, size_t size);
/* In a batch: what a register will be, all of it. NULL: out of memory. */
uint8_t *sp_register_image(struct sp_switch *sw, uint32_t index);
/* A register's cells; *seen: by packets. */
uint8_t *sp_register_cells(const struct sp_switch *sw, uint32_t index, bool *seen);
void sp_batch_begin(struct sp_switch *sw, struct sp_journal *j);
void sp_batch_end(struct sp_switch *sw, bool stands); /* packets see all of the batch, or nothing of it for ever */

/* What packets see meanwhile: past.c. */
void sp_past_touch(struct sp_table *t); /* before a change in a batch; otherwise does nothing */
/* Before a change of an entry in a batch (a step; otherwise nothing): packets go on with a copy. False: out of memory. */
bool sp_past_version(struct sp_table *t, struct sp_entry *e);
/* As sp_table_drop(); *kept: packets still find the entry. False: out of memory, nothing has changed. */
bool sp_past_drop(struct sp_table *t, struct sp_entry *e, bool *kept);
void sp_past_add(struct sp_table *t, struct sp_entry *e, bool kept); /* takes that back */
bool sp_past_keep_replicas(struct sp_switch *sw, bool clone, uint32_t id, struct sp_replicas *was);
void sp_past_end(struct sp_switch *sw, const struct sp_journal *j, bool stands); /* packets see what there is */
void sp_past_forget(struct sp_switch *sw, const struct sp_journal *j);

#endif
