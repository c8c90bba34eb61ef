/* Entries and default actions as replies, and commands that name one entry by its key. */
#include "sp_wire.h"

#include <stdlib.h>

static void sp_key_bytes(const uint64_t *words, unsigned n, uint8_t *out)
{
    for (unsigned w = 0; w < n; w++)
        sp_store(out + 8 * w, words[w], 8);
}

void sp_write_act(struct sp_switch *sw, const struct sp_act *act)
{
    if (!act) {
        sp_reply_u8(sw, 0);
        return;
    }
    const struct sp_action_desc *d = &sw->program->actions[act->action];
    const uint64_t *word = act->data;
    sp_reply_u8(sw, 1);
    sp_reply_u32(sw, act->action);
    for (uint16_t i = 0; i < d->params; i++) {
        uint16_t bytes = (uint16_t)((d->widths[i] + 7) / 8);
        uint8_t value[16];
        if (bytes <= 8) {
            sp_store(value, *word++, bytes);
        } else if (bytes <= 16) {
            sp_store128(value, (sp_u128)word[0] << 64 | word[1], bytes);
            word += 2;
        } else {
            sp_reply_bytes(sw, word, bytes);
            word += (bytes + 7) / 8;
            continue;
        }
        sp_reply_bytes(sw, value, bytes);
    }
}

static void sp_write_key(struct sp_switch *sw, const struct sp_table *t, const struct sp_entry *e)
{
    const struct sp_table_desc *d = t->desc;
    uint8_t value[512], mask[512];
    sp_key_bytes(e->key, d->key_words, value);
    if (d->match == SP_TERNARY)
        sp_key_bytes(e->key + d->key_words, d->key_words, mask);
    for (uint16_t i = 0; i < d->fields; i++) {
        const struct sp_field_desc *f = &d->field[i];
        if (f->kind == SP_RANGE) {
            const uint64_t *bounds = e->key + 2 * d->key_words + 2u * d->range_words * f->range;
            uint8_t bytes[512];
            for (unsigned end = 0; end < 2; end++, bounds += d->range_words) {
                sp_key_bytes(bounds, d->range_words, bytes);
                sp_reply_bytes(sw, bytes + 8u * d->range_words - f->bytes, f->bytes);
            }
            continue;
        }
        sp_reply_bytes(sw, value + f->offset, f->bytes);
        unsigned padding = f->bytes * 8u - f->width;
        if (f->kind == SP_LPM && d->match == SP_LPM) {
            sp_reply_u16(sw, (uint16_t)(e->prefix - f->offset * 8u - padding));
        } else if (f->kind == SP_LPM) {
            unsigned ones = 0;
            for (uint16_t b = 0; b < f->bytes; b++)
                ones += (unsigned)__builtin_popcount(mask[f->offset + b]);
            sp_reply_u16(sw, (uint16_t)(ones ? ones - padding : 0));
        } else if (f->kind != SP_EXACT) {
            mask[f->offset] &= (uint8_t)(0xffu >> padding);
            sp_reply_bytes(sw, mask + f->offset, f->bytes);
        }
    }
}

void sp_write_entry(struct sp_switch *sw, const struct sp_table *t, const struct sp_entry *e, uint64_t now_ns)
{
    sp_reply_u32(sw, t->index);
    sp_write_key(sw, t, e);
    sp_reply_u32(sw, (uint32_t)e->priority);
    sp_reply_u64(sw, e->idle_ns);
    sp_reply_u64(sw, e->packets);
    sp_reply_u64(sw, e->bytes);
    sp_reply_u64(sw, now_ns > e->last_hit ? now_ns - e->last_hit : 0);
    if (e->kind == 1) {
        sp_write_act(sw, e->act);
    } else {
        sp_reply_u8(sw, e->kind);
        sp_reply_u32(sw, e->kind == 2 ? e->member->id : e->group->id);
    }
}

static struct sp_table *sp_pick_table(struct sp_switch *sw, struct sp_reader *r)
{
    uint32_t table = sp_u32(r);
    return r->ok && table < sw->program->n_tables ? &sw->tables[table] : NULL;
}

