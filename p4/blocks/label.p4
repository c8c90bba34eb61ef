// Packets on a shadow path carry a path label; every switch on it knows the next hop by heart.
//
//   labelled ──exact──┬─ label_forward: port, MACs      port seems dead: counted in label_dead_port
//                     └─ label_pop: last hop; the packet beneath is routed as usual
//
// The path of a diverted packet is fixed where it was diverted, so it cannot meet a switch that sends it
// back. That is also why it isn't diverted again when its path breaks. It is sent all the same: if the port
// is dead, it is lost either way; if the neighbour was only held up, it is saved.
//
// The TTL model is the uniform one (RFC 3443): the label's TTL continues the packet's, and is written back
// by label_pop. A trace route or a loop counter sees every switch.
//
// Deliberately not here: label stacks (DROP_UNSUPPORTED at label_pop; transit looks at the top label only)
// and swapping: a path keeps one label from end to end.
#ifndef SHADOWPLANE_LABEL_P4_
#define SHADOWPLANE_LABEL_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Label(inout headers_t hdr, inout metadata_t meta) {
    PortLiveness() port_liveness;
    CountLabelDeadPort() count_dead_port;

    @name(".label_forward") @id(ID_ACTION_LABEL_FORWARD)
    action label_forward(@id(1) port_t port, @id(2) mac_t src_mac, @id(3) mac_t dst_mac) {
        meta.nexthop.present = 1;
        meta.nexthop.port = port;
        meta.nexthop.src_mac = src_mac;
        meta.nexthop.dst_mac = dst_mac;
    }

    @name(".label_pop") @id(ID_ACTION_LABEL_POP)
    action label_pop() { }

    @name(".unknown_label") @id(ID_ACTION_UNKNOWN_LABEL)
    action unknown_label() {
        meta.verdict = DROP;
        meta.drop_reason = DROP_UNKNOWN_LABEL;
    }

    @name(".label") @id(ID_TABLE_LABEL)
    table label {
        key = { hdr.mpls.label: exact @name("label") @id(1); }
        actions = { label_forward; label_pop; @defaultonly unknown_label; }
        const default_action = unknown_label;
        size = LABELS;
    }

    apply {
        if (hdr.mpls.isValid()) {
            if (hdr.mpls.ttl <= 1) {
                meta.verdict = DROP;
                meta.drop_reason = DROP_TTL_EXPIRED;
            } else {
                label.apply();
                if (meta.verdict == UNDECIDED) {
                    if (meta.nexthop.present == 1) {
                        bit<1> dead;
                        time_us_t last_seen;
                        port_liveness.apply(meta.nexthop.port, meta.intake.now, dead, last_seen);
                        if (dead == 1) {
                            count_dead_port.apply(meta.nexthop.port);
                        }
                        meta.verdict = FORWARD;
                        meta.egress_port = meta.nexthop.port;
                    } else if (hdr.mpls.bottom == 0) {
                        meta.verdict = DROP;
                        meta.drop_reason = DROP_UNSUPPORTED;
                    } else {
                        if (hdr.ipv4.isValid()) {
                            hdr.ipv4.ttl = hdr.mpls.ttl;
                        } else if (hdr.ipv6.isValid()) {
                            hdr.ipv6.hop_limit = hdr.mpls.ttl;
                        }
                        hdr.ethernet.ether_type = meta.lookup.ether_type;
                        hdr.mpls.setInvalid();
                    }
                }
            }
        }
    }
}

#endif  // SHADOWPLANE_LABEL_P4_
