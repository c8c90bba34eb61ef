/* Tracing of chosen packets while the switch runs.
 *
 * A second variant of the loaded program, compiled with SP_TRACE, has the same state. Packets that are to be traced go
 * through its process(), on the state of the running one; all others go the usual way and lose nothing. */
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "sp_engine.h"
#include "switchd.h"

enum { TRACE_BYTES = 512 * 1024 /* of one packet's events; the rest is left out */ };

struct tracer {
    void *object;
    const struct sp_engine *engine;
    int port;        /* of arrival; -1: any */
    uint32_t left;   /* packets */
    uint64_t interval, next; /* ns between two of them; mono ns */
    struct buffer events;    /* of the packet that is being traced: u32 length, event */
};

void trace_stop(struct switchd *sw)
{
    struct tracer *t = sw->tracer;
    if (!t)
        return;
    sw->tracer = NULL;
    buffer_free(&t->events);
    dlclose(t->object);
    free(t);
}

void trace_event(struct switchd *sw, const uint8_t *event, uint32_t len)
{
    struct tracer *t = sw->tracer;
    if (t && buffer_len(&t->events) + len < TRACE_BYTES && buffer_append(&t->events, &len, sizeof len))
        buffer_append(&t->events, event, len);
}

const struct sp_engine *trace_begin(struct switchd *sw, uint16_t port, const struct sp_engine *usual)
{
    struct tracer *t = sw->tracer;
    uint64_t now = mono_ns();
    if ((t->port >= 0 && t->port != port) || !t->left || now < t->next)
        return usual;
    if (!control_has_subscribers(sw->control, EVENT_TRACE)) /* whoever asked is gone */
        return usual;
    t->next = now + t->interval;
    t->left--;
    buffer_consume(&t->events, buffer_len(&t->events));
    return t->engine;
}

void trace_end(struct switchd *sw, uint64_t wall)
{
    struct tracer *t = sw->tracer;
    control_event(sw, EVENT_TRACE, &wall, sizeof wall, t->events.data + t->events.start, buffer_len(&t->events));
    if (!t->left)
        trace_stop(sw);
}

static double number(const struct json *request, const char *key, double fallback)
{
    const struct json *v = json_get(request, key);
    return v && v->type == JSON_NUMBER ? v->number : fallback;
}

/* {"path": "...", "port": N, "count": N, "per_second": N}; count 0 stops.
 *
 * Whoever asks has subscribed to the events before. One trace at a time: a second would get the first one's packets.
 * One whose asker is gone makes room. */
int trace_start(struct switchd *sw, const struct json *request, const struct sp_engine *usual, char *error, size_t len)
{
    const struct json *path = json_get(request, "path");
    double port = number(request, "port", -1), count = number(request, "count", 10);
    double rate = number(request, "per_second", 10);
    if (count != 0 && sw->tracer && control_subscribers(sw->control, EVENT_TRACE) > 1) {
        snprintf(error, len, "a trace is running already, with %u packets to come: end it, or wait until it has ended",
                 sw->tracer->left);
        return SP_FAILED_PRECONDITION;
    }
    trace_stop(sw);
    if (count == 0)
        return SP_OK;
    if (!path || path->type != JSON_STRING || !(port >= -1 && port < MAX_PORTS) || !(count >= 1 && count <= 1e6) ||
        !(rate > 0 && rate <= 1e6)) {
        snprintf(error, len, "needs path, port 0..511, count 0..1e6 and per_second up to 1e6");
        return SP_INVALID_ARGUMENT;
    }
    void *object = dlopen(path->string, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
        snprintf(error, len, "%s", dlerror());
        return SP_INVALID_ARGUMENT;
    }
    const struct sp_engine *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(object, SP_ENGINE_SYMBOL);
    const struct sp_engine *engine = entry ? entry() : NULL;
    struct tracer *t = calloc(1, sizeof *t);
    if (!engine || !t || engine->abi != usual->abi || !usual->key[0] || strcmp(engine->key, usual->key) != 0) {
        snprintf(error, len, "%s is no variant of the running program", path->string);
        dlclose(object);
        free(t);
        return SP_INVALID_ARGUMENT;
    }
    *t = (struct tracer){.object = object, .engine = engine, .port = (int)floor(port), .left = (uint32_t)count,
                         .interval = (uint64_t)(1e9 / rate)};
    sw->tracer = t;
    return SP_OK;
}
