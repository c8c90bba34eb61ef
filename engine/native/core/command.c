/* Command dispatch, replies, and the commands on arrays, replication and value sets. */
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

#define CELLS 1024u /* of arrays, and replicas, without a break */

/* Reads index and checks it against the arrays; count cells from *cell must exist. */
static const struct sp_array_desc *sp_pick_array(struct sp_switch *sw, struct sp_reader *r,
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
    if (op == SP_OP_REGISTER_WRITE ? !sp_step_bytes(sw, cells + (size_t)first * d->cell, d->cell)
                                   : !sp_step_bytes(sw, cells, (size_t)d->size * d->cell))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    if (op == SP_OP_REGISTER_WRITE) {
        sp_cell_from_wire(d, cells + (size_t)first * d->cell, value);
        sp_reply_u64(sw, now_ns);
        return SP_OK;
    }
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
    struct sp_cell *cell = sw->counters[index] + first;
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
    if (!sp_step_bytes(sw, cell, sizeof *cell))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    *cell = fresh;
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
    struct sp_meter *m = sw->meters[index] + first;
    if (op == SP_OP_METER_WRITE && !sp_step_bytes(sw, m, sizeof *m))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    if (op == SP_OP_METER_WRITE)
        return sp_read_meter(sw, r, d->name, m, now_ns);
    for (uint32_t i = 0; i < count; i++) {
        sp_write_meter(sw, &m[i]);
        if (i % CELLS == CELLS - 1)
            sp_breathe(sw);
    }
    return SP_OK;
}

/* -- multicast groups and clone sessions -------------------------------------------------------------------------- */

#define SP_MAX_REPLICAS 65536u
#define SP_MAX_CLONE_SESSION 32767u /* as in BMv2 */

static void sp_replicas_undo(struct sp_switch *sw, struct sp_step *s)
{
    if (s->old)
        sp_map_put(s->at, s->id, s->old); /* where it was there is room */
    else
        sp_map_remove(s->at, s->id);
    free(s->fresh);
    (void)sw;
}

static void sp_free_old(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    free(s->old);
}

/* The replicas of a request behind room for those in force; NULL with a code otherwise. */
static struct sp_replicas *sp_read_replicas(struct sp_switch *sw, struct sp_reader *r, uint32_t n, const char *what,
                                            uint32_t *code)
{
    struct sp_replicas *g = calloc(1, sizeof *g + 2 * (size_t)n * sizeof *g->replica);
    struct sp_replica *given = g && n ? malloc(n * sizeof *given) : NULL;
    *code = SP_RESOURCE_EXHAUSTED;
    if (!g || (n && !given)) {
        sp_fail(sw, *code, "out of memory");
        goto fail;
    }
    for (uint32_t i = 0; i < n; i++) {
        given[i].port = sp_u32(r);
        given[i].instance = sp_u32(r);
        if (i % CELLS == CELLS - 1)
            sp_breathe(sw);
        g->count += !(given[i].port & SP_BACKUP);
        if (i == 0 && g->count == 0) {
            *code = sp_fail(sw, SP_INVALID_ARGUMENT, "%s: the first replica is a backup", what);
            goto fail;
        }
    }
    g->given = n;
    if (n)
        memcpy(g->replica + g->count, given, n * sizeof *given);
    sp_replicas_refresh(sw, g);
    free(given);
    *code = SP_OK;
    return g;
fail:
    free(given);
    free(g);
    return NULL;
}

