// Entries of the program itself, of every match kind and mix, with priorities that disagree with their order; default
// actions with arguments; what follows hits, misses and actions.
#include <core.p4>
#include <v1model.p4>

header probe_t { bit<8> a; bit<16> b; bit<32> c; bit<12> d; bit<4> e; }
header told_t { bit<8> hits; bit<16> first; bit<16> second; bit<16> third; bit<16> fourth; bit<8> ran; }
struct headers_t { told_t told; probe_t probe; }
struct meta_t { bit<16> none; bool flag; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.probe); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action one(bit<16> v) { hdr.told.first = v; }
    action two(bit<16> v, bit<16> w) { hdr.told.second = v ^ w; }
    action three(bit<16> v) { hdr.told.third = v; }
    action four(in bit<16> given, bit<16> v) { hdr.told.fourth = given + v; }
    action leave() { hdr.told.ran = 0xee; exit; }
    table ternaries {
        key = { hdr.probe.a : ternary; hdr.probe.b : lpm; hdr.probe.c : range; hdr.probe.d : optional; }
        actions = { one; two; leave; NoAction; }
        const default_action = one(0xdead);
        largest_priority_wins = false;
        priority_delta = 10;
        entries = {
            priority = 40: (1 &&& 3, 16w0x100 &&& 16w0xff00, 0 .. 100, _) : one(1);
            priority = 10: (3 &&& 3, _, 5 .. 0xffff, 7) : two(2, 3);
            priority = 30: (_, 16w0 &&& 16w0x8000, 1 .. 0x7fffffff, _) : one(3);
            (0 &&& 1, _, _, 2) : leave();
            priority = 30: (2, _, _, _) : one(5);
            (_, _, 2 .. 2, _) : two(6, 0);
        }
    }
    table prefixes {
        key = { hdr.probe.c : lpm; }
        actions = { two; three; }
        default_action = three(0x1234);
        const entries = {
            32w0x01000000 &&& 32w0xff000000 : three(8);
            32w0x01020000 &&& 32w0xffff0000 : three(16);
            32w0x01020300 &&& 32w0xffffff80 : two(25, 1);
            1 : three(32);
            0x01020304 : two(33, 4);
            32w0 &&& 32w0x80000000 : three(1);
        }
    }
    table others {
        key = { hdr.probe.c[15:0] : lpm; hdr.probe.b ++ hdr.probe.d : exact @name("both"); }
        actions = { three; NoAction; }
        default_action = NoAction;
        const entries = {
            (0, 28w0) : three(1);
            (16w0x100 &&& 16w0xff00, 28w1) : three(2);
        }
    }
    table exacts {
        key = { hdr.probe.e : exact; hdr.probe.isValid() : exact; meta.flag : exact; }
        actions = { four(hdr.told.third); three; }
        default_action = four(hdr.told.third, 9);
        const entries = {
            (1, true, false) : four(hdr.told.third, 1);
            (1, true, true) : three(77);
            (2, true, true) : four(hdr.told.third, 2);
        }
    }
    table initial {
        key = { hdr.probe.a : exact; }
        actions = { one; @defaultonly leave; NoAction; }
        default_action = NoAction;
        size = 16;
        entries = {
            const 1 : one(0x501);
            2 : one(0x502);
        }
    }
    table bare {
        actions = { two; NoAction; }
        default_action = two(0xa5, 0x5a);
    }
    table misses {
        key = { hdr.probe.b : exact; meta.none : ternary; }
        actions = { NoAction; }
    }
    apply {
        hdr.told.setValid();
        hdr.told.hits = 0;
        hdr.told.first = 0;
        hdr.told.second = 0;
        hdr.told.third = 0;
        hdr.told.fourth = 0;
        hdr.told.ran = 0;
        if (!hdr.probe.isValid()) { return; }
        meta.flag = hdr.probe.b[0:0] == 1;
        if (hdr.probe.d[11:8] == 1) { bare.apply(); }
        switch (ternaries.apply().action_run) {
            one: { hdr.told.ran = 1; }
            two: { hdr.told.ran = 2; if (others.apply().miss) { hdr.told.hits = hdr.told.hits | 4; } }
            default: { hdr.told.ran = 3; }
        }
        if (hdr.told.ran != 2) {
            if (prefixes.apply().hit) { hdr.told.hits = hdr.told.hits | 1; } else { hdr.told.hits = hdr.told.hits | 2; }
        }
        if (!exacts.apply().hit) { hdr.told.hits = hdr.told.hits | 8; }
        bool again = initial.apply().hit;
        if (again && misses.apply().miss) { hdr.told.hits = hdr.told.hits | 16; }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
