/* Packet generator: heartbeat commands for every port, and the news of a lost carrier, as packets to the program.
 *
 *   packet_out header: egress port 9 bits (0), opcode 7 bits;  command: index u32, value u32, cookie u64
 *
 * A port on which nothing but heartbeats has passed for a while is relaxed: it is asked at each `relaxed`-th interval
 * only, all such ports at the same moments, so that an idle switch sleeps longer. The command's value tells the program
 * (how many times the interval is doubled), which stretches whatever follows from the interval. Data ends it at once: the
 * usual command comes before the frame that came in, and before what follows the one that went out.
 *
 * Heartbeats never end it, or two neighbours could keep each other busy for ever. One that does not wait (its sender has
 * seen data, or misses something, or knows nothing of all this) makes us ask as often as usual for a moment, in the
 * relaxed manner, so that a neighbour in need of signs of life gets them.
 */
#include <string.h>

#include "switchd.h"

enum { COMMAND_LEN = 18, VALUE_END = 9, RELAXED_MOST = 8, FOLLOWED = 4 /* intervals */ };

static const uint64_t DEFER_MOST = 20 * NS_PER_MS; /* heartbeats are seen, and reports leave, that late at the most */
static const uint64_t RELAX_MOST = 50 * NS_PER_MS; /* ... and those of relaxed ports */
static const uint64_t RELAX_AFTER = NS_PER_S;
static const int CHANGES = 4; /* of filters at a tick, some 20 us each */

static void command_frame(uint8_t *frame, uint8_t opcode, uint16_t port, uint8_t value)
{
    memset(frame, 0, COMMAND_LEN);
    frame[1] = opcode;
    frame[4] = (uint8_t)(port >> 8);
    frame[5] = (uint8_t)port;
    frame[VALUE_END] = value;
}

/* When the next of the moments `grid` apart comes after `time`. */
static uint64_t next_moment(const struct pktgen *g, uint64_t time, uint64_t grid)
{
    return time < g->origin ? g->origin : g->origin + ((time - g->origin) / grid + 1) * grid;
}

static uint64_t relaxed_interval(const struct pktgen *g) { return g->interval << g->stretch; }

static bool waits_less(const struct port *port, uint64_t at) { return !port->relaxed || at < port->follow; }

/* Sets the time of the next command: on the finer grid as long as some port needs it. */
static void schedule(struct switchd *sw, uint64_t after)
{
    struct pktgen *g = &sw->pktgen;
    uint64_t soon = next_moment(g, after, g->interval);
    g->due = g->relaxed_due;
    for (uint32_t i = 0; i < sw->port_count && g->due > soon; i++)
        if (waits_less(sw->ports[i], soon))
            g->due = soon;
}

static uint8_t stretch_for(uint32_t relaxed)
{
    uint8_t stretch = 0;
    while (2u << stretch <= relaxed && 2u << stretch <= RELAXED_MOST)
        stretch++;
    return stretch;
}

void pktgen_configure(struct switchd *sw, uint64_t interval_ns, bool port_down, bool defer, uint32_t relaxed)
{
    struct pktgen *g = &sw->pktgen;
    struct pktgen wanted = {.interval = interval_ns, .defer = defer, .stretch = stretch_for(relaxed)};
    if (!pktgen_patience(&wanted) || relaxed_interval(&wanted) > RELAX_MOST)
        wanted.stretch = 0;
    uint32_t before = pktgen_patience(g), patience = pktgen_patience(&wanted);
    g->port_down = port_down;
    g->defer = defer;
    if (g->interval != interval_ns || g->stretch != wanted.stretch) {
        uint64_t now = mono_ns();
        for (uint32_t i = 0; i < sw->port_count; i++)
            if (sw->ports[i]->relaxed) /* by the old interval */
                pktgen_use(sw, sw->ports[i], now);
        g->origin = now;
        g->interval = interval_ns;
        g->stretch = wanted.stretch;
        g->due = g->relaxed_due = interval_ns ? now + interval_ns : NEVER;
    }
    /* A new server says the same again. To close a ring takes tens of milliseconds, in which neighbours give us up. */
    if (patience == before)
        return;
    if (before) {
        for (uint32_t i = 0; i < sw->port_count; i++)
            port_rx_prompt(sw->ports[i]);
        loop_look(sw); /* a request that is thrown away would count as lost */
    }
    for (uint32_t i = 0; i < sw->port_count; i++)
        port_rx_aside(sw->ports[i], patience);
}

uint32_t pktgen_patience(const struct pktgen *g)
{
    return g->defer && g->interval <= DEFER_MOST ? (uint32_t)(g->interval / NS_PER_US) : 0;
}