/* Reads a key and priority and finds the entry; NULL with *code set otherwise. */
static struct sp_entry *sp_find_keyed(struct sp_switch *sw, struct sp_reader *r, struct sp_table *t, uint32_t *code)
{
    struct sp_entry *like = sp_entry_new(t), *found = NULL;
    if (!like) {
        *code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    *code = sp_read_key(sw, r, t, like);
    like->priority = (int32_t)sp_u32(r);
    if (*code == SP_OK && !r->ok)
        *code = sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: truncated key", t->desc->name);
    if (*code == SP_OK && !(found = sp_table_find(t, like)))
        *code = sp_fail(sw, SP_NOT_FOUND, "table %s: no such entry", t->desc->name);
    sp_entry_free(t, like);
    return found;
}

uint32_t sp_cmd_table_read(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns)
{
    struct sp_table *t = sp_pick_table(sw, r);
    uint32_t cursor = sp_u32(r), limit = sp_u32(r), count = 0, code;
    uint8_t keyed = sp_u8(r);
    if (!t || !r->ok || !limit)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "TABLE_READ: unknown table or malformed");
    if (keyed) {
        struct sp_entry *found = sp_find_keyed(sw, r, t, &code);
        if (!found)
            return code;
        sp_reply_u32(sw, 0);
        sp_reply_u32(sw, 1);
        sp_write_entry(sw, t, found, now_ns);
        return SP_OK;
    }
    sp_reply_u64(sw, 0); /* cursor and count, filled in below */
    for (; cursor < t->pool_len && count < limit; cursor++)
        if (sp_table_entry(t, cursor)) {
            sp_write_entry(sw, t, t->pool[cursor], now_ns);
            if (++count % 64 == 0)
                sp_breathe(sw);
        } else if (cursor % 4096 == 0) {
            sp_breathe(sw);
        }
    uint32_t head[2] = {cursor < t->pool_len ? cursor : 0, count};
    if (!sw->reply.failed)
        memcpy(sw->reply.data, head, sizeof head);
    return SP_OK;
}

/* How full tables are, and what their direct counters have counted together. */
uint32_t sp_cmd_occupancy(struct sp_switch *sw)
{
    for (uint32_t i = 0; i < sw->program->n_tables; i++) {
        const struct sp_table *t = &sw->tables[i];
        uint64_t packets = 0;
        for (uint32_t k = 0; k < t->pool_len; k++) {
            if (sp_table_entry(t, k))
                packets += t->pool[k]->packets;
            if (k % 4096 == 0)
                sp_breathe(sw);
        }
        sp_reply_u32(sw, t->count);
        sp_reply_u32(sw, t->desc->size);
        sp_reply_u64(sw, packets);
    }
    return SP_OK;
}

uint32_t sp_cmd_default_read(struct sp_switch *sw, struct sp_reader *r)
{
    struct sp_table *t = sp_pick_table(sw, r);
    if (!t)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "DEFAULT_READ: unknown table");
    sp_write_act(sw, t->default_act);
    return SP_OK;
}

static void sp_counter_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_entry *e = s->at;
    const struct sp_cell *old = s->old;
    (void)sw;
    e->packets = old->packets;
    e->bytes = old->bytes;
    e->counted = s->id & 1;
}

static void sp_counter_keep(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    ((struct sp_entry *)s->at)->counted = 0;
}

uint32_t sp_cmd_direct_write(struct sp_switch *sw, struct sp_reader *r)
{
    struct sp_table *t = sp_pick_table(sw, r);
    uint32_t code;
    if (!t)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "DIRECT_WRITE: unknown table");
    struct sp_entry *found = sp_find_keyed(sw, r, t, &code);
    if (!found)
        return code;
    uint64_t packets = sp_u64(r), bytes = sp_u64(r);
    if (!r->ok)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "DIRECT_WRITE: truncated");
    struct sp_cell *old = NULL;
    if (sw->journal) {
        old = sp_step_room(sw) ? sp_step_memory(sw, sizeof *old) : NULL;
        if (!old || !sp_past_version(t, found))
            return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        *old = (struct sp_cell){found->packets, found->bytes};
        sp_step_done(sw, (struct sp_step){
                             .undo = sp_counter_undo, .keep = sp_counter_keep, .at = found, .old = old, .id = found->counted});
        found->counted = 1;
    }
    found->packets = packets;
    found->bytes = bytes;
    return SP_OK;
}

static void sp_meter_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_entry *e = s->at;
    (void)sw;
    free(e->meter);
    e->meter = s->old;
}

static void sp_meter_keep(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    free(s->old);
}

/* The meter of one entry, made when it is first configured. */
uint32_t sp_cmd_direct_meter(struct sp_switch *sw, struct sp_reader *r, bool write, uint64_t now_ns)
{
    struct sp_table *t = sp_pick_table(sw, r);
    uint32_t code;
    if (!t || t->desc->meter < 0)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "DIRECT_METER: unknown table, or one without a direct meter");
    struct sp_entry *found = sp_find_keyed(sw, r, t, &code);
    if (!found)
        return code;
    if (!write) {
        sp_write_meter(sw, found->meter);
        return SP_OK;
    }
    struct sp_meter *fresh = sp_step_room(sw) ? calloc(1, sizeof *fresh) : NULL;
    if (!fresh)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    code = sp_read_meter(sw, r, t->desc->name, fresh, now_ns);
    if (code != SP_OK) {
        free(fresh);
        return code;
    }
    if (!sp_past_version(t, found)) {
        free(fresh);
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    }
    void *old = found->meter;
    found->meter = fresh;
    sp_step_done(sw, (struct sp_step){.undo = sp_meter_undo, .keep = sp_meter_keep, .at = found, .old = old});
    return SP_OK;
}
