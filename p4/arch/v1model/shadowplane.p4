// Shadowplane on v1model: simple_switch_grpc and the embedded switch.
//
//   frame ─ parser ─ checksum ─ ingress ─────────────────────────────────────────── egress ─ checksum ─ frame
//                               count, guard ─┬─ command ─ liveness ─ report        count,
//                                             └─ acl ─ classify ─ label ─           queue depth
//                                                route ─ steer ─ rewrite
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

    apply {
        port_tx.apply(hdr, meta);
        queue_depth.apply(hdr, meta, (bit<32>) standard.enq_qdepth);
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
