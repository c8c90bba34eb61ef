/* BATCH: write commands of any kind of which either all take effect or none, for packets in one instant.
 *
 * Commands are executed one after the other, with packets in between, which see what was before the batch (past.c). Each
 * leaves a step in the journal that tells how to take it back; at the first error the steps are undone in reverse order.
 * Otherwise the new state shows itself, all at once, and the steps are kept in order: only then is the memory of what was
 * replaced given back, so that undoing never allocates. Cells of registers, counters and meters, which packets write,
 * too, wait for that instant: they are few nanoseconds each, and the only thing in it that grows with the batch, up to
 * the size of a picture.
 */
#include "sp_wire.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SP_MAX_BATCH (1u << 20)
#define STEPS 44u
#define CELL_BYTES 2528u /* of a block of waiting cells */
#define AHEAD 16u        /* cells: their memory is asked for while others are written */
#define PICTURE ((size_t)64 << 10) /* bytes of an array that may have one: written in 5 us */

struct sp_steps {
    struct sp_steps *before, *after;
    uint32_t count;
    struct sp_step step[STEPS];
};

/* Cells of one array: their numbers, and behind these what they will hold, each as large as the array's cells. */
struct sp_cells {
    struct sp_cells *after;
    uint32_t count;
    uint8_t data[CELL_BYTES];
};

/* What waits for one array. Of several values of a cell the last one counts, so the order within an array is kept.
 * Many cells of a small array become a picture of it: what its bytes will be, and then which of them. */
struct sp_waiting {
    struct sp_waiting *after;
    uint8_t *base;
    size_t size;           /* bytes of a cell */
    uint32_t cells;        /* of the array */
    uint32_t most, blocks; /* cells in a block; blocks */
    struct sp_cells *first, *last;
    uint8_t *picture; /* NULL: the cells are in blocks */
};

_Static_assert(sizeof(struct sp_steps) <= SP_ARENA_UNITS * SP_ARENA_UNIT, "steps are blocks of an arena");
_Static_assert(sizeof(struct sp_cells) <= SP_ARENA_UNITS * SP_ARENA_UNIT, "cells are blocks of an arena");

bool sp_step_room(struct sp_switch *sw)
{
    struct sp_journal *j = sw->journal;
    if (!j || (j->last && j->last->count + 2 <= STEPS))
        return true;
    struct sp_steps *more = sp_arena_alloc(&j->arena, sizeof *more);
    if (!more)
        return false;
    more->before = j->last;
    more->after = NULL;
    more->count = 0;
    if (j->last)
        j->last->after = more;
    else
        j->first = more;
    j->last = more;
    return true;
}

void sp_step_done(struct sp_switch *sw, struct sp_step step)
{
    if (sw->journal)
        sw->journal->last->step[sw->journal->last->count++] = step;
    else if (step.keep)
        step.keep(sw, &step);
}

void *sp_step_memory(struct sp_switch *sw, size_t bytes) { return sp_arena_alloc(&sw->journal->arena, bytes); }

/* -- cells -------------------------------------------------------------------------------------------------------- */

/* The array's list: mostly that of the last cell. */
static struct sp_waiting *sp_waiting_of(struct sp_journal *j, uint8_t *base, uint32_t cells, size_t size)
{
    struct sp_waiting **at = &j->waiting, *w;
    for (w = *at; w && w->base != base; w = *at)
        at = &w->after;
    if (w) {
        *at = w->after;
    } else {
        if (size + sizeof(uint32_t) > CELL_BYTES || !(w = sp_arena_alloc(&j->arena, sizeof *w)))
            return NULL;
        *w = (struct sp_waiting){
            .base = base, .size = size, .cells = cells, .most = (uint32_t)(CELL_BYTES / (size + sizeof(uint32_t)))};
    }
    w->after = j->waiting;
    j->waiting = w;
    return w;
}

static void sp_paint(const struct sp_waiting *w, uint32_t index, const uint8_t *value)
{
    uint8_t *at = w->picture + index * w->size;
    memcpy(at, value, w->size);
    memset(at + w->cells * w->size, 0xff, w->size);
}

