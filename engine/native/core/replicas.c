/* Commands on multicast groups, clone sessions and value sets. */
#include "sp_wire.h"

#include <stdlib.h>

#define CELLS 1024u /* replicas without a break */
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

uint32_t sp_cmd_replicas_write(struct sp_switch *sw, struct sp_reader *r, bool clone)
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
    if (!sp_step_room(sw) || !sp_past_keep_replicas(sw, clone, id, old) || (fresh && !sp_map_put(map, id, fresh))) {
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

uint32_t sp_cmd_replicas_read(struct sp_switch *sw, bool clone)
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
    free(set->next);
    set->next = s->old;
    set->next_count = s->id;
}

uint32_t sp_cmd_value_set(struct sp_switch *sw, struct sp_reader *r)
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
    struct sp_value_set *set = &sw->value_sets[index];
    struct sp_step step = {.undo = sp_value_set_undo, .keep = sp_free_old, .at = set, .old = set->next, .id = set->next_count};
    if (sw->journal) { /* packets see it at the end of the batch */
        set->next = values;
        set->next_count = n;
    } else {
        step.old = set->values;
        *set = (struct sp_value_set){.count = n, .values = values};
    }
    sp_step_done(sw, step);
    return SP_OK;
}
