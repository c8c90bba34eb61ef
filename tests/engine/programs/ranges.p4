// Ranges over numbers of more than 128 bits, alone, beside narrow ones, off byte boundaries, and in const entries.
#include <core.p4>
#include <v1model.p4>

header probe_t {
    bit<8>   op;
    bit<200> a;
    bit<133> odd;
    bit<3>   rest;
    bit<16>  b;
    bit<512> huge;
    bit<32>  answer;
}
struct headers_t { probe_t probe; }
struct meta_t { }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.probe); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.probe); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    @name(".reply") action reply(bit<32> value) { hdr.probe.answer = value; }
    @name(".missed") action missed() { hdr.probe.answer = 0xffffffff; }

    @name(".alone") table alone {
        key = { hdr.probe.a : range @name("a"); }
        actions = { reply; missed; }
        default_action = missed();
    }
    @name(".mixed") table mixed {
        key = {
            hdr.probe.b    : range   @name("b");
            hdr.probe.odd  : range   @name("odd");
            hdr.probe.rest : ternary @name("rest");
            hdr.probe.huge : range   @name("huge");
        }
        actions = { reply; missed; }
        default_action = missed();
    }
    @name(".constant") table constant {
        key = { hdr.probe.a : range @name("a"); hdr.probe.b : exact @name("b"); }
        actions = { reply; missed; }
        const default_action = missed();
        const entries = {
            (5..0x8000_0000_0000_0000_0000_0000_0000_0000_0000_0000, 1) : reply(1);
            (0..0xff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff, 1) : reply(2);
            (7, 2) : reply(3);
        }
    }
    apply {
        sm.egress_spec = sm.ingress_port;
        if (hdr.probe.op == 0) { alone.apply(); }
        else if (hdr.probe.op == 1) { mixed.apply(); }
        else if (hdr.probe.op == 2) { constant.apply(); }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
