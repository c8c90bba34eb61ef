// Every kind of match, action profiles and selectors, counters, const entries: one key of each sort, the answer
// written into the packet.
#include <core.p4>
#include <v1model.p4>

header probe_t {
    bit<8>   op;
    bit<32>  a;
    bit<16>  b;
    bit<128> wide;
    bit<12>  odd;
    bit<4>   rest;
    bit<32>  answer;
}
struct headers_t { probe_t probe; }
struct meta_t { bit<16> entropy; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.probe);
        transition accept;
    }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.probe); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    @name(".by_table") direct_counter(CounterType.packets_and_bytes) by_table;
    @name(".by_index") counter(16, CounterType.packets_and_bytes) by_index;
    @name(".reply") action reply(bit<32> value) { hdr.probe.answer = value; }
    @name(".reply_wide") action reply_wide(bit<128> value) { hdr.probe.wide = value; hdr.probe.answer = 1; }
    @name(".missed") action missed() { hdr.probe.answer = 0xffffffff; }
    @name(".chosen") action chosen(bit<32> value) { hdr.probe.answer = value; }

    @name(".exact16") table exact16 {
        key = { hdr.probe.b : exact @name("b"); }
        actions = { reply; reply_wide; @defaultonly missed; }
        const default_action = missed();
        size = 65536;
    }
    @name(".exact_wide") table exact_wide {
        key = { hdr.probe.wide : exact @name("wide"); hdr.probe.odd : exact @name("odd"); }
        actions = { reply; missed; }
        default_action = missed();
        size = 1024;
    }
    @name(".lpm32") table lpm32 {
        key = { hdr.probe.a : lpm @name("a"); }
        actions = { reply; missed; }
        default_action = missed();
        size = 4096;
    }
    @name(".lpm128") table lpm128 {
        key = { hdr.probe.odd : exact @name("odd"); hdr.probe.wide : lpm @name("wide"); }
        actions = { reply; missed; }
        default_action = missed();
        size = 1024;
        counters = by_table;
    }
    @name(".lpm_odd") table lpm_odd {
        key = { hdr.probe.odd : lpm @name("odd"); hdr.probe.b : exact @name("b"); }
        actions = { reply; missed; }
        default_action = missed();
    }
    @name(".mixed") table mixed {
        key = {
            hdr.probe.a    : ternary  @name("a");
            hdr.probe.b    : range    @name("b");
            hdr.probe.odd  : optional @name("odd");
            hdr.probe.wide : lpm      @name("wide");
            hdr.probe.rest : exact    @name("rest");
        }
        actions = { reply; missed; }
        default_action = missed();
        size = 256;
    }
    @name(".constant") table constant {
        key = { hdr.probe.a : ternary @name("a"); hdr.probe.b : range @name("b"); }
        actions = { reply; missed; }
        const default_action = missed();
        const entries = {
            (0x0a000000 &&& 0xff000000, 10..20) : reply(1);
            (0x0a000000 &&& 0xff000000, _)      : reply(2);
            (_, 5..15)                          : reply(3);
        }
    }
    @name(".profile") action_profile(64) members;
    @name(".member") table member {
        key = { hdr.probe.b : exact @name("b"); }
        actions = { chosen; }
        implementation = members;
        size = 64;
    }
    @name(".selector") action_selector(HashAlgorithm.crc16, 64, 16) spread;
    @name(".group") table group {
        key = { hdr.probe.b : exact @name("b"); hdr.probe.a : selector; hdr.probe.odd : selector; }
        actions = { chosen; }
        implementation = spread;
        size = 64;
    }
    apply {
        sm.egress_spec = sm.ingress_port;
        by_index.count((bit<32>)hdr.probe.op);
        if (hdr.probe.op == 0) { exact16.apply(); }
        else if (hdr.probe.op == 1) { exact_wide.apply(); }
        else if (hdr.probe.op == 2) { lpm32.apply(); }
        else if (hdr.probe.op == 3) { lpm128.apply(); }
        else if (hdr.probe.op == 4) { lpm_odd.apply(); }
        else if (hdr.probe.op == 5) { mixed.apply(); }
        else if (hdr.probe.op == 6) { constant.apply(); }
        else if (hdr.probe.op == 7) { member.apply(); }
        else if (hdr.probe.op == 8) {
            if (!group.apply().hit) { hdr.probe.answer = 0xffffffff; }
        }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
