// State of the program on v1model: registers, counters, and one small control per kind of access.
//
//   block ──apply──> control of this file ──read/write──> register, counter (v1model only)
//
// Another architecture offers a file with the same controls and macros. Each control does at most one
// read-modify-write of one register, which is what a stateful ALU can do in one pass; names say what the
// access means, not how it is done. Arrays are global here because several blocks use the same one;
// direct counters and selectors belong to a table, so they are macros used inside the block.
//
// Deliberately not here: any decision. Registers indexed out of range are neither read nor written;
// callers check indices that come from packets.
#ifndef SHADOWPLANE_V1MODEL_EXTERNS_P4_
#define SHADOWPLANE_V1MODEL_EXTERNS_P4_

#include "../../include/constants.p4"
#include "../../include/ids.p4"
#include "../../include/sizes.p4"
#include "../../include/metadata.p4"

// ---- macros for what must be declared next to its table -------------------------------------------

#define DIRECT_COUNTER(counter_name) direct_counter(CounterType.packets_and_bytes) counter_name
#define SELECTOR(selector_name, members) action_selector(HashAlgorithm.crc32, members, 32) selector_name

// 32 bits that differ where `before` or any of the fields differ, for all practical purposes.
#define PATH_HASH(result, before, fields) \
    hash(result, HashAlgorithm.crc32, 32w0, { before, fields }, 64w0x100000000)

// Complement of the sum of the 16-bit words of `fields` (RFC 1071).
#define CHECKSUM(result, ...) hash(result, HashAlgorithm.csum16, 16w0, { __VA_ARGS__ }, 32w0x10000)

// ---- steering --------------------------------------------------------------------------------------

@name(".failover") @id(ID_REGISTER_FAILOVER)
register<bit<1>, bit<32>>(GROUPS) failover_register;

// The failover bit of a group.
control FailoverRead(in group_t group, out bit<1> value) {
    apply { failover_register.read(value, (bit<32>) group); }
}

control FailoverWrite(in group_t group, in bit<1> value) {
    apply { failover_register.write((bit<32>) group, value); }
}

@name(".group_tx") @id(ID_COUNTER_GROUP_TX)
counter<bit<32>>(GROUP_CELLS, CounterType.packets_and_bytes) group_tx_counter;

// One packet of `group` left by its shadow (1) or primary (0).
control CountGroup(in group_t group, in bit<1> shadow) {
    apply { group_tx_counter.count((bit<32>) (group ++ shadow)); }
}

@name(".group_fallback") @id(ID_COUNTER_GROUP_FALLBACK)
counter<bit<32>>(GROUPS, CounterType.packets_and_bytes) group_fallback_counter;

// One packet went a way that it should not have: nothing better was left.
control CountFallback(in group_t group) {
    apply { group_fallback_counter.count((bit<32>) group); }
}

@name(".label_dead_port") @id(ID_COUNTER_LABEL_DEAD_PORT)
counter<bit<32>>(PORTS, CounterType.packets_and_bytes) label_dead_port_counter;

// One labelled packet left by a port that seems dead.
control CountLabelDeadPort(in port_t port) {
    apply { label_dead_port_counter.count((bit<32>) port); }
}

// ---- liveness --------------------------------------------------------------------------------------

@name(".liveness_last_seen") @id(ID_REGISTER_LIVENESS_LAST_SEEN)
register<bit<48>, bit<32>>(PORTS) last_seen_register;

control LastSeenWrite(in port_t port, in time_us_t seen) {
    apply { last_seen_register.write((bit<32>) port, seen); }
}

control LastSeenRead(in port_t port, out time_us_t seen) {
    apply { last_seen_register.read(seen, (bit<32>) port); }
}

@name(".liveness_dead_interval") @id(ID_REGISTER_LIVENESS_DEAD_INTERVAL)
register<bit<48>, bit<32>>(PORTS) dead_interval_register;

// The interval that steering goes by: a copy of liveness_config's, renewed with every heartbeat,
// because a packet must judge two ports and may look into a table only once.
control DeadIntervalWrite(in port_t port, in time_us_t interval) {
    apply { dead_interval_register.write((bit<32>) port, interval); }
}

