// Arithmetic on unsigned and signed operands of several widths; each result has its field.
#include <core.p4>
#include <v1model.p4>

header in_t {
    bit<8>  a;
    bit<8>  b;
    bit<32> c;
    bit<32> d;
    bit<64> e;
    bit<64> f;
    bit<128> g;
    bit<128> h;
    int<16> i;
    int<16> j;
    bit<8>  n;
}
header out_t {
    bit<8> add8; bit<8> sub8; bit<8> mul8; bit<8> sadd8; bit<8> ssub8; bit<8> neg8; bit<8> not8;
    bit<8> shl8; bit<8> shr8; bit<8> and8; bit<8> or8; bit<8> xor8;
    bit<32> add32; bit<32> sub32; bit<32> mul32; bit<32> sadd32; bit<32> ssub32; bit<32> shl32; bit<32> shr32;
    bit<64> add64; bit<64> sub64; bit<64> mul64; bit<64> sadd64; bit<64> ssub64; bit<64> shl64; bit<64> shr64;
    bit<128> add128; bit<128> sub128; bit<128> xor128; bit<128> shl128; bit<128> shr128;
    int<16> iadd; int<16> isub; int<16> imul; int<16> isadd; int<16> issub; int<16> ishr; int<16> ineg;
    bit<8> iless; bit<8> uless; bit<8> uless128;
    bit<24> concat; bit<12> slice; bit<4> pad;
    int<32> widen; bit<16> cast16; bit<8> mux; bit<24> mixed;
}
struct headers_t { in_t x; out_t y; }
struct meta_t { }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.x); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.y); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        hdr.y.setValid();
        hdr.y.add8 = hdr.x.a + hdr.x.b;
        hdr.y.sub8 = hdr.x.a - hdr.x.b;
        hdr.y.mul8 = hdr.x.a * hdr.x.b;
        hdr.y.sadd8 = hdr.x.a |+| hdr.x.b;
        hdr.y.ssub8 = hdr.x.a |-| hdr.x.b;
        hdr.y.neg8 = -hdr.x.a;
        hdr.y.not8 = ~hdr.x.a;
        hdr.y.shl8 = hdr.x.a << hdr.x.n;
        hdr.y.shr8 = hdr.x.a >> hdr.x.n;
        hdr.y.and8 = hdr.x.a & hdr.x.b;
        hdr.y.or8 = hdr.x.a | hdr.x.b;
        hdr.y.xor8 = hdr.x.a ^ hdr.x.b;
        hdr.y.add32 = hdr.x.c + hdr.x.d;
        hdr.y.sub32 = hdr.x.c - hdr.x.d;
        hdr.y.mul32 = hdr.x.c * hdr.x.d;
        hdr.y.sadd32 = hdr.x.c |+| hdr.x.d;
        hdr.y.ssub32 = hdr.x.c |-| hdr.x.d;
        hdr.y.shl32 = hdr.x.c << hdr.x.n;
        hdr.y.shr32 = hdr.x.c >> hdr.x.n;
        hdr.y.add64 = hdr.x.e + hdr.x.f;
        hdr.y.sub64 = hdr.x.e - hdr.x.f;
        hdr.y.mul64 = hdr.x.e * hdr.x.f;
        hdr.y.sadd64 = hdr.x.e |+| hdr.x.f;
        hdr.y.ssub64 = hdr.x.e |-| hdr.x.f;
        hdr.y.shl64 = hdr.x.e << hdr.x.n;
        hdr.y.shr64 = hdr.x.e >> hdr.x.n;
        hdr.y.add128 = hdr.x.g + hdr.x.h;
        hdr.y.sub128 = hdr.x.g - hdr.x.h;
        hdr.y.xor128 = hdr.x.g ^ ~hdr.x.h;
        hdr.y.shl128 = hdr.x.g << hdr.x.n;
        hdr.y.shr128 = hdr.x.g >> hdr.x.n;
        hdr.y.iadd = hdr.x.i + hdr.x.j;
        hdr.y.isub = hdr.x.i - hdr.x.j;
        hdr.y.imul = hdr.x.i * hdr.x.j;
        hdr.y.isadd = hdr.x.i |+| hdr.x.j;
        hdr.y.issub = hdr.x.i |-| hdr.x.j;
        hdr.y.ishr = hdr.x.i >> hdr.x.n;
        hdr.y.ineg = -hdr.x.i;
        hdr.y.iless = hdr.x.i < hdr.x.j ? 8w1 : 0;
        hdr.y.uless = hdr.x.e < hdr.x.f ? 8w1 : 0;
        hdr.y.uless128 = hdr.x.g < hdr.x.h ? 8w1 : 0;
        hdr.y.concat = hdr.x.a ++ hdr.x.b ++ hdr.x.n;
        hdr.y.slice = hdr.x.g[99:88];
        hdr.y.pad = hdr.x.c[7:4];
        hdr.y.widen = (int<32>)hdr.x.i;
        hdr.y.cast16 = (bit<16>)hdr.x.i;
        hdr.y.mux = hdr.x.a > hdr.x.b ? hdr.x.a : hdr.x.b;
        hdr.y.mixed = (bit<24>)(((bit<24>)hdr.x.a * 1000 + (bit<24>)hdr.x.b) >> 3);
        hdr.x.setInvalid();
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
