/* TABLE_WRITE: decoding, validation and application of updates, each with a step that takes it back (batch.c). */
#include "sp_wire.h"

#include <stdlib.h>

#define SP_INITIAL 0x80u /* added to an update's op: see engine/codec.py */

struct sp_update {
    uint8_t op;
    bool is_default;
    struct sp_table *table;
    struct sp_entry *entry; /* key, priority, idle time; action unless op is DELETE */
    uint8_t kind;           /* of the action; 0: none */
    bool initial;           /* the program's entries are initial ones, not const */
};

void sp_mask_prefix(uint64_t *key, unsigned words, unsigned prefix)
{
    for (unsigned w = 0; w < words; w++) {
        if (prefix >= 64 * (w + 1))
            continue;
        key[w] = prefix > 64 * w ? key[w] & ~0ull << (64 * (w + 1) - prefix) : 0;
    }
}

static bool sp_fits(const uint8_t *value, uint16_t width) { return !(width & 7) || !(value[0] >> (width & 7)); }

/* Reads a full key into e; returns a code. */
uint32_t sp_read_key(struct sp_switch *sw, struct sp_reader *r, const struct sp_table *t, struct sp_entry *e)
{
    const struct sp_table_desc *d = t->desc;
    uint8_t value[512] = {0}, mask[512] = {0};
    unsigned words = d->key_words;
    for (uint16_t i = 0; i < d->fields; i++) {
        const struct sp_field_desc *f = &d->field[i];
        const uint8_t *v = sp_take(r, f->bytes);
        if (!r->ok)
            return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: update too short", d->name);
        if (!sp_fits(v, f->width))
            return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: key field %u does not fit bit<%u>", d->name, i, f->width);
        memcpy(value + f->offset, v, f->bytes);
        uint8_t *m = mask + f->offset;
        if (f->kind == SP_EXACT) {
            memset(m, 0xff, f->bytes);
        } else if (f->kind == SP_LPM) {
            uint16_t length = sp_u16(r);
            if (length > f->width)
                return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: prefix length %u of bit<%u>", d->name, length,
                               f->width);
            unsigned bits = length ? length + (f->bytes * 8u - f->width) : 0;
            if (d->match == SP_LPM) /* the unused high bits of the field are part of the prefix */
                e->prefix = (uint16_t)(f->offset * 8u + (f->bytes * 8u - f->width) + length);
            for (unsigned b = 0; b < bits; b++)
                m[b >> 3] |= (uint8_t)(0x80 >> (b & 7));
        } else if (f->kind == SP_RANGE) {
            const uint8_t *high = sp_take(r, f->bytes);
            if (!r->ok || !sp_fits(high, f->width))
                return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: range of key field %u", d->name, i);
            int order = memcmp(v, high, f->bytes);
            if (order > 0)
                return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: key field %u: empty range", d->name, i);
            if (order == 0)
                memset(m, 0xff, f->bytes);
            uint64_t *bounds = e->key + 2 * words + 2u * d->range_words * f->range;
            sp_number_words(bounds, d->range_words, v, f->bytes);
            sp_number_words(bounds + d->range_words, d->range_words, high, f->bytes);
        } else {
            const uint8_t *given = sp_take(r, f->bytes);
            if (!r->ok || !sp_fits(given, f->width))
                return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: mask of key field %u", d->name, i);
            memcpy(m, given, f->bytes);
            if (f->kind == SP_OPTIONAL) {
                unsigned ones = 0;
                for (uint16_t b = 0; b < f->bytes; b++)
                    ones += (unsigned)__builtin_popcount(given[b]);
                if (ones && ones != f->width)
                    return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: optional key field %u with a partial mask",
                                   d->name, i);
                if (ones) /* so that the padding bits take part, as for exact fields */
                    memset(m, 0xff, f->bytes);
            }
        }
    }
    for (unsigned w = 0; w < words; w++)
        e->key[w] = sp_load(value + 8 * w, 8);
    if (d->match == SP_LPM)
        sp_mask_prefix(e->key, words, e->prefix);
    if (d->match == SP_TERNARY)
        for (unsigned w = 0; w < words; w++) {
            e->key[words + w] = sp_load(mask + 8 * w, 8);
            e->key[w] &= e->key[words + w];
        }
    return SP_OK;
}

