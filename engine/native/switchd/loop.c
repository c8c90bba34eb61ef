/* The loop: packets of all sources in the order of their times, and control in between. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "switchd.h"

static const uint64_t CONTROL_SLICE = 50 * NS_PER_US; /* while packets wait */
static const uint64_t IDLE_SLICE = 2 * NS_PER_MS;
static const uint64_t BREATH = 20 * NS_PER_US; /* between two looks at the ports in the middle of a command */
static const uint64_t ASK = 100 * NS_PER_US; /* ... and at the control clients: a system call */
/* Under load, packets come sooner than a sleep and a wake-up take: look again for a moment first.
 * A slower stream (an idle switch with its heartbeats) always sleeps. */
static const uint64_t SPIN = 30 * NS_PER_US;
static const uint32_t SPIN_PACKETS = 25; /* in a window */
static const uint64_t SPIN_WINDOW = NS_PER_MS;
static const uint32_t AHEAD = 4; /* frames: a lookup in memory takes less than processing so many */
/* Under such load the packet that a command concerns is about to come: it goes first, then the reply. */
static const uint64_t REPLY_HOLD = 20 * NS_PER_US;

enum { LOOKS = 64 }; /* batches that loop_look() takes at the most */
enum { TAG_CONTROL = MAX_PORTS, TAG_TIMER }; /* in the epoll set, beside port numbers */

bool loop_watch(struct switchd *sw, struct port *port)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = port->number};
    return epoll_ctl(sw->epoll, EPOLL_CTL_ADD, port->fd, &e) == 0;
}

void port_status_changed(struct switchd *sw, struct port *port, bool up)
{
    uint64_t now = mono_ns(), wall = wall_ns(sw, now);
    port->up = up;
    pktgen_sent(sw, port); /* a link that goes or comes is none at rest */
    log_info("port %u (%s) is %s", port->number, port->name, up ? "up" : "down");
    pipeline_port_status(sw, port->number, up);
    if (!up)
        pktgen_port_down(sw, port->number, now);
    uint8_t event[11];
    memcpy(event, &wall, 8);
    memcpy(event + 8, &port->number, 2);
    event[10] = up;
    control_event(sw, EVENT_PORT_STATUS, event, sizeof event, NULL, 0);
}

void switch_emit(struct switchd *sw, uint16_t number, const uint8_t *data, uint32_t len, unsigned priority)
{
    sw->stats.emitted++;
    struct port *port = sw->by_number[number];
    if (port) {
        if (!is_heartbeat(data, len))
            pktgen_sent(sw, port);
        queue_put(sw, port, data, len, priority);
        return;
    }
    if (number == sw->cpu_port) {
        uint64_t wall = wall_ns(sw, sw->now);
        control_event(sw, EVENT_PACKET_IN, &wall, sizeof wall, data, len);
        return;
    }
    sw->stats.unknown_port++;
}

/* `aside`: nobody was woken for it, so the program is told how long it has waited. */
static void process(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, uint64_t time, bool aside)
{
    if (aside) {
        uint64_t now = mono_ns();
        sw->held = now > time ? now - time : 0;
    }
    pipeline_process(sw, port, data, len, time);
    sw->held = 0;
}

/* A frame has arrived, all impairments of its line behind it. */
static void arrive(struct switchd *sw, struct port *port, const uint8_t *data, uint32_t len, uint64_t time, bool aside)
{
    if (port->disabled)
        return;
    if (port->pcap_in)
        pcap_write(sw, port, port->pcap_in, data, len, wall_ns(sw, time));
    if (!is_heartbeat(data, len))
        pktgen_use(sw, port, time);
    else if (port->relaxed && !aside)
        pktgen_follow(sw, port, time);
    if (sw->device.active || sw->device.serving)
        device_receive(sw, port->number, data, len, time, aside);
    else
        process(sw, port->number, data, len, time, aside);
}

