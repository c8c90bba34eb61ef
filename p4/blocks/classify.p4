// Which protected flow is this?
//
//   meta.lookup ──ternary, range──> flow_id, queue priority, sampled or not
//
// The priority picks the egress queue where the target has several; `sample` and `flow_id` are for in-band
// telemetry. Each entry counts what it matched: the controller's view of demand.
//
// Deliberately not here: any influence on the path; that is the routes' business. IPv6 flows are told apart
// by protocol, ports and DSCP only: their addresses would take more match memory than all of the rest.
#ifndef SHADOWPLANE_CLASSIFY_P4_
#define SHADOWPLANE_CLASSIFY_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Classify(inout headers_t hdr, inout metadata_t meta) {
    @name(".classify_counter") @id(ID_COUNTER_CLASSIFY)
    DIRECT_COUNTER(classify_counter);

    @name(".set_flow") @id(ID_ACTION_SET_FLOW)
    action set_flow(@id(1) bit<16> flow_id, @id(2) bit<3> priority, @id(3) bit<1> sample) {
        classify_counter.count();
        meta.flow_id = flow_id;
        meta.queue_priority = priority;
        meta.sample = sample;
    }

    @name(".unclassified") @id(ID_ACTION_UNCLASSIFIED)
    action unclassified() {
        classify_counter.count();
    }

    @name(".classify") @id(ID_TABLE_CLASSIFY)
    table classify {
        key = {
            meta.lookup.ipv4_src: ternary @name("ipv4_src") @id(1);
            meta.lookup.ipv4_dst: ternary @name("ipv4_dst") @id(2);
            meta.lookup.ip_proto: ternary @name("ip_proto") @id(3);
            meta.lookup.l4_sport: range @name("l4_sport") @id(4);
            meta.lookup.l4_dport: range @name("l4_dport") @id(5);
            meta.lookup.dscp: ternary @name("dscp") @id(6);
        }
        actions = { set_flow; @defaultonly unclassified; }
        const default_action = unclassified;
        counters = classify_counter;
        size = CLASSIFY_ENTRIES;
    }

    apply {
        classify.apply();
    }
}

#endif  // SHADOWPLANE_CLASSIFY_P4_
