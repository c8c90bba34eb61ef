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
uint32_t sp_cmd_occupancy(struct sp_switch *sw);
uint32_t sp_cmd_batch(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns);
uint32_t sp_dispatch(struct sp_switch *sw, uint32_t op, struct sp_reader *r, uint64_t now_ns);

/* How to take back one change, or to let it stand; see batch.c. What the members mean is the maker's business. */
struct sp_step {
    void (*undo)(struct sp_switch *sw, struct sp_step *step);
    void (*keep)(struct sp_switch *sw, struct sp_step *step); /* NULL: nothing to give back */
    void *at, *old, *fresh;
    size_t size;
    uint32_t id;
};

struct sp_journal {
    struct sp_step *step;
    uint32_t count, capacity;
};

bool sp_step_room(struct sp_switch *sw); /* call before the change; false: out of memory */
/* After the change: remembers the step in a batch, otherwise keeps it at once. */
void sp_step_done(struct sp_switch *sw, struct sp_step step);
bool sp_step_bytes(struct sp_switch *sw, void *at, size_t size); /* remembers bytes that are about to change */

#endif