/* Time of the port's next frame; frames of an impaired line first pass its stage. */
static uint64_t port_next(struct switchd *sw, struct port *port, uint64_t now)
{
    if (!port->rx_staged && !port->delayed.count)
        return port_rx_time(sw, port, now);
    uint64_t time;
    for (int n = 0; n < 256 && (time = port_rx_time(sw, port, now)) != NEVER; n++) {
        uint32_t len;
        uint8_t *data = port_rx_take(port, &len);
        if (data)
            stage_receive(sw, port, data, len, time, port_rx_is_aside(port));
        port_rx_release(port);
    }
    return port->delayed.head ? port->delayed.head->time : NEVER;
}

static void port_handle(struct switchd *sw, struct port *port, uint64_t time)
{
    if (port->delayed.head) {
        struct packet *p = fifo_pop(&port->delayed);
        arrive(sw, port, p->data, p->len, p->time, p->aside);
        packet_free(p);
        return;
    }
    uint32_t len;
    const uint8_t *later = sw->announce ? port_rx_peek(port, AHEAD, &len) : NULL;
    if (later)
        pipeline_ahead(sw, port->number, later, len);
    uint8_t *data = port_rx_take(port, &len);
    if (data)
        arrive(sw, port, data, len, time, port_rx_is_aside(port));
    port_rx_release(port);
}

/* Up to BATCH packets; returns how many. */
static uint32_t turn(struct switchd *sw)
{
    uint64_t now = sw->now;
    sw->announce = pipeline_ahead(sw, 0, NULL, 0);
    uint32_t n;
    for (n = 0; n < BATCH; n++) {
        struct port *from = NULL;
        uint64_t first = pktgen_due(&sw->pktgen), served = device_due(&sw->device);
        for (uint32_t i = 0; i < sw->port_count; i++) {
            uint64_t time = port_next(sw, sw->ports[i], now);
            if (time < first) { /* at equal times the generator goes first: a lost carrier is known at once */
                first = time;
                from = sw->ports[i];
            }
        }
        if (served < first && served <= now) {
            sw->handled = served;
            struct packet *p = device_next(sw, now);
            sw->waited = p->time - p->arrived;
            process(sw, p->port, p->data, p->len, p->time, p->aside);
            sw->waited = 0;
            packet_free(p);
        } else if (first > now) {
            break;
        } else if (from) {
            sw->handled = first;
            port_handle(sw, from, first);
        } else {
            pktgen_run(sw, now);
        }
    }
    sw->handled = 0;
    return n;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* When something is due without anybody waking us; `now` when a frame waits in a ring. */
static uint64_t next_due(struct switchd *sw, uint64_t now)
{
    uint64_t due = earlier(pktgen_due(&sw->pktgen), device_due(&sw->device));
    due = earlier(due, pipeline_due(sw));
    if (sw->pcap_dirty)
        due = earlier(due, sw->pcap_due);
    for (uint32_t i = 0; i < sw->port_count; i++) {
        struct port *p = sw->ports[i];
        due = earlier(due, queue_due(p));
        if (p->delayed.head)
            due = earlier(due, p->delayed.head->time);
        if (port_rx_waits(p))
            return now;
    }
    return due;
}

/* A timer that stays set over many sleeps: a time-out of each sleep would be set and taken back for each frame. */
static void set_timer(struct switchd *sw, uint64_t due)
{
    if (due == sw->timer_due)
        return;
    uint64_t at = due == NEVER ? 0 : due; /* 0 takes it back */
    struct itimerspec when = {.it_value = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)}};
    if (timerfd_settime(sw->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0)
        sw->timer_due = due;
}

static void sleep_until(struct switchd *sw, uint64_t due)
{
    struct epoll_event events[64];
    sw->stats.sleeps++;
    set_timer(sw, due);
    int n = epoll_wait(sw->epoll, events, 64, -1);
    bool quiet = n >= 0 && n < 64;
    for (int i = 0; i < n; i++)
        quiet &= events[i].data.u64 != TAG_CONTROL;
    for (int i = 0; i < n; i++)
        if ((events[i].events & (EPOLLERR | EPOLLHUP)) && events[i].data.u64 < MAX_PORTS) {
            struct port *port = sw->by_number[events[i].data.u64];
            if (port)
                port_rx_error(sw, port);
        }
    sw->looked = mono_ns();
    sw->control_looked = quiet ? sw->looked : 0;
}