control DeadIntervalRead(in port_t port, out time_us_t interval) {
    apply { dead_interval_register.read(interval, (bit<32>) port); }
}

@name(".liveness_waiting_since") @id(ID_REGISTER_LIVENESS_WAITING_SINCE)
register<bit<48>, bit<32>>(PORTS) waiting_since_register;

// When the oldest request without an answer was sent; 0: the last one was answered.
control WaitingStart(in port_t port, in time_us_t now) {
    time_us_t since;
    apply {
        waiting_since_register.read(since, (bit<32>) port);
        if (since == 0) {
            waiting_since_register.write((bit<32>) port, now);
        }
    }
}

control WaitingEnd(in port_t port) {
    apply { waiting_since_register.write((bit<32>) port, 0); }
}

control WaitingRead(in port_t port, out time_us_t since) {
    apply { waiting_since_register.read(since, (bit<32>) port); }
}

@name(".liveness_last_tick") @id(ID_REGISTER_LIVENESS_LAST_TICK)
register<bit<48>, bit<32>>(PORTS) last_tick_register;

// `before`: when the port's tick before this one came; 0: never.
control NextTick(in port_t port, in time_us_t now, out time_us_t before) {
    apply {
        last_tick_register.read(before, (bit<32>) port);
        last_tick_register.write((bit<32>) port, now);
    }
}

@name(".liveness_excused") @id(ID_REGISTER_LIVENESS_EXCUSED)
register<bit<2>, bit<32>>(PORTS) excused_register;

control ExcusedWrite(in port_t port, in bit<2> excused) {
    apply { excused_register.write((bit<32>) port, excused); }
}

control ExcusedRead(in port_t port, out bit<2> excused) {
    apply { excused_register.read(excused, (bit<32>) port); }
}

@name(".liveness_relaxed") @id(ID_REGISTER_LIVENESS_RELAXED)
register<bit<2>, bit<32>>(PORTS) relaxed_register;

control RelaxedRead(in port_t port, out bit<2> stretch) {
    apply { relaxed_register.read(stretch, (bit<32>) port); }
}

control RelaxedWrite(in port_t port, in bit<2> stretch) {
    apply { relaxed_register.write((bit<32>) port, stretch); }
}

@name(".liveness_tx_seq") @id(ID_REGISTER_LIVENESS_TX_SEQ)
register<bit<32>, bit<32>>(PORTS) tx_seq_register;

// Number of the next request: 1, 2, ...
control NextRequest(in port_t port, out bit<32> seq) {
    apply {
        tx_seq_register.read(seq, (bit<32>) port);
        seq = seq + 1;
        tx_seq_register.write((bit<32>) port, seq);
    }
}

@name(".liveness_awaited_seq") @id(ID_REGISTER_LIVENESS_AWAITED_SEQ)
register<bit<32>, bit<32>>(PORTS) awaited_seq_register;

// From now on only answers to requests that are still to come count.
control AwaitNext(in port_t port) {
    bit<32> seq;
    apply {
        tx_seq_register.read(seq, (bit<32>) port);
        awaited_seq_register.write((bit<32>) port, seq + 1);
    }
}

// The first request whose answer counts; 0: any.
control AwaitedRead(in port_t port, out bit<32> seq) {
    apply { awaited_seq_register.read(seq, (bit<32>) port); }
}

control AwaitedEnd(in port_t port) {
    apply { awaited_seq_register.write((bit<32>) port, 0); }
}

@name(".liveness_held") @id(ID_REGISTER_LIVENESS_HELD)
register<bit<32>, bit<32>>(PORTS) held_register;

control HeldWrite(in port_t port, in bit<32> held) {
    apply { held_register.write((bit<32>) port, held); }
}

@name(".liveness_rx_seq") @id(ID_REGISTER_LIVENESS_RX_SEQ)
register<bit<32>, bit<32>>(PORTS) rx_seq_register;

