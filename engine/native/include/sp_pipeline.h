/* The way of a packet through v1model as BMv2's simple_switch goes it; included at the end of a generated pipeline,
 * which defines struct sp_phv, sp_parse, sp_ahead, sp_verify, sp_ingress, sp_egress, sp_deparse, sp_copy_fields, sp_learn and the
 * accessors sp_get_* and sp_set_* of standard metadata (which do nothing where the program lacks a field).
 *
 * Order, as in simple_switch: parser, checksum verification, ingress, ingress clones, digest, resubmit, multicast,
 * egress, egress clones, deparser, recirculation. Clones of the ingress are parsed again from the original frame.
 */
#ifndef SP_PIPELINE_H
#define SP_PIPELINE_H

#include "sp_wire.h"

#include <stdlib.h>

enum { SP_NORMAL = 0, SP_INGRESS_CLONE = 1, SP_EGRESS_CLONE = 2, SP_RECIRCULATED = 4, SP_REPLICATED = 5, SP_RESUBMITTED = 6 };

#define SP_DEPTH 6 /* clones of clones of ... in one pass */

struct sp_contexts {
    struct sp_context context[SP_DEPTH];
    uint32_t passes; /* of the frame being processed */
    struct sp_job *jobs, **last_job;
    uint8_t scratch[SP_OUT_ROOM + 4096];
};

/* A packet that goes through the ingress again. */
struct sp_job {
    struct sp_job *next;
    uint32_t len, ingress_length, instance, list;
    struct sp_phv phv; /* where preserved fields come from */
    uint8_t frame[];
};

static void sp_run_egress(struct sp_switch *sw, struct sp_contexts *cs, unsigned depth, uint32_t port,
                          uint32_t instance_for_tx);

/* Fresh per-packet state around headers that the caller fills in. */
SP_INLINE void sp_context_reset(struct sp_contexts *cs, struct sp_context *c)
{
    c->clone = 0;
    c->clone_list = 0;
    c->resubmit = 0;
    c->recirculate = 0;
    c->learn = 0;
    c->truncate = UINT32_MAX;
    c->exit = 0;
    c->failed = 0;
    c->scratch = cs->scratch;
}

/* A copy for a clone or replica: headers and length, none of the pending requests. */
static __attribute__((unused)) void sp_context_copy(struct sp_contexts *cs, struct sp_context *to,
                                                    const struct sp_context *from)
{
    to->phv = from->phv;
    to->payload = from->payload;
    to->payload_len = from->payload_len;
    to->now = from->now;
    to->length = from->length;
    to->ingress_length = from->ingress_length;
    to->port = from->port;
    sp_context_reset(cs, to);
}

static __attribute__((unused)) void sp_multicast(struct sp_switch *sw, struct sp_contexts *cs, unsigned depth,
                                                 const struct sp_replicas *g)
{
    struct sp_context *c = &cs->context[depth];
    if (!g || !g->count) {
        SP_TRACE_EVENT(SP_T_DROP, 4, 0, NULL, 0);
        sw->stats.dropped_no_group++;
        return;
    }
    for (uint32_t i = 0; i < g->count; i++) {
        if (depth + 1 >= SP_DEPTH) {
            SP_TRACE_EVENT(SP_T_DROP, 2, 0, NULL, 0);
            sw->stats.dropped_loop++;
            return;
        }
        SP_TRACE_EVENT(SP_T_REPLICA, g->replica[i].port, g->replica[i].instance, NULL, 0);
        sp_context_copy(cs, &cs->context[depth + 1], c);
        if (g->length)
            cs->context[depth + 1].truncate = g->length;
        if (g->class)
            sp_set_priority(&cs->context[depth + 1].phv, g->class);
        sp_set_egress_rid(&cs->context[depth + 1].phv, g->replica[i].instance);
        sp_run_egress(sw, cs, depth + 1, g->replica[i].port, sp_get_instance_type(&c->phv));
    }
}

