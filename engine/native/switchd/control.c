/* Control socket: several clients, length-prefixed messages, nobody can block the packets.
 *
 *   message   u32 payload length, u32 id, u16 op, u16 code, payload       (little endian)
 *   request   op: the command; code 0; id: the client's choice
 *   reply     same id and op; code: google.rpc; payload: u64 clock (CLOCK_REALTIME ns), then reply or error text
 *   event     id 0; op: the kind (0x8000 ...); payload: u64 time, then by kind
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "sp_engine.h"

static const uint64_t SLEPT = 50 * NS_PER_US; /* a sleep that long ago has told whether there is something to read */

static bool watch(struct control *c, int fd, uint64_t tag, uint32_t events, int op)
{
    struct epoll_event e = {.events = events, .data.u64 = tag};
    return epoll_ctl(c->epoll, op, fd, &e) == 0;
}

bool control_watch(struct control *c, int fd, int kind)
{
    return watch(c, fd, (uint64_t)kind << 32, EPOLLIN, EPOLL_CTL_ADD);
}

static bool socket_is_served(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool served = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    if (fd >= 0)
        close(fd);
    return served;
}

struct control *control_open(const char *path, char *error, size_t error_len)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct control *c = calloc(1, sizeof *c);
    if (!c || strlen(path) >= sizeof address.sun_path) {
        snprintf(error, error_len, c ? "path longer than %zu" : "out of memory", sizeof address.sun_path - 1);
        free(c);
        return NULL;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    snprintf(c->path, sizeof c->path, "%s", path);
    for (int i = 0; i < CLIENTS; i++)
        c->clients[i].fd = -1;
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stat found;
    bool usable = c->epoll >= 0 && c->listener >= 0;
    if (usable && lstat(path, &found) == 0) {
        if (!S_ISSOCK(found.st_mode) || socket_is_served(&address)) {
            snprintf(error, error_len, "%s is in use", path);
            goto failed;
        }
        unlink(path);
    }
    mode_t mask = umask(0177);
    usable = usable && bind(c->listener, (struct sockaddr *)&address, sizeof address) == 0;
    umask(mask);
    if (usable && listen(c->listener, 256) == 0 && control_watch(c, c->listener, WATCH_LISTENER))
        return c;
    snprintf(error, error_len, "%s: %s", path, strerror(errno));
failed:
    if (c->epoll >= 0)
        close(c->epoll);
    if (c->listener >= 0)
        close(c->listener);
    free(c);
    return NULL;
}

