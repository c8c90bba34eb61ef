// Parsers at their limits: errors of every kind told in the packet, lookahead and advance beyond the end, structs looked
// ahead at, sub-parsers, loops, selects over tuples, ranges, enums, bools and the port, and what errors leave behind.
#include <core.p4>
#include <v1model.p4>

error { Odd, Even, Late }
enum bit<4> Way { Ahead = 1, Skip = 2, Loop = 3, Sub = 4, Check = 5, Wide = 6, Var = 7 }
header first_t { Way way; bit<4> n; bit<8> v; }
header item_t { bit<1> last; bit<7> v; }
header three_t { bit<24> v; }
header wide_t { bit<128> v; bit<8> w; }
header var_t { bit<8> len; varbit<96> v; bit<8> tail; }
header told_t { bit<32> error_; bit<8> got; bit<16> ahead; bit<16> kept; }
struct ahead_t { bit<4> a; bit<12> b; bit<8> c; }
struct meta_t { bit<16> ahead; bit<16> kept; bool odd; bit<8> depth; }
struct headers_t { told_t told; first_t first; item_t[4] items; three_t three; wide_t wide; var_t var; }

parser Sub(packet_in pkt, out three_t three, inout bit<16> kept, in bit<8> depth) {
    state start {
        kept = kept + 0x100;
        transition select(depth) { 0: accept; 1: short; default: all; }
    }
    state short { verify(kept & 1 == 0, error.Late); transition all; }
    state all { pkt.extract(three); kept = kept + 0x200; transition select(three.v[0:0]) { 1: reject; default: accept; } }
}
parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    Sub() sub;
    state start {
        meta.kept = 1;
        pkt.extract(hdr.first);
        meta.odd = hdr.first.n[0:0] == 1;
        transition select(hdr.first.way, meta.odd, sm.ingress_port) {
            (Way.Ahead, _, _): ahead;
            (Way.Skip, true, _): skip_far;
            (Way.Skip, false, _): skip;
            (Way.Loop, _, 0 .. 2): loop;
            (Way.Loop, _, _): ahead;
            (Way.Sub, _, _): subs;
            (Way.Check, true, 3): accept;
            (Way.Check, _, _): check;
            (Way.Wide, _, _): wide;
            (Way.Var, _, _): variable;
            (_, false, _): accept;
        }
    }
    state ahead {
        ahead_t seen = pkt.lookahead<ahead_t>();
        meta.ahead = seen.a ++ seen.b;
        meta.kept = 2;
        transition select(seen.c, pkt.lookahead<bit<3>>()) {
            (0 .. 0x7f, 0 .. 3): wide;
            (0x80 &&& 0xc0, _): check;
            (_, 5): reject;
            default: accept;
        }
    }
    state skip { pkt.advance((bit<32>)hdr.first.v * 8); meta.kept = 3; transition ahead; }
    state skip_far { pkt.advance(8 * (bit<32>)hdr.first.v + 2400); meta.kept = 4; pkt.extract(hdr.three); transition accept; }
    state loop {
        pkt.extract(hdr.items.next);
        meta.depth = meta.depth + 1;
        transition select(hdr.items.last.last, meta.depth) { (1, _): accept; (0, 3): check; (_, _): loop; }
    }
    state subs { sub.apply(pkt, hdr.three, meta.kept, hdr.first.v & 3); meta.kept = meta.kept + 1; transition check; }
    state check {
        verify(!meta.odd, error.Odd);
        meta.kept = meta.kept + 0x10;
        verify(hdr.first.v != 2, error.Even);
        meta.kept = meta.kept + 0x20;
        transition select(hdr.first.v) { 1: loop; 4: more; default: accept; }
    }
    state more { pkt.extract(hdr.items[2]); pkt.extract(hdr.items.next); transition accept; }
    state wide { pkt.extract(hdr.wide); transition select(hdr.wide.v) { 0 .. 7: accept; 1 &&& 1: check; _: loop; } }
    state variable {
        pkt.extract(hdr.var, (bit<32>)pkt.lookahead<bit<8>>() & 0xff);
        transition accept;
    }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 2;
        hdr.told.setValid();
        hdr.told = { 0, 0, meta.ahead, meta.kept };
        if (sm.parser_error == error.NoError) { hdr.told.error_ = 1; }
        else if (sm.parser_error == error.PacketTooShort) { hdr.told.error_ = 2; }
        else if (sm.parser_error == error.NoMatch) { hdr.told.error_ = 3; }
        else if (sm.parser_error == error.StackOutOfBounds) { hdr.told.error_ = 4; }
        else if (sm.parser_error == error.HeaderTooShort) { hdr.told.error_ = 5; }
        else if (sm.parser_error == error.ParserTimeout) { hdr.told.error_ = 6; }
        else if (sm.parser_error == error.ParserInvalidArgument) { hdr.told.error_ = 7; }
        else if (sm.parser_error == error.Odd) { hdr.told.error_ = 8; }
        else if (sm.parser_error == error.Even) { hdr.told.error_ = 9; }
        else { hdr.told.error_ = 10; }
        hdr.told.got = (bit<8>)(bit<1>)hdr.first.isValid() << 7 | (bit<8>)(bit<1>)hdr.items[0].isValid() << 6
            | (bit<8>)(bit<1>)hdr.items[3].isValid() << 5 | (bit<8>)(bit<1>)hdr.three.isValid() << 4
            | (bit<8>)(bit<1>)hdr.wide.isValid() << 3 | (bit<8>)(bit<1>)hdr.var.isValid() << 2;
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
