/* Small requests in the middle of large ones: a flip does not wait until a batch of 100,000 entries is written.
 *
 * The loop looks here at the other clients every 100 us of a long request (or of one client's row of requests), and executes
 * what need not wait. Which requests those are is said by commands.c and, for the program's, by core/overtake.c; whatever
 * stands at the head of a client's row and has to wait keeps the ones behind it waiting.
 */
#include <string.h>

#include "control.h"
#include "sp_engine.h"

enum {
    SMALL = MAX_FRAME,  /* bytes of requests that may overtake others: a packet-out */
    OVERTAKE_MOST = 16, /* of them at a time, so that packets and what is overtaken go on */
};

static const uint64_t OVERTAKE_SLICE = 50 * NS_PER_US; /* ... and no more of them after so long */

static struct buffer answer; /* reused: most are small */

bool overtake_trim(void) { return buffer_trim(&answer); }

/* More of a client's bytes, unless a large message is on its way. */
static void client_read_small(struct control *c, struct client *k)
{
    struct header h = {0};
    if (buffer_len(&k->in) >= sizeof h)
        memcpy(&h, k->in.data + k->in.start, sizeof h);
    if (h.len <= SMALL)
        client_read(c, k);
}

static bool client_overtake(struct switchd *sw, struct client *k)
{
    struct header h;
    memcpy(&h, k->in.data + k->in.start, sizeof h);
    int code = h.len > SMALL
                   ? SP_LATER
                   : command_overtake(sw, h.op, k->in.data + k->in.start + sizeof h, h.len, &answer);
    if (code != SP_LATER) {
        k->requests++;
        client_reply(sw, k, h, code, &answer);
        buffer_consume(&k->in, sizeof h + h.len);
    }
    buffer_consume(&answer, buffer_len(&answer)); /* now, so that it can be given back */
    return code != SP_LATER;
}

void control_overtake(struct switchd *sw)
{
    struct control *c = sw->control;
    if (c->overtaking || c->used < 2)
        return;
    c->overtaking = true;
    control_poll(sw, false);
    const uint64_t end = mono_ns() + OVERTAKE_SLICE;
    for (uint32_t i = 0, done = 0; i < c->used && done < OVERTAKE_MOST; i++) {
        struct client *k = &c->clients[i];
        if (k->fd < 0 || k == c->served)
            continue;
        if (k->readable && !client_has_request(k))
            client_read_small(c, k);
        while (done < OVERTAKE_MOST && client_has_request(k) && client_overtake(sw, k)) {
            k->dirty = true;
            done = mono_ns() < end ? done + 1 : OVERTAKE_MOST;
        }
        if (k->dirty) /* also replies from just before the long request, and events of packets that have passed */
            client_flush(sw, k);
    }
    c->overtaking = false;
}
