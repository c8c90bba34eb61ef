/* Numbered UDP traffic: a sender with absolute pacing and a receiver with kernel time stamps.
 *
 *   traffic send FLOWS RECORDS     packets of all flows in FLOWS, until done or SIGTERM
 *   traffic recv FLOWS RECORDS     every packet that arrives, until SIGTERM or the end of standard input
 *
 * FLOWS is a text file, one flow a line (the receiver reads only what it needs of it):
 *   id family(4|6) source destination port size dscp points t0 r0 t1 r1 ...
 * `size` is the UDP payload in bytes; the rate (packets/s) is linear between the points (t in seconds from the
 * start) and nothing is sent before the first or after the last point.
 *
 * Payload (big endian): magic 4, flow 4, sequence 8, time sent 8 (CLOCK_REALTIME ns); zeros up to `size`.
 * RECORDS is a sequence of struct record in host byte order. Both print "ready" on standard output when they
 * are; the sender then reads the time to start from standard input (CLOCK_MONOTONIC ns, one line). At the end
 * comes one line "done packets=N errors=N late_ns=N" (sender: the largest delay behind the
 * schedule) or "done packets=N foreign=N overflow=N" (receiver: frames the socket had no room for: its own
 * failing, not the network's).
 *
 * Pacing: packet k of a flow is due when the integral of the rate reaches k. A sender that was held up catches
 * up at four times the rate instead of sending a burst that no real source would send.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x53505446, HEADER = 24, MAX_PAYLOAD = 9000, BATCH = 64, MAX_FLOWS = 1024, WRITE_RECORDS = 2048 };
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

static volatile sig_atomic_t stopping;
static struct flow flows[MAX_FLOWS];
static uint32_t flow_count;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* --- records ------------------------------------------------------------------------------------------- */

static struct record buffer[WRITE_RECORDS];
static uint32_t buffered;
static int records_fd = -1;

static void records_flush(void)
{
    const char *data = (const char *)buffer;
    size_t left = buffered * sizeof buffer[0];
    while (left) {
        ssize_t wrote = write(records_fd, data, left);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            die("writing records");
        data += wrote;
        left -= (size_t)wrote;
    }
    buffered = 0;
}

static void record_add(struct record r)
{
    buffer[buffered++] = r;
    if (buffered == WRITE_RECORDS)
        records_flush();
}

/* --- flows file ---------------------------------------------------------------------------------------- */

static socklen_t address_parse(int family, const char *text, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return inet_pton(AF_INET, text, &v4->sin_addr) == 1 ? sizeof *v4 : 0;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1 ? sizeof *v6 : 0;
}

static void flow_parse(char *line, unsigned number)
{
    struct flow *f = &flows[flow_count];
    char source[64], destination[64];
    unsigned family, port, size, dscp, points;
    int used = 0;
    if (sscanf(line, "%u %u %63s %63s %u %u %u %u%n", &f->id, &family, source, destination, &port, &size, &dscp,
               &points, &used) != 8)
        goto bad;
    if ((family != 4 && family != 6) || !port || port > 65535 || size < HEADER || size > MAX_PAYLOAD || dscp > 63 ||
        points < 1)
        goto bad;
    f->family = family == 4 ? AF_INET : AF_INET6;
    f->port = (uint16_t)port;
    f->size = (uint16_t)size;
    f->dscp = (uint8_t)dscp;
    f->address_length = address_parse(f->family, destination, f->port, &f->destination);
    if (!f->address_length || !address_parse(f->family, source, 0, &f->source))
        goto bad;
    f->points = calloc(points, sizeof *f->points);
    if (!f->points)
        die("memory");
    f->point_count = points;
    char *at = line + used;
    for (uint32_t i = 0; i < points; i++) {
        struct point *p = &f->points[i];
        int length = 0;
        if (sscanf(at, "%lf %lf%n", &p->time, &p->rate, &length) != 2 || !(p->rate >= 0 && p->rate <= 1e7))
            goto bad;
        at += length;
        if (i) {
            const struct point *before = &f->points[i - 1];
            if (!(p->time >= before->time))
                goto bad;
            p->packets = before->packets + (p->time - before->time) * (p->rate + before->rate) / 2;
        }
    }
    flow_count++;
    return;
bad:
    fprintf(stderr, "traffic: flows file, line %u: not a flow: %s\n", number, line);
    exit(2);
}

static void flows_read(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        die(path);
    char *line = NULL;
    size_t room = 0;
    unsigned number = 0;
    while (getline(&line, &room, file) > 0) {
        number++;
        if (flow_count == MAX_FLOWS) {
            fprintf(stderr, "traffic: more than %d flows\n", MAX_FLOWS);
            exit(2);
        }
        flow_parse(line, number);
    }
    free(line);
    fclose(file);
}

/* --- sender -------------------------------------------------------------------------------------------- */

