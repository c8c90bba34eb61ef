// Numbers that packets, control plane and program agree on. p4/README.md shows them as tables.
#ifndef SHADOWPLANE_CONSTANTS_P4_
#define SHADOWPLANE_CONSTANTS_P4_

typedef bit<9>  port_t;
typedef bit<16> group_t;
typedef bit<20> label_t;
typedef bit<48> mac_t;
typedef bit<48> time_us_t;  // microseconds of the switch's own clock
typedef bit<4>  reason_t;

// Ports with a meaning. Frames from the first two begin with a packet_out header.
const port_t PKTGEN_PORT = 509;  // packet generator of the target
const port_t CPU_PORT    = 510;  // P4Runtime packet I/O

// EtherTypes.
const bit<16> ETHERTYPE_IPV4      = 0x0800;
const bit<16> ETHERTYPE_IPV6      = 0x86DD;
const bit<16> ETHERTYPE_MPLS      = 0x8847;
const bit<16> ETHERTYPE_HEARTBEAT = 0x88B5;  // IEEE 802 local experimental EtherType 1

// IP protocols whose first four bytes are two port numbers.
const bit<8> PROTOCOL_TCP  = 6;
const bit<8> PROTOCOL_UDP  = 17;
const bit<8> PROTOCOL_SCTP = 132;

// Opcodes of packet_out and reasons of packet_in.
const bit<7> OPCODE_PLAIN        = 0;  // send the frame as it is / punted frame
const bit<7> OPCODE_SET_FAILOVER = 1;
const bit<7> OPCODE_GET_FAILOVER = 2;
const bit<7> OPCODE_HEARTBEAT    = 3;
const bit<7> OPCODE_PORT_DOWN    = 4;

// Answer to a failover opcode whose group does not exist.
const bit<32> COMMAND_REFUSED = 0xFFFFFFFF;

// Heartbeats.
const bit<4> HEARTBEAT_VERSION = 1;
const bit<4> HEARTBEAT_REQUEST = 1;
const bit<4> HEARTBEAT_REPLY   = 2;
const mac_t  HEARTBEAT_DST_MAC = 0x0180C200000E;  // nearest bridge: no bridge forwards it
const mac_t  HEARTBEAT_SRC_MAC = 0x025350000000;  // locally administered; low bits: the port

// Heartbeats overtake data where the target has priority queues: a queue must not look like a cut.
const bit<3> HEARTBEAT_PRIORITY = 7;

// Events of a port report.
const bit<8> EVENT_PERIODIC = 0;
const bit<8> EVENT_CHANGE   = 1;
const bit<8> EVENT_DEAD     = 2;
const bit<8> EVENT_ALIVE    = 3;

// Drop reasons: index into the counter `drops`. 0 is never counted, 9 and 11 mean nothing: a port that only
// seems dead is no reason to drop.
const reason_t DROP_NONE              = 0;
const reason_t DROP_MALFORMED         = 1;   // truncated, or a header that contradicts itself
const reason_t DROP_BAD_CHECKSUM      = 2;   // IPv4 header checksum
const reason_t DROP_UNKNOWN_ETHERTYPE = 3;   // nothing this program forwards
const reason_t DROP_TTL_EXPIRED       = 4;   // TTL or hop limit 0 or 1
const reason_t DROP_ACL_DENY          = 5;
const reason_t DROP_NO_ROUTE          = 6;   // no prefix covers the destination
const reason_t DROP_ROUTE_DROP        = 7;   // a prefix that says: discard
const reason_t DROP_NO_NEXTHOP        = 8;   // the group has neither primary nor shadow
const reason_t DROP_UNKNOWN_LABEL     = 10;
const reason_t DROP_BAD_COMMAND       = 12;  // opcode unknown, or not allowed from this port
const reason_t DROP_UNSUPPORTED       = 13;  // IPv4 options, or more than one label
const reason_t DROP_BAD_HEARTBEAT     = 14;  // version or op unknown
const reason_t DROP_NO_BALANCE        = 15;  // balance id without entry

#endif  // SHADOWPLANE_CONSTANTS_P4_
