// Packet formats. p4/README.md draws them.
//
// Deliberately absent: VLAN tags, IPv4 options, IPv6 extension headers, label stacks deeper than one.
// Such packets are dropped and counted, or forwarded by what is known of them; see blocks/parser.p4.
#ifndef SHADOWPLANE_HEADERS_P4_
#define SHADOWPLANE_HEADERS_P4_

#include "constants.p4"
#include "ids.p4"
#include "sizes.p4"

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
    time_us_t tx_time;    // requester's clock, when the request was made; in answers later by the time they were kept back
    time_us_t echo_time;  // answers: responder's clock, when the request arrived; requests: us that the answer may wait
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

// What follows the ports in UDP.
header udp_t {
    bit<16> length;
    bit<16> checksum;
}

// What follows the ports in TCP.
header tcp_t {
    bit<32> seq;
    bit<32> ack;
    bit<4>  data_offset;
    bit<12> flags;  // four reserved bits included
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent;
}

header tcp_options_t {
    varbit<320> data;
}

// INT shim for TCP and UDP, and the MD header that follows it: neither occurs without the other here.
header int_md_t {
    bit<4>  shim_type;
    bit<2>  next_protocol;
    bit<2>  shim_reserved;
    bit<8>  length;           // words behind the shim
    bit<8>  shim_reserved2;
    bit<6>  dscp;             // of the packet before the source marked it
    bit<2>  shim_reserved3;
    bit<4>  version;
    bit<1>  discard;
    bit<1>  hops_exceeded;
    bit<1>  mtu_exceeded;
    bit<9>  reserved;
    bit<3>  reserved2;
    bit<5>  hop_words;        // that each hop adds
    bit<8>  remaining_hops;
    bit<16> instructions;
    bit<16> domain;
    bit<16> ds_instructions;
    bit<16> ds_flags;
}

// One hop's metadata for INT_REPORT_BITS. Two fields, because a digest of few long fields is read faster.
header int_hop_t {
    bit<128> place;  // node 32, ingress port 16, egress port 16, latency 32, queue 8, occupancy 24
    bit<128> times;  // ingress 64, egress 64
}

// Whatever else a stack holds; taken out, and put back, as a whole.
header int_rest_t {
    varbit<2048> data;
}

// What this switch adds: each header at most once, in the order of the instruction bits.
header int_word_t {
    bit<32> value;
}

header int_time_t {
    bit<64> value;
}

// Words of all ones for what this switch cannot tell: any number up to INT_FILLER_WORDS.
header int_ones1_t { bit<32> value; }
header int_ones2_t { bit<64> value; }
header int_ones4_t { bit<128> value; }
header int_ones8_t {
    bit<128> value;
    bit<128> value2;
}

struct headers_t {
    packet_in_t   packet_in;
    packet_out_t  packet_out;
    command_t     command;
    ethernet_t    ethernet;
    heartbeat_t   heartbeat;
    mpls_t        mpls;
    ipv4_t        ipv4;
    ipv6_t        ipv6;
    l4_t          l4;
    udp_t         udp;
    tcp_t         tcp;
    tcp_options_t tcp_options;
    int_md_t      int_md;
    int_word_t    int_node;
    int_word_t    int_ports;
    int_word_t    int_latency;
    int_word_t    int_queue;
    int_time_t    int_ingress_time;
    int_time_t    int_egress_time;
    int_ones1_t   int_ones1;
    int_ones2_t   int_ones2;
    int_ones4_t   int_ones4;
    int_ones8_t   int_ones8;
    int_hop_t[INT_HOPS] int_hops;
    int_rest_t    int_rest;
}

#endif  // SHADOWPLANE_HEADERS_P4_