/* Queues a packet for another pass; it carries the fields of a list. */
static __attribute__((unused)) void sp_again(struct sp_switch *sw, struct sp_contexts *cs, const struct sp_context *c,
                                             const uint8_t *frame, uint32_t len, uint32_t ingress_length,
                                             uint32_t instance, uint32_t list)
{
    struct sp_job *job = ++cs->passes < SP_MAX_PASSES ? malloc(sizeof *job + len) : NULL;
    if (!job) {
        SP_TRACE_EVENT(SP_T_DROP, 2, 0, NULL, 0);
        sw->stats.dropped_loop++;
        return;
    }
    job->next = NULL;
    job->len = len;
    job->ingress_length = ingress_length;
    job->instance = instance;
    job->list = list;
    job->phv = c->phv;
    memcpy(job->frame, frame, len);
    *cs->last_job = job;
    cs->last_job = &job->next;
}

static __attribute__((unused)) void sp_egress_clone(struct sp_switch *sw, struct sp_contexts *cs, unsigned depth)
{
    struct sp_context *c = &cs->context[depth], *copy = c + 1;
    const struct sp_replicas *session = sp_replicas_seen(sw, true, c->clone & ~SP_CLONE);
    uint32_t list = c->clone_list;
    SP_TRACE_EVENT(SP_T_CLONE, c->clone & ~SP_CLONE, 1, NULL, 0);
    c->clone = 0;
    if (!session || depth + 2 >= SP_DEPTH || ++cs->passes >= SP_MAX_PASSES) {
        sw->stats.dropped_loop += session != NULL;
        return;
    }
    sp_context_copy(cs, copy, c);
    sp_reset_metadata(&copy->phv);
    sp_copy_fields(list, &copy->phv, &c->phv);
    sp_set_instance_type(&copy->phv, SP_EGRESS_CLONE);
    sp_multicast(sw, cs, depth + 1, session);
}

/* Serializes and sends, or recirculates. */
static void sp_finish(struct sp_switch *sw, struct sp_contexts *cs, unsigned depth, uint32_t port, uint32_t instance)
{
    struct sp_context *c = &cs->context[depth];
    if (sp_get_egress_spec(&c->phv) == sw->options.drop_port || c->failed) {
        SP_TRACE_EVENT(SP_T_DROP, 1, 0, NULL, 0);
        sw->stats.dropped_egress++;
        return;
    }
    SP_TRACE_EVENT(SP_T_CHECKSUMS, 0, 0, NULL, 0);
    uint8_t *end = sp_deparse(sw, c, sw->out);
    SP_TRACE_EVENT(SP_T_DEPARSED, 0, 0, sw->out, (uint32_t)(end - sw->out));
    uint64_t total = (uint64_t)(end - sw->out) + c->payload_len;
    if (total > c->truncate && !(SP_HAS_RECIRCULATE && c->recirculate)) /* as BMv2: what comes back is whole */
        total = c->truncate;
    if (total > SP_MAX_FRAME) {
        SP_TRACE_EVENT(SP_T_DROP, 3, 0, NULL, 0);
        sw->stats.dropped_oversize++;
        return;
    }
    if (total > (uint64_t)(end - sw->out))
        memcpy(end, c->payload, total - (uint64_t)(end - sw->out));
    if (SP_HAS_RECIRCULATE && c->recirculate) {
        SP_TRACE_EVENT(SP_T_AGAIN, SP_RECIRCULATED, 0, NULL, 0);
        sp_again(sw, cs, c, sw->out, (uint32_t)total, (uint32_t)total, SP_RECIRCULATED, c->recirculate);
        return;
    }
    struct sp_tx tx = {c->port, (uint32_t)sp_get_priority(&c->phv), instance, (uint32_t)sp_get_egress_rid(&c->phv)};
    sw->stats.emitted++;
    SP_TRACE_EVENT(SP_T_EMIT, port, tx.priority, sw->out, (uint32_t)total);
    if (sw->options.emit)
        sw->options.emit(sw->options.user, port, sw->out, (uint32_t)total, &tx);
}

