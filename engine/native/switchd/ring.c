/* Receive rings of the ports: TPACKET_V2, mapped.
 *
 * Version 2 of the ring and not 3: a frame is visible as soon as it is there, where version 3 hands over
 * blocks that fill up or time out after a millisecond at best. Each frame carries the time at which the
 * kernel got it, which is what the program sees as its arrival time.
 *
 * Because of that time it does not matter when an answer to a heartbeat is looked at, as long as it is before the next
 * frame and the next tick. Nor does it with a request that says how long its answer may take, if the next tick comes
 * sooner. So these have a ring of their own that wakes nobody up: an idle switch sleeps on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "switchd.h"

enum {
    BLOCK = 64 * 1024,
    HEADROOM = 128, /* ring header, address, VLAN tag */
    ASIDE_BLOCK = 16 * 1024,
    ASIDE_FRAME = 256, /* for up to ASIDE_LONGEST bytes */
    ASIDE_LONGEST = ASIDE_FRAME - HEADROOM,
    HEARTBEAT_REQUEST = 0x11,     /* version 1, operation 1 */
    HEARTBEAT_REPLY = 0x12,
    HEARTBEAT_PATIENCE = ETH_HLEN + 13, /* echo_time: of a request, how many us its answer may take, 48 bits */
    HEARTBEAT_END = HEARTBEAT_PATIENCE + 6,
};

static bool ring_open(struct rx_ring *r, int fd, uint32_t frame, uint32_t block, uint32_t blocks)
{
    uint32_t per_block = block / frame;
    struct tpacket_req request = {
        .tp_block_size = block, .tp_block_nr = blocks, .tp_frame_size = frame, .tp_frame_nr = blocks * per_block};
    int version = TPACKET_V2;
    if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0)
        return false;
    size_t bytes = (size_t)block * blocks;
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    *r = (struct rx_ring){.fd = fd,
                          .map = map,
                          .map_len = bytes,
                          .block_size = block,
                          .frame_size = frame,
                          .frames_per_block = per_block,
                          .frames = blocks * per_block};
    return true;
}

static void ring_close(struct rx_ring *r)
{
    if (r->map)
        munmap(r->map, r->map_len);
    *r = (struct rx_ring){.fd = -1};
}

bool port_rx_open(struct switchd *sw, struct port *port)
{
    uint32_t mtu = port->mtu > MAX_FRAME - HEADROOM ? MAX_FRAME - HEADROOM : port->mtu;
    uint32_t frame = (mtu + ETH_HLEN + HEADROOM + 63) & ~63u;
    uint32_t block = BLOCK;
    while (block < frame)
        block *= 2;
    size_t bytes = sw->ring_bytes < 4 * block ? 4 * block : sw->ring_bytes;
    if (ring_open(&port->ring, port->fd, frame, block, (uint32_t)(bytes / block)))
        return true;
    log_error("port %u: no receive ring: %s", port->number, strerror(errno));
    return false;
}

void port_rx_close(struct port *port)
{
    port_rx_statistics(port);
    port_rx_aside(port, 0);
    ring_close(&port->ring);
}

/* Heartbeats that may wait for so many us, or all frames but these. A filter that reads beyond a frame drops it, hence
 * the length first. */
static bool attach(int fd, bool aside, uint32_t us)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, ASIDE_LONGEST, 13, 0),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, HEARTBEAT_END, 0, 12),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 10),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_HEARTBEAT, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETH_HLEN),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HEARTBEAT_REPLY, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, HEARTBEAT_REQUEST, 0, 5),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, HEARTBEAT_PATIENCE),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3), /* more than an hour is no sensible wish */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, HEARTBEAT_PATIENCE + 2),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, us, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, aside ? UINT32_MAX : 0),
        BPF_STMT(BPF_RET | BPF_K, aside ? 0 : UINT32_MAX),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