uint32_t sp_read_act(struct sp_switch *sw, struct sp_reader *r, struct sp_act **out)
{
    uint32_t index = sp_u32(r);
    if (!r->ok || index >= sw->program->n_actions)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "unknown action %u", index);
    const struct sp_action_desc *d = &sw->program->actions[index];
    struct sp_act *act = sp_act_new(&sw->acts, d->words);
    if (!act)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    act->action = index;
    uint64_t *word = act->data;
    for (uint16_t i = 0; i < d->params; i++) {
        uint16_t bytes = (uint16_t)((d->widths[i] + 7) / 8);
        const uint8_t *v = sp_take(r, bytes);
        if (!r->ok || !sp_fits(v, d->widths[i])) {
            sp_act_free(&sw->acts, act);
            return sp_fail(sw, SP_INVALID_ARGUMENT, "action %s: parameter %u is no bit<%u>", d->name, i, d->widths[i]);
        }
        if (bytes <= 8) {
            *word++ = sp_load(v, bytes);
        } else if (bytes <= 16) {
            sp_u128 wide = sp_load128(v, bytes);
            *word++ = (uint64_t)(wide >> 64);
            *word++ = (uint64_t)wide;
        } else {
            memcpy(word, v, bytes);
            word += (bytes + 7) / 8;
        }
    }
    *out = sp_act_share(&sw->acts, act);
    return *out ? SP_OK : sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
}

static bool sp_has_action(const struct sp_table *t, uint32_t action)
{
    for (uint16_t i = 0; i < t->desc->actions; i++)
        if (t->desc->action[i] == action)
            return true;
    return false;
}

/* Reads the action of an update into e, whose members and groups are counted only when it is applied. */
static uint32_t sp_read_action(struct sp_switch *sw, struct sp_reader *r, struct sp_update *u)
{
    const struct sp_table *t = u->table;
    struct sp_entry *e = u->entry;
    u->kind = e->kind = sp_u8(r);
    if (u->kind == 0)
        return SP_OK;
    if (u->kind == 1) {
        if (t->desc->profile >= 0 && !u->is_default)
            return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s takes members and groups of a profile", t->desc->name);
        uint32_t code = sp_read_act(sw, r, &e->act);
        if (code == SP_OK && !sp_has_action(t, e->act->action))
            return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s has no action %s", t->desc->name,
                           sw->program->actions[e->act->action].name);
        return code;
    }
    uint32_t id = sp_u32(r);
    if (u->kind > 3 || !r->ok || t->desc->profile < 0 || u->is_default)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: action of kind %u", t->desc->name, u->kind);
    struct sp_profile *profile = &sw->profiles[t->desc->profile];
    if (u->kind == 2)
        e->member = sp_map_get(&profile->members, id);
    else
        e->group = sp_map_get(&profile->groups, id);
    if (!e->member && !e->group)
        return sp_fail(sw, SP_NOT_FOUND, "profile %s has no %s %u", profile->desc->name,
                       u->kind == 2 ? "member" : "group", id);
    return SP_OK;
}

static uint32_t sp_read_update(struct sp_switch *sw, struct sp_reader *r, struct sp_update *u)
{
    u->op = sp_u8(r);
    u->initial = u->op & SP_INITIAL;
    u->op &= (uint8_t)~SP_INITIAL;
    uint32_t table = sp_u32(r);
    uint8_t fields = sp_u8(r);
    if (!r->ok || table >= sw->program->n_tables)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "unknown table %u", table);
    u->table = &sw->tables[table];
    const struct sp_table_desc *d = u->table->desc;
    u->entry = sp_entry_new(u->table);
    if (!u->entry)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    u->is_default = fields == 0;
    if (fields && fields != d->fields)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: %u key fields instead of %u", d->name, fields, d->fields);
    uint32_t code = fields ? sp_read_key(sw, r, u->table, u->entry) : SP_OK;
    if (code != SP_OK)
        return code;
    u->entry->priority = (int32_t)sp_u32(r);
    u->entry->idle_ns = sp_u64(r);
    if (d->match != SP_TERNARY && u->entry->priority)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: priority without ternary, range or optional key", d->name);
    if (u->entry->idle_ns && !d->idle)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s has no idle time-outs", d->name);
    code = sp_read_action(sw, r, u);
    if (code != SP_OK)
        return code;
    if (!r->ok || r->left)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: update of a wrong length", d->name);
    if (u->op < 1 || u->op > 3)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "unknown operation %u", u->op);
    if (!u->kind && u->op != 3)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: update without an action", d->name);
    return SP_OK;
}

static struct sp_act *sp_use_act(struct sp_act *act)
{
    if (act)
        act->uses++;
    return act;
}

/* -- applying ------------------------------------------------------------------------------------------------------ */

