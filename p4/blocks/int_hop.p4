// Source and transit: this switch's own metadata, pushed on top of what the hops before left.
//
//   INT_START   shim and MD header on, DSCP set, then as transit; no room even for these: nothing is started
//   INT_PUSH    remaining hops 0 ────────────────────────────────> E
//               instructions that do not fit the words announced ─> nothing (the specification's "skip")
//               no room below the MTU ───────────────────────────> M
//               else ────────────────────────────────────────────> own metadata, remaining hops - 1
//
//   bit  metadata                              here
//   0    node id                               from the table
//   1    level 1 interfaces                    port numbers
//   2    hop latency                           us
//   3    queue id, occupancy                   priority; packets in the queue when this one joined it
//   4    ingress time                          us, switch's clock
//   5    egress time                           us
//   6    level 2 interfaces                    all ones: none
//   7    egress utilization                    all ones: not measured in the data plane
//   8    buffer id, occupancy                  all ones: no buffer but the queue
//   9-14 reserved                              all ones
//   -    domain specific words                 all ones: no domain but 0 is known
//   15   checksum complement                   all ones: the checksum itself is kept right
//
// Everything that is all ones comes after bit 5, so it is one run of filler, and as words of 0xFFFF it does not
// even change a checksum.
//
// Deliberately not here: fragmentation, and more than INT_FILLER_WORDS of filler (such packets are skipped).
#ifndef SHADOWPLANE_INT_HOP_P4_
#define SHADOWPLANE_INT_HOP_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control IntHop(inout headers_t hdr, inout metadata_t meta,
               in bit<32> latency, in bit<32> depth, in time_us_t arrival, in time_us_t departure) {
    L4Checksum() l4_checksum;

    apply {
        bit<32> change = 0;
        bit<32> grown = 0;  // bytes
        bit<32> limit = (bit<32>) meta.inband.mtu;
        bit<32> size = 40 + (bit<32>) hdr.ipv6.payload_length;
        if (limit == 0) {
            limit = 65535;
        }
        if (hdr.ipv4.isValid()) {
            size = (bit<32>) hdr.ipv4.total_length;
        }
        if (hdr.mpls.isValid()) {
            size = size + 4;
        }

        if (meta.inband.op == INT_START) {
            if (size + 16 > limit) {
                meta.inband.op = INT_NONE;
            } else {
                hdr.int_md.setValid();
                hdr.int_md.shim_type = INT_TYPE_MD;
                hdr.int_md.next_protocol = 0;
                hdr.int_md.shim_reserved = 0;
                hdr.int_md.length = INT_MD_WORDS;
                hdr.int_md.shim_reserved2 = 0;
                hdr.int_md.dscp = hdr.ipv6.dscp;
                if (hdr.ipv4.isValid()) {
                    hdr.int_md.dscp = hdr.ipv4.dscp;
                }
                hdr.int_md.shim_reserved3 = 0;
                hdr.int_md.version = INT_VERSION;
                hdr.int_md.discard = 0;
                hdr.int_md.hops_exceeded = 0;
                hdr.int_md.mtu_exceeded = 0;
                hdr.int_md.reserved = 0;
                hdr.int_md.reserved2 = 0;
                hdr.int_md.hop_words = meta.inband.hop_words;
                hdr.int_md.remaining_hops = meta.inband.hop_limit;
                hdr.int_md.instructions = meta.inband.instructions;
                hdr.int_md.domain = 0;
                hdr.int_md.ds_instructions = 0;
                hdr.int_md.ds_flags = 0;
                // The words of the header just made: type and length, DSCP, version, hop words and limit, bitmap.
                change = 0x1003 + (bit<32>) (hdr.int_md.dscp ++ 2w0) + 0x2000
                         + (bit<32>) (meta.inband.hop_words ++ meta.inband.hop_limit)
                         + (bit<32>) meta.inband.instructions;
                grown = 16;
                if (hdr.ipv4.isValid()) {
                    hdr.ipv4.dscp = meta.inband.dscp;
                } else {
                    hdr.ipv6.dscp = meta.inband.dscp;
                }
            }
        }

        if (meta.inband.op == INT_START || meta.inband.op == INT_PUSH) {
            bit<16> bits = hdr.int_md.instructions;
            bit<8> hop_words = (bit<8>) hdr.int_md.hop_words;
            bit<8> own = (bit<8>) bits[15:15] + (bit<8>) bits[14:14] + (bit<8>) bits[13:13] + (bit<8>) bits[12:12]
                         + ((bit<8>) bits[11:11] << 1) + ((bit<8>) bits[10:10] << 1);
            bit<8> asked = own + ((bit<8>) bits[9:9] << 1) + (bit<8>) bits[8:8] + (bit<8>) bits[7:7]
                           + (bit<8>) bits[6:6] + (bit<8>) bits[5:5] + (bit<8>) bits[4:4] + (bit<8>) bits[3:3]
                           + (bit<8>) bits[2:2] + (bit<8>) bits[1:1] + (bit<8>) bits[0:0];
            bit<8> filler = hop_words |-| own;
            bit<32> hop_bytes = (bit<32>) hop_words << 2;

            if (hdr.int_md.remaining_hops == 0) {
                if (meta.inband.op == INT_PUSH && hdr.int_md.hops_exceeded == 0) {
                    hdr.int_md.hops_exceeded = 1;
                    change = change + 0x0400;
                }
            } else if (hop_words != 0 && asked <= hop_words && filler <= (bit<8>) INT_FILLER_WORDS
                       && hdr.int_md.length <= 255 - hop_words) {
                if (size + grown + hop_bytes > limit) {
                    if (hdr.int_md.mtu_exceeded == 0) {
                        hdr.int_md.mtu_exceeded = 1;
                        change = change + 0x0200;
                    }
                } else {
                    hdr.int_md.length = hdr.int_md.length + hop_words;
                    hdr.int_md.remaining_hops = hdr.int_md.remaining_hops - 1;
                    grown = grown + hop_bytes;
                    change = change + (bit<32>) hop_words + 0xFFFE;  // 0xFFFE: minus one
                    if (bits[15:15] == 1) {
                        hdr.int_node.setValid();
                        hdr.int_node.value = meta.inband.node_id;
                        change = change + (bit<32>) meta.inband.node_id[31:16] + (bit<32>) meta.inband.node_id[15:0];
                    }
                    if (bits[14:14] == 1) {
                        hdr.int_ports.setValid();
                        hdr.int_ports.value = (bit<16>) meta.intake.ingress_port ++ (bit<16>) meta.egress_port;
                        change = change + (bit<32>) meta.intake.ingress_port + (bit<32>) meta.egress_port;
                    }
                    if (bits[13:13] == 1) {
                        hdr.int_latency.setValid();
                        hdr.int_latency.value = latency;
                        change = change + (bit<32>) latency[31:16] + (bit<32>) latency[15:0];
                    }
                    if (bits[12:12] == 1) {
                        hdr.int_queue.setValid();
                        hdr.int_queue.value = (bit<8>) meta.queue_priority ++ depth[23:0];
                        change = change + (bit<32>) hdr.int_queue.value[31:16] + (bit<32>) depth[15:0];
                    }
                    if (bits[11:11] == 1) {
                        hdr.int_ingress_time.setValid();
                        hdr.int_ingress_time.value = (bit<64>) arrival;
                        change = change + (bit<32>) arrival[47:32] + (bit<32>) arrival[31:16]
                                 + (bit<32>) arrival[15:0];
                    }
                    if (bits[10:10] == 1) {
                        hdr.int_egress_time.setValid();
                        hdr.int_egress_time.value = (bit<64>) departure;
                        change = change + (bit<32>) departure[47:32] + (bit<32>) departure[31:16]
                                 + (bit<32>) departure[15:0];
                    }
                    if (filler[0:0] == 1) {
                        hdr.int_ones1.setValid();
                        hdr.int_ones1.value = ~32w0;
                    }
                    if (filler[1:1] == 1) {
                        hdr.int_ones2.setValid();
                        hdr.int_ones2.value = ~64w0;
                    }
                    if (filler[2:2] == 1) {
                        hdr.int_ones4.setValid();
                        hdr.int_ones4.value = ~128w0;
                    }
                    if (filler[3:3] == 1) {
                        hdr.int_ones8.setValid();
                        hdr.int_ones8.value = ~128w0;
                        hdr.int_ones8.value2 = ~128w0;
                    }
                }
            }

            // The length is in the pseudo header, and for UDP in the header too.
            change = change + grown;
            if (hdr.udp.isValid()) {
                change = change + grown;
                hdr.udp.length = hdr.udp.length + grown[15:0];
            }
            if (hdr.ipv4.isValid()) {
                hdr.ipv4.total_length = hdr.ipv4.total_length + grown[15:0];
            } else {
                hdr.ipv6.payload_length = hdr.ipv6.payload_length + grown[15:0];
            }
            l4_checksum.apply(hdr, change);
        }
    }
}

#endif  // SHADOWPLANE_INT_HOP_P4_