/* Makes a picture, when blocks have become as large as one; without memory they go on. */
static void sp_picture(struct sp_waiting *w)
{
    size_t bytes = w->cells * w->size;
    if (bytes > PICTURE || w->blocks * sizeof *w->first < 2 * bytes || !(w->picture = calloc(2, bytes)))
        return;
    for (const struct sp_cells *block = w->first; block; block = block->after)
        for (uint32_t i = 0, index; i < block->count; i++) {
            memcpy(&index, block->data + i * sizeof index, sizeof index);
            sp_paint(w, index, block->data + w->most * sizeof index + i * w->size);
        }
    w->first = w->last = NULL; /* the arena keeps them */
}

bool sp_cell_write(struct sp_switch *sw, void *array, uint32_t cells, uint32_t index, const void *value, size_t size)
{
    struct sp_journal *j = sw->journal;
    if (!j) {
        memcpy((uint8_t *)array + index * size, value, size);
        return true;
    }
    struct sp_waiting *w = sp_waiting_of(j, array, cells, size);
    if (!w)
        return false;
    if (!w->picture && w->last && w->last->count == w->most)
        sp_picture(w);
    if (w->picture) {
        sp_paint(w, index, value);
        return true;
    }
    if (!w->last || w->last->count == w->most) {
        struct sp_cells *more = sp_arena_alloc(&j->arena, sizeof *more);
        if (!more)
            return false;
        more->after = NULL;
        more->count = 0;
        if (w->last)
            w->last->after = more;
        else
            w->first = more;
        w->last = more;
        w->blocks++;
    }
    struct sp_cells *block = w->last;
    memcpy(block->data + block->count * sizeof index, &index, sizeof index);
    memcpy(block->data + w->most * sizeof index + block->count * size, value, size);
    block->count++;
    return true;
}

/* Called with constants for the sizes that most cells have. */
SP_INLINE void sp_write_block(const struct sp_waiting *w, const struct sp_cells *block, size_t size)
{
    const uint8_t *value = block->data + w->most * sizeof(uint32_t);
    for (uint32_t i = 0; i < block->count; i++) {
        uint32_t index, later;
        memcpy(&index, block->data + i * sizeof index, sizeof index);
        memcpy(&later, block->data + (i + AHEAD < block->count ? i + AHEAD : i) * sizeof later, sizeof later);
        __builtin_prefetch(w->base + later * size, 1);
        memcpy(w->base + index * size, value + i * size, size);
    }
}

static void sp_write_picture(uint8_t *restrict base, const uint8_t *restrict picture, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        base[i] = (uint8_t)((base[i] & ~picture[bytes + i]) | picture[i]);
}

static void sp_write_cells(const struct sp_journal *j)
{
    for (const struct sp_waiting *w = j->waiting; w; w = w->after) {
        if (w->picture)
            sp_write_picture(w->base, w->picture, w->cells * w->size);
        for (const struct sp_cells *block = w->first; block; block = block->after) {
            for (size_t at = 0; block->after && at < sizeof *block; at += 64)
                __builtin_prefetch((const uint8_t *)block->after + at);
            switch (w->size) {
            case 1:
                sp_write_block(w, block, 1);
                break;
            case 4:
                sp_write_block(w, block, 4);
                break;
            case 8:
                sp_write_block(w, block, 8);
                break;
            case 16:
                sp_write_block(w, block, 16);
                break;
            default:
                sp_write_block(w, block, w->size);
            }
        }
    }
}

/* -- whole registers ---------------------------------------------------------------------------------------------- */

#define DISCARD ((size_t)256 << 10)

/* As free(), which would unmap a large block while packets wait. */
static void sp_discard(struct sp_switch *sw, void *block, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)block + page - 1) / page * page, to = ((uintptr_t)block + bytes) / page * page;
    for (uintptr_t at = from; at < to && bytes > 2 * DISCARD; at += DISCARD) {
        (void)madvise((void *)at, to - at < DISCARD ? to - at : DISCARD, MADV_DONTNEED);
        sp_breathe(sw);
    }
    free(block);
}

static size_t sp_register_bytes(const struct sp_switch *sw, uint32_t index)
{
    return ((size_t)sw->program->registers[index].size + 1) * sw->program->registers[index].cell;
}

