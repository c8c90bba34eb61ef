// Is the neighbour at this port alive, how far away, and how much gets lost?
//
//   here                                          neighbour
//   tick ── request(port, seq, tx_time, may wait) ──> last seen = now; gaps in seq, two requests later = lost
//           last seen = now, rtt = now - tx <──────── reply(seq, tx_time + kept back, echo_time)
//
// Both ends do this, each with its own numbers, so each direction's loss is known where it is received.
//
//   dead(port) = dead_interval != 0 and now - last_seen > dead_interval; the future counts as alive
//
// A fibre can break in one direction: the neighbour's requests arrive, ours do not. Therefore a request
// proves the port alive only while our own requests are being answered: if the oldest unanswered one is
// older than dead_interval, the neighbour does not hear us and the port is dead. It counts from a request
// really sent, so a switch that was held up itself (and sent nothing) blames nobody.
//
// A lost carrier is death at once. Frames that were under way then (in the fibre, in a queue, in a ring) may still
// arrive: after it only the answer to a request that was sent later proves life, neither older answers nor requests.
//
// A request says how long its answer may wait, so that an idle switch need not wake up for it: half a dead interval,
// and nothing while the port is not known to be alive or the answer before is overdue, or if it is in use again. Whoever keeps an answer back adds
// that time to tx_time (as a transparent clock does), so the round-trip time is what it would have been without.
//
// Requests may change places under way. One that is missing counts as lost when the highest number is three above its
// own; what comes later than that has been counted and stays so. Whether a request came is remembered for those two
// numbers only, so one that comes twice counts nothing, and none sets the highest number back: a number far below it is
// that of a neighbour that began anew. While the port is dead there is nothing to wait for, all that is missing is lost:
// its revival must not bring losses with it.
//
// A link on which nothing but heartbeats passes may be asked less often: the order says by how much the dead interval
// is to be stretched, and with it all that follows from it (patience, pauses, one-way links, what steering goes by). The
// order that ends this comes before the packet that is the cause of it. From then on the usual interval counts, which the
// last sign of life is older than: a neighbour that lived by the longer one is excused, and has a round trip and a usual
// interval to be heard. One that was dead by the usual interval is not alive again because a longer one begins.
//
// A whole machine may stand still, with all of its switches. After such a pause everybody's last sign of life
// is old, and every port would look dead at once. Ticks tell of the pause: if the one before is more than half a
// dead interval ago, a neighbour that lived then is excused, and its time begins anew. It is excused once, until
// it is really heard of; so a neighbour that died meanwhile is found a dead interval later, not never. What
// arrived before the pause and is looked at after it does not turn the time back.
//
//   register                 meaning
//   liveness_last_seen       us, 0 = never or carrier lost
//   liveness_dead_interval   us, what steering goes by, stretched; 0 = never dead
//   liveness_waiting_since   us, 0 = answered
//   liveness_last_tick       us, 0 = none yet
//   liveness_excused         last_seen is an excuse and not a sign of life: 1 = after a pause, 2 = because the link is in
//                            use again (which a pause may follow)
//   liveness_tx_seq          number of the last request sent
//   liveness_rx_seq          highest number received
//   liveness_missing         bit 0, 1: the number before the highest, the one before that, has not come yet
//   liveness_awaited_seq     the first request whose answer counts since the carrier was lost, 0 = any
//   liveness_relaxed         how many times the dead interval is doubled at the moment; that a program has this register
//                            tells the switch that it may ask at longer intervals
//   liveness_held            us that the last answer was kept back here; that a program has this register tells the
//                            switch that its answers may be
//   liveness_lost            requests of the neighbour that did not arrive
//   liveness_rtt             us
//
// Deliberately not here: timers. Time passes only with packets; the tick comes from the packet generator
// or the controller. Requests are answered on every port, also on unmonitored ones, so that a neighbour
// configured earlier finds us alive. Heartbeats are never forwarded.
#ifndef SHADOWPLANE_LIVENESS_P4_
#define SHADOWPLANE_LIVENESS_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"
#include "../include/sizes.p4"

