// Stacks, varbit, lookahead, advance, value sets, select over masks and ranges, verify, parser errors, unions of sizes.
#include <core.p4>
#include <v1model.p4>

error { TooOld }

header first_t { bit<4> version; bit<4> words; bit<8> kind; bit<16> shim; }
header options_t { varbit<320> data; }
header label_t { bit<20> label; bit<3> tc; bit<1> bottom; bit<8> ttl; }
header odd_t { bit<3> x; bit<13> y; bit<48> z; bit<128> w; bit<200> v; bit<7> p; bit<1> q; }
header status_t { bit<32> error_code; bit<32> length; bit<8> count; bit<8> ahead; bit<8> checksum; }
header sum_t { bit<16> value; bit<16> word; }
struct headers_t { status_t status; first_t first; options_t options; label_t[3] labels; odd_t odd; sum_t sum; }
struct meta_t { bit<8> ahead; bit<8> count; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    value_set<bit<8>>(4) special;
    state start {
        pkt.extract(hdr.first);
        verify(hdr.first.version >= 2, error.TooOld);
        pkt.extract(hdr.options, (bit<32>)hdr.first.words * 32);
        transition select(hdr.first.kind) {
            1: labels;
            2: odd;
            3: look;
            4: skip;
            8 .. 15: odd;
            special: look;
            0x80 &&& 0x80: sum;
            default: accept;
        }
    }
    state labels {
        pkt.extract(hdr.labels.next);
        meta.count = (bit<8>)hdr.labels.lastIndex;
        transition select(hdr.labels.last.bottom) {
            0: labels;
            default: accept;
        }
    }
    state odd { pkt.extract(hdr.odd); transition accept; }
    state look {
        meta.ahead = pkt.lookahead<bit<8>>();
        transition accept;
    }
    state skip {
        pkt.advance((bit<32>)hdr.first.shim * 8);
        transition odd;
    }
    state sum { pkt.extract(hdr.sum); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) {
    apply {
        verify_checksum(hdr.sum.isValid(), { hdr.sum.word, hdr.first.version, hdr.first.words, hdr.first.kind },
                        hdr.sum.value, HashAlgorithm.csum16);
    }
}
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) {
    apply {
        pkt.emit(hdr.status);
        pkt.emit(hdr.first);
        pkt.emit(hdr.options);
        pkt.emit(hdr.labels);
        pkt.emit(hdr.odd);
        pkt.emit(hdr.sum);
    }
}
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.status.setValid();
        if (sm.parser_error == error.NoError) { hdr.status.error_code = 0; }
        else if (sm.parser_error == error.PacketTooShort) { hdr.status.error_code = 1; }
        else if (sm.parser_error == error.StackOutOfBounds) { hdr.status.error_code = 3; }
        else if (sm.parser_error == error.TooOld) { hdr.status.error_code = 100; }
        else { hdr.status.error_code = 255; }
        hdr.status.length = sm.packet_length;
        hdr.status.count = meta.count;
        hdr.status.ahead = meta.ahead;
        hdr.status.checksum = (bit<8>)sm.checksum_error;
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
