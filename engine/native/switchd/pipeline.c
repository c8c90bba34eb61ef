/* The loaded program: a shared object with the interface of sp_engine.h.
 *
 * Packets do not wait for a new program: a thread of its own loads it and makes its state, then the two change places,
 * and another thread takes the old one apart. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sp_engine.h"
#include "switchd.h"

struct pipeline {
    void *object;
    const struct sp_engine *engine;
    struct sp_switch *state;
    uint64_t last;  /* wall ns: the program's clock never runs backwards ... */
    uint64_t tick;  /* mono ns of the next look at idle entries */
    char path[1024];
};

static const uint64_t CLOCK_SET_BACK = NS_PER_S; /* ... unless the wall clock was set back by more than this */

static void on_emit(void *user, uint32_t port, const uint8_t *data, uint32_t len, const struct sp_tx *tx)
{
    switch_emit(user, (uint16_t)(port < MAX_PORTS ? port : MAX_PORTS - 1), data, len, tx ? tx->priority : 0);
}

static void on_digest(void *user, uint32_t digest, const uint8_t *values, uint32_t len, uint64_t now)
{
    struct switchd *sw = user;
    sw->stats.digests++;
    sw->stats.digests_unwanted += !control_digest(sw, digest, now, values, len);
}

static void on_idle(void *user, const uint8_t *entry, uint32_t len, uint64_t now)
{
    control_event(user, EVENT_IDLE_TIMEOUT, &now, sizeof now, entry, len);
}

static void on_trace(void *user, const uint8_t *event, uint32_t len) { trace_event(user, event, len); }

static void on_log(void *user, const char *text, uint32_t len)
{
    (void)user;
    log_info("log_msg: %.*s", (int)len, text);
}

static void on_queue(void *user, uint32_t number, uint32_t priority, struct sp_queue *queue)
{
    struct switchd *sw = user;
    struct port *port = number < MAX_PORTS ? sw->by_number[number] : NULL;
    queue->held_us = (uint32_t)(sw->held / NS_PER_US);
    queue->deq_timedelta_us = (uint32_t)(sw->waited / 1000); /* the device's backlog delays as a queue does */
    if (!port || (!port->tx_shaped && !port->queued && !port->sending))
        return;
    queue->enq_qdepth = queue->deq_qdepth = queue_length(port, priority);
    queue->deq_timedelta_us += (uint32_t)(queue_wait(port, priority, sw->now) / NS_PER_US);
}

static void on_breathe(void *user) { loop_breathe(user); }

/* A program with fresh state; NULL with a message. */
static struct pipeline *prepare(struct switchd *sw, const char *path, char *error, size_t error_len)
{
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p || strlen(path) >= sizeof p->path) {
        snprintf(error, error_len, p ? "path too long" : "out of memory");
        free(p);
        return NULL;
    }
    snprintf(p->path, sizeof p->path, "%s", path);
    p->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!p->object) {
        snprintf(error, error_len, "%s", dlerror());
        free(p);
        return NULL;
    }
    const struct sp_engine *(*entry)(void) = NULL;
    *(void **)&entry = dlsym(p->object, SP_ENGINE_SYMBOL);
    p->engine = entry ? entry() : NULL;
    struct sp_options options = {
        .abi = SP_ENGINE_ABI,
        .drop_port = MAX_PORTS - 1,
        .user = sw,
        .emit = on_emit,
        .digest = on_digest,
        .queue = on_queue,
        .idle = on_idle,
        .seed = mono_ns(),
        .log = on_log,
        .trace = on_trace,
        .breathe = on_breathe,
    };
    if (!p->engine)
        snprintf(error, error_len, "%s has no %s", path, SP_ENGINE_SYMBOL);
    else if (p->engine->abi != SP_ENGINE_ABI)
        /* Only after an upgrade: the server and what it compiles are new, this process lives on. */
        snprintf(error, error_len,
                 "the running data plane is of another version (its interface is %u, the pipeline's %u): restart the "
                 "switch, packets stop meanwhile (%s)",
                 SP_ENGINE_ABI, p->engine->abi, path);
    else if (!(p->state = p->engine->create(&options)))
        snprintf(error, error_len, "%s: no memory for the program's state", path);
    if (!p->state) {
        dlclose(p->object);
        free(p);
        return NULL;
    }
    return p;
}

static void *retire(void *argument)
{
    struct pipeline *p = argument;
    p->engine->destroy(p->state);
    dlclose(p->object);
    free(p);
    return NULL;
}

struct preparation {
    struct switchd *sw;
    const char *path;
    char *error;
    size_t error_len;
    struct pipeline *made;
    atomic_bool done;
};

static void *prepare_aside(void *argument)
{
    struct preparation *job = argument;
    job->made = prepare(job->sw, job->path, job->error, job->error_len);
    atomic_store(&job->done, true);
    return NULL;
}

static pthread_t retiring; /* of the last program that was replaced */
static bool retires;

static void wait_for_retired(void)
{
    if (retires)
        pthread_join(retiring, NULL);
    retires = false;
}

