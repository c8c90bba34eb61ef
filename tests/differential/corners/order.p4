// The order in which things are read and written: arguments copied in and out, the same place given twice, functions
// with effects inside expressions, slices as targets, swaps of structs, headers and slices of themselves.
#include <core.p4>
#include <v1model.p4>

header pair_t { bit<8> op; bit<16> x; bit<16> y; bit<32> z; int<8> s; bit<4> lo; bit<4> hi; }
header log_t { bit<16> a; bit<16> b; bit<16> c; bit<32> d; bit<8> e; bit<64> f; }
struct two_t { bit<16> x; bit<16> y; }
struct nest_t { two_t p; two_t q; }
struct meta_t { nest_t n; nest_t m; bit<16> k; int<8> i; tuple<bit<8>, bit<16>> t; bool flag; }
struct headers_t { log_t log; pair_t pair; pair_t copy; pair_t[3] st; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.pair); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }

bit<16> bump(inout bit<16> v) { v = v + 1; return v; }
bit<16> both(inout bit<16> a, inout bit<16> b, in bit<16> c) { a = a + c; b = b ^ a; return a - b; }
void give(out bit<16> a, out bit<16> b) { a = 0x1111; b = 0x2222; }
void turn(inout two_t t) { t = { t.y, t.x + 1 }; }
two_t made(in bit<16> v) { two_t r; r.x = v; r.y = v >> 4; return r; }
bit<8> early(in bit<8> v, inout bit<16> trace) {
    trace = trace + 1;
    if (v < 16) { return v; }
    trace = trace + 0x10;
    if (v > 200) { trace = trace + 0x100; return 0xcc; }
    return v << 1;
}
action shift_in(inout bit<32> z, in bit<8> by, out bit<16> was) { was = z[15:0]; z = z << by; z[7:0] = by; }

control Over(inout two_t a, in two_t b, out bit<16> sum, in bit<16> extra) {
    apply { a.x = b.y + extra; a.y = b.x; sum = a.x + b.x; }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    Over() over;
    action twice(inout bit<16> a, inout bit<16> b, bit<16> v) { a = a + v; b = b + a; }
    action swapped(in bit<16> a, in bit<16> b) { hdr.pair.x = b; hdr.pair.y = a; hdr.log.a = a + b; }
    action slices(bit<4> v) { hdr.pair.z[19:16] = v; hdr.pair.z[3:0] = hdr.pair.z[19:16]; hdr.pair.x[7:0] = hdr.pair.x[15:8]; }
    table t {
        key = { hdr.pair.op & 0xf : exact @name("low"); bump(meta.k) : exact @name("bumped"); hdr.pair.lo ++ hdr.pair.hi : ternary @name("both"); }
        actions = { twice(hdr.pair.x, hdr.pair.x); swapped(hdr.pair.x, bump(hdr.pair.y)); slices; }
        default_action = twice(hdr.pair.x, hdr.pair.x, 3);
    }
    table u {
        key = { meta.k : lpm; }
        actions = { slices; twice(meta.n.p.x, meta.n.p.y); NoAction; }
        const default_action = slices(9);
        const entries = { 16w0 &&& 16w0xfffe : twice(meta.n.p.x, meta.n.p.y, 5); 16w0x8000 &&& 16w0x8000 : NoAction; }
    }
    apply {
        sm.egress_spec = 2;
        if (!hdr.pair.isValid()) { return; }
        hdr.log.setValid();
        hdr.log = { 0, 0, 0, 0, 0, 0 };
        bit<16> x = hdr.pair.x;
        bit<16> y = hdr.pair.y;
        switch (hdr.pair.op[7:4]) {
            0: { hdr.log.a = bump(x) + bump(x) * bump(x) - x; }
            1: { hdr.log.a = both(x, x, y); hdr.log.b = x; }
            2: { hdr.log.a = both(x, y, x); hdr.log.b = x; hdr.log.c = y; }
            3: { give(x, x); hdr.log.a = x; give(y, x); hdr.log.b = y; hdr.log.c = x; }
            4: { shift_in(hdr.pair.z, hdr.pair.z[7:0], x); hdr.log.a = x; hdr.log.d = hdr.pair.z; }
            5: {
                meta.n = { { x, y }, { y, 1 } };
                turn(meta.n.p);
                meta.m = meta.n;
                meta.m.q = made(bump(meta.n.p.x));
                over.apply(meta.n.p, meta.n.p, meta.n.q.x, meta.n.p.y);
                hdr.log.a = meta.n.p.x; hdr.log.b = meta.n.p.y; hdr.log.c = meta.n.q.x;
                if (meta.n == meta.m) { hdr.log.e = 1; }
            }
            6: {
                bit<8> e = early(hdr.pair.op + early((bit<8>)x, y), x) + early((bit<8>)y, y);
                hdr.log.e = e; hdr.log.a = x; hdr.log.b = y;
            }
            7: { hdr.pair.x[11:4] = hdr.pair.x[7:0]; hdr.pair.y[15:8] = hdr.pair.x[15:8] ^ hdr.pair.y[7:0]; hdr.pair.z[31:31] = hdr.pair.z[0:0]; }
            8: { hdr.copy = hdr.pair; hdr.pair.setInvalid(); hdr.pair = hdr.copy; hdr.copy.x = hdr.pair.y; hdr.log.e = (bit<8>)(bit<1>)(hdr.copy == hdr.pair); }
            9: { hdr.st[1] = hdr.pair; hdr.st[0] = hdr.st[1]; hdr.st[1].setInvalid(); hdr.st[2] = hdr.st[1]; hdr.st[1] = hdr.st[0]; hdr.st[1].x = bump(hdr.st[0].x); }
            10: { hdr.pair.z = (hdr.pair.z[15:0] ++ hdr.pair.z[31:16]) + (bit<32>)(hdr.pair.lo ++ hdr.pair.hi); hdr.pair.lo = hdr.pair.hi; hdr.pair.hi = hdr.pair.lo; }
            11: { x = y > 7 ? bump(y) : bump(x); hdr.log.a = x; hdr.log.b = y; hdr.log.c = (y[0:0] == 1 ? x : y) & bump(y); }
            12: { hdr.log.f = (bit<64>)x << 48 | (bit<64>)y; hdr.log.f[40:9] = hdr.pair.z; hdr.log.f[63:60] = hdr.log.f[12:9]; hdr.log.d = hdr.log.f[47:16]; }
            13: { twice(meta.k, meta.k, x); hdr.log.a = meta.k; twice(x, y, x); hdr.log.b = x; hdr.log.c = y; }
            14: { meta.t = { hdr.pair.op, y }; hdr.log.b = meta.t[1]; meta.flag = meta.t == { 8w0xe1, y }; hdr.log.e = meta.flag ? 8w7 : 8w0; }
            default: { meta.i = (int<8>)hdr.pair.op; hdr.pair.s = meta.i >> 2; hdr.log.e = (bit<8>)hdr.pair.s; }
        }
        if (hdr.pair.isValid() && t.apply().hit) { hdr.log.e = hdr.log.e | 0x80; }
        meta.k = meta.k ^ hdr.pair.x;
        u.apply();
        hdr.log.f = hdr.log.f ^ (bit<64>)(meta.n.p.x ++ meta.n.p.y ++ meta.k);
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
V1Switch(P(), V(), I(), E(), U(), D()) main;