/* Seconds from the start at which packet `k` (from 0) is due; infinite when the schedule ends before. */
static double due_time(struct flow *f, double k)
{
    while (f->segment + 1 < f->point_count && f->points[f->segment + 1].packets <= k)
        f->segment++;
    if (f->segment + 1 >= f->point_count)
        return INFINITY;
    const struct point *a = &f->points[f->segment], *b = a + 1;
    double length = b->time - a->time, rise = (b->rate - a->rate) / length, wanted = k - a->packets;
    if (fabs(rise) < 1e-9)
        return a->time + (wanted > 0 ? wanted / a->rate : 0);
    /* wanted = rate t + rise t^2 / 2, in the form that stays exact for a small rise */
    double root = sqrt(fmax(0, a->rate * a->rate + 2 * rise * wanted));
    return a->time + (wanted > 0 ? 2 * wanted / (a->rate + root) : 0);
}

static double rate_at(const struct flow *f)
{
    if (f->segment + 1 >= f->point_count)
        return f->points[f->point_count - 1].rate;
    return fmax(f->points[f->segment].rate, f->points[f->segment + 1].rate);
}

static void schedule_next(struct flow *f, uint64_t start)
{
    double seconds = due_time(f, (double)f->sequence);
    f->due = isfinite(seconds) ? start + (uint64_t)(seconds * 1e9) : UINT64_MAX;
    if (f->due != UINT64_MAX && f->due < f->not_before)
        f->due = f->not_before;
}

static void sender_socket(struct flow *f)
{
    f->socket = socket(f->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (f->socket < 0)
        die("socket");
    int traffic_class = f->dscp << 2, on = IP_PMTUDISC_DO, room = 4 << 20;
    if (f->family == AF_INET) {
        setsockopt(f->socket, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class);
        setsockopt(f->socket, IPPROTO_IP, IP_MTU_DISCOVER, &on, sizeof on);
    } else {
        setsockopt(f->socket, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof traffic_class);
    }
    if (setsockopt(f->socket, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room))
        setsockopt(f->socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (bind(f->socket, (struct sockaddr *)&f->source, f->address_length))
        die("bind (is the source address one of this host's?)");
    if (connect(f->socket, (struct sockaddr *)&f->destination, f->address_length))
        die("connect");
}

static bool send_one(struct flow *f)
{
    static uint8_t payload[MAX_PAYLOAD];
    uint32_t magic = htobe32(MAGIC), id = htobe32(f->id);
    uint64_t sequence = htobe64(f->sequence), sent = now(CLOCK_REALTIME), sent_be = htobe64(sent);
    memcpy(payload, &magic, 4);
    memcpy(payload + 4, &id, 4);
    memcpy(payload + 8, &sequence, 8);
    memcpy(payload + 16, &sent_be, 8);
    ssize_t done;
    do
        done = send(f->socket, payload, f->size, 0);
    while (done < 0 && (errno == EINTR || errno == ECONNREFUSED)); /* refused: an ICMP answer to an earlier packet */
    record_add((struct record){f->sequence, sent, 0, f->id, f->size, 0, done < 0});
    f->sequence++;
    return done >= 0;
}

static int sender(void)
{
    uint64_t packets = 0, errors = 0, late = 0;
    for (uint32_t i = 0; i < flow_count; i++)
        sender_socket(&flows[i]);
    printf("ready\n");
    fflush(stdout);
    unsigned long long start;
    if (scanf("%llu", &start) != 1)
        stopping = 1; /* the lab went away, or has changed its mind */
    else
        for (uint32_t i = 0; i < flow_count; i++)
            schedule_next(&flows[i], start);
    while (!stopping) {
        struct flow *next = NULL;
        for (uint32_t i = 0; i < flow_count; i++)
            if (!next || flows[i].due < next->due)
                next = &flows[i];
        if (!next || next->due == UINT64_MAX)
            break;
        uint64_t time = now(CLOCK_MONOTONIC);
        if (next->due > time) {
            struct timespec until = {(time_t)(next->due / NS), (long)(next->due % NS)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
            continue; /* looks at the clock and at `stopping` again */
        }
        if (time - next->due > late)
            late = time - next->due;
        if (send_one(next))
            packets++;
        else
            errors++;
        double rate = rate_at(next);
        next->not_before = time + (rate > 0 ? (uint64_t)(0.25e9 / rate) : 0);
        schedule_next(next, start);
    }
    records_flush();
    printf("done packets=%llu errors=%llu late_ns=%llu\n", (unsigned long long)packets, (unsigned long long)errors,
           (unsigned long long)late);
    return 0;
}

/* --- receiver ------------------------------------------------------------------------------------------ */

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

static int receiver(void)
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
        if (count == 0 && buffered)
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

int main(int argc, char **argv)
{
    bool sends = argc == 4 && !strcmp(argv[1], "send");
    if (!sends && !(argc == 4 && !strcmp(argv[1], "recv"))) {
        fprintf(stderr, "usage: traffic send|recv FLOWS RECORDS\n");
        return 2;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = SIG_IGN}, NULL); /* Ctrl-C is for the lab, which ends us */
    prctl(PR_SET_TIMERSLACK, 1ul);
    setpriority(PRIO_PROCESS, 0, -10); /* as the switches; without the privilege we run as we are */
    flows_read(argv[2]);
    records_fd = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (records_fd < 0)
        die(argv[3]);
    return sends ? sender() : receiver();
}
