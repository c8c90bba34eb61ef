// p4c compiles it, but the engine's keys have at most 256 bytes: it must say so and where.
#include <core.p4>
#include <v1model.p4>

header huge_t { bit<1024> a; bit<1032> b; }
struct headers_t { huge_t huge; }
struct meta_t { }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.huge); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.huge); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action add() { hdr.huge.a = hdr.huge.a + 1; }
    table pick {
        key = { hdr.huge.a : exact; hdr.huge.b : ternary; }
        actions = { add; NoAction; }
        default_action = NoAction();
    }
    apply {
        sm.egress_spec = 1;
        pick.apply();
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
