// Sink: telemetry off before the host, and a flow report where there is something to tell.
//
//   stack ─┬─ each hop: largest latency and queue, path as a hash ─ filter ─┬─ digest flow_report_t
//          └─ off: lengths, checksum, DSCP as before the source              └─ nothing
//
//   filter, per flow                                            event
//     nodes, ports or flags differ from the report before       FLOW_PATH
//     largest hop latency above the threshold, or no longer     FLOW_LATENCY
//     largest queue above the threshold, or no longer           FLOW_QUEUE
//     max_interval since the report before                      FLOW_PERIODIC
//     less than min_interval since the report before            none of them
//
// So a flow reports at most every min_interval whatever happens, and at least every max_interval as long as it
// has packets. What was held back by min_interval is not forgotten: it still differs at the next packet.
//
// Digests can be made in the ingress only, where this switch's own queue is not known yet. Therefore the egress
// notes it (INT_REMOVED), and a report carries the notes of the flow's packet before: `sink`, with the arrival of
// that packet in `sink_time`. They count in the filter like any hop.
//
// A flow is a 5-tuple; its memory is a cell chosen by a hash. Two flows in one cell report more than they need to,
// never more often than min_interval.
//
// Deliberately not here: averages, and flows without packets. Reports are best effort and numbered.
#ifndef SHADOWPLANE_INT_SINK_P4_
#define SHADOWPLANE_INT_SINK_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

#define UNKNOWN_WORD 0xFFFFFFFF
// Not a control: copies of eight hops would cost every packet of the switch, with telemetry or without.
#define LOOK_AT_HOP(hop) \
    if ((hop).isValid()) { \
        if ((hop).place[63:32] != UNKNOWN_WORD && (hop).place[63:32] > latency) { \
            latency = (hop).place[63:32]; \
        } \
        if ((hop).place[31:0] != UNKNOWN_WORD && (bit<32>) (hop).place[23:0] > queue) { \
            queue = (bit<32>) (hop).place[23:0]; \
        } \
        PATH_HASH(path, path, (hop).place[127:64]); \
        CHECKSUM(complement, (hop).place, (hop).times); \
        change = change + (bit<32>) complement; \
    }

