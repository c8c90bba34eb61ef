// Puts a frame together again.
//
//   packet_in | command | ethernet | heartbeat | mpls | ipv4 | ipv6 | l4 | udp | tcp and options |
//   INT: shim and MD header, own metadata, the hops before, the rest of the stack | payload
//
// Only valid headers are written; blocks decide which are. packet_out is never one of them: it is an order to
// this switch, and ends here.
//
// Deliberately not here: padding. A heartbeat is 33 bytes and what its maker put behind it.
#ifndef SHADOWPLANE_DEPARSER_P4_
#define SHADOWPLANE_DEPARSER_P4_

#include "../include/headers.p4"

control PacketDeparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.command);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.heartbeat);
        packet.emit(hdr.mpls);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.l4);
        packet.emit(hdr.udp);
        packet.emit(hdr.tcp);
        packet.emit(hdr.tcp_options);
        packet.emit(hdr.int_md);
        packet.emit(hdr.int_node);
        packet.emit(hdr.int_ports);
        packet.emit(hdr.int_latency);
        packet.emit(hdr.int_queue);
        packet.emit(hdr.int_ingress_time);
        packet.emit(hdr.int_egress_time);
        packet.emit(hdr.int_ones1);
        packet.emit(hdr.int_ones2);
        packet.emit(hdr.int_ones4);
        packet.emit(hdr.int_ones8);
        packet.emit(hdr.int_hops);
        packet.emit(hdr.int_rest);
    }
}

#endif  // SHADOWPLANE_DEPARSER_P4_
