// What a packet means to in-band telemetry, once it is known where it goes.
//
//   to        announced, telemetry found   announced, none found      sampled, not announced
//   core      INT_PUSH                     left alone                 source decides: INT_START or nothing
//   edge      sink                         DROP_BAD_INT if TCP, UDP   nothing (never left this switch)
//   outside   left alone                   left alone                 nothing
//
// At an edge, an announced TCP or UDP packet in which no MD telemetry is found, or more than can be taken out, is
// dropped: the host must not get it.
//
// Deliberately not here: other encapsulations than TCP and UDP, and INT types other than MD.
#ifndef SHADOWPLANE_INT_ROLE_P4_
#define SHADOWPLANE_INT_ROLE_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control IntRole(inout headers_t hdr, inout metadata_t meta) {
    IntDeparture() departure;
    IntSource() source;
    IntSink() sink;

    apply {
        departure.apply(hdr, meta);
        bit<6> dscp = hdr.ipv6.dscp;
        bit<16> ip_bytes = hdr.ipv6.payload_length;
        if (hdr.ipv4.isValid()) {
            dscp = hdr.ipv4.dscp;
            ip_bytes = hdr.ipv4.total_length |-| 20;
        }
        if (meta.inband.role != INT_OUTSIDE) {
            if (dscp == meta.inband.dscp) {
                bit<1> sound = 0;
                if (hdr.int_md.isValid() && meta.inband.left == 0) {
                    if (hdr.tcp.isValid() || hdr.udp.length == ip_bytes) {
                        sound = 1;
                    }
                }
                if (meta.inband.role == INT_CORE) {
                    if (hdr.int_md.isValid()) {
                        meta.inband.op = INT_PUSH;
                    }
                } else if (sound == 1) {
                    sink.apply(hdr, meta);
                } else if (hdr.udp.isValid() || hdr.tcp.isValid()) {
                    meta.verdict = DROP;
                    meta.drop_reason = DROP_BAD_INT;
                }
            } else if (meta.sample == 1 && meta.inband.role == INT_CORE && !hdr.int_md.isValid()
                       && (meta.inband.dscp & INT_DSCP_POOL_MASK) == INT_DSCP_POOL) {
                source.apply(hdr, meta);
            }
        }
    }
}

#endif  // SHADOWPLANE_INT_ROLE_P4_