control IntSink(inout headers_t hdr, inout metadata_t meta) {
    IntCell() int_cell;
    SinkNotesRead() sink_notes_read;
    SinkCount() sink_count;
    FlowReportedRead() reported_read;
    FlowReportedWrite() reported_write;
    NextFlowReport() next_flow_report;
    L4Checksum() l4_checksum;

    @name(".int_watch") @id(ID_ACTION_INT_WATCH)
    action int_watch(@id(1) bit<32> latency, @id(2) bit<32> queue, @id(3) time_us_t min_interval,
                     @id(4) time_us_t max_interval) {
        meta.flow.watched = 1;
        meta.flow.latency = latency;
        meta.flow.queue = queue;
        meta.flow.min_interval = min_interval;
        meta.flow.max_interval = max_interval;
    }

    @name(".int_no_report") @id(ID_ACTION_INT_NO_REPORT)
    action int_no_report() { }

    @name(".int_report") @id(ID_TABLE_INT_REPORT)
    table int_report {
        key = { meta.queue_priority: exact @name("priority") @id(1); }
        actions = { int_watch; @defaultonly int_no_report; }
        const default_action = int_no_report;
        size = PRIORITIES;
    }

    apply {
        int_cell.apply(meta, meta.inband.cell);
        sink_notes_read.apply(meta.inband.cell, meta.flow.sink_time, meta.flow.sink_latency, meta.flow.sink_queue);

        // Rates of flows: how many packets share one with telemetry is known to whoever reads the report.
        bit<16> shrunk = 4 + ((bit<16>) hdr.int_md.length << 2);
        sink_count.apply(meta.inband.cell, meta.intake.frame_bytes |-| (bit<32>) shrunk, meta.flow.packets,
                         meta.flow.bytes);

        // ---- the stack ----
        bit<32> latency = meta.flow.sink_latency;
        bit<32> queue = (bit<32>) meta.flow.sink_queue[23:0];
        bit<32> path = 0;
        bit<32> change = 0;
        bit<16> complement;
        LOOK_AT_HOP(hdr.int_hops[0])
        LOOK_AT_HOP(hdr.int_hops[1])
        LOOK_AT_HOP(hdr.int_hops[2])
        LOOK_AT_HOP(hdr.int_hops[3])
        LOOK_AT_HOP(hdr.int_hops[4])
        LOOK_AT_HOP(hdr.int_hops[5])
        LOOK_AT_HOP(hdr.int_hops[6])
        LOOK_AT_HOP(hdr.int_hops[7])

        if (hdr.int_md.hops_exceeded == 1) {
            meta.flow.flags = meta.flow.flags | FLOW_FLAG_HOPS;
        }
        if (hdr.int_md.mtu_exceeded == 1) {
            meta.flow.flags = meta.flow.flags | FLOW_FLAG_MTU;
        }
        if (hdr.ipv6.isValid()) {
            meta.flow.flags = meta.flow.flags | FLOW_FLAG_IPV6;
        }
        if (hdr.int_rest.isValid()) {
            if (meta.inband.hops == 0) {
                meta.flow.flags = meta.flow.flags | FLOW_FLAG_OPAQUE;
            } else {
                meta.flow.flags = meta.flow.flags | FLOW_FLAG_MORE;
            }
        }
        PATH_HASH(path, path, (bit<64>) (meta.flow.flags ++ (bit<16>) meta.intake.ingress_port
                                         ++ (bit<16>) meta.egress_port));

        // ---- the filter ----
        int_report.apply();
        if (meta.flow.watched == 1) {
            bit<2> level = 0;
            if (latency > meta.flow.latency) {
                level[0:0] = 1;
            }
            if (queue > meta.flow.queue) {
                level[1:1] = 1;
            }
            time_us_t told_time;
            bit<32> told_path;
            bit<2> told_level;
            reported_read.apply(meta.inband.cell, told_time, told_path, told_level);
            // A clock that was set back must not silence a flow.
            time_us_t silent = meta.flow.max_interval;
            if (told_time != 0 && meta.intake.now >= told_time) {
                silent = meta.intake.now - told_time;
            }
            meta.flow.event = FLOW_PERIODIC;
            if (told_time == 0) {
                meta.flow.send = 1;
            } else if (silent >= meta.flow.min_interval) {
                if (path != told_path) {
                    meta.flow.send = 1;
                    meta.flow.event = FLOW_PATH;
                } else if (level[0:0] == 1 || told_level[0:0] == 1) {
                    meta.flow.send = 1;
                    meta.flow.event = FLOW_LATENCY;
                } else if (level[1:1] == 1 || told_level[1:1] == 1) {
                    meta.flow.send = 1;
                    meta.flow.event = FLOW_QUEUE;
                } else if (silent >= meta.flow.max_interval) {
                    meta.flow.send = 1;
                }
            }
            if (meta.flow.send == 1) {
                reported_write.apply(meta.inband.cell, meta.intake.now, path, level);
                next_flow_report.apply(meta.inband.cell, meta.flow.seq);
            }
        }

        // ---- off ----
        if (hdr.int_rest.isValid()) {
            CHECKSUM(complement, hdr.int_rest);
            change = change + (bit<32>) complement;
            hdr.int_rest.setInvalid();
        }
        CHECKSUM(complement, hdr.int_md);
        change = change + (bit<32>) complement;
        change = change + (bit<32>) (~shrunk);
        if (hdr.udp.isValid()) {
            change = change + (bit<32>) (~shrunk);
            hdr.udp.length = hdr.udp.length - shrunk;
        }
        l4_checksum.apply(hdr, change);
        if (hdr.ipv4.isValid()) {
            hdr.ipv4.total_length = hdr.ipv4.total_length - shrunk;
            hdr.ipv4.dscp = hdr.int_md.dscp;
        } else {
            hdr.ipv6.payload_length = hdr.ipv6.payload_length - shrunk;
            hdr.ipv6.dscp = hdr.int_md.dscp;
        }
        meta.inband.op = INT_REMOVED;
        if (hdr.int_md.discard == 1) {
            meta.verdict = CONSUME;
        }
        hdr.int_md.setInvalid();
    }
}

// In the egress, for packets that the sink takes the telemetry off. The hops go last: the digest is of them, and
// is made at the end of the ingress.
control IntSinkNotes(inout headers_t hdr, inout metadata_t meta, in bit<32> latency, in bit<32> depth) {
    SinkNotesWrite() sink_notes_write;

    apply {
        sink_notes_write.apply(meta.inband.cell, meta.intake.now, latency,
                               (bit<8>) meta.queue_priority ++ depth[23:0]);
        hdr.int_hops[0].setInvalid();
        hdr.int_hops[1].setInvalid();
        hdr.int_hops[2].setInvalid();
        hdr.int_hops[3].setInvalid();
        hdr.int_hops[4].setInvalid();
        hdr.int_hops[5].setInvalid();
        hdr.int_hops[6].setInvalid();
        hdr.int_hops[7].setInvalid();
    }
}

#endif  // SHADOWPLANE_INT_SINK_P4_
