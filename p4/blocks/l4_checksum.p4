// Keeps the checksum of TCP or UDP right when something is put behind the header, or taken away.
//
//   new = ~(~old + change), RFC 1624 equation 3; `change` is the sum of the 16-bit words that came, plus the
//   complements of those that went
//
// Incremental on purpose: a packet that was broken before stays recognizably broken. UDP's 0 means "none" and
// stays 0; a sum that happens to be 0 is sent as 0xFFFF (RFC 768, RFC 1624 section 3).
//
// Deliberately not here: any other change of a packet. Addresses and ports are not rewritten by this program, and
// neither TTL nor DSCP is part of these checksums.
#ifndef SHADOWPLANE_L4_CHECKSUM_P4_
#define SHADOWPLANE_L4_CHECKSUM_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

// `change`: sum of fewer than 65,536 words, not folded.
control L4Checksum(inout headers_t hdr, in bit<32> change) {
    apply {
        bit<32> sum = (bit<32>) change[15:0] + (bit<32>) change[31:16];
        if (hdr.udp.isValid()) {
            if (hdr.udp.checksum != 0) {
                sum = sum + (bit<32>) (~hdr.udp.checksum);
                sum = (bit<32>) sum[15:0] + (bit<32>) sum[31:16];
                sum = (bit<32>) sum[15:0] + (bit<32>) sum[31:16];
                hdr.udp.checksum = ~sum[15:0];
                if (hdr.udp.checksum == 0) {
                    hdr.udp.checksum = 0xFFFF;
                }
            }
        } else if (hdr.tcp.isValid()) {
            sum = sum + (bit<32>) (~hdr.tcp.checksum);
            sum = (bit<32>) sum[15:0] + (bit<32>) sum[31:16];
            sum = (bit<32>) sum[15:0] + (bit<32>) sum[31:16];
            hdr.tcp.checksum = ~sum[15:0];
        }
    }
}

#endif  // SHADOWPLANE_L4_CHECKSUM_P4_
