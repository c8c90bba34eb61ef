// In-network aggregation: workers' vectors are summed in register pools, a bitmap says who was heard, the last one's
// packet goes to all by multicast, an earlier one is dropped; wide vectors take more passes by recirculation.
#include <core.p4>
#include <v1model.p4>

const bit<32> SLOTS = 64;
header agg_t { bit<8> worker; bit<8> workers; bit<8> pool; bit<8> pass; bit<16> round; bit<16> scale; }
header vector_t { int<32> v0; int<32> v1; bit<32> v2; bit<32> v3; bit<16> e0; int<16> e1; }
header result_t { bit<32> bitmap; bit<32> count; bit<32> most; bit<8> overflow; bit<8> state; bit<16> round; }
struct pass_t { @field_list(7) bit<8> pass; @field_list(7) bit<32> bitmap; }
struct meta_t { pass_t again; bit<32> index; bit<32> bitmap; bit<32> count; int<32> sum; bit<32> usum; bool over; }
struct headers_t { result_t result; agg_t agg; vector_t[2] vectors; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        transition select(sm.instance_type) { 4: again; default: fresh; }
    }
    state again { pkt.extract(hdr.result); transition fresh; }
    state fresh {
        pkt.extract(hdr.agg);
        transition select(hdr.agg.workers) { 0: reject; 1 .. 32: vectors; default: accept; }
    }
    state vectors { pkt.extract(hdr.vectors.next); pkt.extract(hdr.vectors.next); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.result); pkt.emit(hdr.agg); pkt.emit(hdr.vectors); } }

control Sum(inout int<32> v, in bit<32> index, in bool first, out bool over) {
    register<bit<32>>(SLOTS) cells;  // BMv2 reads signed cells as unsigned numbers
    apply {
        bit<32> cell;
        cells.read(cell, index);
        int<32> old = (int<32>)cell;
        if (first) { old = 0; }
        int<32> sum = old + v;
        over = (old < 0) == (v < 0) && (sum < 0) != (v < 0);
        if (over) { sum = old |+| v; }
        cells.write(index, (bit<32>)sum);
        v = sum;
    }
}
control Most(inout bit<32> v, in bit<32> index, in bool first) {
    register<bit<32>>(SLOTS) cells;
    action replace() { cells.write(index, v); }
    action keep(in bit<32> old) { v = old; }
    apply {
        bit<32> old;
        cells.read(old, index);
        if (first || v > old) { replace(); } else { keep(old); }
    }
}
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<32>>(SLOTS) bitmaps;
    register<bit<8>>(SLOTS) counts;
    register<bit<16>>(256) rounds;
    Sum() sum0;
    Sum() sum1;
    Most() most2;
    Most() most3;
    counter(4, CounterType.packets) states;
    bool over0 = false;
    bool over1 = false;

    action slot() {
        meta.index = ((bit<32>)hdr.agg.pool << 1 | (bit<32>)hdr.agg.round & 1) % SLOTS;
        meta.bitmap = 32w1 << hdr.agg.worker[4:0];
    }
    action lost() { mark_to_drop(sm); states.count(3); }
    action all(bit<16> group) { sm.mcast_grp = group; hdr.result.state = 2; }
    action one(bit<9> port) { sm.egress_spec = port; hdr.result.state = 3; }
    table finish {
        key = { hdr.agg.pool : ternary; hdr.agg.workers : range; }
        actions = { all; one; lost; }
        default_action = all(1);
    }
    apply {
        if (!hdr.agg.isValid() || sm.parser_error != error.NoError) { lost(); exit; }
        slot();
        bit<32> before;
        bitmaps.read(before, meta.index);
        bit<16> known;
        rounds.read(known, (bit<32>)hdr.agg.pool);
        bool first = known != hdr.agg.round;
        if (first && sm.instance_type == 0) { before = 0; }
        if (!hdr.result.isValid()) { hdr.result.setValid(); hdr.result = { 0, 0, 0, 0, 0, known }; }
        hdr.result.bitmap = before;
        bool twice = before & meta.bitmap != 0 && sm.instance_type == 0;
        if (!twice && hdr.vectors[0].isValid()) {
            sum0.apply(hdr.vectors[0].v0, meta.index, first, over0);
            sum1.apply(hdr.vectors[1].v1, meta.index ^ 1, first, over1);
            most2.apply(hdr.vectors[0].v2, meta.index, first);
            most3.apply(hdr.vectors[1].v3, (meta.index + 5) & (SLOTS - 1), first);
            hdr.vectors[1].v2 = (bit<32>)hdr.vectors[0].v0 * (bit<32>)(bit<16>)hdr.agg.scale >> 8;
            hdr.vectors[0].e1 = hdr.vectors[0].e1 |+| hdr.vectors[1].e1;
            hdr.vectors[1].e0 = hdr.vectors[0].e0 |-| hdr.vectors[1].e0;
            hdr.result.overflow = (bit<8>)((bit<1>)over0 ++ (bit<1>)over1);
            bitmaps.write(meta.index, before | meta.bitmap);
            rounds.write((bit<32>)hdr.agg.pool, hdr.agg.round);
        }
        bit<8> heard;
        counts.read(heard, meta.index);
        heard = first ? 8w1 : (twice ? heard : heard + 1);
        counts.write(meta.index, heard);
        hdr.result.count = (bit<32>)heard;
        if (heard % 4 == hdr.agg.workers % 4) { finish.apply(); states.count(1); }
        else if (heard / 2 == 3) { lost(); }
        else { sm.egress_spec = 4; states.count(2); }
        meta.again.pass = meta.again.pass + 1;
        meta.again.bitmap = meta.again.bitmap | before | meta.bitmap;
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        if (hdr.agg.isValid() && hdr.agg.pass > 0 && hdr.agg.pass < 4 && sm.mcast_grp == 0) {
            hdr.agg.pass = hdr.agg.pass - 1;
            hdr.agg.worker = hdr.agg.worker + 1;
            recirculate_preserving_field_list(7);
            return;
        }
        if (hdr.result.isValid()) { hdr.result.most = meta.again.bitmap; hdr.result.state = meta.again.pass; }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
