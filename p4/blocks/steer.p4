// Primary or shadow? The heart of the program.
//
//   failover bit ──┐
//   primary dead ──┴─ neither ───────────────────────────────> primary
//                     one of them ─┬─ shadow there and alive ─> shadow
//                                  ├─ primary alive ──────────> primary        ┐ counted in
//                                  ├─ last resort ────────────> heard of last  ┘ group_fallback
//                                  └─ no entry at all ────────> DROP_NO_NEXTHOP
//
// One register bit moves every prefix of the group, and holds for the very next packet. A port that died
// moves them without anybody's order. A missing entry counts as dead.
//
// Last resort: where both ways seem dead, dropping would be certain loss. A neighbour that was only held up
// still gets its packets later, so the packet goes the way whose port gave a sign of life more recently
// (none since the carrier was lost); if neither ever did, the way that the bit asks for.
//
// Packets are counted per group and way, so that a controller can verify a flip by looking.
//
// Deliberately not here: capacity, health other than liveness, and hysteresis. They need memory and
// judgement; the controller decides about them by writing the bit.
#ifndef SHADOWPLANE_STEER_P4_
#define SHADOWPLANE_STEER_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Steer(inout headers_t hdr, inout metadata_t meta) {
    FailoverRead() failover_read;
    PortLiveness() primary_liveness;
    PortLiveness() shadow_liveness;
    CountGroup() count_group;
    CountFallback() count_fallback;

    @name(".set_nexthop") @id(ID_ACTION_SET_NEXTHOP)
    action set_nexthop(@id(1) port_t port, @id(2) mac_t src_mac, @id(3) mac_t dst_mac) {
        meta.nexthop.present = 1;
        meta.nexthop.port = port;
        meta.nexthop.src_mac = src_mac;
        meta.nexthop.dst_mac = dst_mac;
        meta.nexthop.push = 0;
        meta.nexthop.label = 0;
    }

    @name(".set_nexthop_label") @id(ID_ACTION_SET_NEXTHOP_LABEL)
    action set_nexthop_label(@id(1) port_t port, @id(2) mac_t src_mac, @id(3) mac_t dst_mac,
                             @id(4) label_t label) {
        meta.nexthop.present = 1;
        meta.nexthop.port = port;
        meta.nexthop.src_mac = src_mac;
        meta.nexthop.dst_mac = dst_mac;
        meta.nexthop.push = 1;
        meta.nexthop.label = label;
    }

    @name(".no_nexthop") @id(ID_ACTION_NO_NEXTHOP)
    action no_nexthop() {
        meta.nexthop.present = 0;
    }

    @name(".primary_nexthop") @id(ID_TABLE_PRIMARY_NEXTHOP)
    table primary_nexthop {
        key = { meta.group_id: exact @name("group_id") @id(1); }
        actions = { set_nexthop; @defaultonly no_nexthop; }
        const default_action = no_nexthop;
        size = GROUPS;
    }

    @name(".shadow_nexthop") @id(ID_TABLE_SHADOW_NEXTHOP)
    table shadow_nexthop {
        key = { meta.group_id: exact @name("group_id") @id(1); }
        actions = { set_nexthop; set_nexthop_label; @defaultonly no_nexthop; }
        const default_action = no_nexthop;
        size = GROUPS;
    }

    apply {
        primary_nexthop.apply();
        nexthop_t primary = meta.nexthop;
        bit<1> primary_alive = 0;
        time_us_t primary_seen = 0;
        if (primary.present == 1) {
            bit<1> primary_dead;
            primary_liveness.apply(primary.port, meta.intake.now, primary_dead, primary_seen);
            primary_alive = primary_dead ^ 1;
        }

        bit<1> flipped;
        failover_read.apply(meta.group_id, flipped);

        bit<1> by_shadow = 0;
        bit<1> fallback = 0;
        meta.verdict = FORWARD;
        if (flipped == 1 || primary_alive == 0) {
            shadow_nexthop.apply();
            bit<1> shadow_alive = 0;
            time_us_t shadow_seen = 0;
            if (meta.nexthop.present == 1) {
                bit<1> shadow_dead;
                shadow_liveness.apply(meta.nexthop.port, meta.intake.now, shadow_dead, shadow_seen);
                shadow_alive = shadow_dead ^ 1;
            }
            if (shadow_alive == 1) {
                by_shadow = 1;
            } else if (primary_alive == 1) {
                fallback = 1;
            } else if (primary.present == 0 && meta.nexthop.present == 0) {
                meta.verdict = DROP;
                meta.drop_reason = DROP_NO_NEXTHOP;
            } else {
                fallback = 1;
                if (primary.present == 0) {
                    by_shadow = 1;
                } else if (meta.nexthop.present == 1) {
                    if (shadow_seen > primary_seen || (shadow_seen == primary_seen && flipped == 1)) {
                        by_shadow = 1;
                    }
                }
            }
            if (by_shadow == 0) {
                meta.nexthop = primary;
            }
        }
        if (meta.verdict == FORWARD) {
            count_group.apply(meta.group_id, by_shadow);
            if (fallback == 1) {
                count_fallback.apply(meta.group_id);
            }
        }
        meta.egress_port = meta.nexthop.port;
    }
}

#endif  // SHADOWPLANE_STEER_P4_
