/* Interface of one compiled pipeline.
 *
 * engine/codegen.py turns a P4 program into C, engine/build.py compiles it together with engine/native/core into
 * one shared object. The object exports a single symbol, sp_engine(), a table of function pointers.
 *
 * Threading: none. All calls on one sp_switch must come from one thread at a time; several switches may live in one
 * process. Callbacks run inside the call that caused them and must not call back into the same sp_switch, with one
 * exception: breathe() may call process() and overtake().
 *
 * Packets: egress runs immediately after ingress. The caller does the queueing after emit() and reports queue depths
 * through the queue() callback, which is asked while the packet stands between ingress and egress.
 */
#ifndef SP_ENGINE_H
#define SP_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SP_ENGINE_ABI 7u
#define SP_ENGINE_SYMBOL "sp_engine"
#define SP_MAX_FRAME 65535u /* longer frames are counted and dropped by process() */

struct sp_switch;

/* State of the queue that a packet enters; zero-filled before the callback. Times in microseconds, depths in packets. */
struct sp_queue {
    uint32_t enq_qdepth;
    uint32_t deq_qdepth;
    uint32_t deq_timedelta_us;
    uint32_t held_us; /* for which the caller kept the frame back before process(): time of its ingress */
};

/* What the caller may want to know about a frame that leaves. */
struct sp_tx {
    uint32_t ingress_port; /* of the frame that caused it */
    uint32_t priority;     /* intrinsic_metadata.priority, 0..7; 0 where the program has none */
    uint32_t instance;     /* BMv2 instance type: 0 normal, 1 ingress clone, 2 egress clone, 5 replicated */
    uint32_t rid;          /* replication id, 0 unless multicast or clone */
};

/* data is valid only during the call. port is the program's egress port (the CPU port included). */
typedef void (*sp_emit_fn)(void *user, uint32_t port, const uint8_t *data, uint32_t len, const struct sp_tx *tx);

/* values: the digest's fields in order, each big endian in ceil(width / 8) bytes, concatenated. */
typedef void (*sp_digest_fn)(void *user, uint32_t digest, const uint8_t *values, uint32_t len, uint64_t now_ns);

typedef void (*sp_queue_fn)(void *user, uint32_t port, uint32_t priority, struct sp_queue *queue);

/* An entry with an idle time-out was not hit for that long; entry is encoded as in the reply to TABLE_READ. */
typedef void (*sp_idle_fn)(void *user, const uint8_t *entry, uint32_t len, uint64_t now_ns);

/* A line of the extern log_msg(), UTF-8 without terminator. */
typedef void (*sp_log_fn)(void *user, const char *text, uint32_t len);

/* One event of a packet's way through the program. */
typedef void (*sp_trace_fn)(void *user, const uint8_t *event, uint32_t len);

/* Called every few microseconds of a long command, where packets may be processed. */
typedef void (*sp_breathe_fn)(void *user);

/* Zero-fill, then set. Callbacks may be NULL. */
struct sp_options {
    uint32_t abi;       /* SP_ENGINE_ABI */
    uint32_t drop_port; /* 511 as in BMv2 */
    void *user;         /* first argument of all callbacks */
    sp_emit_fn emit;
    sp_digest_fn digest;
    sp_queue_fn queue;
    sp_idle_fn idle;
    uint64_t seed; /* of the extern random() */
    sp_log_fn log; /* NULL: the extern log_msg() costs nothing */
    sp_breathe_fn breathe;
    sp_trace_fn trace; /* only the variant of a program that is compiled with SP_TRACE calls it: sp_trace.h */
};

/* Cumulative. received = process() calls. */
struct sp_stats {
    uint64_t received;
    uint64_t emitted;
    uint64_t dropped_ingress; /* drop port at the end of ingress */
    uint64_t dropped_egress;
    uint64_t dropped_loop;     /* more than SP_MAX_PASSES passes through the pipelines for one received frame */
    uint64_t dropped_oversize; /* longer than SP_MAX_FRAME, on the way in or out */
    uint64_t dropped_no_group; /* multicast to a group without replicas */
    uint64_t parser_errors;
    uint64_t digests;
};

#define SP_MAX_PASSES 256u

struct sp_engine {
    uint32_t abi;
    const char *name; /* program name */
    const char *info; /* the program as JSON (engine.codec.program_from_json) */
    const char *key;  /* hash of program and sources, hex: the cache key */

