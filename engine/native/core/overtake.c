/* Small commands in the middle of large ones: a flip must not wait until 100,000 entries are written.
 *
 * Such a command is executed while the other one lets packets pass, and leads to what one after the other would have led to:
 *
 * - Cells of registers, counters and meters, written or read. A batch (batch.c) shows nothing of itself before its end and
 *   keeps what it does to cells apart until then, so what comes before that instant came before the batch: the batch's own
 *   value replaces it, and when the batch is taken back it stays. Other commands have nothing to do with cells, except
 *   those that read or fill a whole array: what concerns the same array waits for them.
 * - One update of a table, between two updates of the other command. That is either no batch, then each of its updates
 *   stands for itself; or a batch that has not touched this table: then the update came before the batch, whatever the
 *   batch goes on to do with the table. Tables of action profiles wait for a batch, which may have changed members.
 *
 * Everything else waits, and so does the second of two: what overtakes is not overtaken.
 */
#include "sp_wire.h"

#define CELLS 1024u            /* read at once ... */
#define MOST ((size_t)64 << 10) /* ... and bytes of registers, read or filled */

enum array { REGISTERS, COUNTERS, METERS, NONE };

static enum array sp_array_of(uint32_t op)
{
    switch (op) {
    case SP_OP_REGISTER_WRITE:
    case SP_OP_REGISTER_FILL:
    case SP_OP_REGISTER_READ:
        return REGISTERS;
    case SP_OP_COUNTER_READ:
    case SP_OP_COUNTER_WRITE:
        return COUNTERS;
    case SP_OP_METER_READ:
    case SP_OP_METER_WRITE:
        return METERS;
    default:
        return NONE;
    }
}

static bool sp_is_small_cells(const struct sp_switch *sw, uint32_t op, struct sp_reader r)
{
    uint32_t array = sp_u32(&r), count;
    const struct sp_array_desc *d = array < sw->program->n_registers ? &sw->program->registers[array] : NULL;
    switch (op) {
    case SP_OP_REGISTER_FILL:
        return d && (size_t)d->size * d->cell <= MOST;
    case SP_OP_REGISTER_READ:
    case SP_OP_COUNTER_READ:
    case SP_OP_METER_READ:
        (void)sp_u32(&r); /* the first one */
        count = sp_u32(&r);
        return r.ok && count <= CELLS && (op != SP_OP_REGISTER_READ || (d && (size_t)count * d->cell <= MOST));
    default:
        return true;
    }
}

/* A TABLE_WRITE of one update: its table, or NULL. */
static const struct sp_table *sp_single(const struct sp_switch *sw, struct sp_reader r)
{
    uint8_t atomic = sp_u8(&r);
    uint32_t n = sp_u32(&r), table;
    (void)sp_u32(&r); /* its length */
    (void)sp_u8(&r);  /* its operation */
    table = sp_u32(&r);
    return r.ok && !atomic && n == 1 && table < sw->program->n_tables ? &sw->tables[table] : NULL;
}

static bool sp_may_overtake(const struct sp_switch *sw, uint32_t op, struct sp_reader r)
{
    const struct sp_running *other = &sw->running;
    enum array array = sp_array_of(op);
    if (array != NONE) {
        struct sp_reader peek = r;
        bool same = other->busy && sp_array_of(other->op) == array && other->first == sp_u32(&peek);
        return sp_is_small_cells(sw, op, r) && !same;
    }
    const struct sp_table *t = op == SP_OP_TABLE_WRITE ? sp_single(sw, r) : NULL;
    if (!t || !other->busy)
        return t;
    return other->between && (!sw->journal || (!t->past && t->desc->profile < 0));
}

uint32_t sp_overtake(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                     const uint8_t **reply, uint32_t *reply_len)
{
    *reply = NULL;
    *reply_len = 0;
    if (sw->overtaken || !sp_may_overtake(sw, op, (struct sp_reader){request, len, true}))
        return SP_LATER;
    if (!sw->running.busy)
        return sp_command(sw, op, request, len, now_ns, reply, reply_len);
    struct sp_running running = sw->running;
    struct sp_reply under_way = sw->reply;
    struct sp_journal *journal = sw->journal;
    uint64_t now = sw->now;
    sw->reply = sw->reply_between;
    sw->journal = NULL;
    sw->overtaken = true;
    uint32_t code = sp_command(sw, op, request, len, now_ns, reply, reply_len);
    sw->reply_between = sw->reply;
    sw->overtaken = false;
    sw->journal = journal;
    sw->reply = under_way;
    sw->now = now;
    sw->running = running;
    return code;
}
