// What every port received and sent.
//
//   ingress: PortRx ── port_rx          egress: PortTx ── port_tx, deepest queue since the last report
//
// Bytes are those of the frame on arrival, also where it leaves longer or shorter by a label.
//
// Deliberately not here: drops (counted by reason, once, where the verdict is carried out) and what a target
// counts by itself: carrier, wire errors, light.
#ifndef SHADOWPLANE_PORT_STATS_P4_
#define SHADOWPLANE_PORT_STATS_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control PortRx(inout headers_t hdr, inout metadata_t meta) {
    CountRx() count_rx;

    apply {
        count_rx.apply(meta.intake.ingress_port, meta.intake.frame_bytes);
    }
}

control PortTx(inout headers_t hdr, inout metadata_t meta) {
    CountTx() count_tx;

    apply {
        count_tx.apply(meta.egress_port, meta.intake.frame_bytes);
    }
}

// `depth`: packets that waited in the egress queue when this one joined it.
control QueueDepth(inout headers_t hdr, inout metadata_t meta, in bit<32> depth) {
    QueueMaxUpdate() queue_max_update;

    apply {
        queue_max_update.apply(meta.egress_port, depth);
    }
}

#endif  // SHADOWPLANE_PORT_STATS_P4_
