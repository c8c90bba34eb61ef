/* TABLE_WRITE: decoding, validation and application of updates, with an undo log for atomic batches. */
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

/* What it takes to undo one update. */
struct sp_undo {
    struct sp_table *table;
    struct sp_entry *added;   /* to remove */
    struct sp_entry *removed; /* to add back, or to free when the batch stands */
    struct sp_entry *changed; /* with the action as it was in `before` */
    struct sp_entry before;   /* without key */
    struct sp_act *default_before;
    bool is_default;
};

static void sp_mask_prefix(uint64_t *key, unsigned words, unsigned prefix)
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

static uint32_t sp_apply_default(struct sp_switch *sw, struct sp_update *u, struct sp_undo *undo, bool initial)
{
    struct sp_table *t = u->table;
    if (t->desc->const_default && !initial)
        return sp_fail(sw, SP_FAILED_PRECONDITION, "table %s: constant default action", t->desc->name);
    if (u->op == 1 && !initial)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "table %s: the default action can only be modified", t->desc->name);
    undo->is_default = true;
    undo->default_before = t->default_act;
    t->default_act = sp_use_act(u->op == 3 ? t->program_act : u->entry->act);
    if (initial)
        t->program_act = sp_use_act(t->default_act);
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

static uint32_t sp_apply(struct sp_switch *sw, struct sp_update *u, struct sp_undo *undo, uint64_t now_ns,
                         bool initial)
{
    struct sp_table *t = u->table;
    struct sp_entry *e = u->entry;
    undo->table = t;
    if (u->is_default)
        return sp_apply_default(sw, u, undo, initial);
    if (t->desc->immutable && !initial && !u->initial)
        return sp_fail(sw, SP_FAILED_PRECONDITION, "table %s has constant entries", t->desc->name);
    struct sp_entry *found = sp_table_find(t, e);
    if (u->op == 1) {
        if (found)
            return sp_fail(sw, SP_ALREADY_EXISTS, "table %s: the entry exists", t->desc->name);
        uint32_t code = sp_table_add(t, e);
        if (code != SP_OK)
            return sp_fail(sw, code, "table %s is full (%u entries)", t->desc->name, t->desc->size);
        sp_count_uses(e, 1);
        e->constant = initial;
        e->last_hit = now_ns;
        undo->added = e;
        u->entry = NULL;
        return SP_OK;
    }
    if (!found)
        return sp_fail(sw, SP_NOT_FOUND, "table %s: no such entry", t->desc->name);
    if (u->op == 3) {
        sp_table_drop(t, found);
        sp_count_uses(found, -1); /* now, so that a batch may remove the group next */
        undo->removed = found;
        return SP_OK;
    }
    undo->changed = found;
    undo->before = *found;
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
    sp_refresh(t, found);
    return SP_OK;
}

static void sp_commit(struct sp_undo *undo)
{
    if (undo->removed)
        sp_entry_free(undo->table, undo->removed);
    if (undo->changed) {
        sp_act_release(undo->before.act);
        free(undo->before.meter);
    }
    if (undo->is_default)
        sp_act_release(undo->default_before);
}

static void sp_roll_back(struct sp_undo *undo)
{
    if (undo->added) {
        sp_table_drop(undo->table, undo->added);
        sp_entry_unref(undo->added);
        sp_entry_free(undo->table, undo->added);
    } else if (undo->removed) {
        sp_table_add(undo->table, undo->removed); /* its memory is still reserved */
        sp_count_uses(undo->removed, 1);
    } else if (undo->changed) {
        struct sp_entry *e = undo->changed;
        sp_count_uses(e, -1);
        sp_count_uses(&undo->before, 1);
        sp_act_release(e->act);
        free(e->meter);
        e->meter = undo->before.meter;
        e->act = undo->before.act;
        e->member = undo->before.member;
        e->group = undo->before.group;
        e->kind = undo->before.kind;
        e->idle_ns = undo->before.idle_ns;
        e->last_hit = undo->before.last_hit;
        e->reported_at = undo->before.reported_at;
        sp_refresh(undo->table, e);
    } else if (undo->is_default) {
        sp_act_release(undo->table->default_act);
        undo->table->default_act = undo->default_before;
    }
}