static void transmit_due(struct switchd *sw)
{
    for (uint32_t i = 0; i < sw->port_count; i++)
        if (queue_due(sw->ports[i]) <= sw->now)
            queue_run(sw, sw->ports[i], sw->now);
}

static void recheck(struct switchd *sw)
{
    __atomic_store_n(&sw->recheck, false, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < sw->port_count; i++)
        if (__atomic_exchange_n(&sw->ports[i]->recheck, false, __ATOMIC_ACQUIRE)) {
            port_check_carrier(sw, sw->ports[i]);
        }
}

/* How long packets could not be looked at while we were awake. */
static void pause_seen(struct switchd *sw, uint64_t now)
{
    if (now - sw->looked > sw->stats.longest_pause)
        sw->stats.longest_pause = now - sw->looked;
}

void loop_breathe(struct switchd *sw)
{
    uint64_t now = mono_ns();
    if (now - sw->looked < BREATH)
        return;
    pause_seen(sw, now);
    if (next_due(sw, now) <= now) {
        sw->now = now;
        turn(sw);
        transmit_due(sw);
        ports_flush(sw);
        now = mono_ns();
    }
    sw->looked = now;
    if (now - sw->asked < ASK)
        return;
    control_overtake(sw);
    sw->asked = mono_ns();
}

void loop_look(struct switchd *sw)
{
    sw->now = mono_ns();
    for (int turns = 0; turns < LOOKS && turn(sw) == BATCH; turns++) { /* no more than the rings held when we came */
    }
    transmit_due(sw);
    ports_flush(sw);
}

void loop_run(struct switchd *sw)
{
    struct epoll_event control = {.events = EPOLLIN, .data.u64 = TAG_CONTROL};
    struct epoll_event timer = {.events = EPOLLIN, .data.u64 = TAG_TIMER};
    epoll_ctl(sw->epoll, EPOLL_CTL_ADD, control_epoll(sw->control), &control);
    epoll_ctl(sw->epoll, EPOLL_CTL_ADD, sw->timer, &timer);
    sw->timer_due = NEVER;
    uint64_t window = 0, last_packet = 0, hold = 0;
    uint32_t in_window = 0, rate = 0;
    sw->looked = mono_ns();
    while (!sw->stop) {
        sw->now = mono_ns();
        pause_seen(sw, sw->now);
        sw->stats.turns++;
        clock_update(sw, sw->now);
        uint32_t n = turn(sw);
        transmit_due(sw);
        ports_flush(sw);
        sw->looked = mono_ns();
        if (__atomic_load_n(&sw->recheck, __ATOMIC_ACQUIRE))
            recheck(sw);
        pipeline_tick(sw, sw->now);

        uint64_t now = mono_ns();
        if (n == 0 && now < hold)
            continue;
        hold = 0;
        control_flush(sw);
        if (now - window >= SPIN_WINDOW) {
            rate = now - window < 2 * SPIN_WINDOW ? in_window : 0;
            in_window = 0;
            window = now;
        }
        in_window += n;
        if (n)
            last_packet = now;
        control_run(sw, now + (n ? CONTROL_SLICE : IDLE_SLICE));
        bool fast = rate >= SPIN_PACKETS;
        priority_turn(now, fast);
        senders_turn(sw, now);
        if (fast && !priority_realtime() && control_unsent(sw->control))
            hold = mono_ns() + REPLY_HOLD;
        if (n == BATCH || control_pending(sw->control) || control_unsent(sw->control))
            continue;
        now = mono_ns();
        if (sw->pcap_dirty && now >= sw->pcap_due)
            pcap_flush(sw);
        uint64_t due = next_due(sw, now);
        bool spin = fast && now - last_packet < SPIN && !priority_realtime();
        if (due <= now || spin)
            continue;
        sleep_until(sw, due);
    }
    control_flush(sw);
}
