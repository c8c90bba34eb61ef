// Which packets start to carry telemetry?
//
//   classifier says `sample` ── int_source: by ingress port, flow, priority ── one in N ──> INT_START
//
// The rule says what is asked of every hop (instruction bitmap and the words that it takes), how many hops may
// answer, and how many packets of the flow share one that carries telemetry. The count is kept per flow, so that
// flows which alternate do not hide behind each other.
//
// A packet that carries telemetry already is not given more: it passes as at any transit hop. Fragments get
// none, because what is put into one moves all that follow; nor does a UDP packet whose length says something
// else than its IP header.
//
// Deliberately not here: the headers; blocks/int_hop.p4 writes them once the queue is known.
#ifndef SHADOWPLANE_INT_SOURCE_P4_
#define SHADOWPLANE_INT_SOURCE_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control IntSource(inout headers_t hdr, inout metadata_t meta) {
    IntSampling() int_sampling;

    @name(".int_start") @id(ID_ACTION_INT_START)
    action int_start(@id(1) bit<16> instructions, @id(2) bit<5> hop_words, @id(3) bit<8> hop_limit,
                     @id(4) bit<16> one_in) {
        meta.inband.instructions = instructions;
        meta.inband.hop_words = hop_words;
        meta.inband.hop_limit = hop_limit;
        meta.inband.one_in = one_in;
    }

    @name(".int_no_start") @id(ID_ACTION_INT_NO_START)
    action int_no_start() { }

    @name(".int_source") @id(ID_TABLE_INT_SOURCE)
    table int_source {
        key = {
            meta.intake.ingress_port: ternary @name("ingress_port") @id(1);
            meta.flow_id: ternary @name("flow_id") @id(2);
            meta.queue_priority: ternary @name("priority") @id(3);
        }
        actions = { int_start; @defaultonly int_no_start; }
        const default_action = int_no_start;
        size = INT_SOURCES;
    }

    apply {
        bit<16> ip_bytes = hdr.ipv6.payload_length;
        bit<1> fits = 0;
        if (hdr.ipv4.isValid()) {
            ip_bytes = hdr.ipv4.total_length |-| 20;
        }
        // More fragments: bit 0 of the flags.
        if (!hdr.ipv4.isValid() || hdr.ipv4.flags[0:0] == 0) {
            if (hdr.udp.isValid()) {
                if (hdr.udp.length == ip_bytes) {
                    fits = 1;
                }
            } else if (hdr.tcp.isValid() && hdr.tcp.data_offset >= 5) {
                fits = 1;
            }
        }
        if (fits == 1) {
            int_source.apply();
            if (meta.inband.one_in != 0) {
                bit<16> count;
                int_sampling.apply((bit<32>) meta.flow_id[INT_FLOW_BITS], meta.inband.one_in, count);
                if (count == 0) {
                    meta.inband.op = INT_START;
                }
            }
        }
    }
}

#endif  // SHADOWPLANE_INT_SOURCE_P4_
