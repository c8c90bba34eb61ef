// What blocks tell each other about a packet. Blocks see only this and the headers; an architecture's
// top file fills `intake` fields before the first block and obeys `verdict` after the last.
//
// Everything is zero when a packet enters: v1model clears metadata, another architecture must.
#ifndef SHADOWPLANE_METADATA_P4_
#define SHADOWPLANE_METADATA_P4_

#include "constants.p4"

// What shall become of the packet. Once it is not UNDECIDED, later blocks leave the packet alone.
const bit<2> UNDECIDED = 0;
const bit<2> FORWARD   = 1;  // to egress_port
const bit<2> DROP      = 2;  // counted under drop_reason
const bit<2> CONSUME   = 3;  // arrived where it was meant to: gone, uncounted

// Filled by the architecture.
struct intake_t {
    port_t    ingress_port;
    time_us_t now;           // arrival time of the packet
    bit<32>   frame_bytes;   // length on arrival, controller headers included
    bit<1>    parse_failed;
    bit<1>    checksum_bad;
}

// The flow's fields, 0 where the packet has none, so that ternary keys never see a stale header.
struct lookup_t {
    bit<16>  ether_type;  // beneath a path label
    bit<32>  ipv4_src;
    bit<32>  ipv4_dst;
    bit<128> ipv6_src;
    bit<128> ipv6_dst;
    bit<8>   ip_proto;
    bit<16>  l4_sport;
    bit<16>  l4_dport;
    bit<6>   dscp;
}

// Result of a next-hop table.
struct nexthop_t {
    bit<1>  present;
    port_t  port;
    mac_t   src_mac;
    mac_t   dst_mac;
    bit<1>  push;
    label_t label;
}

// What happens on a monitored port.
const bit<3> LIVE_NONE     = 0;
const bit<3> LIVE_TICK     = 1;  // time to send a request
const bit<3> LIVE_DOWN     = 2;  // carrier lost
const bit<3> LIVE_REQUEST  = 3;  // peer's request arrived
const bit<3> LIVE_REPLY    = 4;  // peer's reply arrived

// Why last_seen is an excuse and not a sign of life.
const bit<2> EXCUSED_NOT    = 0;
const bit<2> EXCUSED_PAUSE  = 1;  // the whole switch stood still
const bit<2> EXCUSED_CHANGE = 2;  // the link is in use again

struct liveness_t {
    bit<3>    event;
    port_t    port;
    bit<1>    monitored;
    bit<2>    stretch;          // of a tick: dead_interval counts so many times doubled, until the next one
    bit<1>    steer_override;   // a dead port diverts traffic
    time_us_t dead_interval;
    time_us_t report_interval;
    bit<32>   rtt_delta;
    bit<1>    heard;            // this packet proves the port alive
    bit<1>    dead;             // this packet finds the port dead
}

// The digest. Its name and fields are part of the control plane's interface.
struct port_report_t {
    bit<16>   port;
    bit<32>   seq;         // per port, +1 each
    time_us_t time;        // us
    bit<8>    event;
    bit<32>   rtt;         // us
    bit<32>   lost;        // peer's requests that never arrived, cumulative
    bit<64>   rx_packets;  // cumulative
    bit<64>   rx_bytes;
    bit<64>   tx_packets;
    bit<64>   tx_bytes;
    bit<32>   errors;      // malformed frames and bad checksums received, cumulative
    bit<32>   queue_max;   // deepest egress queue seen since the report before, packets
}

// In-band telemetry: what the packet is to this switch.
const bit<2> INT_OUTSIDE = 0;  // the port belongs to no INT domain
const bit<2> INT_CORE    = 1;  // another INT node is at the other end
const bit<2> INT_EDGE    = 2;  // a host is

const bit<2> INT_NONE    = 0;
const bit<2> INT_START   = 1;  // source: headers on
const bit<2> INT_PUSH    = 2;  // transit: own metadata on
const bit<2> INT_REMOVED = 3;  // sink: headers off, the egress takes notes for the next report

struct inband_t {
    bit<1>  pool;          // the DSCP on arrival may announce INT
    bit<2>  role;          // of the egress port
    bit<2>  op;
    bit<6>  dscp;          // that announces INT
    bit<16> mtu;           // of the egress port, bytes of IP; 0 = any
    bit<32> node_id;
    bit<16> instructions;  // what a source asks for
    bit<5>  hop_words;
    bit<8>  hop_limit;
    bit<16> one_in;
    bit<8>  hops;          // found one by one in the stack
    bit<8>  left;          // words of the stack that the parser has not looked at
    bit<16> room;          // bytes behind the TCP or UDP header
    bit<32> cell;          // of the flow's memory
}

// The digest of the sink. Hops count from the sink backwards (see int_hop_t); those above `hops` mean nothing.
struct flow_report_t {
    bit<16>   flow_id;     // of this switch's classifier
    bit<8>    priority;
    bit<32>   seq;         // per flow memory cell, +1 each
    time_us_t time;        // us, arrival at the sink
    bit<8>    event;
    bit<8>    flags;
    bit<8>    hops;
    bit<8>    protocol;
    bit<16>   sport;
    bit<16>   dport;
    bit<32>   ipv4_src;    // 0 for IPv6, as the other way round
    bit<32>   ipv4_dst;
    bit<128>  ipv6_src;
    bit<128>  ipv6_dst;
    bit<32>   sink_node;   // this switch
    port_t    sink_ingress_port;
    port_t    sink_egress_port;
    time_us_t sink_time;   // us, arrival of the flow's packet before, which the next two are of; 0: none was
    bit<32>   sink_latency;
    bit<32>   sink_queue;  // as in int_hop_t.place: queue 8, occupancy 24
    bit<128>  place1;
    bit<128>  times1;
    bit<128>  place2;
    bit<128>  times2;
    bit<128>  place3;
    bit<128>  times3;
    bit<128>  place4;
    bit<128>  times4;
    bit<128>  place5;
    bit<128>  times5;
    bit<128>  place6;
    bit<128>  times6;
    bit<128>  place7;
    bit<128>  times7;
    bit<128>  place8;
    bit<128>  times8;
    bit<32>   packets;     // that carried telemetry, counted per flow memory cell
    bit<64>   bytes;       // of their frames on arrival, telemetry not counted
}

// What a flow report says besides what the packet itself does.
struct flow_event_t {
    bit<1>    watched;
    bit<32>   latency;       // thresholds
    bit<32>   queue;
    time_us_t min_interval;
    time_us_t max_interval;
    bit<1>    send;
    bit<8>    event;
    bit<8>    flags;
    bit<32>   seq;
    bit<32>   sink_latency;
    bit<32>   sink_queue;
    time_us_t sink_time;
    bit<32>   packets;
    bit<64>   bytes;
}

struct metadata_t {
    intake_t      intake;
    bit<2>        verdict;
    reason_t      drop_reason;
    port_t        egress_port;
    bit<3>        queue_priority;
    lookup_t      lookup;
    bit<16>       flow_id;
    bit<1>        sample;
    bit<1>        balanced;
    bit<16>       balance_id;
    group_t       group_id;
    nexthop_t     nexthop;
    liveness_t    live;
    bit<1>        send_report;
    port_report_t report;
    inband_t      inband;
    flow_event_t  flow;
}

#endif  // SHADOWPLANE_METADATA_P4_