/* Frames that the port received before now are processed first: none of them may revive it. */
void pktgen_port_down(struct switchd *sw, uint16_t port, uint64_t time)
{
    uint8_t frame[COMMAND_LEN];
    if (!sw->pktgen.port_down)
        return;
    command_frame(frame, OPCODE_PORT_DOWN, port, 0);
    struct packet *p = packet_new(frame, sizeof frame);
    if (!p)
        return;
    p->time = time;
    fifo_push(&sw->pktgen.injected, p);
}

uint64_t pktgen_due(const struct pktgen *g)
{
    uint64_t due = g->used && g->used_at < g->due ? g->used_at : g->due;
    uint64_t injected = g->injected.head ? g->injected.head->time : NEVER;
    return injected < due ? injected : due;
}

static void ask(struct switchd *sw, const struct port *port, uint64_t at)
{
    uint8_t frame[COMMAND_LEN];
    command_frame(frame, OPCODE_HEARTBEAT, port->number, port->relaxed ? sw->pktgen.stretch : 0);
    pipeline_process(sw, sw->pktgen.port, frame, sizeof frame, at);
}

/* At a tick: the port begins to rest, or its filters follow what it does; false: there was nothing to do. A port in use
 * again is not in a hurry with its filter: until then more wakes us up than needs to. */
static bool settle(struct switchd *sw, struct port *port, uint64_t at, bool all)
{
    const struct pktgen *g = &sw->pktgen;
    if (!port->patience_us) /* no ring for what may wait */
        return false;
    if (port->relaxed) {
        if (!all || port->aside_us == port->patience_us)
            return false;
        port_rx_settled(port);
    } else if (g->stretch && all && at >= port->used && at - port->used >= RELAX_AFTER) {
        port->relaxed = port_rx_patience(port, (uint32_t)(relaxed_interval(g) / NS_PER_US));
        port->follow = 0;
    } else {
        if (port->patience_us == pktgen_patience(g))
            return false;
        port_rx_patience(port, pktgen_patience(g));
    }
    return true;
}

void pktgen_use(struct switchd *sw, struct port *port, uint64_t time)
{
    struct pktgen *g = &sw->pktgen;
    port->used = time;
    if (!port->relaxed)
        return;
    port->relaxed = false;
    if (!g->interval)
        return;
    ask(sw, port, time);
    if (g->due > next_moment(g, time, g->interval))
        schedule(sw, time);
}

void pktgen_sent(struct switchd *sw, struct port *port)
{
    struct pktgen *g = &sw->pktgen;
    port->used = sw->now;
    if (!port->relaxed || port->use)
        return;
    port->use = true;
    if (!g->used)
        g->used_at = sw->handled ? sw->handled : sw->now;
    g->used = true;
}

static void use_all(struct switchd *sw)
{
    struct pktgen *g = &sw->pktgen;
    uint64_t at = g->used_at;
    g->used = false;
    for (uint32_t i = 0; i < sw->port_count; i++)
        if (sw->ports[i]->use) {
            sw->ports[i]->use = false;
            pktgen_use(sw, sw->ports[i], at);
        }
}

void pktgen_follow(struct switchd *sw, struct port *port, uint64_t time)
{
    struct pktgen *g = &sw->pktgen;
    port->follow = time + FOLLOWED * g->interval;
    if (g->due > next_moment(g, time, g->interval))
        schedule(sw, time);
}

void pktgen_run(struct switchd *sw, uint64_t now)
{
    struct pktgen *g = &sw->pktgen;
    struct packet *p = g->injected.head;
    if (g->used && g->used_at <= g->due && (!p || g->used_at <= p->time)) {
        use_all(sw);
        return;
    }
    if (p && p->time <= now && p->time <= g->due) {
        fifo_pop(&g->injected);
        pipeline_process(sw, g->port, p->data, p->len, p->time);
        packet_free(p);
        return;
    }
    if (g->due > now)
        return;
    /* After a stall only the latest tick is made up for: heartbeats in a bunch would tell nothing. */
    uint64_t missed = (now - g->due) / g->interval;
    uint64_t at = g->due + missed * g->interval;
    bool all = at >= g->relaxed_due;
    int changes = CHANGES;
    if (all)
        g->relaxed_due = next_moment(g, at, relaxed_interval(g));
    g->skipped += missed;
    g->ticks++;
    for (uint32_t i = 0; i < sw->port_count; i++) {
        struct port *port = sw->ports[i];
        if (changes)
            changes -= settle(sw, port, at, all);
        if (all || waits_less(port, at))
            ask(sw, port, at);
    }
    schedule(sw, at);
}
