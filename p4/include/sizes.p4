// Sizes of every table and array, each with its reason.
//
// They are upper limits of this program, the same on every target. A target that has less memory
// gets a smaller file of the same names; no logic depends on a particular value.
#ifndef SHADOWPLANE_SIZES_P4_
#define SHADOWPLANE_SIZES_P4_

// Ports are 9 bits wide on v1model and TNA alike: one cell for each port number there can be.
#define PORTS 512

// One steering group per (switch, destination, priority class). A network of 2,000 destinations with
// 8 classes fits; 16384 bits are one Tofino stateful memory block.
#define GROUPS 16384

// Two counter cells per steering group: primary at 2 * group, shadow at 2 * group + 1.
#define GROUP_CELLS 32768

// Prefixes whose traffic moves together with one bit: flips are measured with 100,000 prefixes.
#define IPV4_ROUTES 131072

// IPv6 prefixes cost four times the match bits of IPv4 ones.
#define IPV6_ROUTES 16384

// A path label pins one shadow path; each group has at most one.
#define LABELS 16384

// Ternary entries are the scarcest memory on hardware. A firewall of 2,048 rules is large.
#define ACL_ENTRIES 2048

// Classified traffic aggregates: as many as ACL rules, for the same reason.
#define CLASSIFY_ENTRIES 2048

// Weighted sets of paths, and virtual addresses with several servers.
#define BALANCES 1024

// Members over all of them, and the most that one set may have.
#define BALANCE_MEMBERS 8192
#define BALANCE_GROUP_MEMBERS 128

// Hops of a telemetry stack that are looked at one by one: wide-area and data centre paths are shorter.
#define INT_HOPS 8

// Memory per flow of in-band telemetry. Twice the classified aggregates; a power of two, because flows are told
// apart by the low bits of a hash or of their id.
#define INT_FLOWS 4096
#define INT_FLOW_BITS 11:0

// Which flows carry telemetry, by ingress port, flow and priority: far fewer rules than flows.
#define INT_SOURCES 256

// Priorities are 3 bits wide.
#define PRIORITIES 8

// Drop reasons (include/constants.p4) are 4 bits wide.
#define DROP_REASONS 16

#endif  // SHADOWPLANE_SIZES_P4_
