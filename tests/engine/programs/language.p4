// Constructs that few programs use: a call in the deparser, random hashes, signed arguments, selects and keys over wide
// fields, messages without arguments and with wide numbers, registers read in other widths, checksums in wide fields.
#include <core.p4>
#include <v1model.p4>

header in_t { bit<8> op; bit<8> key; int<16> s; bit<200> wide; bit<200> other; }
header out_t { bit<32> value; int<16> s; bit<8> way; bit<8> pad; bit<72> sum; bit<64> low; }
header option_t { bit<8> len; varbit<64> data; }
struct headers_t { in_t x; out_t y; option_t o; }
struct meta_t { bit<200> kept; bit<8> way; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    value_set<bit<200>>(4) known;
    state start {
        pkt.extract(hdr.x);
        transition select(hdr.x.wide) {
            known: three;
            200w0x123456789abcdef0000000000000000000000000000000077: one;
            200w0xab00000000000000000000000000000000000000000000000f &&& 200w0xff00000000000000000000000000000000000000000000000f: two;
            default: accept;
        }
    }
    state one { meta.way = 1; transition accept; }
    state two { meta.way = 2; transition accept; }
    state three { meta.way = 3; transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) {
    apply { update_checksum(hdr.x.op == 5, { hdr.x.wide }, hdr.y.sum, HashAlgorithm.crc32); }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<200>>(4) store;
    action shift(int<16> by) { hdr.y.s = by >> 2; }
    action add(int<16> by) { hdr.y.s = hdr.x.s + by; }
    action pick(bit<200> value) { meta.kept = value; }
    table signs {
        key = { hdr.x.key : exact; }
        actions = { shift; add; NoAction; }
        const entries = { 1 : shift(-8); 2 : shift(9); 3 : add(-1); }
        default_action = NoAction();
    }
    table first {
        key = { hdr.x.wide : ternary; }
        actions = { pick; }
        const entries = {
            200w1 : pick(0xff000000000000000000000000000000000000000000000001);
            200w1 : pick(2);
        }
        default_action = pick(0xa00000000000000000000000000000000000000000000000b);
    }
    apply {
        sm.egress_spec = 1;
        hdr.y.setValid();
        hdr.y.way = meta.way;
        signs.apply();
        first.apply();
        if (hdr.x.op == 1) { hash(hdr.y.value, HashAlgorithm.random, 32w100, { hdr.x.key }, 32w1000); }
        if (hdr.x.op == 2) { log_msg("no arguments"); log_msg("wide {} and {}", { hdr.x.wide, hdr.x.s }); }
        if (hdr.x.op == 3) { store.write((bit<32>)hdr.x.key, hdr.x.wide ^ hdr.x.other); }
        if (hdr.x.op == 4) { store.read(meta.kept, (bit<32>)hdr.x.key); }
        hdr.y.low = meta.kept[63:0];
        hdr.y.value = hdr.y.value + (bit<32>)(meta.kept >> 192);
    }
}
control D(packet_out pkt, in headers_t hdr) {
    apply { pkt.emit(hdr.y); log_msg("deparsed {}", { hdr.x.key }); }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
