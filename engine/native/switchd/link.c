/* Link state from rtnetlink: carrier, interfaces that vanish, come (back) or change their MTU. */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "switchd.h"

int link_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int size = 256 * 1024;
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void check_all(struct switchd *sw)
{
    for (uint32_t i = 0; i < sw->port_count; i++) {
        if (sw->ports[i]->fd < 0)
            port_open(sw, sw->ports[i]);
        else
            port_check_carrier(sw, sw->ports[i]);
    }
}

static void link_message(struct switchd *sw, struct nlmsghdr *m)
{
    if (m->nlmsg_type != RTM_NEWLINK && m->nlmsg_type != RTM_DELLINK)
        return;
    if (m->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        return;
    struct ifinfomsg *info = NLMSG_DATA(m);
    const char *name = "";
    uint32_t mtu = 0;
    int left = (int)(m->nlmsg_len - NLMSG_LENGTH(sizeof *info));
    for (struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == IFLA_IFNAME)
            name = RTA_DATA(a);
        else if (a->rta_type == IFLA_MTU)
            memcpy(&mtu, RTA_DATA(a), sizeof mtu);
    }
    for (uint32_t i = 0; i < sw->port_count; i++) {
        struct port *port = sw->ports[i];
        if (port->fd >= 0 && port->ifindex == info->ifi_index) {
            /* The message may be old news: ask for the state of this moment. */
            port_check_carrier(sw, port);
            if (port->fd >= 0 && mtu != 0 && mtu != port->mtu && m->nlmsg_type == RTM_NEWLINK)
                port_reopen(sw, port); /* the ring's slots follow the MTU */
        } else if (port->fd < 0 && m->nlmsg_type == RTM_NEWLINK && strcmp(port->name, name) == 0) {
            port_open(sw, port);
        }
    }
}

void link_read(struct switchd *sw)
{
    static uint8_t data[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
    for (int rounds = 0; rounds < 64; rounds++) {
        ssize_t n = recv(sw->link, data, sizeof data, 0);
        if (n < 0 && errno == ENOBUFS) { /* messages were lost */
            check_all(sw);
            continue;
        }
        if (n <= 0)
            return;
        int left = (int)n;
        for (struct nlmsghdr *m = (struct nlmsghdr *)data; NLMSG_OK(m, (unsigned)left); m = NLMSG_NEXT(m, left))
            link_message(sw, m);
    }
}
