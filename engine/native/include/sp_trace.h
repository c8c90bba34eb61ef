/* Hooks of the trace, called by generated code and sp_pipeline.h. Without SP_TRACE they are nothing at all; with it, a
 * pipeline has the same state, so that the traced variant's process() may run on the state of the other.
 *
 * Each event goes to the trace callback as
 *   u8 kind, u8 depth, u32 a, u32 b, u32 n, n bytes of data, then the packet's headers as they are now:
 *   per header u8 valid and, if it is, its fields: big endian in whole bytes; varbit: u32 bits before its bytes
 * What a and b and the data mean: engine/trace_events.py.
 */
#ifndef SP_TRACE_H
#define SP_TRACE_H

enum sp_trace_kind {
    SP_T_PACKET = 1, /* a port, b pass; data: the frame */
    SP_T_STATE,      /* a parser state, b offset in the frame */
    SP_T_PARSED,     /* a error, b offset of the payload */
    SP_T_CHECKED,    /* a whether the checksums are right */
    SP_T_PIPELINE,   /* a 0 ingress or 1 egress, b port; egress: a packet of its own for each replica */
    SP_T_TABLE,      /* a table, b 1 hit; data: u8 entry, its bytes if 1, then the action to be executed */
    SP_T_ACTION,     /* a action: it has been executed */
    SP_T_CONDITION,  /* a whether it is true; data: its node */
    SP_T_READ,       /* a register, b cell; data: its value */
    SP_T_WRITTEN,
    SP_T_CLONE,      /* a session, b 0 from ingress or 1 from egress */
    SP_T_AGAIN,      /* a instance type: resubmitted or recirculated */
    SP_T_DIGEST,     /* a number of the field list */
    SP_T_REPLICA,    /* a port, b instance */
    SP_T_CHECKSUMS,  /* before the deparser; headers as they are before checksums are updated */
    SP_T_DEPARSED,   /* after it; data: the headers' bytes */
    SP_T_EMIT,       /* a port, b priority; data: the frame */
    SP_T_DROP,       /* a reason: 0 ingress, 1 egress, 2 too many passes, 3 too long, 4 no such multicast group */
};

#ifndef SP_TRACE
#define SP_TRACE_EVENT(kind, a, b, data, n) ((void)0)
#define SP_TRACE_TABLE(t, e, a) ((void)0)
#define SP_TRACE_BARE(t, k, e, a) ((void)0)
#define SP_TRACE_CELL(kind, number, cell) ((void)0)
#else
#include "sp_wire.h"

#include <stdlib.h>

static void sp_trace_headers(struct sp_switch *sw, struct sp_context *c); /* generated */

/* Replies are written into the switch's buffer, which may be in use: packets pass in the middle of commands. */
static struct sp_reply sp_trace_begin(struct sp_switch *sw, struct sp_context *c, uint8_t kind, uint32_t a, uint32_t b)
{
    struct sp_reply saved = sw->reply;
    sw->reply = (struct sp_reply){0};
    sp_reply_u8(sw, kind);
    sp_reply_u8(sw, (uint8_t)(c - (struct sp_context *)sw->contexts));
    sp_reply_u32(sw, a);
    sp_reply_u32(sw, b);
    sp_reply_u32(sw, 0); /* length of the data, see sp_trace_end */
    return saved;
}

static void sp_trace_end(struct sp_switch *sw, struct sp_context *c, struct sp_reply saved)
{
    if (!sw->reply.failed) {
        uint32_t n = sw->reply.len - 14;
        memcpy(sw->reply.data + 10, &n, 4);
    }
    sp_trace_headers(sw, c);
    if (!sw->reply.failed)
        sw->options.trace(sw->options.user, sw->reply.data, sw->reply.len);
    free(sw->reply.data);
    sw->reply = saved;
}

static __attribute__((unused)) void sp_trace_event(struct sp_switch *sw, struct sp_context *c, uint8_t kind, uint64_t a,
                                                   uint64_t b, const void *data, uint32_t n)
{
    if (!sw->options.trace)
        return;
    struct sp_reply saved = sp_trace_begin(sw, c, kind, (uint32_t)a, (uint32_t)b);
    sp_reply_bytes(sw, data, n);
    sp_trace_end(sw, c, saved);
}

static __attribute__((unused)) void sp_trace_table(struct sp_switch *sw, struct sp_context *c, const struct sp_table *t,
                                                   const struct sp_entry *e, bool hit, const struct sp_act *act)
{
    if (!sw->options.trace)
        return;
    struct sp_reply saved = sp_trace_begin(sw, c, SP_T_TABLE, t->index, hit);
    sp_reply_u8(sw, e != NULL);
    if (e)
        sp_write_entry(sw, t, e, c->now);
    if (act)
        sp_write_act(sw, act);
    else
        sp_reply_u8(sw, 0);
    sp_trace_end(sw, c, saved);
}

/* Such tables find actions only: the entry is the one with the longest prefix of the key. */
static __attribute__((unused)) void sp_trace_bare(struct sp_switch *sw, struct sp_context *c, const struct sp_table *t,
                                                  const uint64_t *key, bool hit, const struct sp_act *act)
{
    struct sp_entry *like = sw->options.trace ? sp_entry_new((struct sp_table *)t) : NULL, *found = NULL;
    for (unsigned prefix = t->desc->key_bytes * 8u + 1; like && hit && !found && prefix-- > 0;) {
        for (unsigned w = 0; w < t->desc->key_words; w++) {
            unsigned below = prefix > 64 * w ? prefix - 64 * w : 0;
            like->key[w] = below >= 64 ? key[w] : below ? key[w] & ~0ull << (64 - below) : 0;
        }
        like->prefix = (uint16_t)prefix;
        found = sp_table_find(t, like);
    }
    sp_entry_free((struct sp_table *)t, like);
    sp_trace_table(sw, c, t, found, hit, act);
}

static __attribute__((unused)) void sp_trace_cell(struct sp_switch *sw, struct sp_context *c, uint8_t kind,
                                                  uint32_t number, uint64_t cell)
{
    const struct sp_array_desc *d = &sw->program->registers[number];
    const uint8_t *at = (const uint8_t *)sw->registers[number] + cell * d->cell;
    uint8_t value[16];
    unsigned bytes = (d->width + 7u) / 8;
    if (d->width > 128) {
        sp_trace_event(sw, c, kind, number, cell, at, bytes);
        return;
    }
    for (unsigned i = 0; i < bytes; i++) /* little endian in memory */
        value[i] = at[bytes - 1 - i];
    sp_trace_event(sw, c, kind, number, cell, value, bytes);
}

static __attribute__((unused)) void sp_trace_number(struct sp_switch *sw, sp_u128 value, unsigned bytes)
{
    uint8_t out[16];
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
    sp_reply_bytes(sw, out, bytes);
}

#define SP_TRACE_EVENT(kind, a, b, data, n) sp_trace_event(sw, c, kind, a, b, data, n)
#define SP_TRACE_TABLE(t, e, a) sp_trace_table(sw, c, t, e, (e) != NULL, a)
#define SP_TRACE_BARE(t, k, e, a) sp_trace_bare(sw, c, t, k, (e) != NULL, a)
#define SP_TRACE_CELL(kind, number, cell) sp_trace_cell(sw, c, kind, number, cell)
#endif
#endif
