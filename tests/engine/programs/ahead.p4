// Keys of longest-prefix tables that the parser sets from bits that it looks ahead at, before and after it extracts.
#include <core.p4>
#include <v1model.p4>

header first_t { bit<8> kind; }
header x_t { bit<16> pad; bit<32> f; bit<32> answer; }
header more_t { bit<8> g; }
struct headers_t { first_t first; x_t x; more_t more; }
struct meta_t { }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.first);
        transition select(hdr.first.kind) {
            1: stale;
            2: beyond;
            default: accept;
        }
    }
    state stale {  // extracting writes over what was looked ahead at
        hdr.x.f = pkt.lookahead<bit<32>>();
        pkt.extract(hdr.x);
        transition accept;
    }
    state beyond {  // more bytes than the next header has
        pkt.extract(hdr.x);
        hdr.x.f = pkt.lookahead<bit<32>>();
        transition more;
    }
    state more { pkt.extract(hdr.more); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.first); pkt.emit(hdr.x); pkt.emit(hdr.more); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    @name(".reply") action reply(bit<32> value) { hdr.x.answer = value; }
    @name(".missed") action missed() { hdr.x.answer = 0xffffffff; }
    @name(".by_f") table by_f {
        key = { hdr.x.f : lpm @name("f"); }
        actions = { reply; missed; }
        default_action = missed();
        size = 20000;
    }
    @name(".by_both") table by_both {
        key = { hdr.more.g : exact @name("g"); hdr.x.f : lpm @name("f"); }
        actions = { reply; missed; }
        default_action = missed();
        size = 20000;
    }
    apply {
        sm.egress_spec = sm.ingress_port;
        if (hdr.more.isValid()) { by_both.apply(); } else if (hdr.x.isValid()) { by_f.apply(); }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
