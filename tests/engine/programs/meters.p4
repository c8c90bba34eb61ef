// Meters that belong to entries, idle time-outs, messages and wide register cells.
#include <core.p4>
#include <v1model.p4>

header probe_t { bit<8> op; bit<32> a; bit<8> colour; bit<8> packets; }
header wide_t { bit<2048> value; }
struct headers_t { probe_t probe; wide_t wide; }
struct meta_t { bit<2> colour; bit<8> packets; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.probe);
        transition select(hdr.probe.op) { 2: more; 3: more; default: accept; }
    }
    state more { pkt.extract(hdr.wide); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    @name(".by_entry") direct_meter<bit<2>>(MeterType.packets) by_entry;
    @name(".by_route") direct_meter<bit<8>>(MeterType.bytes) by_route;
    @name(".hits") direct_counter(CounterType.packets_and_bytes) hits;
    @name(".huge") register<bit<2048>>(2) huge;
    @name(".paint") action paint() { by_entry.read(meta.colour); hdr.probe.colour = (bit<8>)meta.colour; }
    @name(".paint_bytes") action paint_bytes() {
        by_route.read(meta.packets);
        hits.count();
        hdr.probe.packets = meta.packets;
    }
    @name(".metered") table metered {
        key = { hdr.probe.a : exact @name("a"); }
        actions = { paint; NoAction; }
        default_action = NoAction();
        meters = by_entry;
        support_timeout = true;
        size = 64;
    }
    @name(".routed") table routed {
        key = { hdr.probe.a : lpm @name("a"); }
        actions = { paint_bytes; NoAction; }
        default_action = NoAction();
        meters = by_route;
        counters = hits;
        size = 64;
    }
    apply {
        sm.egress_spec = 1;
        hdr.probe.colour = 9;
        hdr.probe.packets = 9;
        if (hdr.probe.op == 0) { metered.apply(); }
        else if (hdr.probe.op == 1) { routed.apply(); }
        else if (hdr.probe.op == 2) { huge.write(1, hdr.wide.value); }
        else if (hdr.probe.op == 3) { huge.read(hdr.wide.value, 1); }
        else if (hdr.probe.op == 4) { log_msg("probe {} from port {}", { hdr.probe.a, sm.ingress_port }); }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
