// Which headers a frame has.
//
//   CPU_PORT, PKTGEN_PORT ─ packet_out ─┬─ opcode 0: the rest is payload
//                                       └─ else: command
//   other ports ─ ethernet ─┬─ heartbeat
//                           ├─ mpls ─┬─ (by the first nibble) ipv4, ipv6
//                           ├─ ipv4 ─┴─ l4   first fragment, TCP/UDP/SCTP, no options
//                           └─ ipv6 ─── l4   TCP/UDP/SCTP right after the fixed header
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
            (5, 0, PROTOCOL_TCP): parse_l4;
            (5, 0, PROTOCOL_UDP): parse_l4;
            (5, 0, PROTOCOL_SCTP): parse_l4;
            default: accept;
        }
    }

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_TCP: parse_l4;
            PROTOCOL_UDP: parse_l4;
            PROTOCOL_SCTP: parse_l4;
            default: accept;
        }
    }

    state parse_l4 {
        packet.extract(hdr.l4);
        transition accept;
    }
}

#endif  // SHADOWPLANE_PARSER_P4_