uint8_t *sp_register_image(struct sp_switch *sw, uint32_t index)
{
    struct sp_journal *j = sw->journal;
    if (!j->images && !(j->images = calloc(sw->program->n_registers, sizeof *j->images)))
        return NULL;
    if (!j->images[index])
        j->images[index] = calloc(1, sp_register_bytes(sw, index));
    return j->images[index];
}

uint8_t *sp_register_cells(const struct sp_switch *sw, uint32_t index, bool *seen)
{
    const struct sp_journal *j = sw->journal;
    *seen = !j || !j->images || !j->images[index];
    return *seen ? sw->registers[index] : j->images[index];
}

/* -- all or nothing ----------------------------------------------------------------------------------------------- */

void sp_batch_begin(struct sp_switch *sw, struct sp_journal *j)
{
    *j = (struct sp_journal){.arena.preparer = sw->preparer};
    sw->journal = j;
    sw->past = true;
    sw->batch += sw->batch + 1 ? 1 : 2; /* 0 is nobody's */
}

/* The instant in which packets see the batch. */
static void sp_show(struct sp_switch *sw, const struct sp_journal *j)
{
    sp_write_cells(j); /* of arrays that a fill replaces, too; so they come first */
    for (uint32_t i = 0; j->images && i < sw->program->n_registers; i++)
        if (j->images[i]) {
            void *was = sw->registers[i];
            sw->registers[i] = j->images[i];
            j->images[i] = was;
        }
    for (uint32_t i = 0; i < sw->program->n_value_sets; i++) {
        struct sp_value_set *set = &sw->value_sets[i];
        if (set->next)
            *set = (struct sp_value_set){set->next_count, set->count, set->next, set->values};
    }
    sp_past_end(sw, j, true);
}

void sp_batch_end(struct sp_switch *sw, bool stands)
{
    struct sp_journal *j = sw->journal;
    sw->journal = NULL; /* undoing and keeping write nothing */
    if (stands)
        sp_show(sw, j);
    for (struct sp_steps *s = stands ? j->first : NULL; s; s = s->after)
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->step[i].keep)
                s->step[i].keep(sw, &s->step[i]);
            sp_breathe(sw);
        }
    for (struct sp_steps *s = stands ? NULL : j->last; s; s = s->before)
        for (uint32_t i = s->count; i-- > 0;) {
            s->step[i].undo(sw, &s->step[i]);
            sp_breathe(sw);
        }
    if (!stands)
        sp_past_end(sw, j, false);
    sp_past_forget(sw, j);
    for (uint32_t i = 0; i < sw->program->n_value_sets; i++) { /* what was shown before, or never */
        free(sw->value_sets[i].next);
        sw->value_sets[i].next = NULL;
    }
    for (uint32_t i = 0; j->images && i < sw->program->n_registers; i++)
        if (j->images[i])
            sp_discard(sw, j->images[i], sp_register_bytes(sw, i));
    free(j->images);
    for (struct sp_waiting *w = j->waiting; w; w = w->after)
        free(w->picture);
    sp_arena_clear(&j->arena);
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
    struct sp_journal journal;
    sp_batch_begin(sw, &journal);
    for (; done < n && code == SP_OK; done++) {
        uint32_t op = sp_u16(r), len = sp_u32(r);
        struct sp_reader one = {sp_take(r, len), len, r->ok};
        sw->reply.len = 0;
        if (!r->ok || !sp_is_write(op))
            code = sp_fail(sw, SP_INVALID_ARGUMENT, "BATCH: command %#x is truncated or no write", op);
        else
            code = sp_dispatch(sw, op, &one, now_ns);
        sp_pause(sw);
    }
    sp_batch_end(sw, code == SP_OK);
    char text[256];
    uint32_t text_len = code == SP_OK ? 0 : sw->reply.len < sizeof text ? sw->reply.len : (uint32_t)sizeof text;
    memcpy(text, sw->reply.data ? sw->reply.data : (uint8_t *)text, text_len);
    sw->reply.len = 0;
    sp_reply_u32(sw, code == SP_OK ? UINT32_MAX : done - 1);
    sp_reply_u8(sw, (uint8_t)code);
    sp_reply_bytes(sw, text, text_len);
    return SP_OK;
}