bool pipeline_load(struct switchd *sw, const char *path, char *error, size_t error_len)
{
    struct preparation job = {.sw = sw, .path = path, .error = error, .error_len = error_len};
    pthread_t thread;
    if (pthread_create(&thread, NULL, prepare_aside, &job) == 0) {
        const struct timespec moment = {0, 20000};
        while (!atomic_load(&job.done)) {
            loop_breathe(sw);
            nanosleep(&moment, NULL);
        }
        pthread_join(thread, NULL);
    } else {
        prepare_aside(&job);
    }
    struct pipeline *p = job.made, *old = sw->pipeline;
    if (!p)
        return false;
    if (old)
        p->last = old->last;
    trace_stop(sw); /* its variant belongs to the old program */
    sw->pipeline = p;
    for (uint32_t i = 0; i < sw->port_count; i++)
        if (!sw->ports[i]->up)
            p->engine->port_status(p->state, sw->ports[i]->number, 0);
    log_info("program %s from %s", p->engine->name, path);
    if (old) {
        wait_for_retired();
        retires = pthread_create(&retiring, NULL, retire, old) == 0;
        if (!retires)
            retire(old);
    }
    return true;
}

void pipeline_unload(struct switchd *sw)
{
    trace_stop(sw);
    wait_for_retired();
    if (sw->pipeline)
        retire(sw->pipeline);
    sw->pipeline = NULL;
}

int pipeline_trace(struct switchd *sw, const struct json *request, struct buffer *out)
{
    char error[512];
    if (!sw->pipeline) {
        buffer_printf(out, "no program is loaded");
        return SP_FAILED_PRECONDITION;
    }
    int code = trace_start(sw, request, sw->pipeline->engine, error, sizeof error);
    if (code != SP_OK)
        buffer_printf(out, "%s", error);
    return code;
}

bool pipeline_loaded(const struct switchd *sw) { return sw->pipeline != NULL; }

const char *pipeline_path(const struct switchd *sw) { return sw->pipeline ? sw->pipeline->path : ""; }

static uint64_t program_time(struct switchd *sw, uint64_t time)
{
    struct pipeline *p = sw->pipeline;
    uint64_t wall = wall_ns(sw, time);
    if (wall > p->last || p->last - wall > CLOCK_SET_BACK)
        p->last = wall;
    return p->last;
}

void pipeline_process(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len, uint64_t time)
{
    struct pipeline *p = sw->pipeline;
    sw->stats.packets++;
    if (!p) {
        sw->stats.no_program++;
        return;
    }
    const struct sp_engine *engine = sw->tracer ? trace_begin(sw, port, p->engine) : p->engine;
    engine->process(p->state, port, data, len, program_time(sw, time));
    if (engine != p->engine)
        trace_end(sw, p->last);
}

bool pipeline_ahead(struct switchd *sw, uint16_t port, const uint8_t *data, uint32_t len)
{
    struct pipeline *p = sw->pipeline;
    return p && p->engine->ahead(p->state, port, data, len);
}

void pipeline_port_status(struct switchd *sw, uint16_t port, bool up)
{
    if (sw->pipeline)
        sw->pipeline->engine->port_status(sw->pipeline->state, port, up);
}

int pipeline_command(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out)
{
    struct pipeline *p = sw->pipeline;
    const uint8_t *reply = NULL;
    uint32_t reply_len = 0;
    if (!p) {
        buffer_printf(out, "no program is loaded");
        return SP_FAILED_PRECONDITION;
    }
    if (op == SP_OP_RESET) {
        char path[sizeof p->path], error[512];
        memcpy(path, p->path, sizeof path);
        if (pipeline_load(sw, path, error, sizeof error))
            return SP_OK;
        buffer_printf(out, "%s", error);
        return SP_RESOURCE_EXHAUSTED;
    }
    uint32_t code = p->engine->command(p->state, op, data, len, program_time(sw, mono_ns()), &reply, &reply_len);
    if (reply_len && !buffer_append(out, reply, reply_len))
        return SP_RESOURCE_EXHAUSTED;
    return (int)code;
}

int pipeline_overtake(struct switchd *sw, uint16_t op, const uint8_t *data, uint32_t len, struct buffer *out)
{
    struct pipeline *p = sw->pipeline;
    const uint8_t *reply = NULL;
    uint32_t reply_len = 0;
    if (!p)
        return SP_LATER;
    uint32_t code = p->engine->overtake(p->state, op, data, len, program_time(sw, mono_ns()), &reply, &reply_len);
    if (reply_len && !buffer_append(out, reply, reply_len))
        return SP_RESOURCE_EXHAUSTED;
    return (int)code;
}

uint64_t pipeline_due(const struct switchd *sw) { return sw->pipeline ? sw->pipeline->tick : NEVER; }

void pipeline_tick(struct switchd *sw, uint64_t now)
{
    struct pipeline *p = sw->pipeline;
    if (!p || now < p->tick)
        return;
    p->tick = now + NS_PER_S;
    p->engine->tick(p->state, program_time(sw, now));
}
