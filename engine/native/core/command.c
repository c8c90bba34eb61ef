/* Command dispatch, replies, and the commands on arrays. */
#include "sp_wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void sp_reply_bytes(struct sp_switch *sw, const void *data, uint32_t len)
{
    struct sp_reply *reply = &sw->reply;
    if (reply->failed || !len)
        return;
    if (len > reply->capacity - reply->len) {
        uint64_t capacity = reply->capacity ? reply->capacity : 4096;
        while (capacity - reply->len < len)
            capacity *= 2;
        uint8_t *grown = capacity < UINT32_MAX ? realloc(reply->data, capacity) : NULL;
        if (!grown) {
            reply->failed = true;
            return;
        }
        reply->data = grown;
        reply->capacity = (uint32_t)capacity;
    }
    memcpy(reply->data + reply->len, data, len);
    reply->len += len;
}

uint32_t sp_fail(struct sp_switch *sw, uint32_t code, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sw->reply.len = 0;
    sp_reply_bytes(sw, text, n < 0 ? 0 : n < (int)sizeof text ? (uint32_t)n : (uint32_t)sizeof text - 1);
    return code;
}

#define CELLS 1024u /* of arrays, without a break */

const struct sp_array_desc *sp_pick_array(struct sp_switch *sw, struct sp_reader *r,
                                          const struct sp_array_desc *arrays, uint32_t n, uint32_t *index)
{
    *index = sp_u32(r);
    if (!r->ok || *index >= n) {
        sp_fail(sw, SP_NOT_FOUND, "unknown array %u", *index);
        return NULL;
    }
    return &arrays[*index];
}

static bool sp_in_array(const struct sp_array_desc *d, uint32_t first, uint32_t count)
{
    return first <= d->size && count <= d->size - first;
}

static uint32_t sp_outside(struct sp_switch *sw, const struct sp_array_desc *d, uint32_t first, uint32_t count)
{
    return sp_fail(sw, SP_OUT_OF_RANGE, "%s: %u cells from %u of %u", d->name, count, first, d->size);
}

/* -- registers ---------------------------------------------------------------------------------------------------- */

static void sp_cell_from_wire(const struct sp_array_desc *d, uint8_t *cell, const uint8_t *value)
{
    unsigned bytes = (d->width + 7u) / 8;
    if (d->width > 128) {
        memcpy(cell, value, bytes);
    } else {
        sp_u128 v = bytes > 8 ? sp_load128(value, bytes) : sp_load(value, bytes);
        memcpy(cell, &v, d->cell); /* little endian hosts only, see sp_switch's check */
    }
}

