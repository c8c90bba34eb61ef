// What a router changes in a packet that it forwards.
//
//   MAC addresses from the next hop, TTL or hop limit minus one, path label on if the next hop says so
//
//   in:  ethernet |      | ipv4            in:  ethernet | mpls ttl=n   | ipv4 ttl=m
//   out: ethernet | mpls | ipv4            out: ethernet | mpls ttl=n-1 | ipv4 ttl=m
//
// Whether the TTL lasts was checked before (blocks/label.p4, blocks/route.p4).
//
// Deliberately not here: the IPv4 checksum, which the architecture's own unit computes; fragmentation, and
// any check against the port's MTU: a label makes a packet 4 bytes longer, links must have room for it.
#ifndef SHADOWPLANE_REWRITE_P4_
#define SHADOWPLANE_REWRITE_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control Rewrite(inout headers_t hdr, inout metadata_t meta) {
    apply {
        hdr.ethernet.src = meta.nexthop.src_mac;
        hdr.ethernet.dst = meta.nexthop.dst_mac;

        if (hdr.mpls.isValid()) {
            hdr.mpls.ttl = hdr.mpls.ttl - 1;
        } else {
            bit<8> ttl = 0;
            if (hdr.ipv4.isValid()) {
                hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
                ttl = hdr.ipv4.ttl;
            } else if (hdr.ipv6.isValid()) {
                hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
                ttl = hdr.ipv6.hop_limit;
            }
            if (meta.nexthop.push == 1) {
                hdr.mpls.setValid();
                hdr.mpls.label = meta.nexthop.label;
                hdr.mpls.traffic_class = meta.queue_priority;
                hdr.mpls.bottom = 1;
                hdr.mpls.ttl = ttl;
                hdr.ethernet.ether_type = ETHERTYPE_MPLS;
            }
        }
    }
}

#endif  // SHADOWPLANE_REWRITE_P4_
