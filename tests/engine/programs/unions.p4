// Header unions, alone and in a stack; assert and assume.
#include <core.p4>
#include <v1model.p4>

header head_t { bit<8> op; }
header short_t { bit<8> tag; bit<8> v; }
header long_t { bit<8> tag; bit<24> v; }
header result_t { bit<8> shorts; bit<8> longs; bit<32> sum; }

header_union either_t { short_t s; long_t l; }

struct headers { head_t head; result_t result; either_t one; either_t[3] many; }
struct metadata { }

parser P(packet_in packet, out headers h, inout metadata m, inout standard_metadata_t s) {
    state start {
        packet.extract(h.head);
        transition select(packet.lookahead<bit<8>>()) {
            1: one_short;
            2: one_long;
            default: accept;
        }
    }
    state one_short { packet.extract(h.one.s); transition more; }
    state one_long { packet.extract(h.one.l); transition more; }
    state more {
        transition select(packet.lookahead<bit<8>>()) {
            1: another_short;
            2: another_long;
            default: accept;
        }
    }
    state another_short { packet.extract(h.many.next.s); transition more; }
    state another_long { packet.extract(h.many.next.l); transition more; }
}

control V(inout headers h, inout metadata m) { apply { } }
control C(inout headers h, inout metadata m) { apply { } }

control I(inout headers h, inout metadata m, inout standard_metadata_t s) {
    apply {
        s.egress_spec = 1;
        h.result.setValid();
        h.result = { 0, 0, 0 };
        if (h.one.s.isValid()) { h.result.shorts = h.result.shorts + 1; h.result.sum = h.result.sum + (bit<32>)h.one.s.v; }
        if (h.one.l.isValid()) { h.result.longs = h.result.longs + 1; h.result.sum = h.result.sum + (bit<32>)h.one.l.v; }
        if (h.many[0].s.isValid()) { h.result.shorts = h.result.shorts + 1; h.result.sum = h.result.sum + (bit<32>)h.many[0].s.v; }
        if (h.many[0].l.isValid()) { h.result.longs = h.result.longs + 1; h.result.sum = h.result.sum + (bit<32>)h.many[0].l.v; }
        if (h.many[1].s.isValid()) { h.result.shorts = h.result.shorts + 1; h.result.sum = h.result.sum + (bit<32>)h.many[1].s.v; }
        if (h.many[1].l.isValid()) { h.result.longs = h.result.longs + 1; h.result.sum = h.result.sum + (bit<32>)h.many[1].l.v; }
        if (h.head.op == 1) { // the other member of a union replaces the one that was valid
            h.one.l.setValid();
            h.one.l = { 2, 0xABCDEF };
        } else if (h.head.op == 2) {
            h.one.s.setInvalid();
            h.one.l.setInvalid();
            h.many[0].s.setInvalid();
            h.many[0].l.setInvalid();
        } else if (h.head.op == 3) {
            assert(h.one.s.isValid());
        } else if (h.head.op == 4) {
            assume(h.one.l.isValid());
        }
    }
}
control E(inout headers h, inout metadata m, inout standard_metadata_t s) { apply { } }
control D(packet_out packet, in headers h) {
    apply { packet.emit(h.head); packet.emit(h.result); packet.emit(h.one); packet.emit(h.many); }
}
V1Switch(P(), V(), I(), E(), C(), D()) main;
