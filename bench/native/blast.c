/* Sends numbered frames on one interface at a steady rate and records them on others.
 *
 *   blast TX RX[,RX...] RATE_PPS COUNT FRAME_HEX [RECORDS]
 *
 * The last 16 bytes of the frame are overwritten: magic, sequence number, send time (ns, CLOCK_REALTIME). Prints one
 * line of JSON. RECORDS, a file, gets one record per received frame: u32 sequence, u32 receiving interface, u64 send
 * time, u64 receive time (kernel), native byte order. Receivers end 300 ms after the last frame was sent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x53504231u
enum { BURST = 32, BLOCK = 1 << 18, BLOCKS = 128, RECEIVERS = 8 };

struct __attribute__((packed)) trailer {
    uint32_t magic, sequence;
    uint64_t time;
};
struct record {
    uint32_t sequence, interface;
    uint64_t sent, received;
};

static struct record *records;
static atomic_uint recorded;
static uint32_t count;
static atomic_bool done;
static atomic_uint seen[RECEIVERS];

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "blast: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int packet_socket(const char *interface, uint16_t protocol)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
    address.sll_ifindex = (int)if_nametoindex(interface);
    if (fd < 0 || address.sll_ifindex == 0)
        die(interface);
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
    if (protocol == 0) {
        int size = 8 << 20;
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    }
    if (protocol && setsockopt(fd, SOL_PACKET, PACKET_VERSION, &(int){TPACKET_V3}, sizeof(int)) < 0)
        die("TPACKET_V3");
    struct tpacket_req3 ring = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = 2048,
                                .tp_frame_nr = BLOCK / 2048 * BLOCKS, .tp_retire_blk_tov = 2};
    if (protocol && setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) < 0)
        die("ring");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind");
    return fd;
}

struct receiver {
    pthread_t thread;
    int fd;
    uint32_t index;
    uint8_t *map;
};

static void take(const struct receiver *r, const struct tpacket3_hdr *h)
{
    struct trailer t;
    if (h->tp_snaplen < sizeof t)
        return;
    memcpy(&t, (const uint8_t *)h + h->tp_mac + h->tp_snaplen - sizeof t, sizeof t);
    if (t.magic != MAGIC)
        return;
    atomic_fetch_add_explicit(&seen[r->index], 1, memory_order_relaxed);
    uint32_t slot = atomic_fetch_add_explicit(&recorded, 1, memory_order_relaxed);
    if (records && slot < 2 * count)
        records[slot] = (struct record){t.sequence, r->index, t.time, (uint64_t)h->tp_sec * 1000000000u + h->tp_nsec};
}

static void *receive(void *argument)
{
    struct receiver *r = argument;
    uint32_t block = 0;
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    for (;;) {
        struct tpacket_block_desc *b = (void *)(r->map + (size_t)block * BLOCK);
        if (!(__atomic_load_n(&b->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
            if (atomic_load(&done))
                return NULL;
            poll(&p, 1, 20);
            continue;
        }
        const uint8_t *at = (uint8_t *)b + b->hdr.bh1.offset_to_first_pkt;
        for (uint32_t i = 0; i < b->hdr.bh1.num_pkts; i++) {
            const struct tpacket3_hdr *h = (const void *)at;
            take(r, h);
            at += h->tp_next_offset;
        }
        __atomic_store_n(&b->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        block = (block + 1) % BLOCKS;
    }
}

enum { LONG_WAIT_NS = 20000 };

static uint32_t unhex(const char *text, uint8_t *out, uint32_t size)
{
    uint32_t n = 0;
    unsigned value;
    for (; n < size && sscanf(text + 2 * (size_t)n, "%2x", &value) == 1; n++)
        out[n] = (uint8_t)value;
    return n;
}

static uint64_t send_all(int fd, const uint8_t *frame, uint32_t len, double rate, uint64_t *refused)
{
    static uint8_t frames[BURST][2048];
    struct iovec vectors[BURST];
    struct mmsghdr messages[BURST] = {0};
    for (int i = 0; i < BURST; i++) {
        memcpy(frames[i], frame, len);
        vectors[i] = (struct iovec){frames[i], len};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    const uint64_t began = clock_ns(CLOCK_MONOTONIC);
    uint64_t start = began, sent = 0;
    while (sent < count) {
        uint64_t now = clock_ns(CLOCK_MONOTONIC);
        uint64_t due = (uint64_t)((double)(now - start) * rate / 1e9) + 1;
        if (due <= sent) {
            /* A real-time thread that never sleeps is held back by the kernel for 50 ms of each second. */
            double wait = (double)start + (double)sent * 1e9 / rate - (double)now;
            if (wait > LONG_WAIT_NS) {
                struct timespec nap = {0, (long)wait - LONG_WAIT_NS / 2};
                nanosleep(&nap, NULL);
            }
            continue;
        }
        if (due - sent > 4 * BURST) { /* after a pause of ours: go on at the rate, no flood to catch up */
            start = now - (uint64_t)((double)sent * 1e9 / rate);
            due = sent + 1;
        }
        uint32_t n = due - sent > BURST ? BURST : (uint32_t)(due - sent);
        if (n > count - sent)
            n = (uint32_t)(count - sent);
        for (uint32_t i = 0; i < n; i++) {
            struct trailer t = {MAGIC, (uint32_t)(sent + i), clock_ns(CLOCK_REALTIME)};
            memcpy(frames[i] + len - sizeof t, &t, sizeof t);
        }
        for (uint32_t i = 0; i < n;) {
            int done_now = sendmmsg(fd, messages + i, n - i, 0);
            if (done_now < 0) {
                (*refused)++;
                i++;
            } else {
                i += (uint32_t)done_now;
            }
        }
        sent += n;
    }
    return clock_ns(CLOCK_MONOTONIC) - began;
}

