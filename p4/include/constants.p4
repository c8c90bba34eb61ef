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

// A request whose number is below the highest by up to so many is late; one further below, or ahead by more than is
// sent in a day or two, comes from a neighbour that began anew.
const bit<32> LATE_REQUESTS = 256;
const bit<32> MOST_MISSING  = 1 << 24;
const mac_t  HEARTBEAT_DST_MAC = 0x0180C200000E;  // nearest bridge: no bridge forwards it
const mac_t  HEARTBEAT_SRC_MAC = 0x025350000000;  // locally administered; low bits: the port

// Heartbeats overtake data where the target has priority queues: a queue must not look like a cut.
const bit<3> HEARTBEAT_PRIORITY = 7;

// Events of a port report.
const bit<8> EVENT_PERIODIC = 0;
const bit<8> EVENT_CHANGE   = 1;
const bit<8> EVENT_DEAD     = 2;
const bit<8> EVENT_ALIVE    = 3;

// In-band telemetry: INT v2.1, MD type, behind TCP and UDP, announced by a DSCP (P4.org INT specification 2.1).
const bit<4>  INT_TYPE_MD      = 1;
const bit<4>  INT_VERSION      = 2;
const bit<8>  INT_MD_WORDS     = 3;       // of the MD header: shim.length counts it and the stack
const bit<8>  INT_HOP_WORDS    = 8;       // of one hop in the report format
const bit<16> INT_REPORT_BITS  = 0xFC00;  // node, ports, latency, queue, both times: what reports are made of
const bit<5>  INT_FILLER_WORDS = 15;      // most words of all ones that a hop adds

// The DSCPs among which one may announce INT: pool 2 of RFC 2474 section 6, "experimental or local use".
const bit<6> INT_DSCP_POOL      = 0b000011;
const bit<6> INT_DSCP_POOL_MASK = 0b000011;

// Events of a flow report.
const bit<8> FLOW_PERIODIC = 0;
const bit<8> FLOW_PATH     = 1;  // nodes, ports or flags differ from the report before
const bit<8> FLOW_LATENCY  = 2;  // largest hop latency crossed the threshold, or is still above it
const bit<8> FLOW_QUEUE    = 3;  // the same for the largest queue occupancy

// Flags of a flow report.
const bit<8> FLOW_FLAG_HOPS   = 0x01;  // E: a hop limit left nodes out
const bit<8> FLOW_FLAG_MTU    = 0x02;  // M: an MTU left nodes out
const bit<8> FLOW_FLAG_MORE   = 0x04;  // more hops than a report holds: those nearest the sink are in it
const bit<8> FLOW_FLAG_OPAQUE = 0x08;  // another set of instructions than INT_REPORT_BITS: no hops in it
const bit<8> FLOW_FLAG_IPV6   = 0x10;

// Drop reasons: index into the counter `drops`. 0 is never counted, 11 means nothing: a port that only seems
// dead is no reason to drop.
const reason_t DROP_NONE              = 0;
const reason_t DROP_MALFORMED         = 1;   // truncated, or a header that contradicts itself
const reason_t DROP_BAD_CHECKSUM      = 2;   // IPv4 header checksum
const reason_t DROP_UNKNOWN_ETHERTYPE = 3;   // nothing this program forwards
const reason_t DROP_TTL_EXPIRED       = 4;   // TTL or hop limit 0 or 1
const reason_t DROP_ACL_DENY          = 5;
const reason_t DROP_NO_ROUTE          = 6;   // no prefix covers the destination
const reason_t DROP_ROUTE_DROP        = 7;   // a prefix that says: discard
const reason_t DROP_NO_NEXTHOP        = 8;   // the group has neither primary nor shadow
const reason_t DROP_BAD_INT           = 9;   // telemetry for a host that cannot be taken out, or is marked D
const reason_t DROP_UNKNOWN_LABEL     = 10;
const reason_t DROP_BAD_COMMAND       = 12;  // opcode unknown, or not allowed from this port
const reason_t DROP_UNSUPPORTED       = 13;  // IPv4 options, or more than one label
const reason_t DROP_BAD_HEARTBEAT     = 14;  // version or op unknown
const reason_t DROP_NO_BALANCE        = 15;  // balance id without entry

#endif  // SHADOWPLANE_CONSTANTS_P4_