static uint32_t sp_cmd_replicas_write(struct sp_switch *sw, struct sp_reader *r, bool clone)
{
    struct sp_id_map *map = clone ? &sw->clones : &sw->multicast;
    const char *what = clone ? "clone session" : "multicast group";
    uint8_t op = sp_u8(r);
    uint32_t id = sp_u32(r), length = clone ? sp_u32(r) : 0, class = clone ? sp_u32(r) : 0, n = sp_u32(r), code;
    if (!r->ok || n > SP_MAX_REPLICAS || r->left != n * 8u || op < 1 || op > 3)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "%s: malformed", what);
    if ((clone && id > SP_MAX_CLONE_SESSION) || (!clone && id == 0))
        return sp_fail(sw, SP_INVALID_ARGUMENT, "%s: id %u is out of range", what, id);
    struct sp_replicas *old = sp_map_get(map, id);
    if (op == 1 && old)
        return sp_fail(sw, SP_ALREADY_EXISTS, "%s %u exists", what, id);
    if (op != 1 && !old)
        return sp_fail(sw, SP_NOT_FOUND, "no %s %u", what, id);
    if (class > 7)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "%s: class of service %u is not within 0..7", what, class);
    struct sp_replicas *fresh = op == 3 ? NULL : sp_read_replicas(sw, r, n, what, &code);
    if (op != 3 && !fresh)
        return code;
    if (!sp_step_room(sw) || (fresh && !sp_map_put(map, id, fresh))) {
        free(fresh);
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (fresh) {
        fresh->id = id;
        fresh->length = length;
        fresh->class = class;
    } else {
        sp_map_remove(map, id);
    }
    sp_step_done(sw, (struct sp_step){
                         .undo = sp_replicas_undo, .keep = sp_free_old, .at = map, .old = old, .fresh = fresh, .id = id});
    return SP_OK;
}

static uint32_t sp_cmd_replicas_read(struct sp_switch *sw, bool clone)
{
    struct sp_id_map *map = clone ? &sw->clones : &sw->multicast;
    sp_reply_u32(sw, map->used);
    for (uint32_t i = 0; map->values && i <= map->mask; i++) {
        struct sp_replicas *g = map->values[i];
        if (!g)
            continue;
        sp_reply_u32(sw, g->id);
        if (clone) {
            sp_reply_u32(sw, g->length);
            sp_reply_u32(sw, g->class);
        }
        sp_reply_u32(sw, g->given);
        for (uint32_t k = g->count; k < g->count + g->given; k++) {
            sp_reply_u32(sw, g->replica[k].port);
            sp_reply_u32(sw, g->replica[k].instance);
        }
    }
    return SP_OK;
}

#define SP_MAX_VALUE_SET 65536u /* members; a range in a member is several of them */

static void sp_value_set_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_value_set *set = s->at;
    (void)sw;
    free(set->values);
    *set = (struct sp_value_set){s->id, s->old};
}

static uint32_t sp_cmd_value_set(struct sp_switch *sw, struct sp_reader *r)
{
    uint32_t index;
    const struct sp_array_desc *d =
        sp_pick_array(sw, r, sw->program->value_sets, sw->program->n_value_sets, &index);
    if (!d)
        return SP_NOT_FOUND;
    uint32_t n = sp_u32(r), bytes = (d->width + 7u) / 8;
    if (!r->ok || (uint64_t)n * bytes * 2 != r->left)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "value set %s: malformed", d->name);
    if (n > SP_MAX_VALUE_SET)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "value set %s: more than %u values", d->name, SP_MAX_VALUE_SET);
    uint8_t *values = sp_step_room(sw) ? malloc((size_t)n * bytes * 2 + 1) : NULL;
    if (!values)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    for (size_t at = 0, all = (size_t)n * bytes * 2, each = 16u << 10; at < all; at += each) {
        memcpy(values + at, r->p + at, all - at < each ? all - at : each);
        sp_breathe(sw); /* nothing refers to them yet */
    }
    struct sp_value_set *set = &sw->value_sets[index], old = *set;
    *set = (struct sp_value_set){n, values};
    sp_step_done(sw, (struct sp_step){
                         .undo = sp_value_set_undo, .keep = sp_free_old, .at = set, .old = old.values, .id = old.count});
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
    sw->now = now_ns;
    sw->reply.len = 0;
    sw->reply.failed = false;
    uint32_t code = sp_dispatch(sw, op, &r, now_ns);
    if (sw->reply.failed) {
        sw->reply.failed = false;
        code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "reply too long");
    }
    *reply = sw->reply.data;
    *reply_len = sw->reply.len;
    return code;
}
