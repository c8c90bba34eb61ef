/* The switch process: shared types.
 *
 * One thread owns everything. A turn of the loop (loop.c) handles at most BATCH packets in the order
 * of the times at which they reached the switch, sends what they produced, and then serves the control
 * socket for a bounded time. Times are nanoseconds of CLOCK_MONOTONIC; the program and the control
 * protocol see CLOCK_REALTIME (wall_ns), which is `mono + clock offset`.
 *
 *   interface ring --> rx stage (transceiver, loss, delay) --> device (capacity) --> program --+
 *   packet generator, packet-out --------------------------------------------> program --------+--> tx queue --> interface
 *                                                                                              +--> control clients
 */
#ifndef SWITCHD_H
#define SWITCHD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "impair.h"
#include "optics.h"

enum {
    MAX_PORTS = 512,       /* 9-bit port numbers */
    BATCH = 32,            /* packets between two looks at the control socket */
    TX_BATCH = 64,         /* frames per sendmmsg */
    MAX_FRAME = 65535,
    TX_ARENA = 512 * 1024, /* bytes of frames waiting for sendmmsg */
    QUEUE_BANDS = 8,       /* strict priority, larger first */
};

#define NEVER UINT64_MAX
#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

struct switchd;
struct json;
struct capture;

/* ---- util.c: clocks, log, random numbers, byte buffers, packets ---- */