control Liveness(inout headers_t hdr, inout metadata_t meta) {
    LastSeenWrite() last_seen_write;
    LastSeenRead() last_seen_read;
    DeadIntervalWrite() dead_interval_write;
    WaitingStart() waiting_start;
    WaitingEnd() waiting_end;
    WaitingRead() waiting_read;
    AwaitNext() await_next;
    AwaitedRead() awaited_read;
    AwaitedEnd() awaited_end;
    NextTick() next_tick;
    RelaxedRead() relaxed_read;
    RelaxedWrite() relaxed_write;
    ExcusedRead() excused_read;
    ExcusedWrite() excused_write;
    NextRequest() next_request;
    PeerRequest() peer_request;
    MissingRead() missing_read;
    MissingWrite() missing_write;
    LostAdd() lost_add;
    RttRead() rtt_read;
    RttWrite() rtt_write;

    // Heartbeats are sent, the port's death is reported and diverts traffic.
    @name(".monitor") @id(ID_ACTION_MONITOR)
    action monitor(@id(1) time_us_t dead_interval, @id(2) time_us_t report_interval,
                   @id(3) bit<32> rtt_delta) {
        meta.live.monitored = 1;
        meta.live.steer_override = 1;
        meta.live.dead_interval = dead_interval;
        meta.live.report_interval = report_interval;
        meta.live.rtt_delta = rtt_delta;
    }

    // The same, but steering takes no notice.
    @name(".observe") @id(ID_ACTION_OBSERVE)
    action observe(@id(1) time_us_t dead_interval, @id(2) time_us_t report_interval,
                   @id(3) bit<32> rtt_delta) {
        meta.live.monitored = 1;
        meta.live.dead_interval = dead_interval;
        meta.live.report_interval = report_interval;
        meta.live.rtt_delta = rtt_delta;
    }

    @name(".unmonitored") @id(ID_ACTION_UNMONITORED)
    action unmonitored() { }

    @name(".liveness_config") @id(ID_TABLE_LIVENESS_CONFIG)
    table liveness_config {
        key = { meta.live.port: exact @name("port") @id(1); }
        actions = { monitor; observe; @defaultonly unmonitored; }
        const default_action = unmonitored;
        size = PORTS;
    }

    apply {
        bit<32> awaited = 0;
        time_us_t waiting_since = 0;
        time_us_t lived_by = 0;  // the dead interval that has been in force until now
        bit<2> stretch = 0;
        bit<2> stretch_before = 0;
        bit<2> excused = EXCUSED_NOT;
        if (hdr.heartbeat.isValid()) {
            meta.live.port = meta.intake.ingress_port;
            if (hdr.heartbeat.version == HEARTBEAT_VERSION && hdr.heartbeat.op == HEARTBEAT_REQUEST) {
                meta.live.event = LIVE_REQUEST;
            } else if (hdr.heartbeat.version == HEARTBEAT_VERSION && hdr.heartbeat.op == HEARTBEAT_REPLY) {
                meta.live.event = LIVE_REPLY;
            } else {
                meta.verdict = DROP;
                meta.drop_reason = DROP_BAD_HEARTBEAT;
            }
        }

        if (meta.live.event != LIVE_NONE) {
            liveness_config.apply();
            relaxed_read.apply(meta.live.port, stretch_before);
            stretch = stretch_before;
            excused_read.apply(meta.live.port, excused);
            // Who has not been heard since his excuse is judged by the interval that he was given.
            if (meta.live.event == LIVE_TICK && (excused == EXCUSED_NOT || meta.live.stretch < stretch_before)) {
                stretch = meta.live.stretch;
                relaxed_write.apply(meta.live.port, stretch);
            }
            lived_by = meta.live.dead_interval << stretch_before;
            meta.live.dead_interval = meta.live.dead_interval << stretch;
            if (meta.live.steer_override == 1) {
                dead_interval_write.apply(meta.live.port, meta.live.dead_interval);
            } else {
                dead_interval_write.apply(meta.live.port, 0);
            }
            meta.verdict = CONSUME;  // unless a frame is to be sent
            meta.queue_priority = HEARTBEAT_PRIORITY;
            awaited_read.apply(meta.live.port, awaited);
        }

        if (meta.live.event == LIVE_TICK && meta.live.monitored == 1) {
            time_us_t last_seen;
            last_seen_read.apply(meta.live.port, last_seen);
            time_us_t before;
            next_tick.apply(meta.live.port, meta.intake.now, before);
            bit<2> excuse = EXCUSED_NOT;
            if (before != 0 && excused != EXCUSED_PAUSE
                && meta.intake.now > before && meta.intake.now - before > (lived_by >> 1)
                && (last_seen >= before || before - last_seen <= lived_by)) {
                excuse = EXCUSED_PAUSE;
            }
            bit<1> lives = 0;
            if (last_seen >= meta.intake.now || meta.intake.now - last_seen <= lived_by) {
                lives = 1;
            }
            time_us_t until = meta.intake.now;  // to be heard: that long, and a dead interval
            if (lives == 1 && stretch < stretch_before) {
                excuse = EXCUSED_CHANGE;
                bit<32> rtt;
                rtt_read.apply(meta.live.port, rtt);
                time_us_t most = lived_by - meta.live.dead_interval;
                if ((time_us_t) rtt < most) {
                    most = (time_us_t) rtt;
                }
                until = until + most;
            }
            if (meta.live.dead_interval != 0 && last_seen != 0) {
                if (excuse != EXCUSED_NOT) {
                    if (last_seen < until) {
                        last_seen = until;
                    }
                    last_seen_write.apply(meta.live.port, last_seen);
                    excused_write.apply(meta.live.port, excuse);
                    waiting_end.apply(meta.live.port);
                } else if (lives == 0 && stretch > stretch_before) {
                    last_seen = 0;
                    last_seen_write.apply(meta.live.port, last_seen);
                }
            }
            if (meta.live.dead_interval != 0 && meta.intake.now > last_seen
                && meta.intake.now - last_seen > meta.live.dead_interval) {
                meta.live.dead = 1;
            }
            time_us_t may_wait = 0;
            waiting_read.apply(meta.live.port, waiting_since);
            if (meta.live.dead == 0 && awaited == 0 && excuse != EXCUSED_CHANGE
                && (waiting_since == 0 || meta.intake.now - waiting_since <= (meta.live.dead_interval >> 1))) {
                may_wait = meta.live.dead_interval >> 1;
            }
            waiting_start.apply(meta.live.port, meta.intake.now);

            hdr.ethernet.setValid();
            hdr.ethernet.dst = HEARTBEAT_DST_MAC;
            hdr.ethernet.src = HEARTBEAT_SRC_MAC | (bit<48>) meta.live.port;
            hdr.ethernet.ether_type = ETHERTYPE_HEARTBEAT;
            hdr.heartbeat.setValid();
            hdr.heartbeat.version = HEARTBEAT_VERSION;
            hdr.heartbeat.op = HEARTBEAT_REQUEST;
            hdr.heartbeat.port = (bit<16>) meta.live.port;
            bit<32> seq;
            next_request.apply(meta.live.port, seq);
            hdr.heartbeat.seq = seq;
            hdr.heartbeat.tx_time = meta.intake.now;
            hdr.heartbeat.echo_time = may_wait;
            meta.verdict = FORWARD;
            meta.egress_port = meta.live.port;

        } else if (meta.live.event == LIVE_DOWN) {
            last_seen_write.apply(meta.live.port, 0);
            await_next.apply(meta.live.port);
            meta.live.dead = 1;

        } else if (meta.live.event == LIVE_REQUEST) {
            bit<32> highest;
            peer_request.apply(meta.live.port, hdr.heartbeat.seq, highest);
            bit<2> missing;
            missing_read.apply(meta.live.port, missing);
            bit<32> ahead = hdr.heartbeat.seq - highest;
            bit<32> lost = 0;
            if (highest == 0 || (ahead >= MOST_MISSING && ahead < -LATE_REQUESTS)) {
                missing = 0;
            } else if (ahead == -32w1) {
                missing = missing & 2;
            } else if (ahead == -32w2) {
                missing = missing & 1;
            } else if (ahead < MOST_MISSING && ahead != 0) {
                time_us_t last_seen;
                last_seen_read.apply(meta.live.port, last_seen);
                if (ahead == 1) {
                    lost = (bit<32>) missing[1:1];
                    missing = missing[0:0] ++ 1w0;
                } else {
                    lost = (bit<32>) missing[1:1] + (bit<32>) missing[0:0];
                    missing = 1;
                    if (ahead > 2) {
                        lost = lost + (ahead - 3);
                        missing = 3;
                    }
                }
                if (awaited != 0 || (meta.live.dead_interval != 0 && meta.intake.now > last_seen
                                     && meta.intake.now - last_seen > meta.live.dead_interval)) {
                    lost = lost + (bit<32>) missing[1:1] + (bit<32>) missing[0:0];
                    missing = 0;
                }
            }
            missing_write.apply(meta.live.port, missing);
            bit<32> total;
            lost_add.apply(meta.live.port, lost, total);

            waiting_read.apply(meta.live.port, waiting_since);
            if (awaited != 0) {
                meta.live.dead = 1;
            } else if (meta.live.dead_interval != 0 && waiting_since != 0 && meta.intake.now > waiting_since
                && meta.intake.now - waiting_since > meta.live.dead_interval) {
                last_seen_write.apply(meta.live.port, 0);
                meta.live.dead = 1;
            } else {
                meta.live.heard = 1;
            }

            hdr.ethernet.dst = HEARTBEAT_DST_MAC;
            hdr.ethernet.src = HEARTBEAT_SRC_MAC | (bit<48>) meta.live.port;
            hdr.heartbeat.op = HEARTBEAT_REPLY;
            hdr.heartbeat.port = (bit<16>) meta.live.port;
            hdr.heartbeat.echo_time = meta.intake.now;
            meta.verdict = FORWARD;
            meta.egress_port = meta.live.port;

        } else if (meta.live.event == LIVE_REPLY && awaited != 0 && hdr.heartbeat.seq - awaited >= 0x80000000) {
            meta.live.dead = 1;

        } else if (meta.live.event == LIVE_REPLY) {
            awaited_end.apply(meta.live.port);
            waiting_end.apply(meta.live.port);
            meta.live.heard = 1;
            // A clock set back would give nonsense; keep the value before.
            if (meta.intake.now >= hdr.heartbeat.tx_time) {
                rtt_write.apply(meta.live.port, (bit<32>) (meta.intake.now - hdr.heartbeat.tx_time));
            }
        }

        if (meta.live.heard == 1) {
            time_us_t excused_until = 0;  // an excuse that is younger than this sign of life stays
            if (excused != EXCUSED_NOT) {
                last_seen_read.apply(meta.live.port, excused_until);
            }
            if (meta.intake.now >= excused_until) {
                last_seen_write.apply(meta.live.port, meta.intake.now);
                excused_write.apply(meta.live.port, EXCUSED_NOT);
            }
        }
    }
}

// In egress: an answer that did not leave at once tells how long it was kept back, by counting its request as so much
// younger. `held`: us between the request's arrival and the end of ingress.
control KeptBack(inout headers_t hdr, inout metadata_t meta, in bit<32> held) {
    HeldWrite() held_write;

    apply {
        if (hdr.heartbeat.isValid() && meta.live.event == LIVE_REQUEST) {
            hdr.heartbeat.tx_time = hdr.heartbeat.tx_time + (time_us_t) held;
            held_write.apply(meta.egress_port, held);
        }
    }
}

#endif  // SHADOWPLANE_LIVENESS_P4_