// Remember the peer's number unless it is one that comes late; return the highest before (0: none yet).
control PeerRequest(in port_t port, in bit<32> seq, out bit<32> highest) {
    apply {
        rx_seq_register.read(highest, (bit<32>) port);
        if (highest == 0 || highest - seq > LATE_REQUESTS) {
            rx_seq_register.write((bit<32>) port, seq);
        }
    }
}

@name(".liveness_missing") @id(ID_REGISTER_LIVENESS_MISSING)
register<bit<2>, bit<32>>(PORTS) missing_register;

control MissingRead(in port_t port, out bit<2> missing) {
    apply { missing_register.read(missing, (bit<32>) port); }
}

control MissingWrite(in port_t port, in bit<2> missing) {
    apply { missing_register.write((bit<32>) port, missing); }
}

@name(".liveness_lost") @id(ID_REGISTER_LIVENESS_LOST)
register<bit<32>, bit<32>>(PORTS) lost_register;

// Add missing requests of the peer; returns the sum so far.
control LostAdd(in port_t port, in bit<32> more, out bit<32> total) {
    apply {
        lost_register.read(total, (bit<32>) port);
        total = total + more;
        lost_register.write((bit<32>) port, total);
    }
}

@name(".liveness_rtt") @id(ID_REGISTER_LIVENESS_RTT)
register<bit<32>, bit<32>>(PORTS) rtt_register;

control RttWrite(in port_t port, in bit<32> rtt) {
    apply { rtt_register.write((bit<32>) port, rtt); }
}

control RttRead(in port_t port, out bit<32> rtt) {
    apply { rtt_register.read(rtt, (bit<32>) port); }
}

// ---- port report: what the control plane was told last -----------------------------------------------

@name(".report_seq") @id(ID_REGISTER_REPORT_SEQ)
register<bit<32>, bit<32>>(PORTS) report_seq_register;

control NextReport(in port_t port, out bit<32> seq) {
    apply {
        report_seq_register.read(seq, (bit<32>) port);
        seq = seq + 1;
        report_seq_register.write((bit<32>) port, seq);
    }
}

@name(".report_time") @id(ID_REGISTER_REPORT_TIME)
register<bit<48>, bit<32>>(PORTS) report_time_register;

control ReportTimeRead(in port_t port, out time_us_t time) {
    apply { report_time_register.read(time, (bit<32>) port); }
}

control ReportTimeWrite(in port_t port, in time_us_t time) {
    apply { report_time_register.write((bit<32>) port, time); }
}

@name(".report_rtt") @id(ID_REGISTER_REPORT_RTT)
register<bit<32>, bit<32>>(PORTS) report_rtt_register;

control ReportRttRead(in port_t port, out bit<32> rtt) {
    apply { report_rtt_register.read(rtt, (bit<32>) port); }
}

control ReportRttWrite(in port_t port, in bit<32> rtt) {
    apply { report_rtt_register.write((bit<32>) port, rtt); }
}

@name(".report_lost") @id(ID_REGISTER_REPORT_LOST)
register<bit<32>, bit<32>>(PORTS) report_lost_register;

control ReportLostRead(in port_t port, out bit<32> lost) {
    apply { report_lost_register.read(lost, (bit<32>) port); }
}

control ReportLostWrite(in port_t port, in bit<32> lost) {
    apply { report_lost_register.write((bit<32>) port, lost); }
}

@name(".report_alive") @id(ID_REGISTER_REPORT_ALIVE)
register<bit<1>, bit<32>>(PORTS) report_alive_register;

control ReportAliveRead(in port_t port, out bit<1> alive) {
    apply { report_alive_register.read(alive, (bit<32>) port); }
}

control ReportAliveWrite(in port_t port, in bit<1> alive) {
    apply { report_alive_register.write((bit<32>) port, alive); }
}

// ---- traffic of a port: registers for the report, counters for the controller's own polling ------------

@name(".port_rx_packets") @id(ID_REGISTER_PORT_RX_PACKETS)
register<bit<64>, bit<32>>(PORTS) rx_packets_register;
@name(".port_rx_bytes") @id(ID_REGISTER_PORT_RX_BYTES)
register<bit<64>, bit<32>>(PORTS) rx_bytes_register;
@name(".port_rx") @id(ID_COUNTER_PORT_RX)
counter<bit<32>>(PORTS, CounterType.packets_and_bytes) port_rx_counter;

