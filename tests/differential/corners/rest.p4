// What the other programs leave out: copies of whole unions and stacks, their sizes, hashes of whole headers and with
// ranges of one and more than the target holds, checksums always updated, value sets without members, tables with idle
// time-outs, optional keys, messages with values in every block.
#include <core.p4>
#include <v1model.p4>

header ask_t { bit<8> op; bit<8> n; bit<16> x; bit<32> y; }
header sum_t { bit<16> a; bit<16> b; bit<32> c; bit<16> d; }
header item_t { bit<8> v; bit<16> w; }
header wide_t { bit<152> v; }
header opt_t { bit<8> len; varbit<80> v; }
header_union some_t { item_t item; wide_t wide; }
struct pair_t { @match(exact) bit<8> a; @match(ternary) bit<16> b; }
struct meta_t { bit<16> r; bit<64> big; bit<8> narrow; }
struct headers_t { ask_t ask; sum_t sum; item_t[3] a; item_t[3] b; some_t u; some_t w; some_t[2] us; opt_t opt; opt_t opt2; wide_t key; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    value_set<bit<8>>(4) special;
    value_set<pair_t>(2) pairs;
    state start {
        pkt.extract(hdr.ask);
        transition select(hdr.ask.n) { special: accept; default: second; }
    }
    state second {
        pkt.extract(hdr.sum);
        transition select(hdr.ask.n, hdr.ask.x) { pairs: accept; (_, 0x8000 &&& 0x8000): items; default: third; }
    }
    state third {
        transition select(hdr.ask.op[7:6]) { 0: item; 1: wide; 2: opt; 3: items; }
    }
    state item { pkt.extract(hdr.u.item); transition accept; }
    state wide { pkt.extract(hdr.u.wide); transition select(hdr.u.wide.v[7:0]) { 0 .. 127: key; default: accept; } }
    state key { pkt.extract(hdr.key); transition accept; }
    state opt { pkt.extract(hdr.opt, (bit<32>)hdr.ask.n[3:0] * 8); pkt.extract(hdr.opt2, (bit<32>)hdr.ask.x[3:0] * 8); transition accept; }
    state items { pkt.extract(hdr.a.next); transition select(hdr.a.last.v) { 0 .. 200: items; default: accept; } }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply { verify_checksum(true, { hdr.ask.x, hdr.ask.y }, hdr.sum.a, HashAlgorithm.csum16); }
}
control U(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum(true, { hdr.ask.op, hdr.ask.n, hdr.ask.y, hdr.sum.c }, hdr.sum.a, HashAlgorithm.csum16);
        update_checksum_with_payload(hdr.opt.isValid(), { hdr.ask.op, hdr.opt.len, hdr.opt.v, hdr.sum.c }, hdr.sum.b, HashAlgorithm.csum16);
        update_checksum_with_payload(hdr.a[0].isValid(), { hdr.a[0].v, hdr.a[0].w, hdr.sum.a, hdr.sum.b }, hdr.sum.d, HashAlgorithm.crc16);
    }
}
control D(packet_out pkt, in headers_t hdr) {
    apply {
        log_msg("leaving");
        pkt.emit(hdr.ask); pkt.emit(hdr.sum); pkt.emit(hdr.a); pkt.emit(hdr.b); pkt.emit(hdr.u); pkt.emit(hdr.w);
        pkt.emit(hdr.us); pkt.emit(hdr.opt); pkt.emit(hdr.opt2); pkt.emit(hdr.key);
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action set(bit<16> v) { hdr.ask.x = v; }
    action add(bit<16> v) { hdr.ask.x = hdr.ask.x + v; }
    table aged {
        key = { hdr.ask.op : exact; hdr.sum.d : optional; }
        actions = { set; add; NoAction; }
        default_action = NoAction;
        support_timeout = true;
    }
    table options {
        key = { hdr.ask.y : optional; hdr.key.v : optional; hdr.u.wide.v : optional; }
        actions = { set; add; NoAction; }
        default_action = add(1);
    }
    table wides { key = { hdr.key.v : range; hdr.ask.op : ternary; } actions = { set; add; NoAction; } default_action = NoAction; }
    apply {
        sm.egress_spec = 1;
        if (!hdr.ask.isValid()) { return; }
        log_msg("op {} of {} {}", { hdr.ask.op, sm.ingress_port, hdr.key.v });
        aged.apply();
        if (!hdr.sum.isValid()) { return; }
        bit<5> op = hdr.ask.op[4:0];
        if (op == 0) { hdr.w = hdr.u; }
        else if (op == 1) { hdr.us[0] = hdr.u; hdr.us[1] = hdr.us[0]; hdr.u.item.setValid(); hdr.u.item = { 1, 2 }; }
        else if (op == 2) { hdr.b = hdr.a; hdr.a.pop_front(1); }
        else if (op == 3) { hdr.a.push_front(1); hdr.b = hdr.a; hdr.b[0].setValid(); hdr.b[0] = { 7, 8 }; }
        else if (op == 6) { hash(hdr.ask.y, HashAlgorithm.crc32, 32w7, { hdr.sum, hdr.ask.op }, 32w1); }
        else if (op == 7) { hash(hdr.ask.x, HashAlgorithm.crc16, 16w3, hdr.sum, 16w1000); }
        else if (op == 8 && hdr.key.isValid()) { hash(hdr.ask.y, HashAlgorithm.crc32, 32w0xfffffff0, { hdr.sum.c, hdr.key.v }, 32w0xffff); }
        else if (op == 9) { hash(hdr.ask.n, HashAlgorithm.crc16, 8w0, { hdr.sum.c }, 32w1000); }
        else if (op == 10) { hash(meta.big, HashAlgorithm.identity, 64w0, { hdr.sum.a, hdr.sum.c }, 64w0x100000000); hdr.ask.y = meta.big[31:0]; }
        else if (op == 11) { hash(hdr.ask.x, HashAlgorithm.csum16, 16w0, { hdr.ask.n }, 32w65536); hash(meta.r, HashAlgorithm.xor16, 16w0, { hdr.ask.n, hdr.sum.b }, 16w7); hdr.sum.b = meta.r; }
        else if (op == 12) { hash(hdr.ask.x, HashAlgorithm.crc16, (bit<16>)0, { 16w0 }, hdr.sum.b | 1); }
        else if (op == 13) { truncate((bit<32>)hdr.ask.n[3:0]); }
        else if (op == 14) { truncate(30); truncate(40); }
        else if (op == 15) { hdr.opt2 = hdr.opt; hdr.opt.setInvalid(); }
        else if (op == 16) { hdr.ask.x = (bit<16>)hdr.b.size; }
        else if (op == 17) { hdr.u.item.setInvalid(); hdr.w.wide.setValid(); hdr.w.wide.v = 5; hdr.u = hdr.w; }
        bool even = hdr.ask.n[3:0] == hdr.ask.x[3:0];  // of other lengths and equal numbers, BMv2 finds them equal
        if (even && hdr.opt.isValid() && hdr.opt2.isValid() && hdr.opt != hdr.opt2) { hdr.ask.n = 0x77; }
        if (hdr.key.isValid()) { options.apply(); wides.apply(); }
        if (hdr.key != hdr.u.wide) { hdr.sum.c = hdr.sum.c + 1; }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply { log_msg("to {}: {} {}", { sm.egress_port, hdr.ask.y, meta.big }); }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