static void sp_run_egress(struct sp_switch *sw, struct sp_contexts *cs, unsigned depth, uint32_t port,
                          uint32_t instance)
{
    struct sp_context *c = &cs->context[depth];
    struct sp_phv *p = &c->phv;
    uint64_t now_us = c->now / 1000;
    if (SP_HAS_QUEUEING) {
        struct sp_queue q = {0};
        if (sw->options.queue)
            sw->options.queue(sw->options.user, port, (uint32_t)sp_get_priority(p), &q);
        now_us += q.held_us;
        sp_set_enq_timestamp(p, now_us);
        sp_set_enq_qdepth(p, q.enq_qdepth);
        sp_set_deq_timedelta(p, q.deq_timedelta_us);
        sp_set_deq_qdepth(p, q.deq_qdepth);
        sp_set_qid(p, sp_get_priority(p));
        now_us += q.deq_timedelta_us;
    }
    sp_set_egress_global_timestamp(p, now_us);
    sp_set_egress_port(p, port);
    sp_set_egress_spec(p, sw->options.drop_port + 1);
    sp_set_packet_length(p, c->length);
    SP_TRACE_EVENT(SP_T_PIPELINE, 1, port, NULL, 0);
    sp_egress(sw, c);
    if (!SP_HAS_CLONE || SP_LIKELY(!c->clone)) {
        sp_finish(sw, cs, depth, port, instance);
        return;
    }
    /* The clone is of the packet before it is deparsed (which updates checksums), but leaves after it. */
    if (depth + 3 >= SP_DEPTH) {
        SP_TRACE_EVENT(SP_T_DROP, 2, 0, NULL, 0);
        sw->stats.dropped_loop++;
        c->clone = 0;
        sp_finish(sw, cs, depth, port, instance);
        return;
    }
    struct sp_context *original = &cs->context[depth + 1];
    uint32_t request = c->clone, list = c->clone_list;
    *original = *c;
    original->clone = 0;
    sp_finish(sw, cs, depth + 1, port, instance);
    c->clone = request;
    c->clone_list = list;
    sp_egress_clone(sw, cs, depth);
}

/* Where ingress clones come from: the frame as it was received. */
static __attribute__((unused)) void sp_ingress_clone(struct sp_switch *sw, struct sp_contexts *cs,
                                                     const uint8_t *frame, uint32_t len)
{
    struct sp_context *c = &cs->context[0], *copy = &cs->context[1];
    const struct sp_replicas *session = sp_replicas_seen(sw, true, c->clone & ~SP_CLONE);
    uint32_t list = c->clone_list;
    SP_TRACE_EVENT(SP_T_CLONE, c->clone & ~SP_CLONE, 0, NULL, 0);
    c->clone = 0;
    c->clone_list = 0;
    if (!session)
        return;
    memset(&copy->phv, 0, sizeof copy->phv);
    sp_context_reset(cs, copy);
    copy->now = c->now;
    copy->port = c->port;
    copy->length = len;
    copy->ingress_length = c->ingress_length;
    sp_set_ingress_port(&copy->phv, c->port);
    sp_parse(sw, copy, frame, len);
    sp_reset_metadata(&copy->phv);
    sp_copy_fields(list, &copy->phv, &c->phv);
    sp_set_instance_type(&copy->phv, SP_INGRESS_CLONE);
    sp_multicast(sw, cs, 1, session);
}

/* One pass from the parser on; context 0 holds the metadata that the packet starts with. */
static void sp_run(struct sp_switch *sw, struct sp_contexts *cs, const uint8_t *frame, uint32_t len)
{
    struct sp_context *c = &cs->context[0];
    struct sp_phv *p = &c->phv;
    sp_parse(sw, c, frame, len);
    sp_set_parser_error(p, c->parser_error);
    if (SP_HAS_VERIFY)
        sp_set_checksum_error(p, !sp_verify(c));
    SP_TRACE_EVENT(SP_T_CHECKED, sp_get_checksum_error(p) == 0, 0, NULL, 0);
    SP_TRACE_EVENT(SP_T_PIPELINE, 0, c->port, NULL, 0);
    sp_ingress(sw, c);
    c->exit = 0;
    if (SP_HAS_CLONE && SP_UNLIKELY(c->clone))
        sp_ingress_clone(sw, cs, frame, len);
    if (SP_HAS_DIGEST && SP_UNLIKELY(c->learn)) {
        SP_TRACE_EVENT(SP_T_DIGEST, c->learn, 0, NULL, 0);
        sp_learn(sw, c);
    }
    if (SP_HAS_RESUBMIT && SP_UNLIKELY(c->resubmit)) {
        SP_TRACE_EVENT(SP_T_AGAIN, SP_RESUBMITTED, 0, NULL, 0);
        sp_again(sw, cs, c, frame, len, c->ingress_length, SP_RESUBMITTED, c->resubmit);
        return;
    }
    uint64_t group = sp_get_mcast_grp(p);
    if (SP_UNLIKELY(c->failed)) {
        SP_TRACE_EVENT(SP_T_DROP, 0, 0, NULL, 0);
        sw->stats.dropped_ingress++;
    } else if (SP_UNLIKELY(group)) {
        sp_set_instance_type(p, SP_REPLICATED);
        sp_multicast(sw, cs, 0, sp_replicas_seen(sw, false, (uint32_t)group));
    } else if (sp_get_egress_spec(p) == sw->options.drop_port) {
        SP_TRACE_EVENT(SP_T_DROP, 0, 0, NULL, 0);
        sw->stats.dropped_ingress++;
    } else {
        sp_set_instance_type(p, SP_NORMAL);
        sp_run_egress(sw, cs, 0, (uint32_t)sp_get_egress_spec(p), SP_NORMAL);
    }
}

