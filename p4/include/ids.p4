// Fixed P4Info ids: a control plane built against one version keeps working with the next.
//
// The top byte is the P4Runtime prefix of the kind of object (P4Runtime specification, "ID Allocation
// for P4Info Objects"). Ids are never reused: a removed object's number stays empty. One kind cannot be
// fixed: v1model's digest() is a function, so p4c derives its id from the name `port_report_t`.
#ifndef SHADOWPLANE_IDS_P4_
#define SHADOWPLANE_IDS_P4_

#define ID_TABLE_LIVENESS_CONFIG      0x02000001
#define ID_TABLE_ACL                  0x02000002
#define ID_TABLE_CLASSIFY             0x02000003
#define ID_TABLE_LABEL                0x02000004
#define ID_TABLE_ROUTE_IPV4           0x02000005
#define ID_TABLE_ROUTE_IPV6           0x02000006
#define ID_TABLE_BALANCE              0x02000007
#define ID_TABLE_PRIMARY_NEXTHOP      0x02000008
#define ID_TABLE_SHADOW_NEXTHOP       0x02000009

#define ID_ACTION_MONITOR             0x01000001
#define ID_ACTION_OBSERVE             0x01000002
#define ID_ACTION_UNMONITORED         0x01000003
#define ID_ACTION_ACL_PERMIT          0x01000004
#define ID_ACTION_ACL_DENY            0x01000005
#define ID_ACTION_ACL_PUNT            0x01000006
#define ID_ACTION_SET_FLOW            0x01000007
#define ID_ACTION_UNCLASSIFIED        0x01000008
#define ID_ACTION_LABEL_FORWARD       0x01000009
#define ID_ACTION_LABEL_POP           0x0100000A
#define ID_ACTION_UNKNOWN_LABEL       0x0100000B
#define ID_ACTION_SET_GROUP           0x0100000C
#define ID_ACTION_SET_BALANCE         0x0100000D
#define ID_ACTION_ROUTE_DROP          0x0100000E
#define ID_ACTION_NO_ROUTE            0x0100000F
#define ID_ACTION_SET_NEXTHOP         0x01000010
#define ID_ACTION_SET_NEXTHOP_LABEL   0x01000011
#define ID_ACTION_NO_NEXTHOP          0x01000012

#define ID_SELECTOR_BALANCE           0x11000001

#define ID_COUNTER_PORT_RX            0x12000001
#define ID_COUNTER_PORT_TX            0x12000002
#define ID_COUNTER_GROUP_TX           0x12000003
#define ID_COUNTER_GROUP_FALLBACK     0x12000004
#define ID_COUNTER_DROPS              0x12000005
#define ID_COUNTER_LABEL_DEAD_PORT    0x12000006
#define ID_COUNTER_ACL                0x13000001
#define ID_COUNTER_CLASSIFY           0x13000002

#define ID_REGISTER_FAILOVER               0x16000001
#define ID_REGISTER_LIVENESS_LAST_SEEN     0x16000002
#define ID_REGISTER_LIVENESS_DEAD_INTERVAL 0x16000003
#define ID_REGISTER_LIVENESS_WAITING_SINCE 0x16000004
#define ID_REGISTER_LIVENESS_TX_SEQ        0x16000005
#define ID_REGISTER_LIVENESS_RX_SEQ        0x16000006
#define ID_REGISTER_LIVENESS_LOST          0x16000007
#define ID_REGISTER_LIVENESS_RTT           0x16000008
#define ID_REGISTER_REPORT_SEQ             0x16000009
#define ID_REGISTER_REPORT_TIME            0x1600000A
#define ID_REGISTER_REPORT_RTT             0x1600000B
#define ID_REGISTER_REPORT_LOST            0x1600000C
#define ID_REGISTER_REPORT_ALIVE           0x1600000D
#define ID_REGISTER_PORT_RX_PACKETS        0x1600000E
#define ID_REGISTER_PORT_RX_BYTES          0x1600000F
#define ID_REGISTER_PORT_TX_PACKETS        0x16000010
#define ID_REGISTER_PORT_TX_BYTES          0x16000011
#define ID_REGISTER_PORT_ERRORS            0x16000012
#define ID_REGISTER_PORT_QUEUE_MAX         0x16000013

#define ID_HEADER_PACKET_IN           0x04000001
#define ID_HEADER_PACKET_OUT          0x04000002

#endif  // SHADOWPLANE_IDS_P4_
