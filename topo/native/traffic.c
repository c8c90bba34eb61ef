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
 */
#define _GNU_SOURCE
#include "traffic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { WRITE_RECORDS = 2048 };

volatile sig_atomic_t stopping;
struct flow flows[MAX_FLOWS];
uint32_t flow_count;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

void die(const char *what)
{
    fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* --- records ------------------------------------------------------------------------------------------- */

static struct record buffer[WRITE_RECORDS];
static uint32_t buffered;
static int records_fd = -1;

void records_flush(void)
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

void record_add(struct record r)
{
    buffer[buffered++] = r;
    if (buffered == WRITE_RECORDS)
        records_flush();
}

/* --- flows file ---------------------------------------------------------------------------------------- */

socklen_t address_parse(int family, const char *text, uint16_t port, struct sockaddr_storage *out)
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
    return sends ? send_flows() : receive_flows();
}
