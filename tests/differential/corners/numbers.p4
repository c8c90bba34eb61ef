// Arithmetic up to 2,048 bits, signed and saturating, with shifts by numbers as wide as they come, slices of slices,
// concatenation, comparisons, and values that were never set.
#include <core.p4>
#include <v1model.p4>

header wide_t { bit<2048> a; }
header more_t { bit<1024> b; int<520> s; bit<8> by; bit<8> op; }
header small_t { bit<1> one; int<7> seven; bit<3> three; int<5> five; int<64> sixtyfour; bit<128> big; int<128> sbig; int<8> eight; }
struct meta_t { bit<2040> m; int<33> t; bit<65> k; }
struct headers_t { more_t more; small_t small; wide_t wide; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.more);
        transition select(hdr.more.op) { 0x80 &&& 0x80: wide; default: small; }
    }
    state small { pkt.extract(hdr.small); transition select(hdr.more.op[6:6]) { 1: wide; default: accept; } }
    state wide { pkt.extract(hdr.wide); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<2048>>(4) kept;
    register<bit<33>>(4) cells;
    apply {
        sm.egress_spec = 1;
        bit<8> op = hdr.more.op & 0x1f;
        if (hdr.wide.isValid()) {
            if (op == 0) { hdr.wide.a = hdr.wide.a + 1; }
            else if (op == 1) { hdr.wide.a = hdr.wide.a * (bit<2048>)hdr.more.b; }
            else if (op == 2) { hdr.wide.a = hdr.wide.a << hdr.more.by; }
            else if (op == 3) { hdr.wide.a = hdr.wide.a >> hdr.more.by ^ hdr.wide.a; }
            else if (op == 4) { hdr.wide.a = hdr.wide.a |-| (bit<2048>)hdr.more.b; }
            else if (op == 5) { hdr.wide.a = hdr.wide.a |+| (bit<2048>)(bit<1024>)~hdr.more.b; }
            else if (op == 6) { hdr.wide.a = hdr.more.b ++ hdr.wide.a[1500:477]; }
            else if (op == 7) { hdr.wide.a[1031:8] = hdr.more.b; }
            else if (op == 8) { hdr.wide.a = -hdr.wide.a; }
            else if (op == 9) { hdr.more.b = hdr.wide.a[2047:1024] < hdr.more.b ? hdr.wide.a[1027:4] : ~hdr.more.b; }
            else if (op == 10) { kept.write((bit<32>)hdr.more.by & 3, hdr.wide.a); }
            else if (op == 11) { kept.read(hdr.wide.a, (bit<32>)hdr.more.by & 3); }
            else if (op == 12) { hdr.wide.a = (bit<2048>)(bit<520>)(hdr.more.s >> 7); }
            else { meta.m = hdr.wide.a[2039:0]; hdr.wide.a = (meta.m ++ hdr.more.by) |+| (bit<2048>)meta.m; }
        }
        if (hdr.small.isValid()) {
            if (op == 0) { hdr.small.seven = hdr.small.seven |+| (int<7>)hdr.small.five; }
            else if (op == 1) { hdr.small.five = hdr.small.five |-| 5s3; }
            else if (op == 2) { hdr.small.sixtyfour = hdr.small.sixtyfour >> hdr.more.by; }
            else if (op == 3) { hdr.small.sixtyfour = hdr.small.sixtyfour << hdr.more.by; }
            else if (op == 4) { hdr.small.sbig = (int<128>)hdr.small.eight * hdr.small.sbig; }
            else if (op == 5) { hdr.small.sbig = hdr.small.sbig |-| (int<128>)hdr.small.sixtyfour; }
            else if (op == 6) { hdr.small.big = (bit<128>)(int<128>)hdr.small.eight; }
            else if (op == 7) { hdr.small.big = hdr.small.big |+| 0xffffffffffffffff0000000000000000; }
            else if (op == 8) { hdr.small.eight = (hdr.small.seven < (int<7>)hdr.small.five) ? 8s1 : -8s2; }
            else if (op == 9) { hdr.more.s = hdr.more.s * (int<520>)hdr.small.eight; }
            else if (op == 10) { hdr.more.s = hdr.more.s << hdr.more.by; }
            else if (op == 11) { hdr.more.s = (int<520>)hdr.small.eight |-| hdr.more.s; }
            else if (op == 12) { hdr.small.eight = hdr.small.eight << hdr.small.three; }
            else if (op == 13) { hdr.small.three = hdr.small.three |-| (bit<3>)hdr.small.one; }
            else if (op == 14) { meta.t = (int<33>)hdr.small.sixtyfour; cells.write(1, (bit<33>)meta.t); }
            else if (op == 15) {
                bit<33> cell;
                cells.read(cell, 1);
                meta.t = (int<33>)cell;
                hdr.small.sixtyfour = (int<64>)(meta.t + 1);
            }
            else if (op == 16) { hdr.small.sixtyfour = -hdr.small.sixtyfour; hdr.small.eight = ~hdr.small.eight; }
            else if (op == 17) { hdr.small.big[90:3] = (bit<88>)hdr.small.big[127:64] |+| 1; }
            else if (op == 18) { meta.k = meta.k + (bit<65>)(bit<64>)hdr.small.sixtyfour; hdr.small.big = (bit<128>)meta.k << 60; }
            else if (op == 19) { hdr.small.one = (bit<1>)(hdr.small.sbig >= (int<128>)hdr.small.sixtyfour); }
            else if (op == 20) { hdr.small.sixtyfour = hdr.small.sixtyfour - (int<64>)hdr.small.sbig; }
            else if (op == 21) { hdr.small.big = (bit<128>)(hdr.small.big[63:0] * (bit<64>)hdr.small.sixtyfour) - hdr.small.big; }
            else if (op == 22) { hdr.small.three = (bit<3>)(hdr.small.one ++ 1w1) << hdr.small.three; }
            else if (op == 23) { hdr.more.b = hdr.more.b >> (hdr.more.by |+| 8w0x90); }
            else { hdr.small.seven = (int<7>)(bit<7>)(hdr.more.by[6:0] ^ 0x40) >> 2; }
        }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply { if (hdr.small.isValid() && meta.t < 0) { hdr.small.one = ~hdr.small.one; } }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