static bool aside_open(struct port *port, uint32_t us)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_HEARTBEAT), .sll_ifindex = port->ifindex};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && attach(fd, true, us) && ring_open(&port->aside, fd, ASIDE_FRAME, ASIDE_BLOCK, 1) &&
        bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return true;
    log_warn("port %u: all heartbeats wake us up: %s", port->number, strerror(errno));
    ring_close(&port->aside);
    if (fd >= 0)
        close(fd);
    return false;
}

static void aside_close(struct port *port)
{
    int fd = port->aside.fd;
    port_rx_statistics(port);
    ring_close(&port->aside);
    close(fd);
}

void port_rx_prompt(struct port *port)
{
    int unused = 0;
    if (port->fd >= 0)
        setsockopt(port->fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

/* In between a heartbeat may come by both rings, which does no harm, but none by neither. */
void port_rx_aside(struct port *port, uint32_t us)
{
    if (port->fd < 0)
        return;
    if (port->patience_us) {
        port_rx_prompt(port);
        aside_close(port);
    }
    port->patience_us = port->aside_us = 0;
    port->relaxed = false;
    if (us == 0 || !aside_open(port, us))
        return;
    if (attach(port->fd, false, us))
        port->patience_us = port->aside_us = us;
    else
        aside_close(port);
}

/* The kernel shows a frame to the usual ring first. So the ring aside takes more before the usual one takes less, and
 * takes less only a good while after the usual one has begun to take more. */
bool port_rx_patience(struct port *port, uint32_t us)
{
    if (port->fd < 0 || port->patience_us == 0 || us == 0)
        return false;
    if (us < port->aside_us) {
        if (!attach(port->aside.fd, true, us))
            return false;
        port->aside_us = us;
    }
    if (us != port->patience_us && !attach(port->fd, false, us))
        return false;
    port->patience_us = us;
    return true;
}

void port_rx_settled(struct port *port)
{
    if (port->aside_us < port->patience_us && attach(port->aside.fd, true, port->patience_us))
        port->aside_us = port->patience_us;
}

static inline struct tpacket2_hdr *ring_frame(const struct rx_ring *r, uint32_t number)
{
    size_t block = number / r->frames_per_block, frame = number % r->frames_per_block;
    return (struct tpacket2_hdr *)(r->map + block * r->block_size + frame * r->frame_size);
}

static inline struct tpacket2_hdr *ring_head(const struct rx_ring *r) { return ring_frame(r, r->head); }

static inline bool waits(const struct rx_ring *r)
{
    return r->map && __atomic_load_n(&ring_head(r)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

/* When the kernel got the ring's next frame, by the wall clock. */
static uint64_t head_stamp(const struct rx_ring *r)
{
    const struct tpacket2_hdr *h = ring_head(r);
    return (uint64_t)h->tp_sec * NS_PER_S + h->tp_nsec;
}

bool port_rx_is_aside(const struct port *port) { return port->next == &port->aside; }

bool port_rx_waits(const struct port *port) { return waits(&port->ring); }

/* By the kernel's times, which tell frames apart that both came after `now`: were requests to change places, one would be
 * counted as lost. The ring that wakes us is asked first; what is in it is no older than what the other already holds. */
uint64_t port_rx_time(const struct switchd *sw, struct port *port, uint64_t now)
{
    bool prompt = waits(&port->ring), aside = waits(&port->aside);
    if (!prompt && !aside)
        return NEVER;
    uint64_t stamp = prompt ? head_stamp(&port->ring) : 0, other = aside ? head_stamp(&port->aside) : 0;
    bool turn = aside && (!prompt || other < stamp);
    port->next = turn ? &port->aside : &port->ring;
    uint64_t time = (turn ? other : stamp) - sw->clock_offset;
    /* Later than now: it came after the turn's clock reading. Far off: the wall clock was set. */
    return time > now || now - time > 10 * NS_PER_S ? now : time;
}

/* The sender left the TCP or UDP checksum to its network card, which a veth does not have: finish it.
 * The checksum field already holds the pseudo header's sum. */
static void finish_checksum(uint8_t *frame, uint32_t len)
{
    uint32_t at = 12;
    uint16_t type = (uint16_t)(frame[at] << 8 | frame[at + 1]);
    while ((type == ETH_P_8021Q || type == ETH_P_8021AD) && at + 6 <= len) {
        at += 4;
        type = (uint16_t)(frame[at] << 8 | frame[at + 1]);
    }
    at += 2;
    uint32_t transport;
    uint8_t protocol;
    if (type == ETH_P_IP && at + 20 <= len) {
        transport = at + (frame[at] & 15u) * 4;
        protocol = frame[at + 9];
    } else if (type == ETH_P_IPV6 && at + 40 <= len) {
        transport = at + 40;
        protocol = frame[at + 6];
    } else {
        return;
    }
    uint32_t field = transport + (protocol == IPPROTO_TCP ? 16 : 6);
    if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || field + 2 > len)
        return;
    uint64_t sum = 0;
    uint32_t i = transport;
    for (; i + 1 < len; i += 2)
        sum += (uint64_t)(frame[i] << 8 | frame[i + 1]);
    if (i < len)
        sum += (uint64_t)frame[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    uint16_t result = (uint16_t)~sum;
    if (result == 0 && protocol == IPPROTO_UDP)
        result = 0xffff;
    frame[field] = (uint8_t)(result >> 8);
    frame[field + 1] = (uint8_t)result;
}

uint8_t *port_rx_take(struct port *port, uint32_t *len)
{
    struct tpacket2_hdr *h = ring_head(port->next);
    uint8_t *frame = (uint8_t *)h + h->tp_mac;
    uint32_t n = h->tp_snaplen;
    if (h->tp_len > n || n < ETH_HLEN) {
        if (port->count.rx_errors++ == 0)
            log_warn("port %u: frame of %u bytes does not fit (segmentation offload of the sender?)", port->number,
                     h->tp_len);
        return NULL;
    }
    if (h->tp_status & TP_STATUS_VLAN_VALID) { /* the kernel took the tag off; there is room before the frame */
        uint16_t tpid = h->tp_status & TP_STATUS_VLAN_TPID_VALID ? h->tp_vlan_tpid : ETH_P_8021Q;
        memmove(frame - 4, frame, 12);
        frame -= 4;
        n += 4;
        frame[12] = (uint8_t)(tpid >> 8);
        frame[13] = (uint8_t)tpid;
        frame[14] = (uint8_t)(h->tp_vlan_tci >> 8);
        frame[15] = (uint8_t)h->tp_vlan_tci;
    }
    if (h->tp_status & TP_STATUS_CSUMNOTREADY)
        finish_checksum(frame, n);
    port->count.rx_packets++;
    port->count.rx_bytes += n;
    *len = n;
    return frame;
}

const uint8_t *port_rx_peek(const struct port *port, uint32_t ahead, uint32_t *len)
{
    const struct rx_ring *r = &port->ring;
    uint32_t at = (r->head + ahead) % r->frames;
    const struct tpacket2_hdr *h = ring_frame(r, at);
    if (!(__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
        return NULL;
    *len = h->tp_snaplen;
    return (const uint8_t *)h + h->tp_mac;
}

void port_rx_release(struct port *port)
{
    struct rx_ring *r = port->next;
    __atomic_store_n(&ring_head(r)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    r->head = r->head + 1 == r->frames ? 0 : r->head + 1;
}

static uint64_t take_drops(int fd)
{
    struct tpacket_stats stats;
    socklen_t len = sizeof stats;
    bool known = fd >= 0 && getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &len) == 0;
    return known ? stats.tp_drops : 0; /* reading resets them */
}

void port_rx_statistics(struct port *port)
{
    port->count.rx_dropped += take_drops(port->fd) + take_drops(port->aside.fd);
}
