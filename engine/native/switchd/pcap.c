/* Capture files, named as simple_switch names them: <interface>_in.pcap and <interface>_out.pcap.
 *
 * Frames gather in a buffer that is written when it is full, and after 200 ms as soon as the switch has nothing else to
 * do. A file that has reached the limit becomes <name>.1 (one older one is kept). What the disk does not take is counted and left out,
 * whole frames at a time, so that the file stays readable; forwarding goes on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "switchd.h"

enum { CAPTURE_BUFFER = 64 * 1024 + MAX_FRAME + 16 };

struct capture {
    int fd;
    bool failing;  /* said so already */
    uint64_t size; /* of whole frames in the file */
    uint32_t len, frames; /* in the buffer */
    char path[512];
    uint8_t buffer[CAPTURE_BUFFER];
};

static bool capture_open(struct capture *c)
{
    /* pcap with nanoseconds, version 2.4, Ethernet */
    const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap, link;
    } head = {0xa1b23c4d, 2, 4, 0, 0, 262144, 1};
    c->fd = open(c->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (c->fd >= 0 && write(c->fd, &head, sizeof head) == (ssize_t)sizeof head) {
        c->size = sizeof head;
        return true;
    }
    if (!c->failing)
        log_error("capture %s: %s", c->path, strerror(errno));
    c->failing = true;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    return false;
}

static struct capture *capture_new(const char *directory, const char *name, const char *direction)
{
    struct capture *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    snprintf(c->path, sizeof c->path, "%s/%s_%s.pcap", directory, name, direction);
    if (capture_open(c))
        return c;
    free(c);
    return NULL;
}

static void capture_flush(struct switchd *sw, struct port *port, struct capture *c)
{
    if (!c || !c->len)
        return;
    /* Without a file (the disk was full when it should have started anew) it is tried again each time. */
    ssize_t written = c->fd < 0 && !capture_open(c) ? -1 : write(c->fd, c->buffer, c->len);
    if (written == (ssize_t)c->len) {
        c->size += c->len;
        c->failing = false;
    } else {
        uint32_t kept = 0, whole = 0; /* what has got there in full */
        for (uint32_t frame; written > 0 && whole < c->len; whole += frame, kept++) {
            memcpy(&frame, c->buffer + whole + 8, sizeof frame);
            frame += 16;
            if (whole + frame > (uint32_t)written)
                break;
        }
        c->size += whole;
        port->count.capture_lost += c->frames - kept;
        if (!c->failing)
            log_error("capture %s: %s: frames are left out", c->path, written < 0 ? strerror(errno) : "disk full");
        c->failing = true;
        if (c->fd >= 0 && (ftruncate(c->fd, (off_t)c->size) < 0 || lseek(c->fd, (off_t)c->size, SEEK_SET) < 0))
            log_error("capture %s: %s", c->path, strerror(errno));
    }
    c->len = c->frames = 0;
    if (c->size < sw->pcap_limit || !sw->pcap_limit || c->fd < 0)
        return;
    char older[sizeof c->path + 2];
    snprintf(older, sizeof older, "%s.1", c->path);
    close(c->fd);
    if (rename(c->path, older) < 0)
        log_error("capture %s: %s", older, strerror(errno));
    capture_open(c);
}

bool pcap_start(struct switchd *sw, struct port *port, const char *directory)
{
    pcap_stop(sw, port);
    port->pcap_in = capture_new(directory, port->name, "in");
    port->pcap_out = capture_new(directory, port->name, "out");
    if (port->pcap_in && port->pcap_out)
        return true;
    pcap_stop(sw, port);
    return false;
}

static void capture_close(struct switchd *sw, struct port *port, struct capture *c)
{
    if (!c)
        return;
    capture_flush(sw, port, c);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

void pcap_stop(struct switchd *sw, struct port *port)
{
    capture_close(sw, port, port->pcap_in);
    capture_close(sw, port, port->pcap_out);
    port->pcap_in = port->pcap_out = NULL;
}

void pcap_write(struct switchd *sw, struct port *port, struct capture *c, const uint8_t *data, uint32_t len,
                uint64_t wall)
{
    const uint32_t head[4] = {(uint32_t)(wall / NS_PER_S), (uint32_t)(wall % NS_PER_S), len, len};
    if (c->len + sizeof head + len > sizeof c->buffer)
        capture_flush(sw, port, c);
    memcpy(c->buffer + c->len, head, sizeof head);
    memcpy(c->buffer + c->len + sizeof head, data, len);
    c->len += (uint32_t)sizeof head + len;
    c->frames++;
    if (!sw->pcap_dirty)
        sw->pcap_due = sw->now + 200 * NS_PER_MS;
    sw->pcap_dirty = true;
}

void pcap_flush(struct switchd *sw)
{
    for (uint32_t i = 0; i < sw->port_count; i++) {
        capture_flush(sw, sw->ports[i], sw->ports[i]->pcap_in);
        capture_flush(sw, sw->ports[i], sw->ports[i]->pcap_out);
    }
    sw->pcap_dirty = false;
}