/* What packets see now, or at the end of the batch. */
static struct sp_act **sp_default_of(struct sp_table *t) { return t->past ? &t->default_next : &t->default_act; }

static void sp_default_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_act **act = sp_default_of(s->at);
    (void)sw;
    sp_act_release(*act);
    *act = s->old;
}

static void sp_default_keep(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_act_release(s->old);
}

static uint32_t sp_apply_default(struct sp_switch *sw, struct sp_update *u, bool initial)
{
    struct sp_table *t = u->table;
    if (t->desc->const_default && !initial)
        return sp_fail(sw, SP_FAILED_PRECONDITION, "table %s: constant default action", t->desc->name);
    if (u->op == 1 && !initial)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: the default action can only be modified", t->desc->name);
    sp_past_touch(t);
    struct sp_act **act = sp_default_of(t), *old = *act;
    *act = sp_use_act(u->op == 3 ? t->program_act : u->entry->act);
    if (initial)
        t->program_act = sp_use_act(*act);
    sp_step_done(sw, (struct sp_step){.undo = sp_default_undo, .keep = sp_default_keep, .at = t, .old = old});
    return SP_OK;
}

static void sp_count_uses(const struct sp_entry *e, int change)
{
    if (e->member)
        e->member->uses += (uint32_t)change;
    if (e->group)
        e->group->uses += (uint32_t)change;
}

/* Bare tables hold actions in place of entries. */
static void sp_refresh(struct sp_table *t, struct sp_entry *e)
{
    if (t->desc->bare)
        sp_lpm_update(t, e); /* its place exists: nothing is allocated */
}

static void sp_added_undo(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_table_drop(s->at, s->fresh);
    sp_entry_unref(s->fresh);
    sp_entry_free(s->at, s->fresh);
}

static uint32_t sp_apply_insert(struct sp_switch *sw, struct sp_update *u, uint64_t now_ns, bool initial)
{
    struct sp_table *t = u->table;
    struct sp_entry *e = u->entry;
    sp_past_touch(t);
    e->born = sw->journal ? sw->batch : 0;
    uint32_t code = sp_table_add(t, e);
    if (code != SP_OK)
        return sp_fail(sw, code, "table %s is full (%u entries)", t->desc->name, t->desc->size);
    sp_count_uses(e, 1);
    e->constant = initial;
    e->last_hit = now_ns;
    u->entry = NULL;
    sp_step_done(sw, (struct sp_step){.undo = sp_added_undo, .at = t, .fresh = e});
    return SP_OK;
}

static void sp_removed_undo(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_past_add(s->at, s->old, s->id);
    sp_count_uses(s->old, 1);
}

static void sp_removed_keep(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_entry_free(s->at, s->old);
}

static uint32_t sp_apply_delete(struct sp_switch *sw, struct sp_table *t, struct sp_entry *e)
{
    bool kept;
    if (!sp_past_drop(t, e, &kept))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    sp_count_uses(e, -1); /* now, so that a batch may remove the group next */
    sp_step_done(sw, (struct sp_step){.undo = sp_removed_undo, .keep = sp_removed_keep, .at = t, .old = e, .id = kept});
    return SP_OK;
}

static void sp_changed_undo(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_entry *e = s->at;
    const struct sp_entry *before = s->old;
    (void)sw;
    sp_count_uses(e, -1);
    sp_count_uses(before, 1);
    sp_act_release(e->act);
    free(e->meter);
    e->meter = before->meter;
    e->act = before->act;
    e->member = before->member;
    e->group = before->group;
    e->kind = before->kind;
    e->idle_ns = before->idle_ns;
    e->last_hit = before->last_hit;
    e->reported_at = before->reported_at;
    sp_refresh(s->fresh, e);
}

static void sp_changed_keep(struct sp_switch *sw, struct sp_step *s)
{
    const struct sp_entry *before = s->old;
    (void)sw;
    sp_act_release(before->act);
    free(before->meter);
}

static uint32_t sp_apply_modify(struct sp_switch *sw, struct sp_update *u, struct sp_entry *found, uint64_t now_ns)
{
    struct sp_entry *e = u->entry, at_once, *before = sw->journal ? sp_step_memory(sw, sizeof *before) : &at_once;
    if (!before || !sp_past_version(u->table, found))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    memcpy(before, found, sizeof *before); /* without key */
    sp_count_uses(found, -1);
    sp_count_uses(e, 1);
    found->act = e->act;
    found->member = e->member;
    found->group = e->group;
    found->kind = e->kind;
    found->idle_ns = e->idle_ns;
    found->last_hit = now_ns;
    found->reported_at = 0;
    found->meter = NULL; /* P4Runtime: a modified entry starts with the default configuration */
    e->act = NULL;
    sp_refresh(u->table, found);
    sp_step_done(sw, (struct sp_step){
                         .undo = sp_changed_undo, .keep = sp_changed_keep, .at = found, .old = before, .fresh = u->table});
    return SP_OK;
}

