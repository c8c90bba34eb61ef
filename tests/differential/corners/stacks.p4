// Header stacks and variable fields: shifts by more than the stack holds, elements picked at run time, copies of whole
// stacks, the last and the next one, loops, fields of no bytes and of the most, reads beyond the end of the packet.
#include <core.p4>
#include <v1model.p4>

error { Long, Odd }
header ask_t { bit<8> op; bit<8> at; bit<8> n; bit<8> len; }
header item_t { bit<1> last; bit<15> v; bit<8> w; }
header opt_t { bit<8> kind; varbit<256> data; bit<8> tail; }
header told_t { bit<8> valid; bit<16> v; bit<16> w; bit<8> failed; bit<8> count; bit<32> ahead; }
struct meta_t { bit<8> count; bit<32> ahead; bit<8> left; }
struct headers_t { told_t told; ask_t ask; item_t[4] a; item_t[4] b; item_t one; opt_t opt; opt_t more; opt_t[2] os; }

parser Options(packet_in pkt, inout headers_t hdr, in bit<8> len, inout bit<8> left) {
    state start {
        left = left + len;
        verify(len <= 40, error.Long);
        transition select(len) { 0: accept; 1 &&& 1: odd; default: next; }
    }
    state odd { verify(len[3:0] != 15, error.Odd); transition next; }
    state next { pkt.extract(hdr.os.next, (bit<32>)len << 3); transition select(hdr.os.last.tail) { 0 .. 99: again; default: accept; } }
    state again { pkt.extract(hdr.os.next, ((bit<32>)len - 1) * 8); left = left |-| 3; transition accept; }
}
parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    Options() options;
    state start {
        pkt.extract(hdr.ask);
        transition select(hdr.ask.op, hdr.ask.at) {
            (0 .. 3, _): first;
            (4 .. 15, 0 .. 7): loop;
            (16 .. 31, _): varied;
            (32 .. 39, _): ahead;
            (40 .. 47, _): listed;
            (_, 9): one;
            default: accept;
        }
    }
    state first { pkt.extract(hdr.a[0]); pkt.extract(hdr.a.next); transition one; }
    state loop {
        pkt.extract(hdr.a.next);
        meta.count = meta.count + 1;
        transition select(hdr.a.last.last, hdr.a.last.w) { (1, _): second; (0, 0xf0 &&& 0xf0): accept; default: loop; }
    }
    state second { pkt.extract(hdr.b.next); transition select(hdr.b.last.v) { 0x4000 &&& 0x4000: second; 5: one; default: accept; } }
    state varied { pkt.extract(hdr.opt, (bit<32>)hdr.ask.len * 8); transition select(hdr.ask.n) { 0: accept; default: varied2; } }
    state varied2 { pkt.extract(hdr.more, (bit<32>)(hdr.ask.n & 0x3f)); transition accept; }
    state ahead {
        meta.ahead = pkt.lookahead<bit<32>>();
        pkt.advance((bit<32>)hdr.ask.n * 4);
        transition select(pkt.lookahead<bit<24>>()[23:22]) { 0: one; 1: loop; default: accept; }
    }
    state listed { options.apply(pkt, hdr, hdr.ask.len, meta.left); transition one; }
    state one { pkt.extract(hdr.one); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) {
    apply {
        pkt.emit(hdr.told); pkt.emit(hdr.ask); pkt.emit(hdr.a); pkt.emit(hdr.b); pkt.emit(hdr.one);
        pkt.emit(hdr.opt); pkt.emit(hdr.more); pkt.emit(hdr.os);
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action front1() { hdr.a.push_front(1); }
    action front3() { hdr.a.push_front(3); hdr.a[0].setValid(); hdr.a[0] = { 0, 1, 2 }; }
    action front9() { hdr.a.push_front(9); }
    action back1() { hdr.a.pop_front(1); }
    action back4() { hdr.a.pop_front(4); }
    action back7() { hdr.b.pop_front(7); hdr.a.push_front(4); }
    action whole() { hdr.b = hdr.a; hdr.b[1].w = 0x99; }
    action mixed() { hdr.b[3] = hdr.a[0]; hdr.a[0] = hdr.one; hdr.one = hdr.b[0]; }
    action varied() { hdr.more = hdr.opt; hdr.opt.kind = 1; hdr.opt.tail = hdr.more.tail + 1; }
    action swap() { hdr.os[1] = hdr.os[0]; hdr.os[0].setInvalid(); }
    action nothing() { }
    table todo {
        key = { hdr.ask.op : exact; }
        actions = { front1; front3; front9; back1; back4; back7; whole; mixed; varied; swap; nothing; }
        default_action = nothing;
        const entries = {
            0 : mixed(); 1 : whole(); 4 : front1(); 5 : front3(); 6 : front9(); 7 : back1(); 8 : back4(); 9 : back7();
            10 : whole(); 11 : mixed(); 16 : varied(); 17 : nothing(); 18 : varied(); 40 : swap(); 41 : nothing();
        }
    }
    apply {
        sm.egress_spec = 1;
        if (!hdr.ask.isValid()) { return; }
        hdr.told.setValid();
        hdr.told = { 0, 0, 0, 0, meta.count, meta.ahead };
        if (sm.parser_error == error.NoError) { hdr.told.failed = 0; }
        else if (sm.parser_error == error.PacketTooShort) { hdr.told.failed = 1; }
        else if (sm.parser_error == error.StackOutOfBounds) { hdr.told.failed = 2; }
        else if (sm.parser_error == error.HeaderTooShort) { hdr.told.failed = 3; }
        else if (sm.parser_error == error.Long) { hdr.told.failed = 4; }
        else if (sm.parser_error == error.Odd) { hdr.told.failed = 5; }
        else { hdr.told.failed = 9; }
        todo.apply();
        bit<32> i = (bit<32>)hdr.ask.at & 3;
        if (hdr.ask.op == 12 && hdr.a[3].isValid()) { hdr.told.v = (bit<16>)hdr.a[i].v; hdr.a[i].w = hdr.ask.n; }
        else if (hdr.ask.op == 13 && hdr.a[3].isValid()) { hdr.a[i].setInvalid(); hdr.b[3 - i].setValid(); hdr.b[3 - i] = { 1, 2, 3 }; }
        else if (hdr.ask.op == 14) { hdr.told.w = (bit<16>)hdr.a.size + (bit<16>)hdr.b.size * 256; }
        bool even = hdr.ask.len << 3 == hdr.ask.n & 0x3f;
        if (even && hdr.opt.isValid() && hdr.more.isValid() && hdr.opt == hdr.more) { hdr.told.w = 0x1234; }
        if (hdr.a[0] == hdr.a[1]) { hdr.told.v = hdr.told.v ^ 0x8000; }
        if (hdr.a == hdr.b) { hdr.told.w = hdr.told.w ^ 0x4000; }
        if (hdr.a[0].isValid()) { hdr.told.valid = hdr.told.valid | 1; }
        if (hdr.a[1].isValid()) { hdr.told.valid = hdr.told.valid | 2; }
        if (hdr.a[2].isValid()) { hdr.told.valid = hdr.told.valid | 4; }
        if (hdr.a[3].isValid()) { hdr.told.valid = hdr.told.valid | 8; }
        if (hdr.b[0].isValid()) { hdr.told.valid = hdr.told.valid | 16; }
        if (hdr.b[3].isValid()) { hdr.told.valid = hdr.told.valid | 32; }
        if (hdr.opt.isValid()) { hdr.told.valid = hdr.told.valid | 64; }
        if (hdr.os[1].isValid()) { hdr.told.valid = hdr.told.valid | 128; }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
