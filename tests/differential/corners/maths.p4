// Operators at each size that the generated code treats otherwise, on plain and signed numbers: division by constants
// and fields, comparisons, choices, shifts by more than there are bits, saturation at every edge, narrowest widths.
#include <core.p4>
#include <v1model.p4>

header n_t {
    bit<8> op; bit<1> a1; bit<7> a7; bit<8> b8; bit<100> a100; bit<100> b100; bit<300> a300; bit<300> b300; int<8> s8; int<8> t8;
    int<64> s64; int<64> t64; int<100> s100; int<100> t100; int<200> s200; int<200> t200; bit<64> a64; bit<64> b64; int<2> s2;
    int<2> t2; bit<4> pad;
}
header r_t { bit<8> flags; bit<100> r100; bit<4> r4; bit<300> r300; bit<4> more; bit<64> r64; int<8> r8; int<200> rs; int<64> r64s; int<100> rs100; bit<4> z; }
struct meta_t { bit<128> k; int<128> ks; bool p; bool q; }
struct headers_t { r_t r; n_t n; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.n); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (!hdr.n.isValid()) { return; }
        hdr.r.setValid();
        hdr.r = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        bit<5> op = hdr.n.op[4:0];
        if (op == 0) {  // p4c divides by powers of two only
            hdr.r.r64 = hdr.n.a64 / 8 + hdr.n.b64 % 1024;
            hdr.r.r100 = hdr.n.a100 / 0x800000000000000000000 + hdr.n.b100 % 16;
            hdr.r.r300 = hdr.n.a300 / 4 ^ hdr.n.b300 % (300w1 << 200);
            hdr.r.r8 = (int<8>)(hdr.n.b8 % 4 ++ hdr.n.b8[7:2] / 1)[7:0];
        } else if (op == 1) {
            hdr.r.r64 = hdr.n.a64 * 64 / 64;
            hdr.r.r100 = hdr.n.a100 % 1 + hdr.n.b100 * 0x10000000000000000;
            hdr.r.r300 = hdr.n.a300 % 0x80000000000000000000000000000000000000;
        } else if (op == 2) {
            if (hdr.n.a100 < hdr.n.b100) { hdr.r.flags = hdr.r.flags | 1; }
            if (hdr.n.a100 <= hdr.n.b100) { hdr.r.flags = hdr.r.flags | 2; }
            if (hdr.n.a100 > 0x8000000000000000000000000) { hdr.r.flags = hdr.r.flags | 4; }
            if (hdr.n.a100 >= hdr.n.b100) { hdr.r.flags = hdr.r.flags | 8; }
            if (hdr.n.a100 == hdr.n.b100) { hdr.r.flags = hdr.r.flags | 16; }
            if (hdr.n.a100 != hdr.n.b100) { hdr.r.flags = hdr.r.flags | 32; }
        } else if (op == 3) {
            if (hdr.n.a300 < hdr.n.b300) { hdr.r.flags = hdr.r.flags | 1; }
            if (hdr.n.a300 <= hdr.n.b300) { hdr.r.flags = hdr.r.flags | 2; }
            if (hdr.n.a300 > hdr.n.b300) { hdr.r.flags = hdr.r.flags | 4; }
            if (hdr.n.a300 >= hdr.n.b300) { hdr.r.flags = hdr.r.flags | 8; }
            if (hdr.n.a300 == hdr.n.b300) { hdr.r.flags = hdr.r.flags | 16; }
            if (hdr.n.a300 != hdr.n.b300) { hdr.r.flags = hdr.r.flags | 32; }
        } else if (op == 4) {
            if (hdr.n.s64 < hdr.n.t64) { hdr.r.flags = hdr.r.flags | 1; }
            if (hdr.n.s64 <= hdr.n.t64) { hdr.r.flags = hdr.r.flags | 2; }
            if (hdr.n.s100 > hdr.n.t100) { hdr.r.flags = hdr.r.flags | 4; }
            if (hdr.n.s200 >= hdr.n.t200) { hdr.r.flags = hdr.r.flags | 8; }
            if (hdr.n.s200 == hdr.n.t200) { hdr.r.flags = hdr.r.flags | 16; }
            if (hdr.n.s100 != hdr.n.t100) { hdr.r.flags = hdr.r.flags | 32; }
            if (hdr.n.s8 != hdr.n.t8) { hdr.r.flags = hdr.r.flags | 64; }
            if (hdr.n.s2 < hdr.n.t2) { hdr.r.flags = hdr.r.flags | 128; }
        } else if (op == 5) {
            hdr.r.r100 = hdr.n.a1 == 1 ? hdr.n.a100 : hdr.n.b100 ^ hdr.n.a100;
            hdr.r.r300 = hdr.n.a7 > 9 ? hdr.n.a300 ^ hdr.n.b300 : ~hdr.n.a300;
            hdr.r.rs = hdr.n.s8 > hdr.n.t8 ? hdr.n.s200 : hdr.n.t200;
            hdr.r.r64s = hdr.n.s8 == -1 ? hdr.n.s64 : hdr.n.t64 + 1;
        } else if (op == 6) {
            hdr.r.r100 = ~hdr.n.a100 ^ (hdr.n.b100 | 1) & hdr.n.a100;
            hdr.r.rs100 = hdr.n.s100 ^ hdr.n.t100 | 5;
            hdr.r.rs = hdr.n.s200 & ~hdr.n.t200 ^ hdr.n.s200 | 1;
            hdr.r.r8 = hdr.n.s8 ^ hdr.n.t8 & -3 | 4;
        } else if (op == 7) {
            hdr.r.r8 = hdr.n.s8 |+| hdr.n.t8;
            hdr.r.r64s = hdr.n.s64 |-| hdr.n.t64;
            hdr.r.rs100 = hdr.n.s100 |+| hdr.n.t100;
            hdr.r.rs = hdr.n.s200 |-| hdr.n.t200;
            hdr.n.s2 = hdr.n.s2 |+| hdr.n.t2;
            hdr.n.a1 = hdr.n.a1 |+| 1;
        } else if (op == 8) {
            hdr.r.r8 = hdr.n.s8 |-| hdr.n.t8;
            hdr.r.r64s = hdr.n.s64 |+| hdr.n.t64;
            hdr.r.rs100 = hdr.n.s100 |-| hdr.n.t100;
            hdr.r.rs = hdr.n.s200 |+| hdr.n.t200;
            hdr.r.r64 = hdr.n.a64 |-| hdr.n.b64;
            hdr.r.r100 = hdr.n.a100 |+| hdr.n.b100;
            hdr.r.r300 = hdr.n.a300 |-| hdr.n.b300;
        } else if (op == 9) {
            hdr.r.r64 = hdr.n.a64 << hdr.n.b8 | hdr.n.b64 >> hdr.n.b8;
            hdr.r.r100 = hdr.n.a100 << hdr.n.b8 | hdr.n.b100 >> hdr.n.a7;
            hdr.r.r300 = hdr.n.a300 << hdr.n.b8 ^ hdr.n.b300 >> hdr.n.b8;
            hdr.r.r8 = hdr.n.s8 >> hdr.n.b8;
            hdr.r.r64s = hdr.n.s64 >> hdr.n.b8;
            hdr.r.rs100 = hdr.n.s100 >> hdr.n.a7;
            hdr.r.rs = hdr.n.s200 >> hdr.n.b8;
        } else if (op == 10) {
            hdr.r.r64 = hdr.n.a64 << 64 | hdr.n.b64 >> 63;
            hdr.r.r100 = hdr.n.a100 << 99 | hdr.n.b100 >> 100;
            hdr.r.r300 = hdr.n.a300 << 130 ^ hdr.n.b300 >> 256;
            hdr.r.r8 = hdr.n.s8 >> 8;
            hdr.r.r64s = hdr.n.s64 << 70;
            hdr.r.rs100 = hdr.n.s100 >> 200;
            hdr.r.rs = hdr.n.s200 << 3 >> 100;
        } else if (op == 11) {
            hdr.r.r64 = hdr.n.a64 * hdr.n.b64 - (bit<64>)hdr.n.s64;
            hdr.r.r100 = hdr.n.a100 * hdr.n.b100 + (bit<100>)hdr.n.s100;
            hdr.r.r300 = hdr.n.a300 * hdr.n.b300;
            hdr.r.r8 = hdr.n.s8 * hdr.n.t8;
            hdr.r.r64s = hdr.n.s64 * (int<64>)hdr.n.s8;
            hdr.r.rs100 = hdr.n.s100 * hdr.n.t100;
            hdr.r.rs = -hdr.n.s200 * (int<200>)hdr.n.t64;
        } else if (op == 12) {
            hdr.r.rs = (int<200>)hdr.n.s8;
            hdr.r.r300 = (bit<300>)(bit<200>)hdr.n.s200;
            hdr.r.r64s = (int<64>)hdr.n.s200;
            hdr.r.rs100 = (int<100>)hdr.n.s2 + (int<100>)hdr.n.s64;
            hdr.r.r100 = (bit<100>)((bit<2>)hdr.n.s2 ++ 7w0);
            hdr.r.r64 = (bit<33>)hdr.n.a300[130:100] ++ hdr.n.a100[99:69];
        } else if (op == 13) {
            hdr.r.r100[70:5] = hdr.n.a300[299:234];
            hdr.r.r300[250:10] = hdr.n.a300[240:0];
            hdr.r.r64[40:40] = hdr.n.a1;
            hdr.r.r300[9:0] = hdr.n.b8 ++ hdr.n.a7[1:0];
            hdr.r.r8 = (int<8>)(hdr.n.s8[6:0] ++ hdr.n.s2[1:1]);
        } else if (op == 14) {
            meta.p = hdr.n.a1 == 1;
            meta.q = hdr.n.s8 < 0;
            if (meta.p == meta.q) { hdr.r.flags = 1; }
            if (meta.p != (hdr.n.b8 > 7)) { hdr.r.flags = hdr.r.flags | 2; }
            bool either = meta.p ? meta.q : hdr.n.a7[0:0] == 1;
            if (either || !meta.q && meta.p) { hdr.r.flags = hdr.r.flags | 4; }
            hdr.r.r4 = (bit<4>)(bit<1>)either;
        } else if (op == 15) {
            meta.k = (bit<128>)hdr.n.a100 * 0xffffffffffffffffffffffffffffffff;
            meta.ks = (int<128>)hdr.n.s100 - 0x7fffffffffffffffffffffffffffffff;
            if (meta.ks < 0) { hdr.r.flags = 1; }
            if (meta.k > 0x80000000000000000000000000000000) { hdr.r.flags = hdr.r.flags | 2; }
            hdr.r.r100 = meta.k[127:28];
            hdr.r.rs = (int<200>)(meta.ks |-| (int<128>)hdr.n.t100);
            hdr.r.r300 = (bit<300>)(meta.k |+| meta.k);
            hdr.r.r64 = (bit<64>)(meta.k / 1024) ^ (bit<64>)(meta.k % 0x1000000000000000000000000);
        } else {
            hdr.r.r64 = (bit<64>)((hdr.n.b8 - hdr.n.b8[7:0] * 3) |-| (bit<8>)hdr.n.a7);
            hdr.r.r8 = -(hdr.n.s8 |-| 127) + (int<8>)hdr.n.s2;
            hdr.r.r300 = -(hdr.n.a300 - hdr.n.b300) |+| 5;
            hdr.r.flags = ~hdr.n.b8 >> 1 + hdr.n.a7[2:0];
        }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
