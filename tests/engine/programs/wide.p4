// Arithmetic on operands of more than 128 bits; each result has its field.
#include <core.p4>
#include <v1model.p4>

header in_t {
    bit<136> a; bit<136> b;
    bit<256> c; bit<256> d;
    bit<2048> e; bit<2048> f;
    int<192> i; int<192> j;
    bit<64> q;
    bit<8> k;
    bit<16> n;
}
header out_t {
    bit<136> add136; bit<136> sub136; bit<136> mul136; bit<136> sadd136; bit<136> ssub136; bit<136> neg136;
    bit<136> shl136; bit<136> shr136; bit<136> mix136; bit<136> mux136;
    bit<256> add256; bit<256> sub256; bit<256> mul256; bit<256> sadd256; bit<256> ssub256; bit<256> not256;
    bit<256> shl256; bit<256> shr256; bit<256> and256; bit<256> or256; bit<256> xor256; bit<256> pad256;
    bit<256> const256;
    bit<2048> add2048; bit<2048> sub2048; bit<2048> mul2048; bit<2048> shl2048; bit<2048> shr2048; bit<2048> cat2048;
    int<192> iadd; int<192> isub; int<192> imul; int<192> isadd; int<192> issub; int<192> ishr; int<192> ineg;
    bit<8> iless; bit<8> uless; bit<8> same; bit<8> zero; bit<8> within;
    bit<264> concat; bit<72> slice; bit<136> wslice; bit<256> insert;
    int<256> widen; bit<48> narrow; int<16> inarrow;
    bit<256> read256; bit<64> read64; bit<16> read16;
    bit<32> crc; bit<16> sum;
}
struct headers_t { in_t x; out_t y; }
struct meta_t { bit<256> t; bit<64> u; bit<16> v; }

parser P(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start { pkt.extract(hdr.x); transition accept; }
}
control V(inout headers_t hdr, inout meta_t meta) { apply { } }
control U(inout headers_t hdr, inout meta_t meta) { apply { } }
control D(packet_out pkt, in headers_t hdr) { apply { pkt.emit(hdr.y); } }
control E(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply { } }
control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<256>>(4) store;
    apply {
        sm.egress_spec = 1;
        hdr.y.setValid();
        hdr.y.add136 = hdr.x.a + hdr.x.b;
        hdr.y.sub136 = hdr.x.a - hdr.x.b;
        hdr.y.mul136 = hdr.x.a * hdr.x.b;
        hdr.y.sadd136 = hdr.x.a |+| hdr.x.b;
        hdr.y.ssub136 = hdr.x.a |-| hdr.x.b;
        hdr.y.neg136 = -hdr.x.a;
        hdr.y.shl136 = hdr.x.a << hdr.x.k;
        hdr.y.shr136 = hdr.x.a >> hdr.x.k;
        hdr.y.mix136 = (hdr.x.a * 1000 + hdr.x.b) >> 3;
        hdr.y.mux136 = hdr.x.a > hdr.x.b ? hdr.x.a : hdr.x.b;
        hdr.y.add256 = hdr.x.c + hdr.x.d;
        hdr.y.sub256 = hdr.x.c - hdr.x.d;
        hdr.y.mul256 = hdr.x.c * hdr.x.d;
        hdr.y.sadd256 = hdr.x.c |+| hdr.x.d;
        hdr.y.ssub256 = hdr.x.c |-| hdr.x.d;
        hdr.y.not256 = ~hdr.x.c;
        hdr.y.shl256 = hdr.x.c << hdr.x.k;
        hdr.y.shr256 = hdr.x.c >> hdr.x.k;
        hdr.y.and256 = hdr.x.c & hdr.x.d;
        hdr.y.or256 = hdr.x.c | hdr.x.d;
        hdr.y.xor256 = hdr.x.c ^ hdr.x.d;
        hdr.y.pad256 = (bit<256>)hdr.x.a;
        hdr.y.const256 = hdr.x.c + 0x123456789abcdef0fedcba9876543210123456789abcdef0fedcba9876543210;
        hdr.y.add2048 = hdr.x.e + hdr.x.f;
        hdr.y.sub2048 = hdr.x.e - hdr.x.f;
        hdr.y.mul2048 = hdr.x.e * hdr.x.f;
        hdr.y.shl2048 = (hdr.x.e << hdr.x.k) << 250;
        hdr.y.shr2048 = (hdr.x.e >> hdr.x.k) >> 250;
        hdr.y.cat2048 = hdr.x.e[1023:0] ++ hdr.x.f[2047:1024];
        hdr.y.iadd = hdr.x.i + hdr.x.j;
        hdr.y.isub = hdr.x.i - hdr.x.j;
        hdr.y.imul = hdr.x.i * hdr.x.j;
        hdr.y.isadd = hdr.x.i |+| hdr.x.j;
        hdr.y.issub = hdr.x.i |-| hdr.x.j;
        hdr.y.ishr = hdr.x.i >> hdr.x.k;
        hdr.y.ineg = -hdr.x.i;
        hdr.y.iless = hdr.x.i < hdr.x.j ? 8w1 : 0;
        hdr.y.uless = hdr.x.c < hdr.x.d ? 8w1 : 0;
        hdr.y.same = hdr.x.c == hdr.x.d ? 8w1 : 0;
        hdr.y.zero = hdr.x.a == 0 ? 8w1 : 0;
        hdr.y.within = (bit<256>)hdr.x.a <= hdr.x.c ? 8w1 : 0;
        hdr.y.concat = hdr.x.c ++ hdr.x.k;
        hdr.y.slice = hdr.x.c[199:128];
        hdr.y.wslice = hdr.x.e[1999:1864];
        hdr.y.insert = hdr.x.c;
        hdr.y.insert[207:72] = hdr.x.a;
        hdr.y.widen = (int<256>)hdr.x.i;
        hdr.y.narrow = (bit<48>)hdr.x.c;
        hdr.y.inarrow = (int<16>)hdr.x.i;
        store.write(1, hdr.x.c - hdr.x.d);
        store.read(meta.t, 1);
        hdr.y.read256 = meta.t;
        hdr.y.read64 = (bit<64>)(meta.t >> 100);
        hdr.y.read16 = meta.t[15:0];
        hash(hdr.y.crc, HashAlgorithm.crc32, 32w0, { hdr.x.e, hdr.x.f, hdr.x.i }, 64w0x100000000);
        hash(hdr.y.sum, HashAlgorithm.csum16, 16w0, { hdr.x.a, hdr.x.c }, 32w0x10000);
    }
}
V1Switch(P(), V(), I(), E(), U(), D()) main;