static void sp_cell_to_wire(const struct sp_array_desc *d, const uint8_t *cell, uint8_t *value)
{
    unsigned bytes = (d->width + 7u) / 8;
    if (d->width > 128) {
        memcpy(value, cell, bytes);
    } else {
        sp_u128 v = 0;
        memcpy(&v, cell, d->cell);
        if (bytes > 8)
            sp_store128(value, v, bytes);
        else
            sp_store(value, (uint64_t)v, bytes);
    }
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little endian hosts only");

static uint32_t sp_cmd_register(struct sp_switch *sw, uint32_t op, struct sp_reader *r, uint64_t now_ns)
{
    const struct sp_program *p = sw->program;
    uint32_t index, first = 0, count = 1;
    const struct sp_array_desc *d = sp_pick_array(sw, r, p->registers, p->n_registers, &index);
    if (!d)
        return SP_NOT_FOUND;
    uint8_t *cells = sw->registers[index];
    unsigned bytes = (d->width + 7u) / 8;
    if (op != SP_OP_REGISTER_FILL)
        first = sp_u32(r);
    if (op == SP_OP_REGISTER_READ)
        count = sp_u32(r);
    if (!sp_in_array(d, first, count) && op != SP_OP_REGISTER_FILL)
        return sp_outside(sw, d, first, count);
    if (op == SP_OP_REGISTER_READ) {
        uint8_t value[8192];
        for (uint32_t i = first; i < first + count; i++) {
            sp_cell_to_wire(d, cells + (size_t)i * d->cell, value);
            sp_reply_bytes(sw, value, bytes);
            if (i % CELLS == CELLS - 1)
                sp_breathe(sw);
        }
        return SP_OK;
    }
    const uint8_t *value = sp_take(r, bytes);
    if (!r->ok || r->left || (d->width % 8 && value[0] >> (d->width % 8)))
        return sp_fail(sw, SP_INVALID_ARGUMENT, "register %s: value is no bit<%u>", d->name, d->width);
    if (op == SP_OP_REGISTER_WRITE) {
        bool seen;
        uint8_t cell[8192], *all = sp_register_cells(sw, index, &seen);
        sp_cell_from_wire(d, seen ? cell : all + (size_t)first * d->cell, value);
        if (seen && !sp_cell_write(sw, all, d->size, first, cell, d->cell))
            return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        sp_reply_u64(sw, now_ns);
        return SP_OK;
    }
    if (sw->journal && !(cells = sp_register_image(sw, index)))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    for (uint32_t i = 0; i < d->size; i++) {
        sp_cell_from_wire(d, cells + (size_t)i * d->cell, value);
        if (i % CELLS == CELLS - 1)
            sp_breathe(sw);
    }
    return SP_OK;
}

/* -- counters and meters ------------------------------------------------------------------------------------------ */

static uint32_t sp_cmd_counter(struct sp_switch *sw, uint32_t op, struct sp_reader *r)
{
    const struct sp_program *p = sw->program;
    uint32_t index, first, count = 1;
    const struct sp_array_desc *d = sp_pick_array(sw, r, p->counters, p->n_counters, &index);
    if (!d)
        return SP_NOT_FOUND;
    first = sp_u32(r);
    if (op == SP_OP_COUNTER_READ)
        count = sp_u32(r);
    if (!r->ok || !sp_in_array(d, first, count))
        return sp_outside(sw, d, first, count);
    const struct sp_cell *cell = sw->counters[index] + first;
    if (op == SP_OP_COUNTER_READ) {
        for (uint32_t i = 0; i < count && !sw->reply.failed; i += CELLS) {
            sp_reply_bytes(sw, cell + i, (count - i < CELLS ? count - i : CELLS) * (uint32_t)sizeof *cell);
            sp_breathe(sw);
        }
        return SP_OK;
    }
    struct sp_cell fresh = {sp_u64(r), 0};
    fresh.bytes = sp_u64(r);
    if (!r->ok)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "COUNTER_WRITE: truncated");
    if (!sp_cell_write(sw, sw->counters[index], d->size, first, &fresh, sizeof fresh))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    return SP_OK;
}

static void sp_rate_set(struct sp_rate *rate, uint64_t per_second, uint64_t burst, uint64_t now_ns)
{
    rate->per_us = (double)per_second / 1e6;
    rate->burst = rate->tokens = burst;
    rate->tokens_last = (uint64_t)((double)(now_ns / 1000) * rate->per_us);
}

uint32_t sp_read_meter(struct sp_switch *sw, struct sp_reader *r, const char *name, struct sp_meter *m,
                       uint64_t now_ns)
{
    uint64_t config[4];
    for (unsigned k = 0; k < 4; k++)
        config[k] = sp_u64(r);
    if (!r->ok || r->left)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "meter %s: a configuration of a wrong length", name);
    bool unset = config[0] == ~0ull;
    if (!unset && config[2] < config[0])
        return sp_fail(sw, SP_INVALID_ARGUMENT, "meter %s: peak rate below the committed rate", name);
    memset(m, 0, sizeof *m);
    if (unset)
        return SP_OK;
    m->configured = 1;
    memcpy(m->config, config, sizeof config);
    sp_rate_set(&m->committed, config[0], config[1], now_ns);
    sp_rate_set(&m->peak, config[2], config[3], now_ns);
    return SP_OK;
}

void sp_write_meter(struct sp_switch *sw, const struct sp_meter *m)
{
    for (unsigned k = 0; k < 4; k++)
        sp_reply_u64(sw, m && m->configured ? m->config[k] : ~0ull);
}

