// What can become of a packet: drop, multicast, clones, resubmit, recirculate, truncate, digests, exit; registers,
// meters, hashes, random numbers and intrinsic metadata on the way.
#include <core.p4>
#include <v1model.p4>

header op_t { bit<8> op; bit<32> x; bit<32> y; bit<48> time; }
header mark_t { bit<32> instance; bit<16> rid; bit<16> port; bit<32> length; bit<19> depth; bit<13> pad; }
struct headers_t { mark_t mark; op_t op; }
struct meta_t { @field_list(1) bit<8> rounds; bit<8> lost; }
struct note_t { bit<9> port; bit<32> x; bit<48> time; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.op); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        if (hdr.op.op == 7 && sm.instance_type == 0) {
            clone_preserving_field_list(CloneType.E2E, 5, 1);
            hdr.op.y = 7;
        } else if (hdr.op.op == 8 && meta.rounds < 3) {
            meta.rounds = meta.rounds + 1;
            hdr.op.x = hdr.op.x + 1;
            recirculate_preserving_field_list(1);
        } else if (hdr.op.op == 9) {
            mark_to_drop(sm);
        } else {
            hdr.mark.setValid();
            hdr.mark.instance = sm.instance_type;
            hdr.mark.rid = sm.egress_rid;
            hdr.mark.port = (bit<16>)sm.egress_port;
            hdr.mark.length = sm.packet_length;
            hdr.mark.depth = sm.enq_qdepth;
        }
    }
}
action drop_it(inout standard_metadata_t copy) { mark_to_drop(copy); }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    @name(".cells") register<bit<48>>(8) cells;
    @name(".bits") register<bit<1>>(8) bits;
    @name(".colours") meter(4, MeterType.packets) colours;
    action leave() { exit; }
    apply {
        sm.egress_spec = 2;
        hdr.op.time = sm.ingress_global_timestamp;
        if (hdr.op.op == 1) { mark_to_drop(sm); }
        else if (hdr.op.op == 2) { sm.mcast_grp = (bit<16>)hdr.op.x; }
        else if (hdr.op.op == 3) { clone_preserving_field_list(CloneType.I2E, hdr.op.x, 1); hdr.op.y = 3; }
        else if (hdr.op.op == 4) {
            if (meta.rounds < 2) {
                meta.rounds = meta.rounds + 1;
                meta.lost = 9;
                resubmit_preserving_field_list(1);
            } else {
                hdr.op.y = (bit<32>)meta.rounds;
                hdr.op.x = (bit<32>)meta.lost;
            }
        }
        else if (hdr.op.op == 5) { truncate(hdr.op.x); }
        else if (hdr.op.op == 6) {
            digest<note_t>(1, { sm.ingress_port, hdr.op.x, sm.ingress_global_timestamp });
        }
        else if (hdr.op.op == 10) { leave(); hdr.op.y = 1; }
        else if (hdr.op.op == 11) {
            bit<48> v;
            cells.read(v, hdr.op.x);
            cells.write(hdr.op.x, v + (bit<48>)hdr.op.y);
            hdr.op.y = (bit<32>)v;
        }
        else if (hdr.op.op == 12) { bits.write(hdr.op.x, hdr.op.y[0:0]); }
        else if (hdr.op.op == 13) { colours.execute_meter<bit<32>>(hdr.op.x, hdr.op.y); }
        else if (hdr.op.op == 14) { hash(hdr.op.y, HashAlgorithm.crc32, 32w0, { hdr.op.x, hdr.op.op }, 64w0x100000000); }
        else if (hdr.op.op == 15) { hash(hdr.op.y, HashAlgorithm.crc16, 32w100, { hdr.op.x }, 32w7); }
        else if (hdr.op.op == 16) { random(hdr.op.y, 10, 20); }
        else if (hdr.op.op == 17) { resubmit_preserving_field_list(1); }
        else if (hdr.op.op == 18) { hash(hdr.op.y, HashAlgorithm.xor16, 32w0, { hdr.op.x }, 32w0x10000); }
        else if (hdr.op.op == 19) { hash(hdr.op.y, HashAlgorithm.identity, 32w0, { hdr.op.x[15:0] }, 32w0x10000); }
        else if (hdr.op.op == 20) { sm.mcast_grp = 7; drop_it(sm); }
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