control CountRx(in port_t port, in bit<32> frame_bytes) {
    bit<64> packets;
    bit<64> bytes;
    apply {
        port_rx_counter.count((bit<32>) port);
        rx_packets_register.read(packets, (bit<32>) port);
        rx_packets_register.write((bit<32>) port, packets + 1);
        rx_bytes_register.read(bytes, (bit<32>) port);
        rx_bytes_register.write((bit<32>) port, bytes + (bit<64>) frame_bytes);
    }
}

@name(".port_tx_packets") @id(ID_REGISTER_PORT_TX_PACKETS)
register<bit<64>, bit<32>>(PORTS) tx_packets_register;
@name(".port_tx_bytes") @id(ID_REGISTER_PORT_TX_BYTES)
register<bit<64>, bit<32>>(PORTS) tx_bytes_register;
@name(".port_tx") @id(ID_COUNTER_PORT_TX)
counter<bit<32>>(PORTS, CounterType.packets_and_bytes) port_tx_counter;

control CountTx(in port_t port, in bit<32> frame_bytes) {
    bit<64> packets;
    bit<64> bytes;
    apply {
        port_tx_counter.count((bit<32>) port);
        tx_packets_register.read(packets, (bit<32>) port);
        tx_packets_register.write((bit<32>) port, packets + 1);
        tx_bytes_register.read(bytes, (bit<32>) port);
        tx_bytes_register.write((bit<32>) port, bytes + (bit<64>) frame_bytes);
    }
}

control TrafficRead(in port_t port,
                    out bit<64> rx_packets, out bit<64> rx_bytes,
                    out bit<64> tx_packets, out bit<64> tx_bytes) {
    apply {
        rx_packets_register.read(rx_packets, (bit<32>) port);
        rx_bytes_register.read(rx_bytes, (bit<32>) port);
        tx_packets_register.read(tx_packets, (bit<32>) port);
        tx_bytes_register.read(tx_bytes, (bit<32>) port);
    }
}

@name(".port_errors") @id(ID_REGISTER_PORT_ERRORS)
register<bit<32>, bit<32>>(PORTS) errors_register;

control ErrorsCount(in port_t port) {
    bit<32> errors;
    apply {
        errors_register.read(errors, (bit<32>) port);
        errors_register.write((bit<32>) port, errors + 1);
    }
}

control ErrorsRead(in port_t port, out bit<32> errors) {
    apply { errors_register.read(errors, (bit<32>) port); }
}

@name(".port_queue_max") @id(ID_REGISTER_PORT_QUEUE_MAX)
register<bit<32>, bit<32>>(PORTS) queue_max_register;

control QueueMaxUpdate(in port_t port, in bit<32> depth) {
    bit<32> deepest;
    apply {
        queue_max_register.read(deepest, (bit<32>) port);
        if (depth > deepest) {
            queue_max_register.write((bit<32>) port, depth);
        }
    }
}

// Read the maximum and start a new one.
control QueueMaxTake(in port_t port, out bit<32> deepest) {
    apply {
        queue_max_register.read(deepest, (bit<32>) port);
        queue_max_register.write((bit<32>) port, 0);
    }
}

// ---- in-band telemetry -------------------------------------------------------------------------------

// The memory cell of a packet's flow.
control IntCell(in metadata_t meta, out bit<32> cell) {
    apply {
        hash(cell, HashAlgorithm.crc32, 32w0,
             { meta.lookup.ipv4_src, meta.lookup.ipv4_dst, meta.lookup.ipv6_src, meta.lookup.ipv6_dst,
               meta.lookup.ip_proto, meta.lookup.l4_sport, meta.lookup.l4_dport },
             (bit<32>) INT_FLOWS);
    }
}

@name(".int_sampling") @id(ID_REGISTER_INT_SAMPLING)
register<bit<16>, bit<32>>(INT_FLOWS) int_sampling_register;

