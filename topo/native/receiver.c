/* Takes whatever arrives at the flows' ports, with the kernel's time stamps. */
#define _GNU_SOURCE
#include "traffic.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 64 };

static int receiver_socket(int family, uint16_t port)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, room = 64 << 20;
    if (fd < 0)
        die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
        die("SO_TIMESTAMPNS");
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    struct sockaddr_storage any;
    socklen_t length = address_parse(family, family == AF_INET ? "0.0.0.0" : "::", port, &any);
    if (family == AF_INET) {
        setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on);
    } else {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on);
    }
    if (bind(fd, (struct sockaddr *)&any, length)) {
        fprintf(stderr, "traffic: UDP port %u: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static struct {
    uint8_t payload[BATCH][HEADER];
    union {
        struct cmsghdr align;
        char bytes[192];
    } control[BATCH];
    struct iovec vectors[BATCH];
    struct mmsghdr messages[BATCH];
} in;
static uint64_t received, foreign;

/* Reads what waits on one socket; returns its count of frames dropped for want of room. */
static uint32_t receive(int fd, uint32_t overflow)
{
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            in.vectors[i] = (struct iovec){in.payload[i], HEADER};
            in.messages[i].msg_hdr = (struct msghdr){
                .msg_iov = &in.vectors[i], .msg_iovlen = 1, .msg_control = &in.control[i],
                .msg_controllen = sizeof in.control[i]};
        }
        int count = recvmmsg(fd, in.messages, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
        if (count <= 0)
            return overflow;
        for (int i = 0; i < count; i++) {
            struct record r = {0};
            struct msghdr *header = &in.messages[i].msg_hdr;
            for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
                    struct timespec t;
                    memcpy(&t, CMSG_DATA(c), sizeof t);
                    r.received_ns = (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
                } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
                    memcpy(&overflow, CMSG_DATA(c), sizeof overflow);
                } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
                           (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)) {
                    int ttl;
                    memcpy(&ttl, CMSG_DATA(c), sizeof ttl);
                    r.ttl = (uint8_t)ttl;
                }
            }
            uint32_t magic;
            memcpy(&magic, in.payload[i], 4);
            if (in.messages[i].msg_len < HEADER || be32toh(magic) != MAGIC) {
                foreign++;
                continue;
            }
            memcpy(&r.flow, in.payload[i] + 4, 4);
            memcpy(&r.sequence, in.payload[i] + 8, 8);
            memcpy(&r.sent_ns, in.payload[i] + 16, 8);
            r.flow = be32toh(r.flow);
            r.sequence = be64toh(r.sequence);
            r.sent_ns = be64toh(r.sent_ns);
            r.size = (uint16_t)in.messages[i].msg_len;
            record_add(r);
            received++;
        }
        if (count < BATCH)
            return overflow;
    }
}

int receive_flows(void)
{
    static struct {
        int fd, family;
        uint16_t port;
        uint32_t overflow;
    } sockets[MAX_FLOWS];
    uint32_t socket_count = 0;
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (poll < 0)
        die("epoll_create1");
    for (uint32_t i = 0; i < flow_count; i++) {
        uint32_t j = 0;
        while (j < socket_count && (sockets[j].family != flows[i].family || sockets[j].port != flows[i].port))
            j++;
        if (j < socket_count)
            continue;
        sockets[j].fd = receiver_socket(flows[i].family, flows[i].port);
        sockets[j].family = flows[i].family;
        sockets[j].port = flows[i].port;
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = j};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, sockets[j].fd, &event))
            die("epoll_ctl");
        socket_count++;
    }
    struct epoll_event end = {.events = EPOLLIN, .data.u32 = MAX_FLOWS}; /* EPOLLHUP comes unasked */
    if (epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &end) && errno != EPERM) /* EPERM: a file; it has no end to wait for */
        die("standard input");
    printf("ready\n");
    fflush(stdout);
    while (!stopping) {
        struct epoll_event events[16];
        int count = epoll_wait(poll, events, 16, 200);
        for (int i = 0; i < count; i++) {
            uint32_t j = events[i].data.u32;
            if (j == MAX_FLOWS) {
                stopping = 1;
                continue;
            }
            sockets[j].overflow = receive(sockets[j].fd, sockets[j].overflow);
        }
        if (count == 0)
            records_flush(); /* idle: lets a reader follow */
    }
    uint64_t overflow = 0;
    for (uint32_t j = 0; j < socket_count; j++) { /* what arrived before the signal still counts */
        sockets[j].overflow = receive(sockets[j].fd, sockets[j].overflow);
        overflow += sockets[j].overflow;
    }
    records_flush();
    printf("done packets=%llu foreign=%llu overflow=%llu\n", (unsigned long long)received,
           (unsigned long long)foreign, (unsigned long long)overflow);
    return 0;
}
