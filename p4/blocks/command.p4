// Orders from the controller and from the packet generator.
//
//   packet_out.opcode  from      does
//   0 PLAIN            CPU       send the payload to egress_port, unchanged
//   1 SET_FAILOVER     CPU       failover[index] = value, answer
//   2 GET_FAILOVER     CPU       answer
//   3 HEARTBEAT        CPU, GEN  liveness: send a request on port `index`; bits 0, 1 of `value`: the dead interval
//                                counts so many times doubled until the next order, because that one comes later, too
//   4 PORT_DOWN        GEN       liveness: port `index` has no carrier
//   anything else                DROP_BAD_COMMAND
//
//   answer: packet_in(reason = opcode) | command(index, bit now in the register, cookie)
//
// A group that does not exist is answered with value COMMAND_REFUSED, so that the asker need not wait.
//
// Deliberately not here: authentication. The two ports exist only inside the switch; whoever may write to
// them may also write tables. Frames from other ports are never looked at for commands.
#ifndef SHADOWPLANE_COMMAND_P4_
#define SHADOWPLANE_COMMAND_P4_

#include "../include/headers.p4"
#include "../include/metadata.p4"

control Command(inout headers_t hdr, inout metadata_t meta) {
    FailoverRead() failover_read;
    FailoverWrite() failover_write;

    apply {
        bit<7> opcode = hdr.packet_out.opcode;
        bit<1> from_cpu = 0;
        if (meta.intake.ingress_port == CPU_PORT) {
            from_cpu = 1;
        }
        // Judged again below: whatever is not accepted stays dropped.
        meta.verdict = DROP;
        meta.drop_reason = DROP_BAD_COMMAND;

        if (from_cpu == 1 && opcode == OPCODE_PLAIN) {
            meta.verdict = FORWARD;
            meta.egress_port = hdr.packet_out.egress_port;
        } else if (from_cpu == 1 && (opcode == OPCODE_SET_FAILOVER || opcode == OPCODE_GET_FAILOVER)) {
            if (hdr.command.index < GROUPS) {
                group_t group = hdr.command.index[15:0];
                if (opcode == OPCODE_SET_FAILOVER) {
                    failover_write.apply(group, hdr.command.value[0:0]);
                }
                bit<1> current;
                failover_read.apply(group, current);
                hdr.command.value = (bit<32>) current;
            } else {
                hdr.command.value = COMMAND_REFUSED;
            }
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = meta.intake.ingress_port;
            hdr.packet_in.reason = opcode;
            meta.verdict = FORWARD;
            meta.egress_port = CPU_PORT;
        } else if (hdr.command.isValid() && hdr.command.index < PORTS) {
            if (opcode == OPCODE_HEARTBEAT) {
                meta.live.event = LIVE_TICK;
                meta.live.stretch = hdr.command.value[1:0];
            } else if (opcode == OPCODE_PORT_DOWN && from_cpu == 0) {
                meta.live.event = LIVE_DOWN;
            }
            if (meta.live.event != LIVE_NONE) {
                meta.live.port = hdr.command.index[8:0];
                meta.verdict = UNDECIDED;
                hdr.command.setInvalid();
            }
        }
        hdr.packet_out.setInvalid();
    }
}

#endif  // SHADOWPLANE_COMMAND_P4_
