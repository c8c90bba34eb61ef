// What each copy of a packet is told: instances, ports, lengths and errors in every pass, copies of copies, copies that
// are cut, groups whose port has several instances, and what is left of a packet that is shorter than its headers.
#include <core.p4>
#include <v1model.p4>

error { Unlucky }
header ask_t { bit<16> bits; bit<8> group; bit<8> session; bit<8> round; bit<8> size; bit<16> sum; }
header tag_t { bit<8> v; }
header told_t {
    bit<32> instance; bit<16> rid; bit<16> in_port; bit<16> port; bit<32> length; bit<8> failed; bit<8> sum; bit<8> kept;
    bit<8> lost; bit<8> prio; bit<16> group;
}
struct meta_t { @field_list(1) bit<8> kept; bit<8> lost; @field_list(1, 2) bit<8> rounds; }
struct headers_t { ask_t ask; tag_t[4] tags; told_t told; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.ask); transition select(hdr.ask.bits[15:15]) { 1: tags; default: accept; } }
    state tags {
        pkt.extract(hdr.tags.next);
        verify(hdr.tags.last.v != 13, error.Unlucky);
        transition select(hdr.tags.last.v) { 0 &&& 1: tags; default: accept; }
    }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply { verify_checksum(hdr.ask.isValid(), { hdr.ask.bits }, hdr.ask.sum, HashAlgorithm.xor16); }
}
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.told); pkt.emit(hdr.ask); pkt.emit(hdr.tags); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    counter(8, CounterType.bytes) volume;
    apply {
        volume.count((bit<32>)sm.instance_type);
        if (!hdr.ask.isValid()) { sm.egress_spec = 3; return; }
        meta.kept = meta.kept + 1;
        meta.lost = meta.lost + 1;
        meta.rounds = meta.rounds + 0x10;
        bit<16> bits = hdr.ask.bits;
        bool first = sm.instance_type == 0;
        sm.egress_spec = (bit<9>)hdr.ask.round;
        hdr.ask.round = hdr.ask.round + 1;
        if (bits[0:0] == 1) { sm.mcast_grp = (bit<16>)hdr.ask.group & 7; }
        if (bits[1:1] == 1) { clone_preserving_field_list(CloneType.I2E, (bit<32>)hdr.ask.session & 7, 1); }
        if (bits[2:2] == 1 && first) { resubmit_preserving_field_list(1); }
        if (bits[3:3] == 1) { hdr.tags.push_front(2); hdr.tags[0].setValid(); hdr.tags[0].v = 0x55; }
        if (bits[4:4] == 1) { hdr.ask.setInvalid(); }
        if (bits[5:5] == 1) { truncate((bit<32>)hdr.ask.size & 31); }
        if (bits[6:6] == 1) { sm.packet_length = 7; }
        if (bits[7:7] == 1) { sm.instance_type = 9; sm.egress_rid = 11; }
        if (sm.instance_type == 4 || sm.instance_type == 6) { meta.rounds = meta.rounds + 1; }
        if (bits[14:14] == 1) { sm.priority = 0; sm.parser_error = error.NoMatch; sm.checksum_error = 0; }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    counter(8, CounterType.packets_and_bytes) volume;
    apply {
        volume.count((bit<32>)sm.instance_type & 7);
        hdr.told.setValid();
        hdr.told.instance = sm.instance_type;
        hdr.told.rid = sm.egress_rid;
        hdr.told.in_port = (bit<16>)sm.ingress_port;
        hdr.told.port = (bit<16>)sm.egress_port;
        hdr.told.length = sm.packet_length;
        hdr.told.failed = sm.parser_error == error.NoError ? 8w0 : (sm.parser_error == error.Unlucky ? 8w1 : 8w2);
        hdr.told.sum = (bit<8>)sm.checksum_error;
        hdr.told.kept = meta.kept;
        hdr.told.lost = meta.lost;
        hdr.told.prio = (bit<8>)sm.priority;
        hdr.told.group = sm.mcast_grp;
        if (!hdr.ask.isValid()) { return; }
        bit<16> bits = hdr.ask.bits;
        bool copied = sm.instance_type == 1 || sm.instance_type == 2;
        if (bits[8:8] == 1 && !copied) { clone_preserving_field_list(CloneType.E2E, (bit<32>)hdr.ask.session & 3, 1); }
        if (bits[9:9] == 1 && sm.instance_type == 1) { clone(CloneType.E2E, 2); }
        if (bits[10:10] == 1 && hdr.ask.round < 3 && sm.egress_rid != 2) { recirculate_preserving_field_list(1); }
        if (bits[11:11] == 1) { truncate(20); hdr.told.setInvalid(); }
        if (bits[12:12] == 1 && sm.egress_rid == 1) { mark_to_drop(sm); }
        if (bits[13:13] == 1) { hdr.tags.pop_front(3); hdr.ask.bits = 0; }
        meta.kept = meta.kept + 0x20;
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
