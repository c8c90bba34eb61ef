// Every fate of a packet, all together: copies, second passes, drops by helpers, multicast and truncation in whatever
// combination the bits of a packet ask for, with field lists of structs.
#include <core.p4>
#include <v1model.p4>

header ask_t { bit<16> in_bits; bit<16> out_bits; bit<8> round; bit<9> port; bit<7> size; bit<16> group; }
header seen_t {
    bit<32> instance; bit<16> rid; bit<16> port; bit<16> from; bit<32> length; bit<16> spec; bit<8> kept; bit<16> lost;
    bit<16> nested; bit<32> deep;
}
struct inner_t { @field_list(1) bit<16> nested; @field_list(2, 3) bit<32> deep; bit<16> lost; }
struct meta_t { @field_list(1, 2) bit<8> kept; inner_t inner; bit<8> rounds; }
struct headers_t { seen_t seen; ask_t ask; }
struct note_t { bit<9> port; bit<8> round; bit<16> nested; bit<32> deep; }

action my_drop(inout standard_metadata_t metadata) { mark_to_drop(metadata); }
action to_port(inout standard_metadata_t metadata, in bit<9> port) { metadata.egress_spec = port; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        meta.rounds = (bit<8>)sm.instance_type;
        transition select(sm.ingress_port) { 511: accept; default: ask; }
    }
    state ask { pkt.extract(hdr.ask); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.seen); pkt.emit(hdr.ask); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    counter(4, CounterType.packets_and_bytes) passes;
    apply {
        passes.count((bit<32>)sm.instance_type & 3);
        if (!hdr.ask.isValid()) { mark_to_drop(sm); exit; }
        bit<16> ask = hdr.ask.in_bits;
        meta.inner.lost = meta.inner.lost + 7;
        meta.inner.nested = meta.inner.nested + (bit<16>)hdr.ask.round + 1;
        meta.kept = meta.kept + 3;
        meta.inner.deep = meta.inner.deep ^ 0x01020304;
        bool again = sm.instance_type == 0;
        to_port(sm, hdr.ask.port);
        if (ask[0:0] == 1) { clone_preserving_field_list(CloneType.I2E, 3, 1); }
        if (ask[1:1] == 1 && again) { resubmit_preserving_field_list(2); }
        if (ask[2:2] == 1) { sm.mcast_grp = hdr.ask.group & 7; }
        if (ask[3:3] == 1) { my_drop(sm); }
        if (ask[4:4] == 1) { digest<note_t>(1, { sm.ingress_port, hdr.ask.round, meta.inner.nested, meta.inner.deep }); }
        if (ask[5:5] == 1) { truncate((bit<32>)hdr.ask.size); }
        if (ask[6:6] == 1) { clone(CloneType.I2E, 4); }
        hdr.ask.round = hdr.ask.round + 1;
        if (ask[7:7] == 1) { exit; }
        hdr.ask.round = hdr.ask.round + 0x10;
        if (ask[8:8] == 1) { mark_to_drop(sm); sm.egress_spec = 5; }
        if (ask[9:9] == 1) { sm.egress_spec = 511; sm.mcast_grp = 2; }
        if (ask[10:10] == 1) { sm.mcast_grp = 1; my_drop(sm); }
        if (ask[11:11] == 1) { hdr.ask.setInvalid(); }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        bit<16> ask = hdr.ask.isValid() ? hdr.ask.out_bits : 0;
        bool first = sm.instance_type == 0;
        if (hdr.ask.isValid()) {
            if (ask[0:0] == 1 && first) { clone_preserving_field_list(CloneType.E2E, 3, 1); }
            if (ask[1:1] == 1 && hdr.ask.round[3:0] == 1) { recirculate_preserving_field_list(3); }
            if (ask[2:2] == 1) { mark_to_drop(sm); }
            if (ask[3:3] == 1) { truncate((bit<32>)hdr.ask.size + 8); }
            if (ask[4:4] == 1) { my_drop(sm); sm.egress_spec = 1; }
            if (ask[5:5] == 1) { sm.egress_spec = 511; }
            if (ask[6:6] == 1) { exit; }
            if (ask[7:7] == 1 && first) { clone_preserving_field_list(CloneType.E2E, 2, 0); mark_to_drop(sm); }
        }
        if (hdr.ask.isValid() && hdr.ask.round >= 0x40 || ask[9:9] == 1) { return; }
        hdr.seen.setValid();
        hdr.seen.instance = sm.instance_type;
        hdr.seen.rid = sm.egress_rid;
        hdr.seen.port = (bit<16>)sm.egress_port;
        hdr.seen.from = (bit<16>)sm.ingress_port;
        hdr.seen.length = sm.packet_length;
        hdr.seen.spec = (bit<16>)sm.egress_spec;
        hdr.seen.kept = meta.kept;
        hdr.seen.lost = meta.inner.lost;
        hdr.seen.nested = meta.inner.nested;
        hdr.seen.deep = meta.inner.deep;
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
