/* What the sender and the receiver of numbered UDP traffic share; traffic.c says what they do. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

enum { MAGIC = 0x53505446, HEADER = 24, MAX_PAYLOAD = 9000, MAX_FLOWS = 1024 };
#define NS 1000000000ull

struct record {
    uint64_t sequence;
    uint64_t sent_ns;     /* CLOCK_REALTIME */
    uint64_t received_ns; /* CLOCK_REALTIME, stamped by the kernel; 0 in a sender's record */
    uint32_t flow;
    uint16_t size; /* UDP payload, bytes */
    uint8_t ttl;   /* TTL or hop limit on arrival; 0 in a sender's record */
    uint8_t flags; /* 1: could not be sent */
};
_Static_assert(sizeof(struct record) == 32, "record layout is part of the file format");

struct point {
    double time, rate, packets; /* s, packets/s, packets due until then */
};

struct flow {
    uint32_t id;
    int family, socket;
    uint16_t port, size;
    uint8_t dscp;
    struct sockaddr_storage source, destination;
    socklen_t address_length;
    struct point *points;
    uint32_t point_count, segment;
    uint64_t sequence;  /* of the next packet */
    uint64_t due;       /* CLOCK_MONOTONIC ns; UINT64_MAX: finished */
    uint64_t not_before; /* of the next packet, after a delay */
};

extern volatile sig_atomic_t stopping; /* SIGTERM came, or the lab went away */
extern struct flow flows[MAX_FLOWS];
extern uint32_t flow_count;

_Noreturn void die(const char *what); /* with what errno says */
uint64_t now(clockid_t clock);        /* ns */

/* The address with a port in `out`; its length, 0 when `text` is none. */
socklen_t address_parse(int family, const char *text, uint16_t port, struct sockaddr_storage *out);

void record_add(struct record r);
void records_flush(void); /* writes what record_add has gathered, if anything */

int send_flows(void);    /* the process's exit status, as the next one */
int receive_flows(void);

#endif