static uint32_t sp_cmd_meter(struct sp_switch *sw, uint32_t op, struct sp_reader *r, uint64_t now_ns)
{
    const struct sp_program *p = sw->program;
    uint32_t index, first, count = 1;
    const struct sp_array_desc *d = sp_pick_array(sw, r, p->meters, p->n_meters, &index);
    if (!d)
        return SP_NOT_FOUND;
    first = sp_u32(r);
    if (op == SP_OP_METER_READ)
        count = sp_u32(r);
    if (!r->ok || !sp_in_array(d, first, count))
        return sp_outside(sw, d, first, count);
    const struct sp_meter *m = sw->meters[index] + first;
    if (op == SP_OP_METER_WRITE) {
        struct sp_meter fresh;
        uint32_t code = sp_read_meter(sw, r, d->name, &fresh, now_ns);
        if (code == SP_OK && !sp_cell_write(sw, sw->meters[index], d->size, first, &fresh, sizeof fresh))
            code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        return code;
    }
    for (uint32_t i = 0; i < count; i++) {
        sp_write_meter(sw, &m[i]);
        if (i % CELLS == CELLS - 1)
            sp_breathe(sw);
    }
    return SP_OK;
}

/* -- dispatch ----------------------------------------------------------------------------------------------------- */

uint32_t sp_dispatch(struct sp_switch *sw, uint32_t op, struct sp_reader *r, uint64_t now_ns)
{
    switch (op) {
    case SP_OP_INFO:
        sp_reply_bytes(sw, sw->program->info, (uint32_t)strlen(sw->program->info));
        return SP_OK;
    case SP_OP_TABLE_WRITE:
        return sp_cmd_table_write(sw, r, now_ns);
    case SP_OP_TABLE_READ:
        return sp_cmd_table_read(sw, r, now_ns);
    case SP_OP_DEFAULT_READ:
        return sp_cmd_default_read(sw, r);
    case SP_OP_DIRECT_WRITE:
        return sp_cmd_direct_write(sw, r);
    case SP_OP_DIRECT_METER_WRITE:
    case SP_OP_DIRECT_METER_READ:
        return sp_cmd_direct_meter(sw, r, op == SP_OP_DIRECT_METER_WRITE, now_ns);
    case SP_OP_MEMBER_WRITE:
        return sp_cmd_member_write(sw, r);
    case SP_OP_MEMBER_READ:
        return sp_cmd_member_read(sw, r);
    case SP_OP_GROUP_WRITE:
        return sp_cmd_group_write(sw, r);
    case SP_OP_GROUP_READ:
        return sp_cmd_group_read(sw, r);
    case SP_OP_REGISTER_WRITE:
    case SP_OP_REGISTER_FILL:
    case SP_OP_REGISTER_READ:
        return sp_cmd_register(sw, op, r, now_ns);
    case SP_OP_COUNTER_READ:
    case SP_OP_COUNTER_WRITE:
        return sp_cmd_counter(sw, op, r);
    case SP_OP_METER_WRITE:
    case SP_OP_METER_READ:
        return sp_cmd_meter(sw, op, r, now_ns);
    case SP_OP_MULTICAST_WRITE:
    case SP_OP_CLONE_WRITE:
        return sp_cmd_replicas_write(sw, r, op == SP_OP_CLONE_WRITE);
    case SP_OP_MULTICAST_READ:
    case SP_OP_CLONE_READ:
        return sp_cmd_replicas_read(sw, op == SP_OP_CLONE_READ);
    case SP_OP_VALUE_SET_WRITE:
        return sp_cmd_value_set(sw, r);
    case SP_OP_OCCUPANCY:
        return sp_cmd_occupancy(sw);
    case SP_OP_BATCH:
        return sp_cmd_batch(sw, r, now_ns);
    case SP_OP_RESET:
        return sp_reset(sw) ? SP_OK : sp_fail(sw, SP_INTERNAL, "reset failed");
    case SP_OP_STATS:
        sp_reply_bytes(sw, &sw->stats, sizeof sw->stats);
        return SP_OK;
    default:
        return sp_fail(sw, SP_UNIMPLEMENTED, "unknown command %#x", op);
    }
}

uint32_t sp_command(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                    const uint8_t **reply, uint32_t *reply_len)
{
    struct sp_reader r = {request, len, true};
    struct sp_reader peek = r;
    sw->now = now_ns;
    sw->reply.len = 0;
    sw->reply.failed = false;
    sw->running = (struct sp_running){.busy = true, .op = op, .first = sp_u32(&peek)};
    uint32_t code = sp_dispatch(sw, op, &r, now_ns);
    sw->running.busy = false;
    if (sw->reply.failed) {
        sw->reply.failed = false;
        code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "reply too long");
    }
    *reply = sw->reply.data;
    *reply_len = sw->reply.len;
    return code;
}
