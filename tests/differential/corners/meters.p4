// Meters and counters of all kinds: by packets and bytes, of entries and indexed, in narrow and wide results; entries
// that change meanwhile; action profiles without a selector beside those with one.
#include <core.p4>
#include <v1model.p4>

header ask_t { bit<8> a; bit<8> b; bit<16> c; bit<32> d; }
header told_t {
    bit<8> cell; bit<8> octets; bit<2> entry; bit<6> more; bit<8> wide; bit<8> hit; bit<16> profile; bit<16> chosen;
    bit<16> other; bit<8> last;
}
struct meta_t { bit<2> entry; bit<7> wide; bit<65> bits; bit<16> chosen; }
struct headers_t { told_t told; ask_t ask; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.ask); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    meter(8, MeterType.packets) by_packets;
    meter(8, MeterType.bytes) by_bytes;
    direct_meter<bit<2>>(MeterType.packets) of_entries;
    direct_meter<bit<7>>(MeterType.bytes) of_octets;
    direct_counter(CounterType.packets) packets_only;
    direct_counter(CounterType.bytes) octets_only;
    direct_counter(CounterType.packets_and_bytes) both;
    counter(8, CounterType.packets) seen;
    counter(8, CounterType.bytes) volume;
    action_profile(64) plain;
    action_selector(HashAlgorithm.crc16, 64, 16) hashed;
    action_selector(HashAlgorithm.identity, 32, 4) same;

    action set(bit<6> v) { of_entries.read(meta.entry); hdr.told.more = v; packets_only.count(); }
    action keep() { of_entries.read(meta.entry); packets_only.count(); }
    action tell(bit<8> v) { of_octets.read(meta.wide); octets_only.count(); hdr.told.last = v; }
    action gone() { octets_only.count(); of_octets.read(meta.wide); if (hdr.ask.d == 7) { mark_to_drop(sm); } }
    action note(bit<16> v) { hdr.told.profile = hdr.told.profile ^ v; }
    action pick(bit<16> v) { hdr.told.chosen = v; }
    action pick_more(bit<16> v, bit<8> w) { hdr.told.other = v + (bit<16>)w; }
    action counted(bit<8> v) { both.count(); hdr.told.hit = hdr.told.hit + v; }

    table metered {
        key = { hdr.ask.a & 3 : exact @name("low"); }
        actions = { set; keep; }
        default_action = keep;
        meters = of_entries;
        counters = packets_only;
        size = 64;
    }
    table octets {
        key = { hdr.ask.b & 1 : ternary @name("lowest"); hdr.ask.a : ternary; }
        actions = { tell; gone; NoAction; }
        default_action = NoAction;
        meters = of_octets;
        counters = octets_only;
    }
    table profiled {
        key = { hdr.ask.a : exact; }
        actions = { note; pick; NoAction; }
        implementation = plain;
    }
    table again {
        key = { hdr.ask.b : lpm; }
        actions = { note; pick; NoAction; }
        implementation = plain;
    }
    table selected {
        key = { hdr.ask.a : lpm; hdr.ask.c : selector; hdr.ask.d : selector; }
        actions = { pick; pick_more; NoAction; }
        implementation = hashed;
    }
    table equal {
        key = { hdr.ask.b : range; hdr.ask.d : selector; }
        actions = { pick_more; NoAction; }
        default_action = NoAction;
        implementation = same;
    }
    table tallied {
        key = { hdr.ask.d[7:0] : exact; hdr.ask.a[0:0] : ternary; }
        actions = { counted; NoAction; }
        counters = both;
    }
    apply {
        sm.egress_spec = 1;
        hdr.told.setValid();
        hdr.told = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 };
        if (!hdr.ask.isValid()) { return; }
        bit<32> at = (bit<32>)hdr.ask.a & 7;
        by_packets.execute_meter(at, hdr.told.cell);
        if (hdr.ask.c[0:0] == 1) { by_packets.execute_meter(at, meta.bits); hdr.told.wide = (bit<8>)meta.bits; }
        by_bytes.execute_meter((bit<32>)hdr.ask.b & 7, hdr.told.octets);
        seen.count(at);
        if (hdr.ask.b > 3) { volume.count(at ^ 1); }
        if (metered.apply().hit) { hdr.told.hit = 1; }
        hdr.told.entry = meta.entry;
        octets.apply();
        hdr.told.wide = hdr.told.wide ^ (bit<8>)meta.wide;
        if (!profiled.apply().hit) { hdr.told.hit = hdr.told.hit | 2; }
        switch (again.apply().action_run) {
            note: { hdr.told.hit = hdr.told.hit | 4; }
            pick: { hdr.told.hit = hdr.told.hit | 8; }
            default: { hdr.told.hit = hdr.told.hit | 16; }
        }
        selected.apply();
        equal.apply();
        tallied.apply();
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    counter(16, CounterType.packets_and_bytes) out_;
    apply { out_.count((bit<32>)sm.egress_port & 15); }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
