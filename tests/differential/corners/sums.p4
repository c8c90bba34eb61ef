// Checksums verified and updated under conditions, with payload, over constants, varbit fields and odd widths; hashes of
// odd lists, of structs and of invalid headers, in narrow and wide targets.
#include <core.p4>
#include <v1model.p4>

header head_t { bit<4> version; bit<4> ihl; bit<8> flags; bit<16> len; bit<16> sum; }
header opts_t { varbit<320> data; }
header body_t { bit<7> a; bit<9> b; int<16> c; bit<48> d; bit<16> sum; bit<8> narrow; bit<32> wide; bit<8> wrong; }
header hash_t { bit<16> crc; bit<32> crc32; bit<16> csum; bit<16> xor; bit<64> same; bit<8> small; bit<64> big; bit<16> zero; }
struct part_t { bit<7> a; bit<9> b; }
struct meta_t { part_t part; bit<64> m; bool flag; }
struct headers_t { hash_t hash; head_t head; opts_t opts; body_t body; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.head);
        verify(hdr.head.ihl >= 2, error.HeaderTooShort);
        transition select(hdr.head.ihl) { 2: body; default: opts; }
    }
    state opts { pkt.extract(hdr.opts, ((bit<32>)hdr.head.ihl - 2) * 32); transition body; }
    state body { pkt.extract(hdr.body); meta.part = { hdr.body.a, hdr.body.b }; transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply {
        verify_checksum(hdr.head.isValid() && hdr.opts.isValid(),
            { hdr.head.version, hdr.head.ihl, hdr.head.flags, hdr.head.len, hdr.opts.data }, hdr.head.sum, HashAlgorithm.csum16);
        verify_checksum(hdr.head.flags & 1 == 1, { 16w0x1234, hdr.body.d }, hdr.body.sum, HashAlgorithm.csum16);
        verify_checksum_with_payload(hdr.head.flags & 2 == 2, { hdr.body.a, hdr.body.b }, hdr.body.sum, HashAlgorithm.csum16);
        verify_checksum(hdr.body.a == 3, { hdr.body.c }, hdr.body.wide, HashAlgorithm.crc32);
    }
}
control U(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum(hdr.head.isValid(),
            { hdr.head.version, hdr.head.ihl, hdr.head.flags, hdr.head.len, hdr.opts.data }, hdr.head.sum, HashAlgorithm.csum16);
        update_checksum_with_payload(hdr.body.isValid() && hdr.head.flags & 4 == 4,
            { hdr.head.sum, hdr.body.a, hdr.body.b, hdr.body.c, 3w5, hdr.body.d, 5w0, 8w0x17 }, hdr.body.sum, HashAlgorithm.csum16);
        update_checksum(hdr.head.flags & 8 == 8, { hdr.body.a, 1w1, hdr.body.d }, hdr.body.narrow, HashAlgorithm.crc16);
        update_checksum(meta.flag, { meta.part.a, meta.part.b, hdr.body.sum }, hdr.body.wide, HashAlgorithm.crc32);
        update_checksum_with_payload(hdr.head.flags & 16 == 16, { 8w1 }, hdr.body.narrow, HashAlgorithm.xor16);
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr); } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 3;
        if (!hdr.body.isValid()) { return; }
        meta.flag = hdr.head.flags[7:7] == 1;
        hdr.body.wrong = (bit<8>)sm.checksum_error;
        hdr.hash.setValid();
        hash(hdr.hash.crc, HashAlgorithm.crc16, 16w0, { hdr.body.a, hdr.body.b, 3w2, hdr.body.d }, 16w0xffff);
        hash(hdr.hash.crc32, HashAlgorithm.crc32, 32w1, { meta.part.a, hdr.body.c }, 32w0xffffffff);
        hash(hdr.hash.csum, HashAlgorithm.csum16, 16w0, { hdr.body.d, hdr.body.a, 1w0 }, 32w0x10000);
        hash(hdr.hash.xor, HashAlgorithm.xor16, 16w3, { hdr.body.d, hdr.body.narrow }, 32w0x10000);
        hash(hdr.hash.same, HashAlgorithm.identity, 64w0, { hdr.body.d, hdr.body.b }, 64w0xffffffffffffffff);
        hash(hdr.hash.small, HashAlgorithm.crc32, 8w250, { hdr.body.d }, 8w100);
        if (hdr.opts.isValid()) {
            hash(hdr.hash.big, HashAlgorithm.crc32, 64w0xffffffffffffff00, { hdr.opts.data, hdr.body.d }, 64w0x1000);
        }
        hash(hdr.hash.zero, HashAlgorithm.crc16_custom, 16w7, { 5w1, hdr.body.b, hdr.body.a, 3w0, hdr.body.c }, 16w1);
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
