// Packet formats. p4/README.md draws them.
//
// Deliberately absent: VLAN tags, IPv4 options, IPv6 extension headers, label stacks deeper than one.
// Such packets are dropped and counted, or forwarded by what is known of them; see blocks/parser.p4.
#ifndef SHADOWPLANE_HEADERS_P4_
#define SHADOWPLANE_HEADERS_P4_

#include "constants.p4"
#include "ids.p4"

@controller_header("packet_out") @id(ID_HEADER_PACKET_OUT)
header packet_out_t {
    @id(1) port_t egress_port;
    @id(2) bit<7> opcode;
}

@controller_header("packet_in") @id(ID_HEADER_PACKET_IN)
header packet_in_t {
    @id(1) port_t ingress_port;
    @id(2) bit<7> reason;
}

// Follows packet_out and packet_in whenever opcode or reason is not 0.
header command_t {
    bit<32> index;   // steering group, or port
    bit<32> value;   // the failover bit
    bit<64> cookie;  // echoed, so that an answer finds its question
}

header ethernet_t {
    mac_t   dst;
    mac_t   src;
    bit<16> ether_type;
}

header heartbeat_t {
    bit<4>    version;
    bit<4>    op;
    bit<16>   port;       // port number at the sender of this frame
    bit<32>   seq;        // of the requester, per port
    time_us_t tx_time;    // requester's clock, when the request was made
    time_us_t echo_time;  // responder's clock, when the request arrived; 0 in requests
}

header mpls_t {
    label_t label;
    bit<3>  traffic_class;
    bit<1>  bottom;
    bit<8>  ttl;
}

header ipv4_t {
    bit<4>  version;
    bit<4>  ihl;
    bit<6>  dscp;
    bit<2>  ecn;
    bit<16> total_length;
    bit<16> identification;
    bit<3>  flags;
    bit<13> fragment_offset;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

header ipv6_t {
    bit<4>   version;
    bit<6>   dscp;
    bit<2>   ecn;
    bit<20>  flow_label;
    bit<16>  payload_length;
    bit<8>   next_header;
    bit<8>   hop_limit;
    bit<128> src;
    bit<128> dst;
}

// The part that TCP, UDP and SCTP have in common.
header l4_t {
    bit<16> sport;
    bit<16> dport;
}

struct headers_t {
    packet_in_t  packet_in;
    packet_out_t packet_out;
    command_t    command;
    ethernet_t   ethernet;
    heartbeat_t  heartbeat;
    mpls_t       mpls;
    ipv4_t       ipv4;
    ipv6_t       ipv6;
    l4_t         l4;
}

#endif  // SHADOWPLANE_HEADERS_P4_
