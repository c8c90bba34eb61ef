/* Sends all flows from one thread, each packet when it is due.
 *
 * Pacing: packet k of a flow is due when the integral of the rate reaches k. A sender that was held up catches
 * up at four times the rate instead of sending a burst that no real source would send.
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

int send_flows(void)
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
