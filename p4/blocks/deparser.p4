// Puts a frame together again.
//
//   packet_in | command | ethernet | heartbeat | mpls | ipv4 | ipv6 | l4 | payload
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
    }
}

#endif  // SHADOWPLANE_DEPARSER_P4_
