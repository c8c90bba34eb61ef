// Tells the control plane about a port, but only when there is something to tell.
//
//   heartbeat event on a monitored port
//     ├─ found dead, was alive           ──> EVENT_DEAD
//     ├─ heard, was dead                 ──> EVENT_ALIVE
//     ├─ |rtt - reported| > rtt_delta, or lost changed ──> EVENT_CHANGE
//     ├─ report_interval since the last  ──> EVENT_PERIODIC, or EVENT_DEAD again while it is dead
//     └─ else nothing
//
// Digests are best effort: each carries all values, not differences, and a number, so that a lost one is
// noticed and does no harm. EVENT_DEAD is repeated for the same reason.
//
// Deliberately not here: rates, averages, thresholds on traffic. The analyzer does those better.
#ifndef SHADOWPLANE_REPORT_P4_
#define SHADOWPLANE_REPORT_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control Report(inout headers_t hdr, inout metadata_t meta) {
    LostAdd() lost_add;
    RttRead() rtt_read;
    ReportTimeRead() report_time_read;
    ReportTimeWrite() report_time_write;
    ReportRttRead() report_rtt_read;
    ReportRttWrite() report_rtt_write;
    ReportLostRead() report_lost_read;
    ReportLostWrite() report_lost_write;
    ReportAliveRead() report_alive_read;
    ReportAliveWrite() report_alive_write;
    NextReport() next_report;
    TrafficRead() traffic_read;
    ErrorsRead() errors_read;
    QueueMaxTake() queue_max_take;

    apply {
        if (meta.live.monitored == 1) {
            bit<32> rtt;
            bit<32> lost;
            rtt_read.apply(meta.live.port, rtt);
            lost_add.apply(meta.live.port, 0, lost);

            time_us_t told_time;
            bit<32> told_rtt;
            bit<32> told_lost;
            bit<1> told_alive;
            report_time_read.apply(meta.live.port, told_time);
            report_rtt_read.apply(meta.live.port, told_rtt);
            report_lost_read.apply(meta.live.port, told_lost);
            report_alive_read.apply(meta.live.port, told_alive);

            bit<32> rtt_moved = rtt - told_rtt;
            if (told_rtt > rtt) {
                rtt_moved = told_rtt - rtt;
            }

            if (meta.live.dead == 1 && told_alive == 1) {
                meta.send_report = 1;
                meta.report.event = EVENT_DEAD;
            } else if (meta.live.heard == 1 && told_alive == 0) {
                meta.send_report = 1;
                meta.report.event = EVENT_ALIVE;
            } else if (rtt_moved > meta.live.rtt_delta || lost != told_lost) {
                meta.send_report = 1;
                meta.report.event = EVENT_CHANGE;
            } else if (meta.intake.now >= told_time
                       && meta.intake.now - told_time >= meta.live.report_interval) {
                meta.send_report = 1;
                meta.report.event = EVENT_PERIODIC;
            }

            if (meta.send_report == 1) {
                if (meta.live.dead == 1) {
                    meta.report.event = EVENT_DEAD;
                    report_alive_write.apply(meta.live.port, 0);
                } else if (meta.live.heard == 1) {
                    report_alive_write.apply(meta.live.port, 1);
                }
                report_time_write.apply(meta.live.port, meta.intake.now);
                report_rtt_write.apply(meta.live.port, rtt);
                report_lost_write.apply(meta.live.port, lost);

                meta.report.port = (bit<16>) meta.live.port;
                bit<32> seq;
                next_report.apply(meta.live.port, seq);
                meta.report.seq = seq;
                meta.report.time = meta.intake.now;
                meta.report.rtt = rtt;
                meta.report.lost = lost;
                bit<64> rx_packets;
                bit<64> rx_bytes;
                bit<64> tx_packets;
                bit<64> tx_bytes;
                traffic_read.apply(meta.live.port, rx_packets, rx_bytes, tx_packets, tx_bytes);
                meta.report.rx_packets = rx_packets;
                meta.report.rx_bytes = rx_bytes;
                meta.report.tx_packets = tx_packets;
                meta.report.tx_bytes = tx_bytes;
                bit<32> errors;
                errors_read.apply(meta.live.port, errors);
                meta.report.errors = errors;
                bit<32> queue_max;
                queue_max_take.apply(meta.live.port, queue_max);
                meta.report.queue_max = queue_max;
            }
        }
    }
}

#endif  // SHADOWPLANE_REPORT_P4_