static uint32_t sp_apply(struct sp_switch *sw, struct sp_update *u, uint64_t now_ns, bool initial)
{
    struct sp_table *t = u->table;
    if (!sp_step_room(sw))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    if (u->is_default)
        return sp_apply_default(sw, u, initial);
    if (t->desc->immutable && !initial && !u->initial)
        return sp_fail(sw, SP_FAILED_PRECONDITION, "table %s has constant entries", t->desc->name);
    struct sp_entry *found = sp_table_find(t, u->entry);
    if (u->op == 1)
        return found ? sp_fail(sw, SP_ALREADY_EXISTS, "table %s: the entry exists", t->desc->name)
                     : sp_apply_insert(sw, u, now_ns, initial);
    if (!found)
        return sp_fail(sw, SP_NOT_FOUND, "table %s: no such entry", t->desc->name);
    return u->op == 3 ? sp_apply_delete(sw, t, found) : sp_apply_modify(sw, u, found, now_ns);
}

static uint32_t sp_one(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns, bool initial)
{
    struct sp_update u = {0};
    uint32_t code = sp_read_update(sw, r, &u);
    if (code == SP_OK)
        code = sp_apply(sw, &u, now_ns, initial);
    sp_entry_free(u.table, u.entry);
    return code;
}

uint32_t sp_apply_initial(struct sp_switch *sw, struct sp_reader *r) { return sp_one(sw, r, sw->now, true); }

/* As part of a batch: up to the first error. *done: updates before it. */
static uint32_t sp_batch_updates(struct sp_switch *sw, struct sp_reader *r, uint32_t n, uint64_t now_ns, uint32_t *done)
{
    for (*done = 0; *done < n; ++*done) {
        uint32_t len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        uint32_t code = r->ok ? sp_one(sw, &one, now_ns, false)
                              : sp_fail(sw, SP_INVALID_ARGUMENT, "TABLE_WRITE: truncated");
        if (code != SP_OK)
            return code;
        sp_pause(sw);
    }
    return SP_OK;
}

#define CODES 8192u /* replied without a break */

/* One code for each update; again: the same CODES ones over and over. */
static void sp_reply_codes(struct sp_switch *sw, const uint8_t *codes, bool again, uint32_t n)
{
    sw->reply.len = 0;
    for (uint32_t at = 0; at < n; at += CODES) {
        if (at)
            sp_breathe(sw);
        sp_reply_bytes(sw, again ? codes : codes + at, n - at < CODES ? n - at : CODES);
    }
}

static uint32_t sp_all_updates(struct sp_switch *sw, struct sp_reader *r, uint32_t n, uint64_t now_ns)
{
    struct sp_journal journal;
    uint32_t done;
    sp_batch_begin(sw, &journal);
    uint32_t code = sp_batch_updates(sw, r, n, now_ns, &done);
    sp_batch_end(sw, code == SP_OK);
    uint8_t codes[CODES];
    memset(codes, code == SP_OK ? SP_OK : SP_ABORTED, CODES);
    sp_reply_codes(sw, codes, true, n);
    if (code != SP_OK && !sw->reply.failed)
        sw->reply.data[done] = (uint8_t)code;
    return SP_OK;
}

uint32_t sp_cmd_table_write(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns)
{
    uint8_t atomic = sp_u8(r);
    uint32_t n = sp_u32(r), done;
    if (!r->ok || n > r->left / 4)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "TABLE_WRITE: malformed");
    if (sw->journal)
        return sp_batch_updates(sw, r, n, now_ns, &done);
    if (atomic)
        return sp_all_updates(sw, r, n, now_ns);
    uint8_t *codes = malloc(n + 1u);
    if (!codes)
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    for (done = 0; done < n; done++) {
        uint32_t len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        codes[done] = r->ok ? (uint8_t)sp_one(sw, &one, now_ns, false) : SP_INVALID_ARGUMENT;
        sp_pause(sw); /* which looks at the clock: an update takes 0.3 to 3 us */
    }
    sp_reply_codes(sw, codes, false, n);
    free(codes);
    return SP_OK;
}
