// Which statement comes next: exits from actions of nested controls, returns, switches over actions and expressions with
// cases that share a body, hits and misses inside conditions, short circuits with side effects, tables in branches.
#include <core.p4>
#include <v1model.p4>

enum bit<4> Step { A = 1, B = 3, C = 9 }
header way_t { bit<8> op; bit<8> x; bit<16> y; int<8> s; Step step; bit<4> z; bit<16> path; bit<32> trail; }
struct inner_t { bit<8> a; bool b; }
struct meta_t { bit<8> n; inner_t in1; inner_t in2; tuple<bit<8>, bit<4>> t; }
struct headers_t { way_t way; way_t other; way_t[2] more; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.way); transition select(hdr.way.op[7:7]) { 1: other; default: accept; } }
    state other { pkt.extract(hdr.other); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }

bit<16> step(inout bit<32> trail, in bit<8> mark) {
    trail = trail << 4 | (bit<32>)mark & 15;
    return (bit<16>)trail ^ (bit<16>)mark;
}
bool yes(inout bit<32> trail) { trail = trail << 4 | 14; return true; }
bool no(inout bit<32> trail) { trail = trail << 4 | 13; if (trail[31:28] != 0) { return true; } return false; }

control Inner(inout way_t way, in bit<8> op, inout bit<8> n) {
    action out_now(bit<8> v) { way.path = way.path | 0x8000; n = n + v; exit; }
    action go_on(bit<8> v) { n = n ^ v; }
    action nothing() { }
    table t {
        key = { way.x : exact; op : ternary; }
        actions = { out_now; go_on; nothing; }
        default_action = nothing();
    }
    apply {
        way.path = way.path | 1;
        switch (t.apply().action_run) {
            out_now: { way.path = way.path | 0x4000; }
            go_on: { if (n > 100) { return; } way.path = way.path | 2; }
        }
        if (op == 0x33) { return; }
        way.path = way.path | 4;
    }
}
control Outer(inout way_t way, inout bit<8> n) {
    Inner() a;
    Inner() b;
    apply {
        a.apply(way, way.op, n);
        if (n[0:0] == 1) { return; }
        b.apply(way, way.op >> 1, way.x);
        way.path = way.path | 8;
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    Outer() outer;
    action set_n(bit<8> v) { meta.n = v; }
    action leave() { hdr.way.path = hdr.way.path | 0x2000; exit; }
    action drop() { mark_to_drop(sm); return; }
    action maybe(bit<8> v) {
        if (hdr.way.y[0:0] == 1) { meta.n = v; return; }
        hdr.way.z = hdr.way.z + 1;
        if (v > 200) { exit; }
        meta.n = meta.n + v;
    }
    action chosen(bit<1> flag, bit<4> s, int<8> by) {
        if (flag == 1) { hdr.way.step = (Step)s; hdr.way.s = hdr.way.s - by; } else { hdr.way.s = hdr.way.s |-| 1; }
    }
    table first { key = { hdr.way.x : exact; } actions = { set_n; leave; maybe; NoAction; } default_action = maybe(3); }
    table second { key = { hdr.way.y : lpm; meta.n : exact; } actions = { set_n; drop; NoAction; } }
    table third { key = { hdr.way.step : exact; hdr.way.s : ternary; } actions = { chosen; NoAction; } default_action = chosen(1, 9, 2); }
    table keyless { actions = { set_n; leave; chosen; NoAction; } default_action = set_n(9); }
    table last { key = { hdr.way.x : range; hdr.way.op : optional; } actions = { set_n; leave; maybe; } default_action = leave; }
    table none { key = { hdr.way.z : exact; } actions = { NoAction; } }
    apply {
        sm.egress_spec = 1;
        if (!hdr.way.isValid()) { return; }
        hdr.way.trail = 0;
        hdr.way.path = 0;
        bool t1 = hdr.way.op[0:0] == 1 && yes(hdr.way.trail) || no(hdr.way.trail);
        bool t2 = (hdr.way.op[1:1] == 1 || yes(hdr.way.trail)) && !no(hdr.way.trail);
        hdr.way.y = hdr.way.op[2:2] == 1 ? step(hdr.way.trail, 1) : step(hdr.way.trail, 2) + step(hdr.way.trail, 3);
        if (t1 != t2) { hdr.way.path = hdr.way.path | 0x100; }
        if (first.apply().hit && hdr.way.op[3:3] == 1) { hdr.way.path = hdr.way.path | 0x200; }
        else if (second.apply().miss) { hdr.way.path = hdr.way.path | 0x400; if (none.apply().hit) { exit; } }
        switch (third.apply().action_run) {
            NoAction: { hdr.way.z = 5; }
            chosen: { if (keyless.apply().hit) { hdr.way.z = 1; } else { hdr.way.z = hdr.way.z ^ 8; } }
        }
        switch (hdr.way.step) {
            Step.A:
            Step.B: { hdr.way.path = hdr.way.path | 0x10; }
            Step.C: { if (meta.n == 9) { hdr.way.path = hdr.way.path | 0x20; return; } }
            default: { hdr.way.path = hdr.way.path | 0x30; }
        }
        switch (hdr.way.op & 0x70 | (bit<8>)hdr.way.z & 1) {
            0x10: { outer.apply(hdr.way, meta.n); }
            0x11:
            0x20:
            0x31: { hdr.way.x = hdr.way.x + 1; last.apply(); }
            0x40: { }
            default: { Inner.apply(hdr.way, hdr.way.op, hdr.way.x); }
        }
        meta.in1 = { hdr.way.x, t1 };
        meta.in2 = { meta.n, t2 };
        meta.t = { meta.n, hdr.way.z };
        if (meta.in1 == meta.in2) { hdr.way.path = hdr.way.path | 0x800; }
        if (meta.t == { hdr.way.x, 4w1 }) { hdr.way.path = hdr.way.path | 0x1000; }
        if (hdr.way == hdr.other) { hdr.way.path = hdr.way.path ^ 0xff; }
        hdr.more[0] = hdr.way;
        if (hdr.way.op[4:4] == 1) { hdr.more[1] = hdr.other; }
        if (hdr.more[0] != hdr.more[1]) { hdr.way.path = hdr.way.path ^ 0x80; }
        if (hdr.more[1].isValid() && hdr.more[1] == hdr.other) { hdr.way.path = hdr.way.path ^ 0x40; }
        if (hdr.other.isValid()) { hdr.more[0].setInvalid(); }
        assert(hdr.way.isValid());
        assume(hdr.way.op == 0 || hdr.way.op != 0);
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action tail() { hdr.way.trail = hdr.way.trail + 1; exit; }
    apply {
        if (hdr.way.isValid() && hdr.way.x > 0x80) { tail(); }
        if (hdr.way.isValid()) { hdr.way.trail = hdr.way.trail ^ 0x80000000; }
        log_msg("trail");
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
