/* Commands on action profiles: members and selector groups. */
#include "sp_wire.h"

#include <stdlib.h>

static struct sp_profile *sp_pick_profile(struct sp_switch *sw, struct sp_reader *r)
{
    uint32_t index = sp_u32(r);
    return r->ok && index < sw->program->n_profiles ? &sw->profiles[index] : NULL;
}

static bool sp_profile_takes(const struct sp_switch *sw, const struct sp_profile *p, uint32_t action)
{
    for (uint32_t i = 0; i < sw->program->n_tables; i++) {
        const struct sp_table_desc *d = &sw->program->tables[i];
        if (d->profile != (int16_t)(p - sw->profiles))
            continue;
        for (uint16_t a = 0; a < d->actions; a++)
            if (d->action[a] == action)
                return true;
    }
    return false;
}

static void sp_member_undo_insert(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_member *m = s->fresh;
    (void)sw;
    sp_map_remove(s->at, m->id);
    sp_act_release(m->act);
    free(m);
}

static void sp_member_undo_modify(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_member *m = s->at;
    (void)sw;
    sp_act_release(m->act);
    m->act = s->old;
    if (s->id)
        m->past = NULL;
}

static void sp_member_keep_modify(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_member *m = s->at;
    (void)sw;
    sp_act_release(s->old);
    if (s->id)
        m->past = NULL;
}

static void sp_member_undo_delete(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_member *m = s->old;
    (void)sw;
    sp_map_put(s->at, m->id, m); /* where it was there is room */
}

static void sp_member_keep_delete(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_member *m = s->old;
    (void)sw;
    sp_act_release(m->act);
    free(m);
}

uint32_t sp_cmd_member_write(struct sp_switch *sw, struct sp_reader *r)
{
    uint8_t op = sp_u8(r);
    struct sp_profile *p = sp_pick_profile(sw, r);
    uint32_t id = sp_u32(r);
    uint8_t kind = sp_u8(r);
    struct sp_act *act = NULL;
    if (!p || !r->ok || kind > 1)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "MEMBER_WRITE: unknown profile or malformed");
    uint32_t code = kind ? sp_read_act(sw, r, &act) : SP_OK;
    if (code != SP_OK)
        return code;
    struct sp_member *m = sp_map_get(&p->members, id);
    if (!sp_step_room(sw)) {
        code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    } else if (op != 3 && !act) {
        code = sp_fail(sw, SP_INVALID_ARGUMENT, "profile %s: member %u without an action", p->desc->name, id);
    } else if (act && !sp_profile_takes(sw, p, act->action)) {
        code = sp_fail(sw, SP_INVALID_ARGUMENT, "profile %s has no action %s", p->desc->name,
                       sw->program->actions[act->action].name);
    } else if (op == 1 && m) {
        code = sp_fail(sw, SP_ALREADY_EXISTS, "profile %s: member %u exists", p->desc->name, id);
    } else if (op != 1 && !m) {
        code = sp_fail(sw, SP_NOT_FOUND, "profile %s has no member %u", p->desc->name, id);
    } else if (op == 1) {
        if (p->members.used >= p->desc->size)
            code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "profile %s is full (%u members)", p->desc->name, p->desc->size);
        else if (!(m = calloc(1, sizeof *m)) || !sp_map_put(&p->members, id, m)) {
            free(m);
            code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        } else {
            m->id = id;
            m->act = act;
            sp_step_done(sw, (struct sp_step){.undo = sp_member_undo_insert, .at = &p->members, .fresh = m});
            return SP_OK;
        }
    } else if (op == 2) {
        struct sp_act *old = m->act;
        bool first = sw->journal && !m->past; /* of the batch's changes */
        if (first)
            m->past = old;
        m->act = act;
        sp_step_done(sw, (struct sp_step){.undo = sp_member_undo_modify, .keep = sp_member_keep_modify,
                                          .at = m, .old = old, .id = first});
        return SP_OK;
    } else if (op == 3 && m->uses) {
        code = sp_fail(sw, SP_FAILED_PRECONDITION, "profile %s: member %u is in use", p->desc->name, id);
    } else if (op == 3) {
        sp_map_remove(&p->members, id);
        sp_step_done(sw, (struct sp_step){.undo = sp_member_undo_delete, .keep = sp_member_keep_delete,
                                          .at = &p->members, .old = m});
    } else {
        code = sp_fail(sw, SP_INVALID_ARGUMENT, "unknown operation %u", op);
    }
    sp_act_release(act);
    return code;
}