// Position of this packet in its flow's turn of `one_in`: 0, 1, ... one_in - 1.
control IntSampling(in bit<32> flow, in bit<16> one_in, out bit<16> position) {
    apply {
        int_sampling_register.read(position, flow);
        // A turn may have become shorter since.
        if (position >= one_in) {
            position = 0;
        }
        int_sampling_register.write(flow, position + 1);
    }
}

@name(".int_sink_time") @id(ID_REGISTER_INT_SINK_TIME)
register<bit<48>, bit<32>>(INT_FLOWS) sink_time_register;
@name(".int_sink_latency") @id(ID_REGISTER_INT_SINK_LATENCY)
register<bit<32>, bit<32>>(INT_FLOWS) sink_latency_register;
@name(".int_sink_queue") @id(ID_REGISTER_INT_SINK_QUEUE)
register<bit<32>, bit<32>>(INT_FLOWS) sink_queue_register;

// How the flow's last packet with telemetry fared in this switch.
control SinkNotesWrite(in bit<32> cell, in time_us_t time, in bit<32> latency, in bit<32> queue) {
    apply {
        sink_time_register.write(cell, time);
        sink_latency_register.write(cell, latency);
        sink_queue_register.write(cell, queue);
    }
}

control SinkNotesRead(in bit<32> cell, out time_us_t time, out bit<32> latency, out bit<32> queue) {
    apply {
        sink_time_register.read(time, cell);
        sink_latency_register.read(latency, cell);
        sink_queue_register.read(queue, cell);
    }
}

@name(".int_sink_packets") @id(ID_REGISTER_INT_SINK_PACKETS)
register<bit<32>, bit<32>>(INT_FLOWS) sink_packets_register;
@name(".int_sink_bytes") @id(ID_REGISTER_INT_SINK_BYTES)
register<bit<64>, bit<32>>(INT_FLOWS) sink_bytes_register;

// One more packet with telemetry of the flow; returns the sums so far.
control SinkCount(in bit<32> cell, in bit<32> frame_bytes, out bit<32> packets, out bit<64> bytes) {
    apply {
        sink_packets_register.read(packets, cell);
        packets = packets + 1;
        sink_packets_register.write(cell, packets);
        sink_bytes_register.read(bytes, cell);
        bytes = bytes + (bit<64>) frame_bytes;
        sink_bytes_register.write(cell, bytes);
    }
}

@name(".int_report_time") @id(ID_REGISTER_INT_REPORT_TIME)
register<bit<48>, bit<32>>(INT_FLOWS) flow_time_register;
@name(".int_report_path") @id(ID_REGISTER_INT_REPORT_PATH)
register<bit<32>, bit<32>>(INT_FLOWS) flow_path_register;
@name(".int_report_level") @id(ID_REGISTER_INT_REPORT_LEVEL)
register<bit<2>, bit<32>>(INT_FLOWS) flow_level_register;

// What the flow's last report said.
control FlowReportedRead(in bit<32> cell, out time_us_t time, out bit<32> path, out bit<2> level) {
    apply {
        flow_time_register.read(time, cell);
        flow_path_register.read(path, cell);
        flow_level_register.read(level, cell);
    }
}

control FlowReportedWrite(in bit<32> cell, in time_us_t time, in bit<32> path, in bit<2> level) {
    apply {
        flow_time_register.write(cell, time);
        flow_path_register.write(cell, path);
        flow_level_register.write(cell, level);
    }
}

@name(".int_report_seq") @id(ID_REGISTER_INT_REPORT_SEQ)
register<bit<32>, bit<32>>(INT_FLOWS) flow_seq_register;

control NextFlowReport(in bit<32> cell, out bit<32> seq) {
    apply {
        flow_seq_register.read(seq, cell);
        seq = seq + 1;
        flow_seq_register.write(cell, seq);
    }
}

@name(".drops") @id(ID_COUNTER_DROPS)
counter<bit<32>>(DROP_REASONS, CounterType.packets_and_bytes) drops_counter;

control CountDrop(in reason_t reason) {
    apply { drops_counter.count((bit<32>) reason); }
}

#endif  // SHADOWPLANE_V1MODEL_EXTERNS_P4_