int main(int argc, char **argv)
{
    struct receiver receivers[RECEIVERS];
    uint8_t frame[2048];
    uint32_t n = 0;
    if (argc < 6)
        return fprintf(stderr, "usage: blast TX RX[,RX...] RATE COUNT FRAME_HEX [RECORDS]\n"), 2;
    double rate = atof(argv[3]);
    count = (uint32_t)atol(argv[4]);
    uint32_t len = unhex(argv[5], frame, sizeof frame);
    if (len < 14 + sizeof(struct trailer) || rate <= 0 || count == 0)
        return fprintf(stderr, "blast: rate, count or frame\n"), 2;
    if (argc > 6 && !(records = calloc(2 * (size_t)count, sizeof *records)))
        die("records");
    setpriority(PRIO_PROCESS, 0, -15);
    for (char *name = strtok(argv[2], ","); name && n < RECEIVERS; name = strtok(NULL, ","), n++) {
        receivers[n] = (struct receiver){.fd = packet_socket(name, ETH_P_ALL), .index = n};
        receivers[n].map = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, receivers[n].fd, 0);
        if (receivers[n].map == MAP_FAILED)
            die("mmap");
        if (pthread_create(&receivers[n].thread, NULL, receive, &receivers[n]))
            die("thread");
    }
    /* A stream that stands still for another process's time slice measures nothing. */
    struct sched_param priority = {.sched_priority = 1};
    pthread_setschedparam(pthread_self(), SCHED_RR, &priority);
    uint64_t refused = 0, took = send_all(packet_socket(argv[1], 0), frame, len, rate, &refused);
    usleep(300000);
    atomic_store(&done, true);
    uint64_t overflow = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct tpacket_stats_v3 stats;
        socklen_t size = sizeof stats;
        pthread_join(receivers[i].thread, NULL);
        if (getsockopt(receivers[i].fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0)
            overflow += stats.tp_drops;
    }
    printf("{\"sent\":%u,\"seconds\":%.6f,\"refused\":%lu,\"receiver_drops\":%lu,\"received\":[", count,
           (double)took / 1e9, (unsigned long)refused, (unsigned long)overflow);
    for (uint32_t i = 0; i < n; i++)
        printf("%s%u", i ? "," : "", atomic_load(&seen[i]));
    printf("]}\n");
    if (records) {
        FILE *f = fopen(argv[6], "wb");
        uint32_t total = atomic_load(&recorded) < 2 * count ? atomic_load(&recorded) : 2 * count;
        if (!f || fwrite(records, sizeof *records, total, f) != total || fclose(f) != 0)
            die(argv[6]);
    }
    return 0;
}
