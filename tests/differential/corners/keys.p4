// Keys written at run time: wide ones of every match kind, signed and serializable ones, validity, masks, expressions,
// prefixes of no bits and of all, and several prefixes or ranges in one table.
#include <core.p4>
#include <v1model.p4>

enum bit<12> Name { One = 1, Two = 0x222 }
header key_t {
    bit<128> big; bit<72> odd; bit<200> huge; int<16> s; bit<12> n; bit<4> four; bit<1> flag; bit<7> seven; bit<32> w;
}
header out_t { bit<16> a; bit<16> b; bit<16> c; bit<16> d; bit<16> e; bit<16> f; bit<16> g; bit<16> h; bit<8> hits; }
header extra_t { bit<160> v; }
struct meta_t { bool set; bit<130> wide; int<70> t; }
struct headers_t { out_t o; key_t k; extra_t extra; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.k); transition select(hdr.k.flag) { 1: extra; default: accept; } }
    state extra { pkt.extract(hdr.extra); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.o); pkt.emit(hdr.k); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action a(bit<16> v) { hdr.o.a = v; }
    action b(bit<16> v) { hdr.o.b = v; }
    action c(bit<16> v) { hdr.o.c = v; }
    action d(bit<16> v) { hdr.o.d = v; }
    action e(bit<16> v, int<5> w) { hdr.o.e = v |-| (bit<16>)(bit<5>)w; }
    action f(bit<130> v) { hdr.o.f = v[129:114] ^ v[15:0]; }
    action g(bit<16> v) { hdr.o.g = v; }
    action h(bit<64> v, bit<65> w) { hdr.o.h = v[63:48] + w[64:49]; }
    action none() { }
    table exacts { key = { hdr.k.big : exact; hdr.k.odd : exact; } actions = { a; none; } default_action = none; }
    table prefixes { key = { hdr.k.big : lpm; } actions = { b; none; } default_action = b(1); }
    table mixed { key = { hdr.k.huge : lpm; hdr.k.four : exact; } actions = { c; none; } default_action = none; }
    table masks { key = { hdr.k.huge : ternary; hdr.k.odd : ternary; hdr.k.w : lpm; hdr.k.seven : exact; } actions = { d; none; } default_action = none; }
    table ranges { key = { hdr.k.odd : range; hdr.k.big : range; hdr.k.w : range; } actions = { e; none; } default_action = e(7, 3); }
    table options { key = { hdr.k.huge : optional; hdr.k.n : optional; hdr.k.s : exact; } actions = { f; none; } default_action = none; }
    table others {
        key = { hdr.extra.isValid() : exact; hdr.extra.v : ternary; meta.set : ternary; (Name)hdr.k.n : exact @name("name"); }
        actions = { g; none; }
        default_action = none;
    }
    table terms {
        key = { meta.wide : exact; hdr.k.w & 0xff00ff : ternary @name("masked"); hdr.k.huge[140:60] : exact @name("part");
            meta.t : exact; hdr.k.s[15:15] ++ hdr.k.flag : lpm @name("bits"); }
        actions = { h; none; }
        default_action = h(64w1 << 63, 65w1 << 64);
    }
    table short { key = { hdr.k.w : lpm; } actions = { g; b; none; } default_action = none; size = 4; }
    table same { key = { hdr.k.seven : ternary; hdr.k.four : ternary; } actions = { c; h; none; } default_action = none; }
    table bits { key = { hdr.k.flag : exact; } actions = { a; none; } default_action = none; }
    table stags { key = { hdr.k.seven : range; hdr.k.flag : exact; hdr.k.four : lpm; } actions = { d; none; } default_action = d(2); }
    apply {
        sm.egress_spec = 1;
        if (!hdr.k.isValid()) { return; }
        hdr.o.setValid();
        hdr.o = { 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        meta.set = hdr.k.seven > 63;
        meta.wide = (bit<130>)hdr.k.big & 3;
        meta.t = (int<70>)hdr.k.s;
        if (exacts.apply().hit) { hdr.o.hits = hdr.o.hits | 1; }
        if (prefixes.apply().hit) { hdr.o.hits = hdr.o.hits | 2; }
        if (mixed.apply().hit) { hdr.o.hits = hdr.o.hits | 4; }
        if (masks.apply().hit) { hdr.o.hits = hdr.o.hits | 8; }
        if (ranges.apply().hit) { hdr.o.hits = hdr.o.hits | 16; }
        if (options.apply().hit) { hdr.o.hits = hdr.o.hits | 32; }
        if (others.apply().hit) { hdr.o.hits = hdr.o.hits | 64; }
        if (terms.apply().hit) { hdr.o.hits = hdr.o.hits | 128; }
        short.apply();
        same.apply();
        if (bits.apply().hit) { stags.apply(); }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