static uint32_t sp_one(struct sp_switch *sw, struct sp_reader *r, struct sp_undo *undo, uint64_t now_ns, bool initial)
{
    struct sp_update u = {0};
    memset(undo, 0, sizeof *undo);
    uint32_t code = sp_read_update(sw, r, &u);
    if (code == SP_OK)
        code = sp_apply(sw, &u, undo, now_ns, initial);
    sp_entry_free(u.table, u.entry);
    return code;
}

uint32_t sp_apply_initial(struct sp_switch *sw, struct sp_reader *r)
{
    struct sp_undo undo;
    uint32_t code = sp_one(sw, r, &undo, sw->now, true);
    if (code == SP_OK)
        sp_commit(&undo);
    return code;
}

static void sp_update_undo(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_roll_back(s->old);
    free(s->old);
}

static void sp_update_keep(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_commit(s->old);
    free(s->old);
}

/* Updates as part of a BATCH: the first error is the batch's. */
static uint32_t sp_batch_updates(struct sp_switch *sw, struct sp_reader *r, uint32_t n, uint64_t now_ns)
{
    uint32_t code = SP_OK;
    for (uint32_t i = 0; i < n && code == SP_OK; i++) {
        uint32_t len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        if (!r->ok)
            return sp_fail(sw, SP_INVALID_ARGUMENT, "TABLE_WRITE: truncated");
        struct sp_undo *undo = sp_step_room(sw) ? malloc(sizeof *undo) : NULL;
        if (!undo)
            return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        code = sp_one(sw, &one, undo, now_ns, false);
        if (code != SP_OK)
            free(undo);
        else
            sp_step_done(sw, (struct sp_step){.undo = sp_update_undo, .keep = sp_update_keep, .old = undo});
    }
    return code;
}

uint32_t sp_cmd_table_write(struct sp_switch *sw, struct sp_reader *r, uint64_t now_ns)
{
    uint8_t atomic = sp_u8(r);
    uint32_t n = sp_u32(r), done = 0;
    bool failed = false;
    if (!r->ok || n > r->left / 4)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "TABLE_WRITE: malformed");
    if (sw->journal)
        return sp_batch_updates(sw, r, n, now_ns);
    uint8_t *codes = malloc(n + 1u);
    struct sp_undo *log = atomic ? malloc((n + 1u) * sizeof *log) : malloc(sizeof *log);
    if (!codes || !log) {
        free(codes);
        free(log);
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    }
    bool still = sw->still;
    sw->still |= atomic;
    for (; done < n; done++) {
        uint32_t len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        struct sp_undo *undo = atomic ? &log[done] : log;
        codes[done] = r->ok ? (uint8_t)sp_one(sw, &one, undo, now_ns, false) : SP_INVALID_ARGUMENT;
        failed |= codes[done] != SP_OK;
        if (failed && atomic)
            break;
        if (codes[done] == SP_OK && !atomic)
            sp_commit(undo);
        if (!atomic)
            sp_breathe(sw); /* which looks at the clock: an update takes 0.3 to 3 us */
    }
    for (uint32_t i = 0; atomic && !failed && i < n; i++)
        sp_commit(&log[i]);
    if (atomic && failed) {
        for (uint32_t i = done; i-- > 0;) {
            sp_roll_back(&log[i]);
            codes[i] = SP_ABORTED;
        }
        for (uint32_t i = done + 1; i < n; i++)
            codes[i] = SP_ABORTED;
    }
    sw->still = still;
    sw->reply.len = 0;
    sp_reply_bytes(sw, codes, n);
    free(codes);
    free(log);
    return SP_OK;
}
