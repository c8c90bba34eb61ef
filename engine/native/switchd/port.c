/* Interfaces: AF_PACKET sockets, with receive rings (ring.c) and sendmmsg for sending. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "switchd.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

/* Counters that senders write, too. */
static void add(uint64_t *counter, uint64_t n) { __atomic_fetch_add(counter, n, __ATOMIC_RELAXED); }

struct port *port_add(struct switchd *sw, uint16_t number, const char *name, char *error, size_t error_len)
{
    if (number >= MAX_PORTS || number == sw->cpu_port || number == sw->pktgen.port || number == MAX_PORTS - 1) {
        snprintf(error, error_len, "port %u is reserved or above %d", number, MAX_PORTS - 2);
        return NULL;
    }
    if (sw->by_number[number]) {
        snprintf(error, error_len, "port %u is in use by %s", number, sw->by_number[number]->name);
        return NULL;
    }
    if (name[0] == '\0' || strlen(name) >= IFNAMSIZ || strchr(name, '/')) {
        snprintf(error, error_len, "port %u: '%.40s' is no interface name", number, name);
        return NULL;
    }
    struct port *port = calloc(1, sizeof *port);
    if (port)
        port->batch.messages = calloc(TX_BATCH, sizeof *port->batch.messages);
    if (port)
        port->batch.vectors = calloc(TX_BATCH, sizeof *port->batch.vectors);
    if (!port || !port->batch.messages || !port->batch.vectors) {
        snprintf(error, error_len, "out of memory");
        if (port) {
            free(port->batch.messages);
            free(port->batch.vectors);
        }
        free(port);
        return NULL;
    }
    port->number = number;
    snprintf(port->name, sizeof port->name, "%s", name);
    port->fd = port->aside.fd = -1;
    fifo_init(&port->delayed);
    for (int b = 0; b < QUEUE_BANDS; b++)
        fifo_init(&port->bands[b].packets);
    for (int i = 0; i < TX_BATCH; i++) {
        port->batch.messages[i].msg_hdr.msg_iov = &port->batch.vectors[i];
        port->batch.messages[i].msg_hdr.msg_iovlen = 1;
    }
    uint64_t now = mono_ns();
    uint64_t seed = wall_ns(sw, now) * MAX_PORTS + number;
    optics_init(&port->optics, seed, now);
    rng_seed(&port->fate, ~seed);
    sw->by_number[number] = port;
    sw->ports[sw->port_count++] = port;
    if (!port_open(sw, port))
        log_warn("port %u: no interface %s yet", number, name);
    if (sw->pcap_directory[0])
        pcap_start(sw, port, sw->pcap_directory);
    return port;
}

void port_remove(struct switchd *sw, struct port *port)
{
    port_close(sw, port);
    sender_forget(port);
    pcap_stop(sw, port);
    impairment_clear(&port->fault);
    impairment_clear(&port->base);
    fifo_clear(&port->delayed);
    queue_clear(port);
    for (uint32_t i = 0; i < sw->port_count; i++)
        if (sw->ports[i] == port) {
            sw->ports[i] = sw->ports[--sw->port_count];
            break;
        }
    sw->by_number[port->number] = NULL;
    free(port->batch.messages);
    free(port->batch.vectors);
    free(port);
}

bool port_open(struct switchd *sw, struct port *port)
{
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", port->name);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        log_error("port %u: packet socket: %s", port->number, strerror(errno));
        return false;
    }
    if (ioctl(fd, SIOCGIFINDEX, &request) < 0) {
        close(fd);
        return false;
    }
    port->fd = fd;
    port->ifindex = request.ifr_ifindex;
    port->mtu = ioctl(fd, SIOCGIFMTU, &request) < 0 ? 1500 : (uint32_t)request.ifr_mtu;
    int one = 1, size = 4 << 20;
    if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0)
        log_warn("port %u: kernel without PACKET_IGNORE_OUTGOING", port->number);
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0)
        log_warn("port %u: kernel without PACKET_QDISC_BYPASS", port->number);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct packet_mreq promiscuous = {.mr_ifindex = port->ifindex, .mr_type = PACKET_MR_PROMISC};
    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous);
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = port->ifindex};
    if (!port_rx_open(sw, port) || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || !loop_watch(sw, port)) {
        log_error("port %u (%s): %s", port->number, port->name, strerror(errno));
        port_close(sw, port);
        return false;
    }
    log_info("port %u is %s (mtu %u)", port->number, port->name, port->mtu);
    port_rx_aside(port, pktgen_patience(&sw->pktgen));
    port->used = mono_ns();
    port_check_carrier(sw, port);
    return true;
}

