// Drops what is broken, and collects the flow's fields.
//
//   truncated, version or length wrong ──> DROP_MALFORMED    ─┐
//   IPv4 header checksum wrong ──────────> DROP_BAD_CHECKSUM ─┴─> also the port's error count
//   IPv4 options ────────────────────────> DROP_UNSUPPORTED
//   otherwise ───────────────────────────> meta.lookup
//
// Deliberately not here: checks of lengths against the frame (a switch forwards, the host decides), of
// destination MAC addresses (every frame that arrives is for this router) and of source addresses (an ACL
// entry does that).
#ifndef SHADOWPLANE_GUARD_P4_
#define SHADOWPLANE_GUARD_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control Guard(inout headers_t hdr, inout metadata_t meta) {
    ErrorsCount() count_error;

    apply {
        reason_t reason = DROP_NONE;
        if (meta.intake.parse_failed == 1) {
            reason = DROP_MALFORMED;
        } else if (hdr.ipv4.isValid()) {
            if (hdr.ipv4.version != 4 || hdr.ipv4.ihl < 5 || hdr.ipv4.total_length < 20) {
                reason = DROP_MALFORMED;
            } else if (hdr.ipv4.ihl != 5) {
                reason = DROP_UNSUPPORTED;
            } else if (meta.intake.checksum_bad == 1) {
                reason = DROP_BAD_CHECKSUM;
            }
        } else if (hdr.ipv6.isValid()) {
            if (hdr.ipv6.version != 6) {
                reason = DROP_MALFORMED;
            }
        }

        if (reason != DROP_NONE) {
            meta.verdict = DROP;
            meta.drop_reason = reason;
            if (reason != DROP_UNSUPPORTED) {
                count_error.apply(meta.intake.ingress_port);
            }
        } else {
            meta.lookup.ether_type = hdr.ethernet.ether_type;
            if (hdr.ipv4.isValid()) {
                meta.lookup.ether_type = ETHERTYPE_IPV4;
                meta.lookup.ipv4_src = hdr.ipv4.src;
                meta.lookup.ipv4_dst = hdr.ipv4.dst;
                meta.lookup.ip_proto = hdr.ipv4.protocol;
                meta.lookup.dscp = hdr.ipv4.dscp;
            } else if (hdr.ipv6.isValid()) {
                meta.lookup.ether_type = ETHERTYPE_IPV6;
                meta.lookup.ipv6_src = hdr.ipv6.src;
                meta.lookup.ipv6_dst = hdr.ipv6.dst;
                meta.lookup.ip_proto = hdr.ipv6.next_header;
                meta.lookup.dscp = hdr.ipv6.dscp;
            }
            if (hdr.l4.isValid()) {
                meta.lookup.l4_sport = hdr.l4.sport;
                meta.lookup.l4_dport = hdr.l4.dport;
            }
        }
    }
}

#endif  // SHADOWPLANE_GUARD_P4_
