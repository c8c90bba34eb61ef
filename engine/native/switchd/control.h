/* Internal to control.c and overtake.c: the control socket's clients. Message format: control.c. */
#ifndef CONTROL_H
#define CONTROL_H

#include <sys/un.h>

#include "switchd.h"

enum {
    CLIENTS = 64,
    MESSAGE_MAX = 64 << 20,
    READ_CHUNK = 32 << 10, /* bytes in one go, 10 to 20 us */
    SEND_CHUNK = 32 << 10,
    OUTPUT_PAUSE = 4 << 20, /* a client with so many unread replies is not served */
    EVENT_LIMIT = 1 << 20,  /* ... and with so many unread bytes gets no events */
    TOLD_DIGESTS = 256,     /* digests of higher numbers go to whoever wants any */
};

struct header {
    uint32_t len, id;
    uint16_t op, code;
};

struct client {
    int fd; /* -1: free */
    struct buffer in, out;
    uint32_t mask, generation;
    uint64_t digests[TOLD_DIGESTS / 64]; /* that it wants, by number */
    uint64_t lost, lost_told, requests;
    bool readable, closing, want_write, dirty;
};

struct control {
    int epoll, listener;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    struct client clients[CLIENTS];
    uint32_t used; /* clients from there on are free: an idle switch need not look at them */
    uint32_t next, generation;
    uint32_t masks; /* union of the clients' masks */
    bool trimming;  /* there is memory of large messages to be given back */
    struct client *served; /* whose request is being executed, or who is being sent to */
    bool overtaking;
};

void client_read(struct control *c, struct client *k); /* some bytes; may close it */
bool client_has_request(const struct client *k);       /* a whole one, at the head of `in` */
void client_reply(struct switchd *sw, struct client *k, struct header h, int code, const struct buffer *body);
void client_flush(struct switchd *sw, struct client *k); /* sends what waits; may close it */
/* Learns who is readable, and takes new clients; `others`: what else is watched is looked at, too, not left for later. */
void control_poll(struct switchd *sw, bool others);
bool overtake_trim(void); /* as buffer_trim(), of what overtaking needed */

#endif