uint32_t sp_cmd_member_read(struct sp_switch *sw, struct sp_reader *r)
{
    struct sp_profile *p = sp_pick_profile(sw, r);
    if (!p)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "MEMBER_READ: unknown profile");
    sp_reply_u32(sw, p->members.used);
    for (uint32_t i = 0; p->members.values && i <= p->members.mask; i++) {
        struct sp_member *m = p->members.values[i];
        if (!m)
            continue;
        sp_reply_u32(sw, m->id);
        sp_write_act(sw, m->act);
        sp_breathe(sw);
    }
    return SP_OK;
}

#define BREATH 256u /* members */

static void sp_merge(struct sp_group_member *to, const struct sp_group_member *a, uint32_t a_len,
                     const struct sp_group_member *b, uint32_t b_len)
{
    while (a_len && b_len) {
        bool first = a->member->id <= b->member->id;
        *to++ = first ? *a++ : *b++;
        *(first ? &a_len : &b_len) -= 1;
    }
    memcpy(to, a_len ? a : b, (a_len + b_len) * sizeof *to);
}

/* By ascending id; most come so. Merges runs, with packets in between, unlike qsort(). False: out of memory. */
static bool sp_sort_members(struct sp_switch *sw, struct sp_group *g)
{
    uint32_t n = g->members, sorted = 1;
    while (sorted < n && g->member[sorted - 1].member->id <= g->member[sorted].member->id)
        sorted++;
    if (sorted >= n)
        return true;
    struct sp_group_member *from = g->member, *to = calloc(n + 1u, sizeof *to);
    if (!to)
        return false;
    for (uint32_t run = 1; run < n; run *= 2) {
        for (uint32_t at = 0, merged = 0; at < n; at += 2 * run) {
            uint32_t a_len = n - at < run ? n - at : run, b_len = n - at - a_len < run ? n - at - a_len : run;
            sp_merge(to + at, from + at, a_len, from + at + a_len, b_len);
            if ((merged += 2 * run) >= BREATH) {
                sp_breathe(sw);
                merged = 0;
            }
        }
        struct sp_group_member *other = from;
        from = to;
        to = other;
    }
    g->member = from;
    free(to);
    return true;
}

static void sp_group_uses(struct sp_switch *sw, struct sp_group *g, int change)
{
    for (uint32_t i = 0; i < g->members; i++) {
        g->member[i].member->uses += (uint32_t)change;
        if (i % BREATH == BREATH - 1)
            sp_breathe(sw);
    }
}

#define SP_MAX_WEIGHT 65536u /* sum over a group */

/* Reads the member list into a fresh group. */
static uint32_t sp_read_group(struct sp_switch *sw, struct sp_reader *r, struct sp_profile *p, struct sp_group **out)
{
    uint32_t n = sp_u32(r);
    uint64_t weight = 0;
    if (!r->ok || n > r->left / 12)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "GROUP_WRITE: malformed");
    struct sp_group *g = calloc(1, sizeof *g);
    if (!g || !(g->member = calloc(n + 1u, sizeof *g->member))) {
        free(g);
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    }
    uint32_t code = SP_OK;
    for (; g->members < n && code == SP_OK; g->members++) {
        if (g->members % BREATH == BREATH - 1)
            sp_breathe(sw);
        struct sp_group_member *m = &g->member[g->members];
        uint32_t id = sp_u32(r);
        m->weight = sp_u32(r);
        m->watch = (int32_t)sp_u32(r);
        m->member = sp_map_get(&p->members, id);
        weight += m->weight;
        if (!m->member)
            code = sp_fail(sw, SP_NOT_FOUND, "profile %s has no member %u", p->desc->name, id);
        else if (!m->weight || weight > SP_MAX_WEIGHT)
            code = sp_fail(sw, SP_INVALID_ARGUMENT, "profile %s: weights must be 1..%u in sum", p->desc->name,
                           SP_MAX_WEIGHT);
    }
    if (code == SP_OK) {
        if (!sp_sort_members(sw, g))
            code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        for (uint32_t i = 1; i < n && code == SP_OK; i++)
            if (g->member[i].member == g->member[i - 1].member)
                code = sp_fail(sw, SP_INVALID_ARGUMENT, "profile %s: member %u is named twice", p->desc->name,
                               g->member[i].member->id);
        g->choice = code == SP_OK ? calloc(weight + 1, sizeof *g->choice) : NULL;
        if (code == SP_OK && !g->choice)
            code = sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (code != SP_OK) {
        free(g->choice);
        free(g->member);
        free(g);
        return code;
    }
    sp_group_refresh(sw, g, true);
    *out = g;
    return SP_OK;
}

static void sp_group_free_whole(struct sp_group *g)
{
    free(g->member);
    free(g->choice);
    free(g);
}

