// A frame for what BMv2 executes and p4c 1.2.5 does not write: handmade.json replaces the bodies of actions, the key of
// a state, algorithms and the deparser's calls.
#include <core.p4>
#include <v1model.p4>

header ask_t { bit<8> op; bit<8> n; }
header item_t { bit<8> v; bit<16> w; }
header other_t { bit<24> v; }
header varied_t { bit<8> len; varbit<64> v; }
header n_t { bit<64> x; bit<64> y; bit<100> x100; bit<100> y100; bit<300> x300; bit<300> y300; int<40> s; int<40> t; int<152> s152; int<152> t152; }
header r_t { bit<8> flag; bit<32> i; bit<64> r64; bit<100> r100; bit<300> r300; int<40> rs; int<152> rs152; bit<64> cell; bit<8> colour; }
header_union some_t { item_t item; other_t other; }
struct meta_t { bit<16> kept; }
struct headers_t { r_t r; ask_t ask; n_t n; item_t[3] a; item_t[3] b; some_t u; some_t w; varied_t v1; varied_t v2; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.ask);
        transition select(hdr.ask.op[6:4]) { 0: numbers; 1: items; 2: union_item; 3: union_other; 4: varied; 5: peeked; default: accept; }
    }
    state numbers { pkt.extract(hdr.n); transition accept; }
    state items { pkt.extract(hdr.a.next); transition select(hdr.a.last.v) { 0 .. 99: items; 100 .. 149: second; default: accept; } }
    state second { pkt.extract(hdr.b.next); transition select(hdr.b.last.v) { 0 .. 127: second; default: accept; } }
    state union_item { pkt.extract(hdr.u.item); transition accept; }
    state union_other { pkt.extract(hdr.u.other); transition accept; }
    state varied { pkt.extract(hdr.v1, (bit<32>)hdr.ask.n[2:0] * 8); pkt.extract(hdr.v2, (bit<32>)hdr.ask.n[5:3] * 8); transition accept; }
    state peeked { transition select(hdr.ask.n) { 0x10 &&& 0xf0: items; 0x20 .. 0x2f: numbers; 7: union_item; default: accept; } }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) {
    apply {
        log_msg("replaced");
        pkt.emit(hdr.r); pkt.emit(hdr.ask); pkt.emit(hdr.n); pkt.emit(hdr.a); pkt.emit(hdr.b); pkt.emit(hdr.u); pkt.emit(hdr.w);
        pkt.emit(hdr.v1); pkt.emit(hdr.v2);
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<64>>(8) cells;
    counter(8, CounterType.packets_and_bytes) seen;
    meter(4, MeterType.packets) rated;
    action headers_equal() { hdr.r.flag = 1; }
    action headers_differ() { hdr.r.flag = 2; }
    action varied_equal() { hdr.r.flag = 3; }
    action varied_differ() { hdr.r.flag = 4; }
    action last_index() { hdr.r.i = 5; }
    action size() { hdr.r.i = 6; }
    action is_valid() { hdr.r.flag = 7; }
    action copy_stack() { hdr.r.flag = 8; }
    action copy_union() { hdr.r.flag = 9; }
    action divide() { hdr.r.flag = 10; }
    action choose() { hdr.r.flag = 11; }
    action last_field() { hdr.r.flag = 12; }
    action fixed_random() { hdr.r.flag = 13; }
    action ccitt() { hash(hdr.r.r64, HashAlgorithm.crc16, 64w0, { hdr.ask.op, hdr.ask.n, hdr.a[0].w }, 64w0x10000); }
    action xored() {
        hash(hdr.r.i, HashAlgorithm.xor16, 32w0, { hdr.ask.op, hdr.a[0].w, hdr.a[0].v, hdr.a[1].v, hdr.ask.n, hdr.a[1].w }, 32w0xffffffff);
        hash(hdr.r.flag, HashAlgorithm.csum16, 8w0, { hdr.a[0].w, hdr.ask.n }, 32w251);
    }
    action nothing() { cells.write(0, 1); seen.count(0); rated.execute_meter(32w0, hdr.r.colour); }
    table todo {
        key = { hdr.ask.op[6:4] : exact @name("kind"); hdr.ask.n[3:0] : exact @name("what"); }
        actions = {
            headers_equal; headers_differ; varied_equal; varied_differ; last_index; size; is_valid; copy_stack; copy_union; divide;
            choose; last_field; fixed_random; ccitt; xored; nothing;
        }
        const default_action = nothing;
        const entries = {
            (0, 0) : divide(); (0, 1) : choose(); (0, 2) : fixed_random(); (0, 3) : divide(); (0, 4) : choose(); (0, 5) : divide();
            (1, 0) : headers_equal(); (1, 1) : headers_differ(); (1, 2) : last_index(); (1, 3) : size(); (1, 4) : copy_stack();
            (1, 5) : last_field(); (1, 6) : ccitt(); (1, 7) : is_valid(); (1, 8) : headers_equal(); (1, 9) : copy_stack(); (1, 10) : xored(); (1, 11) : xored();
            (2, 0) : copy_union(); (2, 1) : copy_union(); (2, 2) : copy_union(); (3, 0) : copy_union(); (3, 1) : copy_union();
            (4, 0) : varied_equal(); (4, 1) : varied_equal(); (4, 2) : varied_differ(); (4, 9) : varied_equal(); (4, 3) : varied_differ();
        }
    }
    apply {
        sm.egress_spec = 1;
        if (!hdr.ask.isValid()) { return; }
        hdr.r.setValid();
        hdr.r = { 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        if (hdr.ask.op[6:4] == 0 && !hdr.n.isValid() || hdr.ask.op[6:4] == 1 && !hdr.a[1].isValid()) { return; }
        if (hdr.ask.op[6:4] == 4 && hdr.ask.n[2:0] != hdr.ask.n[5:3]) { return; }
        todo.apply();  // BMv2 copies unions' fields only where something computes with them
        if (hdr.u.other.isValid() && hdr.u.other.v > 7) { meta.kept = hdr.u.other.v[15:0] + 1; }
        if (hdr.w.other.isValid() && hdr.w.other.v > 9) { meta.kept = hdr.w.other.v[15:0] + meta.kept; }
        hdr.r.i = hdr.r.i ^ (bit<32>)meta.kept;
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
