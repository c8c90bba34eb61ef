// Which headers a frame has.
//
//   CPU_PORT, PKTGEN_PORT ─ packet_out ─┬─ opcode 0: the rest is payload
//                                       └─ else: command
//   other ports ─ ethernet ─┬─ heartbeat
//                           ├─ mpls ─┬─ (by the first nibble) ipv4, ipv6
//                           ├─ ipv4 ─┴─ l4   first fragment, TCP/UDP/SCTP, no options
//                           └─ ipv6 ─── l4   TCP/UDP/SCTP right after the fixed header
//   l4 ─┬─ udp ─────────────┬─ DSCP in the pool for INT, and it looks like INT: int_md ─┬─ int_hops ─ int_rest
//       └─ tcp ─ tcp_options ┘                                                          └─ int_rest
//
// Whether that DSCP means INT here is settled by tables later; headers that turn out to be payload are written
// as they were read. meta.inband.left tells how much of a telemetry stack was too long to be read.
//
// Deliberately not here: any judgement. Wrong versions and lengths are parsed as far as the layout is
// certain; blocks/guard.p4 drops and counts them. What follows the last known header is payload.
#ifndef SHADOWPLANE_PARSER_P4_
#define SHADOWPLANE_PARSER_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

parser PacketParser(packet_in packet, out headers_t hdr, inout metadata_t meta) {
    state start {
        transition select(meta.intake.ingress_port) {
            CPU_PORT: parse_packet_out;
            PKTGEN_PORT: parse_packet_out;
            default: parse_ethernet;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition select(hdr.packet_out.opcode) {
            OPCODE_PLAIN: accept;
            default: parse_command;
        }
    }

    state parse_command {
        packet.extract(hdr.command);
        transition accept;
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            ETHERTYPE_MPLS: parse_mpls;
            ETHERTYPE_HEARTBEAT: parse_heartbeat;
            default: accept;
        }
    }

    state parse_heartbeat {
        packet.extract(hdr.heartbeat);
        transition accept;
    }

    state parse_mpls {
        packet.extract(hdr.mpls);
        transition select(hdr.mpls.bottom) {
            1: parse_beneath_label;
            default: accept;
        }
    }

    state parse_beneath_label {
        transition select(packet.lookahead<bit<4>>()) {
            4: parse_ipv4;
            6: parse_ipv6;
            default: accept;
        }
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        transition select(hdr.ipv4.ihl, hdr.ipv4.fragment_offset, hdr.ipv4.protocol) {
            (5, 0, PROTOCOL_TCP): parse_tcp4;
            (5, 0, PROTOCOL_UDP): parse_udp4;
            (5, 0, PROTOCOL_SCTP): parse_l4;
            default: accept;
        }
    }

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_TCP: parse_tcp6;
            PROTOCOL_UDP: parse_udp6;
            PROTOCOL_SCTP: parse_l4;
            default: accept;
        }
    }

    state parse_l4 {
        packet.extract(hdr.l4);
        transition accept;
    }

    state parse_udp4 {
        packet.extract(hdr.l4);
        packet.extract(hdr.udp);
        transition select(hdr.ipv4.dscp) {
            INT_DSCP_POOL &&& INT_DSCP_POOL_MASK: measure_udp;
            default: accept;
        }
    }

    state parse_udp6 {
        packet.extract(hdr.l4);
        packet.extract(hdr.udp);
        transition select(hdr.ipv6.dscp) {
            INT_DSCP_POOL &&& INT_DSCP_POOL_MASK: measure_udp;
            default: accept;
        }
    }

    state measure_udp {
        meta.inband.room = hdr.udp.length |-| 8;
        transition find_int;
    }

    state parse_tcp4 {
        packet.extract(hdr.l4);
        packet.extract(hdr.tcp);
        transition select(hdr.tcp.data_offset) {
            0 .. 4: accept;
            5: after_tcp4;
            default: parse_tcp4_options;
        }
    }

    state parse_tcp4_options {
        packet.extract(hdr.tcp_options, ((bit<32>) hdr.tcp.data_offset - 5) << 5);
        transition after_tcp4;
    }

    state after_tcp4 {
        meta.inband.room = hdr.ipv4.total_length |-| ((bit<16>) hdr.tcp.data_offset << 2) |-| 20;
        transition select(hdr.ipv4.dscp) {
            INT_DSCP_POOL &&& INT_DSCP_POOL_MASK: find_int;
            default: accept;
        }
    }

    state parse_tcp6 {
        packet.extract(hdr.l4);
        packet.extract(hdr.tcp);
        transition select(hdr.tcp.data_offset) {
            0 .. 4: accept;
            5: after_tcp6;
            default: parse_tcp6_options;
        }
    }

    state parse_tcp6_options {
        packet.extract(hdr.tcp_options, ((bit<32>) hdr.tcp.data_offset - 5) << 5);
        transition after_tcp6;
    }

    state after_tcp6 {
        meta.inband.room = hdr.ipv6.payload_length |-| ((bit<16>) hdr.tcp.data_offset << 2);
        transition select(hdr.ipv6.dscp) {
            INT_DSCP_POOL &&& INT_DSCP_POOL_MASK: find_int;
            default: accept;
        }
    }

    state find_int {
        transition select(meta.inband.room) {
            0 .. 15: accept;
            default: look_at_int;
        }
    }

    state look_at_int {
        bit<40> first = packet.lookahead<bit<40>>();
        transition select(first[39:36], first[35:34], first[31:24], first[7:4]) {
            (INT_TYPE_MD, 0, 0 .. 2, _): accept;
            (INT_TYPE_MD, 0, _, INT_VERSION): parse_int;
            default: accept;
        }
    }

    state parse_int {
        packet.extract(hdr.int_md);
        meta.inband.left = hdr.int_md.length - INT_MD_WORDS;
        // Negative where the stack would be longer than what the packet says to have room for.
        bit<16> spare = meta.inband.room - 4 - ((bit<16>) hdr.int_md.length << 2);
        transition select(spare[15:15], hdr.int_md.hop_words, hdr.int_md.instructions) {
            (1, _, _): accept;
            (0, 8, INT_REPORT_BITS): next_hop;
            default: rest_of_int;
        }
    }

    state next_hop {
        transition select(meta.inband.left, meta.inband.hops) {
            (0 .. 7, _): rest_of_int;
            (_, INT_HOPS): rest_of_int;
            default: parse_hop;
        }
    }

    state parse_hop {
        packet.extract(hdr.int_hops.next);
        meta.inband.left = meta.inband.left - INT_HOP_WORDS;
        meta.inband.hops = meta.inband.hops + 1;
        transition next_hop;
    }

    state rest_of_int {
        transition select(meta.inband.left) {
            0: accept;
            1 .. 64: parse_rest;
            default: accept;
        }
    }

    state parse_rest {
        packet.extract(hdr.int_rest, (bit<32>) meta.inband.left << 5);
        meta.inband.left = 0;
        transition accept;
    }
}

#endif  // SHADOWPLANE_PARSER_P4_
