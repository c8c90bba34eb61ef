/* Packet generator: heartbeat commands for every port, and the news of a lost carrier, as packets to the program.
 *
 *   packet_out header: egress port 9 bits (0), opcode 7 bits;  command: index u32, value u32, cookie u64
 */
#include <string.h>

#include "switchd.h"

enum { COMMAND_LEN = 18 };

static const uint64_t DEFER_MOST = 20 * NS_PER_MS; /* heartbeats are seen, and reports leave, that late at the most */

static void command_frame(uint8_t *frame, uint8_t opcode, uint16_t port)
{
    memset(frame, 0, COMMAND_LEN);
    frame[1] = opcode;
    frame[4] = (uint8_t)(port >> 8);
    frame[5] = (uint8_t)port;
}

void pktgen_configure(struct switchd *sw, uint64_t interval_ns, bool port_down, bool defer)
{
    struct pktgen *g = &sw->pktgen;
    struct pktgen wanted = {.interval = interval_ns, .defer = defer};
    uint32_t before = pktgen_patience(g), patience = pktgen_patience(&wanted);
    g->port_down = port_down;
    g->defer = defer;
    if (interval_ns == 0 || g->interval != interval_ns)
        g->due = interval_ns ? mono_ns() + interval_ns : NEVER;
    g->interval = interval_ns;
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
    command_frame(frame, OPCODE_PORT_DOWN, port);
    struct packet *p = packet_new(frame, sizeof frame);
    if (!p)
        return;
    p->time = time;
    fifo_push(&sw->pktgen.injected, p);
}

uint64_t pktgen_due(const struct pktgen *g)
{
    uint64_t injected = g->injected.head ? g->injected.head->time : NEVER;
    return injected < g->due ? injected : g->due;
}

void pktgen_run(struct switchd *sw, uint64_t now)
{
    struct pktgen *g = &sw->pktgen;
    struct packet *p = g->injected.head;
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
    g->skipped += missed;
    g->due = at + g->interval;
    g->ticks++;
    for (uint32_t i = 0; i < sw->port_count; i++) {
        uint8_t frame[COMMAND_LEN];
        command_frame(frame, OPCODE_HEARTBEAT, sw->ports[i]->number);
        pipeline_process(sw, g->port, frame, sizeof frame, at);
    }
}
