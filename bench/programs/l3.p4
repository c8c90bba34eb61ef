/* A plain router, to compare switches with: longest prefix match, next hop's address, TTL, header checksum. */
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> type;
}

header ipv4_t {
    bit<4>  version;
    bit<4>  ihl;
    bit<8>  tos;
    bit<16> length;
    bit<16> id;
    bit<3>  flags;
    bit<13> fragment;
    bit<8>  ttl;
    bit<8>  protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

struct headers_t {
    ethernet_t ethernet;
    ipv4_t     ipv4;
}

struct metadata_t {}

parser parse(packet_in packet, out headers_t h, inout metadata_t m, inout standard_metadata_t s) {
    state start {
        packet.extract(h.ethernet);
        transition select(h.ethernet.type) {
            0x0800: ipv4;
            default: accept;
        }
    }
    state ipv4 {
        packet.extract(h.ipv4);
        transition accept;
    }
}

control verify_sums(inout headers_t h, inout metadata_t m) {
    apply {
        verify_checksum(h.ipv4.isValid(),
            { h.ipv4.version, h.ipv4.ihl, h.ipv4.tos, h.ipv4.length, h.ipv4.id, h.ipv4.flags, h.ipv4.fragment,
              h.ipv4.ttl, h.ipv4.protocol, h.ipv4.src, h.ipv4.dst },
            h.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control route_packets(inout headers_t h, inout metadata_t m, inout standard_metadata_t s) {
    action drop() {
        mark_to_drop(s);
    }
    action forward(bit<9> port, bit<48> src_mac, bit<48> dst_mac) {
        s.egress_spec = port;
        h.ethernet.src = src_mac;
        h.ethernet.dst = dst_mac;
        h.ipv4.ttl = h.ipv4.ttl - 1;
    }
    @name(".route")
    table route {
        key = { h.ipv4.dst: lpm; }
        actions = { @name(".forward") forward; @name(".drop") drop; }
        const default_action = drop();
        size = 65536;
    }
    apply {
        if (h.ipv4.isValid() && h.ipv4.ttl > 1 && s.checksum_error == 0) {
            route.apply();
        } else {
            drop();
        }
    }
}

control leave(inout headers_t h, inout metadata_t m, inout standard_metadata_t s) {
    apply {}
}

control update_sums(inout headers_t h, inout metadata_t m) {
    apply {
        update_checksum(h.ipv4.isValid(),
            { h.ipv4.version, h.ipv4.ihl, h.ipv4.tos, h.ipv4.length, h.ipv4.id, h.ipv4.flags, h.ipv4.fragment,
              h.ipv4.ttl, h.ipv4.protocol, h.ipv4.src, h.ipv4.dst },
            h.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control deparse(packet_out packet, in headers_t h) {
    apply {
        packet.emit(h.ethernet);
        packet.emit(h.ipv4);
    }
}

V1Switch(parse(), verify_sums(), route_packets(), leave(), update_sums(), deparse()) main;
