// A key-value cache: 128-bit keys, values over eight register stages, a valid bit for each, a count-min sketch of four
// rows with a threshold, a Bloom filter before the report; replies leave with addresses and ports exchanged.
#include <core.p4>
#include <v1model.p4>

#define STAGE(N) \
    register<bit<128>>(32) value##N; \
    action read##N() { hdr.value[N].setValid(); value##N.read(hdr.value[N].v, meta.at); } \
    action write##N() { if (hdr.value[N].isValid()) { value##N.write(meta.at, hdr.value[N].v); } hdr.value[N].setInvalid(); } \
    table stage##N { key = { meta.bitmap[N:N] : exact; hdr.nc.op : exact; } actions = { read##N; write##N; NoAction; } \
        const entries = { (1, 0) : read##N(); (1, 1) : write##N(); (1, 3) : write##N(); } default_action = NoAction(); }
#define ROW(N, ALGO) \
    register<bit<16>>(64) row##N; \
    action count##N() { bit<16> c; bit<32> i; hash(i, HashAlgorithm.ALGO, 32w0, { hdr.nc.key, 8w##N }, 32w64); \
        row##N.read(c, i); c = c |+| 1; row##N.write(i, c); meta.least = c < meta.least ? c : meta.least; }

header ends_t { bit<32> src; bit<32> dst; bit<16> sport; bit<16> dport; bit<16> len; bit<16> sum; }
header nc_t { bit<8> op; bit<16> seq; bit<128> key; }
header value_t { bit<128> v; }
header load_t { bit<32> hits; bit<32> reads; bit<16> least; bit<8> hot; bit<8> cached; }
struct meta_t { bit<32> at; bit<8> bitmap; bit<16> least; bit<1> valid; bit<8> stages; }
struct headers_t { ends_t ends; nc_t nc; value_t[8] value; load_t load; }
struct hot_t { bit<128> key; bit<16> count; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.ends); transition select(hdr.ends.dport) { 0x8000 &&& 0x8000: nc; 8888: nc; default: accept; } }
    state nc { pkt.extract(hdr.nc); transition select(hdr.nc.op) { 1: values; 3: values; default: accept; } }
    state values {
        pkt.extract(hdr.value.next);
        meta.stages = meta.stages + 1;
        transition select(meta.stages) { 8: accept; default: values; }
    }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum_with_payload(hdr.nc.isValid(), { hdr.ends.src, hdr.ends.dst, hdr.ends.len, 16w17, hdr.ends.sport,
            hdr.ends.dport, hdr.nc.op, hdr.nc.seq, hdr.nc.key, 8w0 }, hdr.ends.sum, HashAlgorithm.csum16);
    }
}
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.ends); pkt.emit(hdr.nc); pkt.emit(hdr.value); pkt.emit(hdr.load); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<1>>(32) valid;
    register<bit<32>>(1) reads;
    register<bit<32>>(32) hits;
    register<bit<1>>(128) bloom_a;
    register<bit<1>>(128) bloom_b;
    direct_counter(CounterType.packets_and_bytes) found;
    direct_counter(CounterType.packets) found2;
    STAGE(0) STAGE(1) STAGE(2) STAGE(3) STAGE(4) STAGE(5) STAGE(6) STAGE(7)
    ROW(1, crc32) ROW(2, crc16) ROW(3, csum16) ROW(4, xor16)

    action cached(bit<5> at, bit<8> bitmap) { meta.at = (bit<32>)at; meta.bitmap = bitmap; found.count(); }
    action reply() {
        bit<32> kept = hdr.ends.src;
        hdr.ends.src = hdr.ends.dst;
        hdr.ends.dst = kept;
        hdr.ends.sport = hdr.ends.sport ^ hdr.ends.dport;
        hdr.ends.dport = hdr.ends.sport ^ hdr.ends.dport;
        hdr.ends.sport = hdr.ends.sport ^ hdr.ends.dport;
        hdr.nc.op = hdr.nc.op | 0x80;
        sm.egress_spec = sm.ingress_port;
    }
    action forward(bit<9> port) { sm.egress_spec = port; }
    table cache {
        key = { hdr.nc.key : exact; }
        actions = { cached; NoAction; }
        default_action = NoAction;
        counters = found;
        size = 32;
    }
    action seen(bit<8> v) { hdr.load.cached = hdr.load.cached + v; found2.count(); }
    table prefixes {
        key = { hdr.nc.key : lpm; hdr.nc.op : exact; }
        actions = { seen; NoAction; }
        counters = found2;
    }
    table route {
        key = { hdr.ends.dst : lpm; }
        actions = { forward; NoAction; }
        default_action = forward(2);
    }
    table route_more {
        key = { hdr.ends.dst : lpm; hdr.ends.dport : ternary; }
        actions = { forward; NoAction; }
        default_action = forward(3);
    }
    apply {
        meta.least = 0xffff;
        bool away = !hdr.nc.isValid();
        if (away) { route_more.apply(); return; }
        hdr.load.setValid();
        hdr.load = { 0, 0, 0, 0, 0 };
        bool hit = cache.apply().hit;
        if (!hit) { meta.at = (bit<32>)hdr.nc.key[4:0]; meta.bitmap = hdr.nc.key[15:8]; }
        hdr.load.cached = (bit<8>)(bit<1>)hit;
        if (hdr.nc.op == 0) {
            bit<32> n;
            reads.read(n, 0);
            n = n + 1;
            reads.write(0, n);
            hdr.load.reads = n;
            valid.read(meta.valid, meta.at);
            if (meta.valid == 1) {
                hits.read(hdr.load.hits, meta.at);
                hdr.load.hits = hdr.load.hits + 1;
                hits.write(meta.at, hdr.load.hits);
            } else {
                count1(); count2(); count3(); count4();
                hdr.load.least = meta.least;
                if (meta.least > 1) {
                    bit<32> a;
                    bit<32> b;
                    bit<1> in_a;
                    bit<1> in_b;
                    hash(a, HashAlgorithm.crc16, 32w0, { hdr.nc.key }, 32w128);
                    hash(b, HashAlgorithm.crc32, 32w0, { hdr.nc.key }, 32w128);
                    bloom_a.read(in_a, a);
                    bloom_b.read(in_b, b);
                    bloom_a.write(a, 1);
                    bloom_b.write(b, 1);
                    if (in_a != 1 || in_b != 1) { hdr.load.hot = 1; digest<hot_t>(1, { hdr.nc.key, meta.least }); }
                }
            }
        } else if (hdr.nc.op == 1) { valid.write(meta.at, 1); }
        else if (hdr.nc.op == 2) { valid.write(meta.at, 0); }
        stage0.apply(); stage1.apply(); stage2.apply(); stage3.apply();
        stage4.apply(); stage5.apply(); stage6.apply(); stage7.apply();
        if (hdr.nc.op == 0 && meta.valid == 1) { reply(); } else { route.apply(); }
        if (prefixes.apply().miss) { hdr.load.cached = hdr.load.cached | 2; }
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
V1Switch(P(), V(), I(), E(), U(), D()) main;