uint64_t mono_ns(void);
void log_message(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
enum { LOG_ERROR_, LOG_WARN_, LOG_INFO_, LOG_DEBUG_ };
#define log_error(...) log_message(LOG_ERROR_, __VA_ARGS__)
#define log_warn(...) log_message(LOG_WARN_, __VA_ARGS__)
#define log_info(...) log_message(LOG_INFO_, __VA_ARGS__)
#define log_debug(...) log_message(LOG_DEBUG_, __VA_ARGS__)
void log_set_level(int level);

/* A growing byte buffer; `start` is where unread data begins. What a large one held is given back by buffer_trim(). */
struct buffer {
    uint8_t *data;
    size_t start, end, capacity;
    size_t used; /* bytes that have been in use since it was last given back */
};
bool buffer_reserve(struct buffer *b, size_t extra); /* false: out of memory */
bool buffer_append(struct buffer *b, const void *data, size_t len);
bool buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool buffer_json_string(struct buffer *b, const char *text); /* quoted and escaped */
void buffer_consume(struct buffer *b, size_t len);
bool buffer_trim(struct buffer *b); /* a step of a few microseconds; false: nothing is left to do */
void buffer_free(struct buffer *b);
static inline size_t buffer_len(const struct buffer *b) { return b->end - b->start; }

/* A frame that waits somewhere, with the time at which it moves on. */
struct packet {
    struct packet *next;
    uint64_t time; /* mono ns */
    uint64_t arrived; /* mono ns, of a packet in the device's backlog */
    uint16_t port; /* where it came in or goes out */
    bool aside;    /* it came by the ring that wakes nobody up */
    uint32_t len;
    uint8_t data[];
};
struct fifo {
    struct packet *head, **tail;
    uint32_t count;
    size_t bytes;
};
struct packet *packet_new(const void *data, uint32_t len);
void packet_free(struct packet *p);
void fifo_init(struct fifo *f);
void fifo_push(struct fifo *f, struct packet *p);
struct packet *fifo_pop(struct fifo *f);
void fifo_clear(struct fifo *f);

/* ---- port.c: interfaces ---- */

struct rx_ring {
    int fd;
    uint8_t *map; /* NULL: not open */
    size_t map_len;
    uint32_t block_size, frame_size, frames_per_block, frames;
    uint32_t head; /* next frame to read */
};

struct tx_batch {
    struct mmsghdr *messages; /* TX_BATCH of them; msg_iov points into the arena */
    struct iovec *vectors;
    uint32_t count;
};

struct port_counters {
    uint64_t rx_packets, rx_bytes, rx_dropped, rx_errors;
    uint64_t tx_packets, tx_bytes, tx_dropped;  /* dropped: queue full */
    uint64_t tx_failed, tx_oversize;           /* no carrier, or refused by the interface; longer than its MTU */
    uint64_t injected_loss, injected_corruption, delay_overflow;
    uint64_t capture_lost; /* frames that a full disk kept out of a capture */
};

/* The queue of one priority. */
struct queue_band {
    struct fifo packets;
    double pps, mbps;  /* 0: unlimited */
    uint32_t depth;    /* packets; 0: the port's queue_packets */
    uint64_t next;     /* mono ns: its rate lets no packet start before */
    uint64_t dropped;  /* it was full */
};

struct port {
    uint16_t number;
    char name[16]; /* interface */
    int fd;        /* -1: the interface does not exist at the moment */
    int ifindex;
    uint32_t mtu;
    bool up, recheck; /* recheck: a send failed, look at the carrier */
    bool disabled;    /* by an operator: down whatever its carrier, frames are ignored */
    struct rx_ring ring;
    struct rx_ring aside; /* heartbeats that nobody waits for; fd -1 unless it is used */
    uint32_t patience_us; /* ... among them requests whose answer may take so long; 0: there is no such ring */
    uint32_t aside_us;    /* those that it takes: for a moment some come by both */
    bool relaxed;         /* nothing but heartbeats has passed for a while: it is asked less often (pktgen.c) */
    bool use;             /* ... but now something has */
    uint64_t used;        /* mono ns of the last frame, in or out, that was no heartbeat */
    uint64_t follow;      /* mono ns: until then it is asked as often as usual although it is relaxed */
    struct rx_ring *next; /* of these two, the one whose head is looked at */
    struct tx_batch batch;
    struct tx_queue *queue; /* NULL unless senders have been at work */
    struct port_counters count;

    /* receive side impairments */
    struct impairment fault, base;
    bool rx_staged; /* frames must pass the delay queue */
    struct optics optics;
    struct rng fate; /* of frames; readings of the transceiver have their own, so a seed repeats losses */
    struct fifo delayed;
    uint64_t last_release;

    /* transmit queues, used while a rate is set */
    bool tx_shaped;
    struct queue_band bands[QUEUE_BANDS];
    uint32_t queued, queue_max; /* without the frame that is being sent */
    struct packet *sending;     /* `time`: when its last bit has left */
    uint64_t link_free;

    struct capture *pcap_in, *pcap_out; /* NULL: not captured */
};

/* Ports that wait for their interface stay in the table with fd = -1. Returns NULL with a message. */
struct port *port_add(struct switchd *sw, uint16_t number, const char *name, char *error, size_t error_len);
void port_remove(struct switchd *sw, struct port *port);
bool port_open(struct switchd *sw, struct port *port); /* false: no such interface (now) */
void port_close(struct switchd *sw, struct port *port);
void port_reopen(struct switchd *sw, struct port *port); /* without a change of state in between */
void port_check_carrier(struct switchd *sw, struct port *port);
void port_enable(struct switchd *sw, struct port *port, bool enabled); /* the administrative state */
void port_rx_error(struct switchd *sw, struct port *port); /* its socket reported an error */
void port_send(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len);
/* Sends; may be called by the port's sender while the loop's thread does other things. */
void port_transmit(struct switchd *sw, struct port *port, struct mmsghdr *messages, uint32_t count);
void ports_flush(struct switchd *sw);
void port_flush(struct switchd *sw, struct port *port);

/* ---- ring.c: receive rings ---- */

bool port_rx_open(struct switchd *sw, struct port *port); /* before the socket is bound */
void port_rx_close(struct port *port);
/* Keeps heartbeats apart that need not wake us up, and are seen with what comes next, in us at the most: answers, and
 * requests whose answer may take so long. 0: none. */
void port_rx_aside(struct port *port, uint32_t us);
/* Changes that patience where there is such a ring. False, and things are as they were: there is none, or the kernel
 * refuses. After a longer one, port_rx_settled() is to be called a while later. */
bool port_rx_patience(struct port *port, uint32_t us);
void port_rx_settled(struct port *port);
void port_rx_prompt(struct port *port); /* from now on all frames come by the usual ring, too */
bool port_rx_is_aside(const struct port *port); /* the frame that port_rx_time() chose nobody was woken for */
bool port_rx_waits(const struct port *port); /* a frame that may not wait any longer */
/* Kernel receive time (mono ns) of the next frame; NEVER when there is none. Chooses what the next two refer to. */
uint64_t port_rx_time(const struct switchd *sw, struct port *port, uint64_t now);
/* That frame, valid until port_rx_release; NULL when it is damaged (counted). Call once per frame. */
uint8_t *port_rx_take(struct port *port, uint32_t *len);
void port_rx_release(struct port *port);
/* The frame so many behind the ring's head, as the kernel left it; NULL when so many do not wait. */
const uint8_t *port_rx_peek(const struct port *port, uint32_t ahead, uint32_t *len);
void port_rx_statistics(struct port *port); /* adds the kernel's drops to the counters */

/* ---- sender.c: sending on other cores ---- */

struct tx_queue;
struct senders;
/* cores: how many threads in all, 1: none for sending; 0: as load and machine suggest. */
bool senders_start(struct switchd *sw, unsigned cores);
void senders_stop(struct switchd *sw);
void senders_turn(struct switchd *sw, uint64_t now);
bool sender_send(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len); /* false: send yourself */
void sender_publish(struct port *port); /* hands over what was filled */
void sender_drain(struct port *port);   /* returns when all is sent */
void sender_forget(struct port *port);
void senders_statistics(const struct switchd *sw, struct buffer *out);

/* ---- link.c: rtnetlink ---- */

int link_open(void);
void link_read(struct switchd *sw);

/* ---- stage.c: receive impairments, device capacity ---- */

void stage_configure(struct port *port, uint64_t now); /* after a change of its impairments */
void stage_receive(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len, uint64_t time, bool aside);
void stage_optics(struct port *port, uint64_t now); /* brings the transceiver's readings up to date */

/* ---- queue.c: queues before the ports ---- */

void queue_configure(struct port *port, uint64_t now); /* after a change of its rates */
void queue_put(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len, unsigned priority);
uint64_t queue_due(const struct port *port);
void queue_run(struct switchd *sw, struct port *port, uint64_t now);
uint32_t queue_length(const struct port *port, unsigned priority); /* packets that wait, as BMv2 counts them */
/* ns that a packet of that priority is going to wait before it starts, if none of higher priority comes */
uint64_t queue_wait(struct port *port, unsigned priority, uint64_t now);
void queue_clear(struct port *port);
void queue_statistics(const struct port *port, struct buffer *out);
/* {"port": N or null (all), "priority": 0..7 or null (all), "rate_pps", "rate_mbps", "depth"}: null or 0 takes back. */
int queue_command(struct switchd *sw, const struct json *request, struct buffer *out);

struct device {
    struct impairment fault, base;
    bool active; /* a capacity is set */
    struct fifo backlog;
    struct packet *serving; /* `time`: when the processor has finished it */
    uint64_t free_at;
    uint64_t dropped;   /* backlog full */
    double busy_ns;     /* work done in the current window */
    uint64_t window;    /* start of that window */
    double utilization; /* of the last full window */
    uint64_t cpu_checked, cpu_used;
    double cpu_share;   /* real use of one core by this process */
};
void device_configure(struct switchd *sw, uint64_t now);
void device_receive(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, uint64_t time, bool aside);
uint64_t device_due(const struct device *d);
struct packet *device_next(struct switchd *sw, uint64_t now); /* NULL when none is due; the caller frees it */
void device_load(struct switchd *sw, uint64_t now, double *cpu, double *memory);

/* ---- pktgen.c ---- */

enum { OPCODE_HEARTBEAT = 3, OPCODE_PORT_DOWN = 4 };
struct pktgen {
    uint16_t port;        /* ingress port of generated packets */
    uint64_t interval;    /* ns; 0: no heartbeats */
    uint8_t stretch;      /* relaxed ports are asked at this interval, so many times doubled; 0: none is */
    uint64_t origin;      /* mono ns from which intervals are counted */
    uint64_t due;         /* mono ns or NEVER */
    uint64_t relaxed_due; /* when relaxed ports are asked next */
    bool used;            /* a relaxed port has sent something: it is to be asked ... */
    uint64_t used_at;     /* ... by this time (mono ns) */
    bool port_down;       /* tell the program of lost carriers */
    bool defer;           /* the program's heartbeats say how long they may wait, and its answers how long they did */
    uint64_t ticks, skipped;
    struct fifo injected; /* PORT_DOWN commands, in time order */
};
/* `relaxed`: ports that carry nothing are asked at each so many-th interval (1, 2, 4, 8), if `defer` and the interval
 * permit that. */
void pktgen_configure(struct switchd *sw, uint64_t interval_ns, bool port_down, bool defer, uint32_t relaxed);
void pktgen_use(struct switchd *sw, struct port *port, uint64_t time);    /* a frame, no heartbeat, is about to be processed */
void pktgen_sent(struct switchd *sw, struct port *port);                  /* one was sent; may be called by the program */
void pktgen_follow(struct switchd *sw, struct port *port, uint64_t time); /* a heartbeat woke us that does not wait */
void pktgen_port_down(struct switchd *sw, uint16_t port, uint64_t time);
uint64_t pktgen_due(const struct pktgen *g);
void pktgen_run(struct switchd *sw, uint64_t now);
uint32_t pktgen_patience(const struct pktgen *g); /* us that heartbeats wait for the next tick at the most; 0: none does */

/* ---- pipeline.c: the loaded program ---- */

struct pipeline;
/* Loads the shared object and creates the program's state; the old program, if any, goes after success. */
bool pipeline_load(struct switchd *sw, const char *path, char *error, size_t error_len);
void pipeline_unload(struct switchd *sw);
void pipeline_process(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, uint64_t time);
/* Announces a frame that is still waiting, see sp_engine.h; with data NULL: whether that is worth while. */
bool pipeline_ahead(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len);
void pipeline_port_status(struct switchd *sw, uint16_t port, bool up);
/* Ops below 0x100. Appends the answer to `out`; the result is a google.rpc code. */
int pipeline_command(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out);
/* The same in the middle of another command; SP_LATER: not now. */
int pipeline_overtake(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out);
bool pipeline_loaded(const struct switchd *sw);
const char *pipeline_path(const struct switchd *sw);
/* {"path", "port", "count", "per_second"}, see trace.c. */
int pipeline_trace(struct switchd *sw, const struct json *request, struct buffer *out);
uint64_t pipeline_due(const struct switchd *sw);
void pipeline_tick(struct switchd *sw, uint64_t now);

/* ---- control.c, commands.c, impair_command.c, kept.c ---- */

enum { WATCH_LISTENER = 1, WATCH_SIGNALS, WATCH_LINKS };
enum { /* bits of the subscription mask, in the order of the event kinds from EVENT_DIGEST */
    EVENT_DIGEST = 0x8000, EVENT_PACKET_IN, EVENT_PORT_STATUS, EVENT_IDLE_TIMEOUT, EVENT_LOST, EVENT_TRACE,
    EVENT_KINDS = 6,
};
struct control;
struct control *control_open(const char *path, char *error, size_t error_len);
void control_close(struct control *c);
int control_epoll(const struct control *c); /* readable when control_run has work */
bool control_watch(struct control *c, int fd, int kind);
bool control_pending(const struct control *c); /* requests are waiting in a buffer, or one to be trimmed */
/* Serves clients until `deadline` (mono ns) or until there is nothing to do. */
void control_run(struct switchd *sw, uint64_t deadline);
/* In the middle of a request, or between two of one client: small ones of the others that need not wait for it. */
void control_overtake(struct switchd *sw);
/* Sends replies and events. Apart from control_run: the packets that a command concerns come before its reply. */
void control_flush(struct switchd *sw);
bool control_unsent(const struct control *c);
int control_clients(const struct control *c);
/* Sends an event to every subscriber of its kind; one that does not read loses it, counted. */
void control_event(struct switchd *sw, uint16_t kind, const void *head, size_t head_len, const void *body, size_t len);
/* The same for a digest, to whom wants this one; whether there is anybody. */
bool control_digest(struct switchd *sw, uint32_t digest, uint64_t now, const uint8_t *values, uint32_t len);
bool control_has_subscribers(const struct control *c, uint16_t kind);
int control_subscribers(const struct control *c, uint16_t kind);
/* One request; appends the answer to `out`. Result: google.rpc code, `out` then holds a message. */
int command_execute(struct switchd *sw, void *client, uint16_t op, const uint8_t *data,
                    uint32_t len, struct buffer *out);
/* `digests`: `count` numbers of 4 bytes, of those that are wanted; none: all. */
/* The same in the middle of another request; SP_LATER: not now. */
int command_overtake(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out);
void control_subscribe(struct switchd *sw, void *client, uint32_t mask, const uint8_t *digests, uint32_t count);
void control_statistics(const struct control *c, struct buffer *out);
/* For commands in other files: an error's text in place of the answer; whether an object has known keys only (`known`
 * ends with NULL); the port that a number names, NULL if there is none. */
int command_refuse(struct buffer *out, int code, const char *what, const char *detail);
bool command_keys(const struct json *object, const char *const *known, struct buffer *out);
struct port *command_port(struct switchd *sw, const struct json *v);
int impair_command(struct switchd *sw, const struct json *request, struct buffer *out);
/* u8 length of a key, key, value (empty: forget it); the value of a key. */
int kept_put(const uint8_t *data, uint32_t len, struct buffer *out);
int kept_get(const uint8_t *key, uint32_t len, struct buffer *out);

/* ---- trace.c ---- */

struct tracer;
struct sp_engine;
/* Replaces what is traced; false with a message when the variant does not belong to the running program. */
/* A google.rpc code; a message with every one but SP_OK. */
int trace_start(struct switchd *sw, const struct json *request, const struct sp_engine *usual, char *error, size_t len);
void trace_stop(struct switchd *sw);
/* The variant by which a packet from `port` is to be processed; then trace_end() if it is not the usual one. */
const struct sp_engine *trace_begin(struct switchd *sw, uint16_t port, const struct sp_engine *usual);
void trace_event(struct switchd *sw, const uint8_t *event, uint32_t len);
void trace_end(struct switchd *sw, uint64_t wall_ns);

/* ---- pcap.c ---- */

bool pcap_start(struct switchd *sw, struct port *port, const char *directory);
void pcap_stop(struct switchd *sw, struct port *port);
void pcap_write(struct switchd *sw, struct port *port, struct capture *capture, const uint8_t *data, uint32_t len,
                uint64_t wall_ns);
void pcap_flush(struct switchd *sw);

/* ---- priority.c: when to run ---- */

void priority_start(int nice, bool realtime);
/* Once per turn; `fast`: packets come quicker than a sleep and a wake-up take. */
void priority_turn(uint64_t now, bool fast);
void priority_helper(void); /* for a thread that works for the loop's */
bool priority_contended(uint64_t now); /* somebody else wants the cores */
bool priority_realtime(void); /* a real-time thread wakes up at once and must not burn its core waiting */

/* ---- the process ---- */

struct statistics {
    uint64_t turns, sleeps, packets, emitted, unknown_port, no_program, short_frames, packet_outs, send_calls;
    uint64_t digests, digests_unwanted; /* that the program emitted, and that nobody wanted */
    uint64_t longest_pause; /* ns in which no packet could be processed, since the last HELLO */
};

struct switchd {
    struct port *by_number[MAX_PORTS];
    struct port *ports[MAX_PORTS]; /* dense, for the loop */
    uint32_t port_count;
    int epoll, timer, link;
    uint64_t timer_due; /* mono ns that the timer is set to, or NEVER */
    struct control *control;
    struct pipeline *pipeline;
    struct senders *senders;
    struct tracer *tracer; /* NULL unless packets are traced */
    struct device device;
    struct pktgen pktgen;
    struct statistics stats;
    uint16_t cpu_port;
    uint64_t clock_offset; /* wall = mono + offset, modulo 2^64 */
    uint64_t started, now; /* mono ns; now: of this turn of the loop */
    uint64_t looked;       /* when the ports were last looked at */
    uint64_t handled;      /* mono ns: time of the packet that is being handled; 0: none is */
    uint64_t asked;        /* when control clients were last looked at in the middle of a request */
    uint64_t waited;       /* ns that the packet in the program has waited for the device */
    uint64_t held;         /* ns that it has waited in the ring that wakes nobody up */
    size_t ring_bytes; /* of each port's receive ring */
    uint32_t tx_used;
    uint8_t *tx_arena;
    char pcap_directory[256];
    uint64_t pcap_limit; /* bytes of a capture file; 0: none */
    uint64_t pcap_due;   /* when what waits in captures' buffers is to be written at the latest, unless we never rest */
    bool pcap_dirty, recheck, stop;
    bool announce;      /* frames to the program while others are before them */
    uint64_t control_looked; /* mono ns of a sleep's end that had nothing of the control sockets; 0: look */
};

enum { ETHERTYPE_HEARTBEAT = 0x88b5 }; /* p4/include/constants.p4 */
static inline bool is_heartbeat(const uint8_t *frame, uint32_t len)
{
    return len >= 14 && frame[12] == ETHERTYPE_HEARTBEAT >> 8 && frame[13] == (ETHERTYPE_HEARTBEAT & 0xff);
}

static inline uint64_t wall_ns(const struct switchd *sw, uint64_t mono) { return mono + sw->clock_offset; }
void clock_update(struct switchd *sw, uint64_t now);
void port_status_changed(struct switchd *sw, struct port *port, bool up);
/* What the program emitted (called by pipeline.c). */
void switch_emit(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, unsigned priority);
void loop_run(struct switchd *sw);
/* In the middle of what takes long: packets that wait are processed, and small commands that need not wait. */
void loop_breathe(struct switchd *sw);
/* All that waits in the rings is processed: before a ring is closed. Not from within the program. */
void loop_look(struct switchd *sw);
bool loop_watch(struct switchd *sw, struct port *port);

#endif
