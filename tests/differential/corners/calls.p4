// Calls and values: arguments in, out and inout, functions, nested structs and initialisers, casts between bool, bit,
// int and enums, switch over expressions, loops that p4c unrolls, early returns and exits on the way.
#include <core.p4>
#include <v1model.p4>

enum bit<8> Kind { Low = 1, Mid = 7, High = 200 }
enum Mode { Off, On, Both }
header data_t { bit<8> op; Kind kind; bit<16> x; bit<16> y; int<16> s; int<8> t; bit<3> three; bit<5> five; }
header more_t { bit<16> p; bit<16> q; bit<32> r; }
struct pair_t { bit<16> left; bit<16> right; }
struct nest_t { pair_t one; pair_t two; bool set; }
struct meta_t { nest_t nest; Mode mode; tuple<bit<16>, bool> both; }
struct headers_t { data_t data; more_t[3] more; }

bit<16> clamp(in bit<16> value, in bit<16> top) {
    if (value > top) { return top; }
    return value;
}
bool swap(inout bit<16> a, inout bit<16> b) {
    bit<16> kept = a;
    a = b;
    b = kept;
    return a < b;
}
action bump(inout bit<16> a, out bit<16> b, in bit<16> c) {
    a = a + c;
    b = a ^ c;
    a = a + 1;
}

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.data); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control Sub(inout pair_t pair, in bit<8> op, inout more_t more, out bool done) {
    action stop() { done = true; exit; }
    apply {
        done = false;
        if (op & 1 == 1) { pair.left = pair.right + 1; }
        if (op == 0x42) { stop(); }
        if (op & 2 == 2) { more.p = pair.left; return; }
        pair = { left = pair.right, right = pair.left };
        more.q = more.q + pair.left;
        done = true;
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    Sub() first;
    Sub() second;
    bool done = false;
    action none() { }
    action arguments(bit<16> v, bit<8> w) { hdr.data.x = v |-| (bit<16>)w; }
    table chosen {
        key = { hdr.data.op : exact; }
        actions = { none; bump(hdr.data.x, hdr.data.y, (bit<16>)hdr.data.five); arguments; }
        default_action = none;
    }
    apply {
        sm.egress_spec = 1;
        if (!hdr.data.isValid()) { return; }
        hdr.more[0] = { p = hdr.data.x, q = 1, r = 32w0xffffffff };
        hdr.more[1].setValid();
        hdr.more[1] = { 5, hdr.data.y, (bit<32>)hdr.data.x << 7 };
        meta.nest = { one = { hdr.data.x, 2 }, two = { left = 3, right = hdr.data.y }, set = hdr.data.op[0:0] == 1 };
        bit<16> target = 0;
        bump(hdr.data.x, target, hdr.data.y);
        if (swap(meta.nest.one.left, hdr.data.y)) { target = target + 1; }
        hdr.more[0].p = clamp(target, 0x8000);
        first.apply(meta.nest.one, hdr.data.op, hdr.more[0], done);
        if (!done) { second.apply(meta.nest.two, hdr.data.op >> 1, hdr.more[1], done); }
        meta.mode = hdr.data.three > 4 ? Mode.Both : Mode.On;
        if (meta.mode == Mode.Both) { hdr.data.five = hdr.data.five + (bit<5>)hdr.data.three; }
        switch (hdr.data.op) {
            0:
            1: { hdr.more[2] = hdr.more[1]; }
            2: { hdr.more[2] = { 1, 2, 3 }; hdr.more[0].setInvalid(); }
            3: { hdr.more.push_front(2); }
            4: { hdr.more.pop_front(1); hdr.more[0].q = 9; }
            default: { chosen.apply(); }
        }
        switch (hdr.data.kind) {
            Kind.Low: { hdr.data.s = hdr.data.s |+| (int<16>)hdr.data.t; }
            Kind.Mid: { hdr.data.s = hdr.data.s >> 3; hdr.data.t = -hdr.data.t; }
            Kind.High: { hdr.data.kind = Kind.Low; }
            default: { hdr.data.kind = (Kind)(bit<8>)(hdr.data.x[7:0] & 0x7f); }
        }
        if (hdr.more[0] == hdr.more[1]) { hdr.data.y = 0x7777; }
        for (bit<8> i = 1; i < 4; i = i + 1) {
            if (hdr.data.x & 1 == 0) { hdr.data.x = hdr.data.x + (bit<16>)i; }
        }
        hdr.data.t = hdr.data.s > 0 ? (int<8>)hdr.data.s[15:8] : (int<8>)(int<16>)(bit<16>)(int<16>)hdr.data.t;
        hdr.data.y = hdr.data.y + (bit<16>)(bit<1>)(meta.nest.set || hdr.more[1].isValid());
        hdr.data.y[11:4] = hdr.data.x[7:0] |+| hdr.data.s[7:0];
        hdr.data.x = hdr.data.x / 8 + hdr.data.y % 16;
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        if (meta.nest.one == meta.nest.two) { hdr.data.op = 0xff; }
        log_msg("op {} done {} {}", { hdr.data.op, meta.nest.set, hdr.data.s });
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