static __attribute__((unused)) void sp_run_jobs(struct sp_switch *sw, struct sp_contexts *cs, uint32_t port)
{
    struct sp_context *c = &cs->context[0];
    while (cs->jobs) {
        struct sp_job *job = cs->jobs;
        memset(&c->phv, 0, sizeof c->phv);
        sp_context_reset(cs, c);
        sp_copy_fields(job->list, &c->phv, &job->phv);
        sp_set_instance_type(&c->phv, job->instance);
        sp_set_packet_length(&c->phv, job->len);
        SP_TRACE_EVENT(SP_T_PACKET, port, job->instance, job->frame, job->len);
        c->port = port;
        c->now = sw->now;
        c->length = job->len;
        c->ingress_length = job->ingress_length;
        sp_run(sw, cs, job->frame, job->len);
        cs->jobs = job->next;
        if (!cs->jobs)
            cs->last_job = &cs->jobs;
        free(job);
    }
}

static void sp_process(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len, uint64_t now_ns)
{
    struct sp_contexts *cs = sw->contexts;
    struct sp_context *c = &cs->context[0];
    sw->stats.received++;
    if (SP_UNLIKELY(len > SP_MAX_FRAME)) {
        sw->stats.dropped_oversize++;
        return;
    }
    sw->now = now_ns;
    cs->passes = 0;
    cs->jobs = NULL;
    cs->last_job = &cs->jobs;
#ifdef SP_TRACE
    memset(&c->phv, 0, sizeof c->phv); /* a trace shows fields before they are written, too */
#endif
    if (SP_UNLIKELY(c->phv.cold_used)) /* two calls, so that each knows its length */
        memset(&c->phv, 0, offsetof(struct sp_phv, uncleared));
    else
        memset(&c->phv, 0, offsetof(struct sp_phv, cold_used));
    sp_context_reset(cs, c);
    c->now = now_ns;
    c->port = port;
    c->length = len;
    c->ingress_length = len;
    sp_set_ingress_port(&c->phv, port);
    sp_set_packet_length(&c->phv, len);
    sp_set_ingress_global_timestamp(&c->phv, now_ns / 1000);
    SP_TRACE_EVENT(SP_T_PACKET, port, 0, frame, len);
    sp_run(sw, cs, frame, len);
    if (SP_HAS_RESUBMIT || SP_HAS_RECIRCULATE)
        sp_run_jobs(sw, cs, port);
}

static const struct sp_program sp_this_program = {SP_PROGRAM_TABLE, sizeof(struct sp_contexts), sp_process};

static int sp_announce(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len)
{
    if (!SP_HAS_AHEAD || !sw->deep)
        return 0;
    if (frame)
        sp_ahead(sw, port, frame, len);
    return 1;
}

static struct sp_switch *sp_create_this(const struct sp_options *options)
{
    return options ? sp_create(&sp_this_program, options) : NULL;
}

static const struct sp_engine sp_this_engine = {
    SP_ENGINE_ABI, SP_NAME, SP_INFO, SP_KEY, sp_create_this, sp_destroy, sp_process, sp_command, sp_port_status, sp_tick,
    sp_get_stats, sp_announce, sp_overtake,
};

__attribute__((visibility("default"))) const struct sp_engine *sp_engine(void) { return &sp_this_engine; }

#endif
