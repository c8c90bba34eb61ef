// Shadowplane on v1model: simple_switch_grpc and the embedded switch.
//
//   frame ─ parser ─ checksum ─ ingress ─────────────────────────────────────────── egress ─ checksum ─ frame
//                               count, guard ─┬─ command ─ liveness ─ report        count,
//                                             └─ acl ─ classify ─ label ─           queue depth,
//                                                route ─ steer ─ INT role ─ rewrite INT hop
//
// This file holds what differs between architectures: order of blocks, intake, verdict. All logic is in
// blocks/, all state behind externs.p4.
#include <core.p4>
#define V1MODEL_VERSION 20200408
#include <v1model.p4>

#include "../../include/constants.p4"
#include "../../include/ids.p4"
#include "../../include/sizes.p4"
#include "../../include/headers.p4"
#include "../../include/metadata.p4"
#include "externs.p4"
#include "../../blocks/parser.p4"
#include "../../blocks/port_stats.p4"
#include "../../blocks/guard.p4"
#include "../../blocks/command.p4"
#include "../../blocks/liveness.p4"
#include "../../blocks/report.p4"
#include "../../blocks/acl.p4"
#include "../../blocks/classify.p4"
#include "../../blocks/port_liveness.p4"
#include "../../blocks/label.p4"
#include "../../blocks/route.p4"
#include "../../blocks/steer.p4"
#include "../../blocks/rewrite.p4"
#include "../../blocks/l4_checksum.p4"
#include "../../blocks/int_port.p4"
#include "../../blocks/int_source.p4"
#include "../../blocks/int_sink.p4"
#include "../../blocks/int_hop.p4"
#include "../../blocks/int_role.p4"
#include "../../blocks/deparser.p4"

parser ShadowplaneParser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                         inout standard_metadata_t standard) {
    PacketParser() packet_parser;

    state start {
        meta.intake.ingress_port = standard.ingress_port;
        packet_parser.apply(packet, hdr, meta);
        transition accept;
    }
}

control ShadowplaneVerifyChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid() && hdr.ipv4.ihl == 5,
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.dscp, hdr.ipv4.ecn, hdr.ipv4.total_length,
              hdr.ipv4.identification, hdr.ipv4.flags, hdr.ipv4.fragment_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control ShadowplaneIngress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    PortRx() port_rx;
    Guard() guard;
    Command() command;
    Liveness() liveness;
    Report() report;
    IntArrival() int_arrival;
    IntRole() int_role;
    Acl() acl;
    Classify() classify;
    Label() label;
    Route() route;
    Steer() steer;
    Rewrite() rewrite;
    CountDrop() count_drop;

    apply {
        meta.intake.now = standard.ingress_global_timestamp;
        meta.intake.frame_bytes = standard.packet_length;
        meta.intake.checksum_bad = standard.checksum_error;
        if (standard.parser_error != error.NoError) {
            meta.intake.parse_failed = 1;
        }

        port_rx.apply(hdr, meta);
        guard.apply(hdr, meta);
        if (meta.verdict == UNDECIDED && hdr.packet_out.isValid()) {
            command.apply(hdr, meta);
        }
        if (meta.verdict == UNDECIDED) {
            if (hdr.heartbeat.isValid() || meta.live.event != LIVE_NONE) {
                liveness.apply(hdr, meta);
                report.apply(hdr, meta);
            } else {
                if ((meta.lookup.dscp & INT_DSCP_POOL_MASK) == INT_DSCP_POOL) {
                    int_arrival.apply(hdr, meta);
                    meta.inband.pool = 1;
                }
                acl.apply(hdr, meta);
                if (meta.verdict == UNDECIDED) {
                    classify.apply(hdr, meta);
                    label.apply(hdr, meta);
                    if (meta.verdict == UNDECIDED) {
                        route.apply(hdr, meta);
                        if (meta.verdict == UNDECIDED) {
                            steer.apply(hdr, meta);
                        }
                    }
                    if (meta.verdict == FORWARD) {
                        rewrite.apply(hdr, meta);
                        if (meta.sample == 1 || meta.inband.pool == 1) {
                            int_role.apply(hdr, meta);
                            if (meta.flow.send == 1) {
                                digest<flow_report_t>(1, {
                                    meta.flow_id, (bit<8>) meta.queue_priority, meta.flow.seq, meta.intake.now,
                                    meta.flow.event, meta.flow.flags, meta.inband.hops, meta.lookup.ip_proto,
                                    meta.lookup.l4_sport, meta.lookup.l4_dport, meta.lookup.ipv4_src,
                                    meta.lookup.ipv4_dst, meta.lookup.ipv6_src, meta.lookup.ipv6_dst,
                                    meta.inband.node_id, meta.intake.ingress_port, meta.egress_port,
                                    meta.flow.sink_time, meta.flow.sink_latency, meta.flow.sink_queue,
                                      hdr.int_hops[0].place, hdr.int_hops[0].times,
                                      hdr.int_hops[1].place, hdr.int_hops[1].times,
                                      hdr.int_hops[2].place, hdr.int_hops[2].times,
                                      hdr.int_hops[3].place, hdr.int_hops[3].times,
                                      hdr.int_hops[4].place, hdr.int_hops[4].times,
                                      hdr.int_hops[5].place, hdr.int_hops[5].times,
                                      hdr.int_hops[6].place, hdr.int_hops[6].times,
                                      hdr.int_hops[7].place, hdr.int_hops[7].times,
                                    meta.flow.packets, meta.flow.bytes });
                            }
                        }
                    }
                }
            }
        }

        if (meta.send_report == 1) {
            digest<port_report_t>(1, meta.report);
        }
        if (meta.verdict == FORWARD) {
            standard.egress_spec = meta.egress_port;
            standard.priority = meta.queue_priority;
        } else {
            if (meta.verdict == DROP) {
                count_drop.apply(meta.drop_reason);
            }
            mark_to_drop(standard);
        }
    }
}

control ShadowplaneEgress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard) {
    PortTx() port_tx;
    QueueDepth() queue_depth;
    KeptBack() kept_back;
    IntHop() int_hop;
    IntSinkNotes() int_sink_notes;

    apply {
        port_tx.apply(hdr, meta);
        queue_depth.apply(hdr, meta, (bit<32>) standard.enq_qdepth);
        kept_back.apply(hdr, meta, standard.enq_timestamp - standard.ingress_global_timestamp[31:0]);
        if (meta.inband.op != INT_NONE) {
            time_us_t waited = standard.egress_global_timestamp |-| standard.ingress_global_timestamp;
            bit<32> latency = waited[31:0];
            if (waited[47:32] != 0) {
                latency = 0xFFFFFFFE;
            }
            if (meta.inband.op == INT_REMOVED) {
                int_sink_notes.apply(hdr, meta, latency, (bit<32>) standard.enq_qdepth);
            } else {
                int_hop.apply(hdr, meta, latency, (bit<32>) standard.enq_qdepth,
                              standard.ingress_global_timestamp, standard.egress_global_timestamp);
            }
        }
    }
}

control ShadowplaneComputeChecksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.dscp, hdr.ipv4.ecn, hdr.ipv4.total_length,
              hdr.ipv4.identification, hdr.ipv4.flags, hdr.ipv4.fragment_offset,
              hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control ShadowplaneDeparser(packet_out packet, in headers_t hdr) {
    PacketDeparser() packet_deparser;

    apply {
        packet_deparser.apply(packet, hdr);
    }
}

@pkginfo(name="shadowplane", version="1.0.0")
V1Switch(ShadowplaneParser(), ShadowplaneVerifyChecksum(), ShadowplaneIngress(), ShadowplaneEgress(),
         ShadowplaneComputeChecksum(), ShadowplaneDeparser()) main;