void port_close(struct switchd *sw, struct port *port)
{
    if (port->fd < 0)
        return;
    port_rx_close(port);
    sender_drain(port);
    add(&port->count.tx_failed, port->batch.count);
    port->batch.count = 0;
    close(port->fd);
    port->fd = -1;
    port->ifindex = 0;
    if (port->up)
        port_status_changed(sw, port, false);
}

void port_reopen(struct switchd *sw, struct port *port)
{
    bool up = port->up;
    loop_look(sw);
    port->up = false; /* quietly */
    port_close(sw, port);
    port->up = up;
    if (!port_open(sw, port) && up)
        port_status_changed(sw, port, false);
}

void port_check_carrier(struct switchd *sw, struct port *port)
{
    if (port->fd < 0)
        return;
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", port->name);
    if (ioctl(port->fd, SIOCGIFINDEX, &request) < 0 || request.ifr_ifindex != port->ifindex) {
        log_warn("port %u: interface %s is gone", port->number, port->name);
        port_close(sw, port);
        return;
    }
    bool up = ioctl(port->fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) &&
              (request.ifr_flags & IFF_RUNNING);
    up = up && !port->disabled;
    if (up != port->up)
        port_status_changed(sw, port, up);
}

void port_enable(struct switchd *sw, struct port *port, bool enabled)
{
    if (port->disabled == !enabled)
        return;
    port->disabled = !enabled;
    log_info("port %u (%s) is %s", port->number, port->name, enabled ? "enabled" : "disabled");
    port_check_carrier(sw, port);
}

void port_rx_error(struct switchd *sw, struct port *port)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (port->fd < 0)
        return;
    getsockopt(port->fd, SOL_SOCKET, SO_ERROR, &error, &len); /* clears it */
    log_debug("port %u: %s", port->number, strerror(error));
    port_check_carrier(sw, port);
}

void port_send(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len)
{
    if (!port->up || len > MAX_FRAME) {
        add(&port->count.tx_failed, 1);
        return;
    }
    if (port->pcap_out) {
        pcap_write(sw, port, port->pcap_out, data, len, wall_ns(sw, sw->now));
    }
    if (sender_send(sw, port, data, len))
        return;
    if (sw->tx_used + len > TX_ARENA)
        ports_flush(sw);
    struct iovec *v = &port->batch.vectors[port->batch.count++];
    v->iov_base = sw->tx_arena + sw->tx_used;
    v->iov_len = len;
    memcpy(v->iov_base, data, len);
    sw->tx_used += (len + 63) & ~63u;
    if (sw->tx_used > TX_ARENA)
        sw->tx_used = TX_ARENA;
    if (port->batch.count == TX_BATCH)
        port_flush(sw, port);
}

void port_transmit(struct switchd *sw, struct port *port, struct mmsghdr *messages, uint32_t count)
{
    uint32_t done = 0;
    bool trouble = false;
    if (port->fd < 0) {
        add(&port->count.tx_failed, count);
        return;
    }
    while (done < count) {
        int sent = sendmmsg(port->fd, messages + done, count - done, MSG_DONTWAIT);
        add(&sw->stats.send_calls, 1);
        if (sent > 0) {
            uint64_t bytes = 0;
            for (int i = 0; i < sent; i++)
                bytes += messages[done + (uint32_t)i].msg_hdr.msg_iov->iov_len;
            add(&port->count.tx_bytes, bytes);
            add(&port->count.tx_packets, (uint64_t)sent);
            done += (uint32_t)sent;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno == EMSGSIZE)
            add(&port->count.tx_oversize, 1);
        else
            trouble = true; /* ENOBUFS is also what a line without carrier answers */
        add(&port->count.tx_failed, 1);
        done++;
    }
    if (trouble) { /* not now: a frame of this port's ring may be in use */
        __atomic_store_n(&port->recheck, true, __ATOMIC_RELAXED);
        __atomic_store_n(&sw->recheck, true, __ATOMIC_RELEASE);
    }
}

void port_flush(struct switchd *sw, struct port *port)
{
    uint32_t count = port->batch.count;
    port->batch.count = 0;
    if (count)
        port_transmit(sw, port, port->batch.messages, count);
    sender_publish(port);
}

void ports_flush(struct switchd *sw)
{
    for (uint32_t i = 0; i < sw->port_count; i++)
        port_flush(sw, sw->ports[i]);
    sw->tx_used = 0;
}