static void client_close(struct control *c, struct client *k)
{
    close(k->fd); /* leaves the epoll set, too */
    buffer_free(&k->in);
    buffer_free(&k->out);
    *k = (struct client){.fd = -1};
    c->masks = 0;
    for (int i = 0; i < CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            c->masks |= c->clients[i].mask;
}

void control_close(struct control *c)
{
    for (int i = 0; i < CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            client_close(c, &c->clients[i]);
    close(c->listener);
    close(c->epoll);
    unlink(c->path);
    free(c);
}

int control_epoll(const struct control *c) { return c->epoll; }

int control_clients(const struct control *c)
{
    int n = 0;
    for (int i = 0; i < CLIENTS; i++)
        n += c->clients[i].fd >= 0;
    return n;
}

static void client_watch(struct control *c, struct client *k)
{
    /* A client whose replies pile up is not read from: it would be ready all the time. */
    bool reading = !k->closing && buffer_len(&k->out) < OUTPUT_PAUSE;
    uint32_t events = (reading ? EPOLLIN : 0u) | (k->want_write ? EPOLLOUT : 0u);
    watch(c, k->fd, (uint64_t)(k - c->clients) | (uint64_t)k->generation << 40 | 1ull << 39, events, EPOLL_CTL_MOD);
}

void client_flush(struct switchd *sw, struct client *k)
{
    struct control *c = sw->control;
    struct client *served = c->served;
    c->served = k; /* nobody else touches it while packets pass */
    k->dirty = false;
    while (buffer_len(&k->out)) {
        size_t most = buffer_len(&k->out) < SEND_CHUNK ? buffer_len(&k->out) : SEND_CHUNK;
        ssize_t n = send(k->fd, k->out.data + k->out.start, most, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                client_close(c, k);
            break;
        }
        buffer_consume(&k->out, (size_t)n);
        if (buffer_len(&k->out))
            loop_breathe(sw);
    }
    c->served = served;
    if (k->fd < 0)
        return;
    bool waiting = buffer_len(&k->out) > 0;
    if (!waiting && k->closing) {
        client_close(c, k);
        return;
    }
    if (waiting != k->want_write || waiting) {
        k->want_write = waiting;
        client_watch(c, k);
    }
}

static bool append_message(struct client *k, struct header h, const void *a, size_t a_len, const void *b, size_t b_len)
{
    h.len = (uint32_t)(a_len + b_len);
    if (!buffer_reserve(&k->out, sizeof h + a_len + b_len))
        return false;
    return buffer_append(&k->out, &h, sizeof h) && buffer_append(&k->out, a, a_len) && buffer_append(&k->out, b, b_len);
}

bool control_has_subscribers(const struct control *c, uint16_t kind)
{
    return c && (c->masks & 1u << (kind - EVENT_DIGEST));
}

int control_subscribers(const struct control *c, uint16_t kind)
{
    int found = 0;
    for (int i = 0; c && i < CLIENTS; i++)
        found += c->clients[i].fd >= 0 && (c->clients[i].mask & 1u << (kind - EVENT_DIGEST));
    return found;
}

static void deliver(struct switchd *sw, struct client *k, uint16_t kind, const void *head, size_t head_len,
                    const void *body, size_t len)
{
    if (buffer_len(&k->out) + head_len + len > EVENT_LIMIT) {
        k->lost++;
        return;
    }
    if (k->lost != k->lost_told) {
        uint64_t told[2] = {wall_ns(sw, sw->now), k->lost};
        if (append_message(k, (struct header){.op = EVENT_LOST}, told, sizeof told, NULL, 0))
            k->lost_told = k->lost;
    }
    if (!append_message(k, (struct header){.op = kind}, head, head_len, body, len))
        k->lost++;
    k->dirty = true;
}

void control_event(struct switchd *sw, uint16_t kind, const void *head, size_t head_len, const void *body, size_t len)
{
    struct control *c = sw->control;
    if (!control_has_subscribers(c, kind))
        return;
    for (uint32_t i = 0; i < c->used; i++)
        if (c->clients[i].fd >= 0 && c->clients[i].mask & 1u << (kind - EVENT_DIGEST))
            deliver(sw, &c->clients[i], kind, head, head_len, body, len);
}

static bool wants(const struct client *k, uint32_t digest)
{
    return k->fd >= 0 && k->mask & 1 && (digest >= TOLD_DIGESTS || k->digests[digest / 64] >> digest % 64 & 1);
}

bool control_digest(struct switchd *sw, uint32_t digest, uint64_t now, const uint8_t *values, uint32_t len)
{
    struct control *c = sw->control;
    bool wanted = false;
    if (!control_has_subscribers(c, EVENT_DIGEST))
        return false;
    uint8_t head[sizeof now + sizeof digest];
    memcpy(head, &now, sizeof now);
    memcpy(head + sizeof now, &digest, sizeof digest);
    for (uint32_t i = 0; i < c->used; i++)
        if (wants(&c->clients[i], digest)) {
            deliver(sw, &c->clients[i], EVENT_DIGEST, head, sizeof head, values, len);
            wanted = true;
        }
    return wanted;
}

void control_subscribe(struct switchd *sw, void *client, uint32_t mask, const uint8_t *digests, uint32_t count)
{
    struct control *c = sw->control;
    struct client *k = client;
    k->mask = mask & ((1u << EVENT_KINDS) - 1);
    memset(k->digests, count ? 0 : 0xff, sizeof k->digests);
    for (uint32_t i = 0, digest; i < count; i++) {
        memcpy(&digest, digests + i * sizeof digest, sizeof digest);
        if (digest < TOLD_DIGESTS)
            k->digests[digest / 64] |= 1ull << digest % 64;
    }
    c->masks = 0;
    for (int i = 0; i < CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            c->masks |= c->clients[i].mask;
}

static void accept_clients(struct control *c)
{
    for (;;) {
        int fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct client *k = NULL;
        for (int i = 0; i < CLIENTS && !k; i++)
            if (c->clients[i].fd < 0)
                k = &c->clients[i];
        if (k && (uint32_t)(k - c->clients) >= c->used)
            c->used = (uint32_t)(k - c->clients) + 1;
        if (!k) {
            log_warn("more than %d control clients", CLIENTS);
            close(fd);
            continue;
        }
        *k = (struct client){.fd = fd, .generation = ++c->generation & 0xffffff};
        uint64_t tag = (uint64_t)(k - c->clients) | (uint64_t)k->generation << 40 | 1ull << 39;
        if (!watch(c, fd, tag, EPOLLIN, EPOLL_CTL_ADD))
            client_close(c, k);
    }
}

void client_read(struct control *c, struct client *k)
{
    k->readable = false;
    if (k->closing || buffer_len(&k->out) >= OUTPUT_PAUSE)
        return;
    struct header h = {0};
    if (buffer_len(&k->in) >= sizeof h) /* room for all of the message at once: nothing is moved while it comes */
        memcpy(&h, k->in.data + k->in.start, sizeof h);
    size_t whole = sizeof h + h.len, room = READ_CHUNK;
    if (h.len <= MESSAGE_MAX && whole > buffer_len(&k->in) + room)
        room = whole - buffer_len(&k->in);
    if (!buffer_reserve(&k->in, room)) {
        client_close(c, k);
        return;
    }
    ssize_t n = recv(k->fd, k->in.data + k->in.end, READ_CHUNK, MSG_DONTWAIT);
    if (n > 0)
        k->in.end += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        client_close(c, k);
}

bool client_has_request(const struct client *k)
{
    struct header h;
    if (k->fd < 0 || k->closing || buffer_len(&k->in) < sizeof h || buffer_len(&k->out) >= OUTPUT_PAUSE)
        return false;
    memcpy(&h, k->in.data + k->in.start, sizeof h);
    return h.len > MESSAGE_MAX || buffer_len(&k->in) >= sizeof h + h.len;
}

void client_reply(struct switchd *sw, struct client *k, struct header h, int code, const struct buffer *body)
{
    uint64_t clock = wall_ns(sw, mono_ns());
    h.code = (uint16_t)code;
    if (!append_message(k, h, &clock, sizeof clock, body->data + body->start, buffer_len(body)))
        k->closing = true;
}

static struct buffer body; /* of a reply; reused: most are small */

static void client_request(struct switchd *sw, struct client *k)
{
    struct header h;
    memcpy(&h, k->in.data + k->in.start, sizeof h);
    buffer_consume(&body, buffer_len(&body));
    if (h.len > MESSAGE_MAX) {
        buffer_printf(&body, "message of %u bytes, at most %u are allowed", h.len, (unsigned)MESSAGE_MAX);
        client_reply(sw, k, h, SP_INVALID_ARGUMENT, &body);
        k->closing = true; /* the stream cannot be followed any more */
        return;
    }
    k->requests++;
    sw->control->served = k;
    int code = command_execute(sw, k, h.op, k->in.data + k->in.start + sizeof h, h.len, &body);
    loop_breathe(sw); /* the reply to a large batch is copied twice */
    sw->control->served = NULL;
    client_reply(sw, k, h, code, &body);
    buffer_consume(&body, buffer_len(&body)); /* now, so that control_trim() can give it back */
    buffer_consume(&k->in, sizeof h + h.len);
}

/* Gives memory of large messages back, a slice of each buffer. */
static void control_trim(struct control *c)
{
    c->trimming = buffer_trim(&body);
    c->trimming |= overtake_trim();
    for (uint32_t i = 0; i < c->used; i++)
        if (c->clients[i].fd >= 0) {
            c->trimming |= buffer_trim(&c->clients[i].in);
            c->trimming |= buffer_trim(&c->clients[i].out);
        }
}

bool control_pending(const struct control *c)
{
    for (uint32_t i = 0; i < c->used; i++)
        if (client_has_request(&c->clients[i]))
            return true;
    return c->trimming;
}

void control_poll(struct switchd *sw, bool others)
{
    struct control *c = sw->control;
    struct epoll_event events[CLIENTS + WATCH_LINKS];
    int n = epoll_wait(c->epoll, events, CLIENTS + WATCH_LINKS, 0);
    for (int i = 0; i < n; i++) {
        uint64_t tag = events[i].data.u64;
        if (tag & 1ull << 39) {
            struct client *k = &c->clients[tag & 0xff];
            if (k->fd < 0 || k->generation != tag >> 40)
                continue;
            k->readable = events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR);
            if (events[i].events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
                k->dirty = true; /* sending finds out about a peer that is gone */
        } else if (tag >> 32 == WATCH_LISTENER) {
            accept_clients(c);
        } else if (!others) {
            continue;
        } else if (tag >> 32 == WATCH_LINKS) {
            link_read(sw);
        } else {
            sw->stop = true;
        }
    }
}

void control_run(struct switchd *sw, uint64_t deadline)
{
    struct control *c = sw->control;
    control_trim(c);
    if (sw->now - sw->control_looked >= SLEPT)
        control_poll(sw, true);
    for (uint32_t i = 0; i < c->used; i++) {
        struct client *k = &c->clients[(c->next + i) % c->used];
        if (k->fd < 0)
            continue;
        if (k->readable)
            client_read(c, k);
        while (client_has_request(k)) {
            client_request(sw, k);
            k->dirty = true;
            loop_breathe(sw);
            if (mono_ns() >= deadline)
                break;
        }
        if (mono_ns() >= deadline) {
            c->next = (c->next + i + 1) % c->used; /* the next one first, next time */
            break;
        }
    }
}

bool control_unsent(const struct control *c)
{
    for (uint32_t i = 0; i < c->used; i++)
        if (c->clients[i].fd >= 0 && c->clients[i].dirty)
            return true;
    return false;
}

void control_flush(struct switchd *sw)
{
    struct control *c = sw->control;
    for (uint32_t i = 0; i < CLIENTS; i++)
        if (c->clients[i].fd >= 0 && c->clients[i].dirty)
            client_flush(sw, &c->clients[i]);
}

void control_statistics(const struct control *c, struct buffer *out)
{
    buffer_printf(out, "[");
    const char *comma = "";
    for (int i = 0; i < CLIENTS; i++) {
        const struct client *k = &c->clients[i];
        if (k->fd < 0)
            continue;
        buffer_printf(out, "%s{\"requests\":%llu,\"events\":%u,\"lost\":%llu,\"unsent\":%zu}", comma,
                      (unsigned long long)k->requests, k->mask, (unsigned long long)k->lost, buffer_len(&k->out));
        comma = ",";
    }
    buffer_printf(out, "]");
}
