// May a packet leave by this port?
//
//   dead = dead_interval != 0 and now > last_seen and now - last_seen > dead_interval
//
// Reads what blocks/liveness.p4 writes. A last_seen from the future (heartbeat and data packet were time
// stamped by different queues) counts as alive.
//
// `last_seen` is returned only for a dead port, to choose between two of them; otherwise it is 0.
//
// Deliberately not here: carrier. The target tells about it with PORT_DOWN, which clears last_seen.
#ifndef SHADOWPLANE_PORT_LIVENESS_P4_
#define SHADOWPLANE_PORT_LIVENESS_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control PortLiveness(in port_t port, in time_us_t now, out bit<1> dead, out time_us_t last_seen) {
    DeadIntervalRead() dead_interval_read;
    LastSeenRead() last_seen_read;

    apply {
        dead = 0;
        last_seen = 0;
        time_us_t dead_interval;
        dead_interval_read.apply(port, dead_interval);
        if (dead_interval != 0) {
            last_seen_read.apply(port, last_seen);
            if (now > last_seen && now - last_seen > dead_interval) {
                dead = 1;
            }
        }
    }
}

#endif  // SHADOWPLANE_PORT_LIVENESS_P4_