static void sp_group_undo_insert(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_group *g = s->fresh;
    sp_map_remove(s->at, g->id);
    sp_group_uses(sw, g, -1);
    sp_group_free_whole(g);
}

static void sp_group_undo_delete(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_group *g = s->old;
    sp_map_put(s->at, g->id, g); /* where it was there is room */
    sp_group_uses(sw, g, 1);
    sp_group_refresh(sw, g, false);
}

static void sp_group_keep(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_group *g = s->at;
    (void)sw;
    if (s->id)
        g->past = NULL;
    sp_group_free_whole(s->old);
}

static void sp_group_keep_delete(struct sp_switch *sw, struct sp_step *s)
{
    (void)sw;
    sp_group_free_whole(s->old);
}

/* Entries refer to the group: its contents change, not its place. */
static void sp_group_swap(struct sp_switch *sw, struct sp_group *g, struct sp_group *with)
{
    struct sp_group was = *g;
    sp_group_uses(sw, with, 1);
    sp_group_uses(sw, g, -1);
    g->member = with->member;
    g->choice = with->choice;
    g->members = with->members;
    g->live = with->live;
    with->member = was.member;
    with->choice = was.choice;
    with->members = was.members;
    with->live = was.live;
}

static void sp_group_undo_modify(struct sp_switch *sw, struct sp_step *s)
{
    struct sp_group *g = s->at;
    sp_group_swap(sw, g, s->old);
    if (s->id)
        g->past = NULL;
    sp_group_free_whole(s->old);
}

uint32_t sp_cmd_group_write(struct sp_switch *sw, struct sp_reader *r)
{
    uint8_t op = sp_u8(r);
    struct sp_profile *p = sp_pick_profile(sw, r);
    uint32_t id = sp_u32(r);
    if (!p || !r->ok || !p->desc->selector || op < 1 || op > 3)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "GROUP_WRITE: unknown profile, no selector or malformed");
    struct sp_group *g = sp_map_get(&p->groups, id), *fresh = NULL;
    if (op == 1 && g)
        return sp_fail(sw, SP_ALREADY_EXISTS, "profile %s: group %u exists", p->desc->name, id);
    if (op != 1 && !g)
        return sp_fail(sw, SP_NOT_FOUND, "profile %s has no group %u", p->desc->name, id);
    if (!sp_step_room(sw))
        return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
    if (op == 3) {
        if (g->uses)
            return sp_fail(sw, SP_FAILED_PRECONDITION, "profile %s: group %u is in use", p->desc->name, id);
        sp_map_remove(&p->groups, id);
        sp_group_uses(sw, g, -1);
        sp_step_done(sw, (struct sp_step){
                             .undo = sp_group_undo_delete, .keep = sp_group_keep_delete, .at = &p->groups, .old = g});
        return SP_OK;
    }
    uint32_t code = sp_read_group(sw, r, p, &fresh);
    if (code != SP_OK)
        return code;
    if (op == 1) {
        fresh->id = id;
        if (!sp_map_put(&p->groups, id, fresh)) {
            sp_group_free_whole(fresh);
            return sp_fail(sw, SP_RESOURCE_EXHAUSTED, "out of memory");
        }
        sp_group_uses(sw, fresh, 1);
        sp_step_done(sw, (struct sp_step){.undo = sp_group_undo_insert, .at = &p->groups, .fresh = fresh});
        return SP_OK;
    }
    bool first = sw->journal && !g->past; /* of the batch's changes */
    sp_group_swap(sw, g, fresh);
    if (first)
        g->past = fresh; /* which now holds what was */
    sp_step_done(sw, (struct sp_step){
                         .undo = sp_group_undo_modify, .keep = sp_group_keep, .at = g, .old = fresh, .id = first});
    return SP_OK;
}

uint32_t sp_cmd_group_read(struct sp_switch *sw, struct sp_reader *r)
{
    struct sp_profile *p = sp_pick_profile(sw, r);
    if (!p)
        return sp_fail(sw, SP_INVALID_ARGUMENT, "GROUP_READ: unknown profile");
    sp_reply_u32(sw, p->groups.used);
    for (uint32_t i = 0; p->groups.values && i <= p->groups.mask; i++) {
        struct sp_group *g = p->groups.values[i];
        if (!g)
            continue;
        sp_reply_u32(sw, g->id);
        sp_reply_u32(sw, g->members);
        for (uint32_t k = 0; k < g->members; k++) {
            sp_reply_u32(sw, g->member[k].member->id);
            sp_reply_u32(sw, g->member[k].weight);
            sp_reply_u32(sw, (uint32_t)g->member[k].watch);
            if (k % BREATH == BREATH - 1)
                sp_breathe(sw);
        }
    }
    return SP_OK;
}
