// The firewall.
//
//   meta.lookup ──ternary, range──> permit | deny (DROP_ACL_DENY) | punt (packet_in, reason 0)
//
// Each entry counts what it matched. A diverted packet is judged by the flow's own fields beneath its path
// label, so that a detour neither opens nor closes anything. Frames that are not IP can be matched too, by
// ether_type: this is how a controller asks for ARP.
//
// Deliberately not here: connection state, and any rate limit on punted packets.
#ifndef SHADOWPLANE_ACL_P4_
#define SHADOWPLANE_ACL_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Acl(inout headers_t hdr, inout metadata_t meta) {
    @name(".acl_counter") @id(ID_COUNTER_ACL)
    DIRECT_COUNTER(acl_counter);

    @name(".acl_permit") @id(ID_ACTION_ACL_PERMIT)
    action acl_permit() {
        acl_counter.count();
    }

    @name(".acl_deny") @id(ID_ACTION_ACL_DENY)
    action acl_deny() {
        acl_counter.count();
        meta.verdict = DROP;
        meta.drop_reason = DROP_ACL_DENY;
    }

    @name(".acl_punt") @id(ID_ACTION_ACL_PUNT)
    action acl_punt() {
        acl_counter.count();
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = meta.intake.ingress_port;
        hdr.packet_in.reason = OPCODE_PLAIN;
        meta.verdict = FORWARD;
        meta.egress_port = CPU_PORT;
    }

    @name(".acl") @id(ID_TABLE_ACL)
    table acl {
        key = {
            meta.intake.ingress_port: ternary @name("ingress_port") @id(1);
            meta.lookup.ether_type: ternary @name("ether_type") @id(2);
            meta.lookup.ipv4_src: ternary @name("ipv4_src") @id(3);
            meta.lookup.ipv4_dst: ternary @name("ipv4_dst") @id(4);
            meta.lookup.ipv6_src: ternary @name("ipv6_src") @id(5);
            meta.lookup.ipv6_dst: ternary @name("ipv6_dst") @id(6);
            meta.lookup.ip_proto: ternary @name("ip_proto") @id(7);
            meta.lookup.l4_sport: range @name("l4_sport") @id(8);
            meta.lookup.l4_dport: range @name("l4_dport") @id(9);
            meta.lookup.dscp: ternary @name("dscp") @id(10);
        }
        actions = { acl_permit; acl_deny; acl_punt; }
        default_action = acl_permit;
        counters = acl_counter;
        size = ACL_ENTRIES;
    }

    apply {
        acl.apply();
    }
}

#endif  // SHADOWPLANE_ACL_P4_
