// Where the INT domain ends: which ports lead to other INT nodes, which to hosts.
//
//   arrival    from core, announced by the domain's DSCP ──> classified by the DSCP it had before
//              from edge, with that DSCP ─────────────────> DSCP 0: a host cannot claim to carry telemetry
//   departure  to core ──> node id, MTU, DSCP      to edge ──> telemetry ends here      else ──> none of ours
//
// Inside an INT domain the announcing DSCP means INT and nothing else (INT specification 2.1, section "INT over
// TCP/UDP"); the domain's edge sees to that. A port without an entry is outside: what passes is left alone, but
// nothing is started towards it either.
//
// Deliberately not here: what the telemetry says (blocks/int_hop.p4, blocks/int_sink.p4).
#ifndef SHADOWPLANE_INT_PORT_P4_
#define SHADOWPLANE_INT_PORT_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

// For packets whose DSCP is in the pool for INT, before anything looks at the DSCP.
control IntArrival(inout headers_t hdr, inout metadata_t meta) {
    @name(".int_from_core") @id(ID_ACTION_INT_FROM_CORE)
    action int_from_core(@id(1) bit<6> dscp) {
        meta.inband.role = INT_CORE;
        meta.inband.dscp = dscp;
    }

    @name(".int_from_edge") @id(ID_ACTION_INT_FROM_EDGE)
    action int_from_edge(@id(1) bit<6> dscp) {
        meta.inband.role = INT_EDGE;
        meta.inband.dscp = dscp;
    }

    @name(".int_unknown_port") @id(ID_ACTION_INT_UNKNOWN_PORT)
    action int_unknown_port() { }

    @name(".int_ingress") @id(ID_TABLE_INT_INGRESS)
    table int_ingress {
        key = { meta.intake.ingress_port: exact @name("port") @id(1); }
        actions = { int_from_core; int_from_edge; @defaultonly int_unknown_port; }
        const default_action = int_unknown_port;
        size = PORTS;
    }

    apply {
        int_ingress.apply();
        if (meta.lookup.dscp == meta.inband.dscp) {
            if (meta.inband.role == INT_CORE && hdr.int_md.isValid()) {
                meta.lookup.dscp = hdr.int_md.dscp;
            } else if (meta.inband.role == INT_EDGE) {
                meta.lookup.dscp = 0;
                if (hdr.ipv4.isValid()) {
                    hdr.ipv4.dscp = 0;
                } else {
                    hdr.ipv6.dscp = 0;
                }
            }
        }
        meta.inband.role = INT_OUTSIDE;
    }
}

// For packets that carry telemetry or may be given some, once their egress port is known.
control IntDeparture(inout headers_t hdr, inout metadata_t meta) {
    @name(".int_to_core") @id(ID_ACTION_INT_TO_CORE)
    action int_to_core(@id(1) bit<32> node_id, @id(2) bit<6> dscp, @id(3) bit<16> mtu) {
        meta.inband.role = INT_CORE;
        meta.inband.node_id = node_id;
        meta.inband.dscp = dscp;
        meta.inband.mtu = mtu;
    }

    @name(".int_to_edge") @id(ID_ACTION_INT_TO_EDGE)
    action int_to_edge(@id(1) bit<32> node_id, @id(2) bit<6> dscp) {
        meta.inband.role = INT_EDGE;
        meta.inband.node_id = node_id;
        meta.inband.dscp = dscp;
    }

    @name(".int_outside") @id(ID_ACTION_INT_OUTSIDE)
    action int_outside() { }

    @name(".int_egress") @id(ID_TABLE_INT_EGRESS)
    table int_egress {
        key = { meta.egress_port: exact @name("port") @id(1); }
        actions = { int_to_core; int_to_edge; @defaultonly int_outside; }
        const default_action = int_outside;
        size = PORTS;
    }

    apply {
        int_egress.apply();
    }
}

#endif  // SHADOWPLANE_INT_PORT_P4_
