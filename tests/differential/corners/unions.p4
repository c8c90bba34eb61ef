// Header unions and stacks of them, nested headers in stacks, validity and copies of all of these.
#include <core.p4>
#include <v1model.p4>

header kind_t { bit<8> kind; bit<8> act; }
header one_t { bit<8> v; }
header two_t { bit<16> v; bit<16> w; }
header var_t { bit<8> len; varbit<64> v; }
header_union any_t { one_t one; two_t two; var_t var; }
header state_t { bit<8> valid; bit<8> count; bit<16> value; }
struct meta_t { }
struct headers_t { kind_t kind; state_t told; any_t u; any_t w; any_t[3] us; two_t[2] twos; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            0 .. 1: one;
            2: two;
            3: variable;
            4: many;
            5: twos;
            6: both;
            default: accept;
        }
    }
    state one { pkt.extract(hdr.u.one); transition accept; }
    state two { pkt.extract(hdr.u.two); transition select(hdr.u.two.w) { 0x8000 &&& 0x8000: many; default: accept; } }
    state variable {
        bit<8> len = pkt.lookahead<bit<8>>();
        pkt.extract(hdr.u.var, (bit<32>)len[2:0] * 8 + 8);
        transition accept;
    }
    state many {
        transition select(pkt.lookahead<bit<8>>()) {
            0x10 .. 0x1f: many_one;
            0x20 &&& 0xf0: many_two;
            default: accept;
        }
    }
    state many_one { pkt.extract(hdr.us.next.one); transition many; }
    state many_two { pkt.extract(hdr.us.next.two); transition many; }
    state twos {
        pkt.extract(hdr.twos.next);
        transition select(hdr.twos.last.v) {
            0: accept;
            1 .. 9: both;
            default: twos;
        }
    }
    state both { pkt.extract(hdr.u.one); pkt.extract(hdr.w.two); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.told.setValid();
        hdr.told = { 0, 0, 0 };
        if (!hdr.kind.isValid()) { return; }
        if (hdr.kind.act == 1) { hdr.u.two.setValid(); hdr.u.two.v = 5; hdr.u.two.w = 6; }
        else if (hdr.kind.act == 2) { hdr.u.one.setInvalid(); }
        else if (hdr.kind.act == 3) { hdr.w = hdr.u; }
        else if (hdr.kind.act == 4) { hdr.w.one = hdr.us[0].one; }
        else if (hdr.kind.act == 5) { hdr.us[2] = hdr.u; hdr.u.two.setInvalid(); }
        else if (hdr.kind.act == 6) { hdr.u.one = { 0x77 }; }
        else if (hdr.kind.act == 7) { hdr.twos[1] = hdr.u.two; hdr.twos[0].setValid(); hdr.twos[0].v = 1; hdr.twos[0].w = 2; }
        else if (hdr.kind.act == 8) { hdr.twos.push_front(1); hdr.twos[0] = { 3, 4 }; }
        else if (hdr.kind.act == 9) { hdr.us[1].one.setInvalid(); hdr.us[1].two.setValid(); hdr.us[1].two = hdr.twos[0]; }
        else if (hdr.kind.act == 10) { hdr.twos.pop_front(2); hdr.w.var = hdr.u.var; }
        if (hdr.u.isValid()) { hdr.told.valid = hdr.told.valid | 1; }
        if (hdr.u.one.isValid()) { hdr.told.valid = hdr.told.valid | 2; hdr.told.value = (bit<16>)hdr.u.one.v; }
        if (hdr.u.two.isValid()) { hdr.told.valid = hdr.told.valid | 4; hdr.told.value = hdr.u.two.w; }
        if (hdr.u.var.isValid()) { hdr.told.valid = hdr.told.valid | 8; }
        if (hdr.us[0].one.isValid() || hdr.us[0].two.isValid()) { hdr.told.count = hdr.told.count + 1; }
        if (hdr.us[1].one.isValid() || hdr.us[1].two.isValid()) { hdr.told.count = hdr.told.count + 2; }
        if (hdr.us[2].one.isValid() || hdr.us[2].two.isValid()) { hdr.told.count = hdr.told.count + 4; }
        if (hdr.twos[0] == hdr.twos[1]) { hdr.told.count = hdr.told.count + 8; }
        if (hdr.w.isValid()) { hdr.told.valid = hdr.told.valid | 16; }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