    /* NULL when out of memory or on an abi mismatch. */
    struct sp_switch *(*create)(const struct sp_options *options);
    void (*destroy)(struct sp_switch *sw);

    /* Run one frame through the program. now_ns: the frame's arrival time, any monotone clock; timestamps in the
     * program are now_ns / 1000, truncated to the field. */
    void (*process)(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len, uint64_t now_ns);

    /* Execute a command (see engine/codec.py for requests and replies; ops below 0x100). now_ns: the same clock.
     * Returns a google.rpc code. *reply points to memory of the switch, valid until the next call on it: the reply
     * of a successful command, or a UTF-8 message without terminator. */
    uint32_t (*command)(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                        const uint8_t **reply, uint32_t *reply_len);

    /* Members of selector groups that watch a port which is down get no packets. All ports start up. */
    void (*port_status)(struct sp_switch *sw, uint32_t port, int up);

    /* Report idle entries; call every second or so when the program has tables with idle time-outs. */
    void (*tick)(struct sp_switch *sw, uint64_t now_ns);

    const struct sp_stats *(*stats)(const struct sp_switch *sw);

    /* This frame will be processed soon, after some others (best two to eight): begins to fetch what it will look up in
     * large tables. Changes nothing but time; frames that are never processed do no harm. Returns 0 while no table is so
     * large that it matters; a frame of NULL only asks. */
    int (*ahead)(struct sp_switch *sw, uint32_t port, const uint8_t *frame, uint32_t len);

    /* As command(), but at once: in the middle of another one (from breathe()) or between two. SP_LATER: it may not, or is
     * none of the small commands that ever may; nothing has happened, and command() does it when the other one has ended.
     * What is executed leads to what some order of the two would have led to; *reply is valid until the next call. */
    uint32_t (*overtake)(struct sp_switch *sw, uint32_t op, const uint8_t *request, uint32_t len, uint64_t now_ns,
                         const uint8_t **reply, uint32_t *reply_len);
};

const struct sp_engine *sp_engine(void);

/* Command numbers; 0x100 and above belong to the switch process. Formats: engine/codec.py. */
enum sp_op {
    SP_OP_INFO = 0x01,
    SP_OP_TABLE_WRITE = 0x02,
    SP_OP_TABLE_READ = 0x03,
    SP_OP_DEFAULT_READ = 0x04,
    SP_OP_MEMBER_WRITE = 0x05,
    SP_OP_MEMBER_READ = 0x06,
    SP_OP_GROUP_WRITE = 0x07,
    SP_OP_GROUP_READ = 0x08,
    SP_OP_REGISTER_WRITE = 0x09,
    SP_OP_REGISTER_FILL = 0x0a,
    SP_OP_REGISTER_READ = 0x0b,
    SP_OP_COUNTER_READ = 0x0c,
    SP_OP_COUNTER_WRITE = 0x0d,
    SP_OP_MULTICAST_WRITE = 0x0e,
    SP_OP_MULTICAST_READ = 0x0f,
    SP_OP_CLONE_WRITE = 0x10,
    SP_OP_CLONE_READ = 0x11,
    SP_OP_METER_WRITE = 0x12,
    SP_OP_METER_READ = 0x13,
    SP_OP_DIRECT_WRITE = 0x14,
    SP_OP_VALUE_SET_WRITE = 0x15,
    SP_OP_RESET = 0x16,
    SP_OP_STATS = 0x17,
    SP_OP_DIRECT_METER_WRITE = 0x18,
    SP_OP_DIRECT_METER_READ = 0x19,
    SP_OP_BATCH = 0x1a,
    SP_OP_OCCUPANCY = 0x1b
};

/* google.rpc codes used in replies. */
enum sp_code {
    SP_OK = 0,
    SP_UNKNOWN = 2,
    SP_INVALID_ARGUMENT = 3,
    SP_NOT_FOUND = 5,
    SP_ALREADY_EXISTS = 6,
    SP_RESOURCE_EXHAUSTED = 8,
    SP_FAILED_PRECONDITION = 9,
    SP_ABORTED = 10,
    SP_OUT_OF_RANGE = 11,
    SP_UNIMPLEMENTED = 12,
    SP_INTERNAL = 13,
    SP_LATER = 0x100 /* of overtake() only */
};

#ifdef __cplusplus
}
#endif
#endif
