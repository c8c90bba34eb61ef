/* BATCH: write commands of any kind of which either all take effect or none.
 *
 * Commands are executed one after the other, and no packet is processed in between. Each leaves a step in the journal
 * that tells how to take it back; at the first error the steps are undone in reverse order, otherwise they are kept in
 * order. Only then is the memory of what was replaced given back, so that undoing never allocates.
 */
#include "sp_wire.h"

#include <stdlib.h>

#define SP_MAX_BATCH (1u << 20)

bool sp_step_room(struct sp_switch *sw)
{
    struct sp_journal *j = sw->journal;
    if (!j || j->count < j->capacity)
        return true;
    uint32_t capacity = j->capacity ? 2 * j->capacity : 64;
    struct sp_step *grown = realloc(j->step, capacity * sizeof *grown);
    if (!grown)
        return false;
    j->step = grown;
    j->capacity = capacity;
    return true;
}

void sp_step_done(struct sp_switch *sw, struct sp_step step)
{
    if (sw->journal)
        sw->journal->step[sw->journal->count++] = step;
    else if (step.keep)
        step.keep(sw, &step);
}

static void sp_bytes_undo(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    memcpy(s->at, s->old, s->size);
    free(s->old);
}

static void sp_old_free(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    free(s->old);
}

bool sp_step_bytes(struct sp_switch *sw, void *at, size_t size)
{
    if (!sw->journal)
        return true;
    void *copy = sp_step_room(sw) ? malloc(size + 1) : NULL;
    if (!copy)
        return false;
    memcpy(copy, at, size);
    sp_step_done(sw, (struct sp_step){.undo = sp_bytes_undo, .keep = sp_old_free, .at = at, .old = copy, .size = size});
    return true;
}

static bool sp_is_write(uint32_t op)
{
    switch (op) {
    case SP_OP_TABLE_WRITE:
    case SP_OP_MEMBER_WRITE:
    case SP_OP_GROUP_WRITE:
    case SP_OP_REGISTER_WRITE:
    case SP_OP_REGISTER_FILL:
    case SP_OP_COUNTER_WRITE:
    case SP_OP_MULTICAST_WRITE:
    case SP_OP_CLONE_WRITE:
    case SP_OP_METER_WRITE:
    case SP_OP_DIRECT_WRITE:
    case SP_OP_DIRECT_METER_WRITE:
    case SP_OP_VALUE_SET_WRITE:
        return true;
    default:
        return false;
    }
}

uint32_t sp_cmd_batch(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns)
{
    uint32_t n = sp_u32(r), done = 0, code = SP_OK;
    if (sw->journal || !r->ok || n > SP_MAX_BATCH || n > r->left / 6)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "BATCH: malformed");
    struct sp_journal journal = {0};
    bool still = sw->still;
    sw->journal = &journal;
    sw->still = true;
    for (; done < n && code == SP_OK; done++) {
        uint32_t op = sp_u16(r), len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        sw->reply.len = 0;
        if (!r->ok || !sp_is_write(op))
            code = sp_fail(sw, SP_INVALID_ARGUMENT, "BATCH: command %#x is truncated or no write", op);
        else
            code = sp_dispatch(sw, op, &one, now_ns);
    }
    sw->journal = NULL;
    sw->still = still;
    if (code == SP_OK)
        for (uint32_t i = 0; i < journal.count; i++) {
            if (journal.step[i].keep)
                journal.step[i].keep(sw, &journal.step[i]);
        }
    else
        for (uint32_t i = journal.count; i-- > 0;)
            journal.step[i].undo(sw, &journal.step[i]);
    free(journal.step);
    char text[256];
    uint32_t text_len = code == SP_OK ? 0 : sw->reply.len < sizeof text ? sw->reply.len : (uint32_t)sizeof text;
    memcpy(text, sw->reply.data ? sw->reply.data : (uint8_t *)text, text_len);
    sw->reply.len = 0;
    sp_reply_u32(sw, code == SP_OK ? UINT32_MAX : done - 1);
    sp_reply_u8(sw, (uint8_t)code);
    sp_reply_bytes(sw, text, text_len);
    return SP_OK;
}
