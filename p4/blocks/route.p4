// Which steering group?
//
//   destination ──lpm──┬─ set_group(group_id) ───────────────────────────────> group
//                      ├─ set_balance(balance_id) ── hash of the flow ───────> one of several groups
//                      ├─ route_drop                 DROP_ROUTE_DROP
//                      └─ no entry                   DROP_NO_ROUTE
//
// Balancing chooses among groups, not ports: each has its own primary and shadow, so that failover works
// the same for balanced traffic. Weights are repeated members, as in P4Runtime.
//
// Deliberately not here: next hops, and addresses of the switch itself: nothing is delivered locally.
#ifndef SHADOWPLANE_ROUTE_P4_
#define SHADOWPLANE_ROUTE_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Route(inout headers_t hdr, inout metadata_t meta) {
    @name(".set_group") @id(ID_ACTION_SET_GROUP)
    action set_group(@id(1) group_t group_id) {
        meta.group_id = group_id;
    }

    @name(".set_balance") @id(ID_ACTION_SET_BALANCE)
    action set_balance(@id(1) bit<16> balance_id) {
        meta.balanced = 1;
        meta.balance_id = balance_id;
    }

    @name(".route_drop") @id(ID_ACTION_ROUTE_DROP)
    action route_drop() {
        meta.verdict = DROP;
        meta.drop_reason = DROP_ROUTE_DROP;
    }

    @name(".no_route") @id(ID_ACTION_NO_ROUTE)
    action no_route() {
        meta.verdict = DROP;
        meta.drop_reason = DROP_NO_ROUTE;
    }

    @name(".route_ipv4") @id(ID_TABLE_ROUTE_IPV4)
    table route_ipv4 {
        key = { hdr.ipv4.dst: lpm @name("dst") @id(1); }
        actions = { set_group; set_balance; route_drop; @defaultonly no_route; }
        const default_action = no_route;
        size = IPV4_ROUTES;
    }

    @name(".route_ipv6") @id(ID_TABLE_ROUTE_IPV6)
    table route_ipv6 {
        key = { hdr.ipv6.dst: lpm @name("dst") @id(1); }
        actions = { set_group; set_balance; route_drop; @defaultonly no_route; }
        const default_action = no_route;
        size = IPV6_ROUTES;
    }

    @name(".balance_selector") @id(ID_SELECTOR_BALANCE) @max_group_size(BALANCE_GROUP_MEMBERS)
    SELECTOR(balance_selector, BALANCE_MEMBERS);

    @name(".balance") @id(ID_TABLE_BALANCE)
    table balance {
        key = {
            meta.balance_id: exact @name("balance_id") @id(1);
            meta.lookup.ipv4_src: selector;
            meta.lookup.ipv4_dst: selector;
            meta.lookup.ipv6_src: selector;
            meta.lookup.ipv6_dst: selector;
            meta.lookup.ip_proto: selector;
            meta.lookup.l4_sport: selector;
            meta.lookup.l4_dport: selector;
        }
        actions = { set_group; }
        implementation = balance_selector;
        size = BALANCES;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            if (hdr.ipv4.ttl <= 1) {
                meta.verdict = DROP;
                meta.drop_reason = DROP_TTL_EXPIRED;
            } else {
                route_ipv4.apply();
            }
        } else if (hdr.ipv6.isValid()) {
            if (hdr.ipv6.hop_limit <= 1) {
                meta.verdict = DROP;
                meta.drop_reason = DROP_TTL_EXPIRED;
            } else {
                route_ipv6.apply();
            }
        } else {
            meta.verdict = DROP;
            meta.drop_reason = DROP_UNKNOWN_ETHERTYPE;
        }
        if (meta.verdict == UNDECIDED && meta.balanced == 1) {
            // A table with an action profile has no default action of its own.
            if (!balance.apply().hit) {
                meta.verdict = DROP;
                meta.drop_reason = DROP_NO_BALANCE;
            }
        }
    }
}

#endif  // SHADOWPLANE_ROUTE_P4_
