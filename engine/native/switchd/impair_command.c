/* The command that impairs ports and the device:
 *
 *   {"port": N or null (device), "schedule": {parameter: [[seconds, value], ...] or null}, "clear": bool,
 *    "base": bool, "seed": N}
 *
 * `clear` comes first; `base` names the layer below faults, which only {"clear": true, "base": true} empties. Nothing
 * is changed when anything is wrong. */
#include <math.h>
#include <stdlib.h>

#include "json.h"
#include "sp_engine.h"
#include "switchd.h"

static bool is_true(const struct json *v) { return v && v->type == JSON_BOOL && v->boolean; }

static struct point *read_points(const struct json *list, enum parameter p, uint64_t now, const char **why)
{
    if (list->type != JSON_ARRAY || list->count == 0 || list->count > SCHEDULE_POINTS) {
        *why = "must be a list of 1 to 4096 pairs [seconds from now, value]";
        return NULL;
    }
    struct point *points = calloc(list->count, sizeof *points);
    uint32_t n = 0;
    *why = points ? NULL : "out of memory";
    for (const struct json *pair = list->first; pair && !*why; pair = pair->next, n++) {
        const struct json *t = pair->first, *v = t ? t->next : NULL;
        if (pair->type != JSON_ARRAY || pair->count != 2 || t->type != JSON_NUMBER || v->type != JSON_NUMBER)
            *why = "has an element that is no pair [seconds from now, value]";
        else if (!(t->number >= 0 && t->number <= 1e6))
            *why = "has a time outside 0..1e6 s";
        else
            *why = parameter_check(p, v->number);
        if (*why)
            break;
        points[n] = (struct point){now + (uint64_t)(t->number * 1e9), v->number};
        if (n > 0 && points[n].time < points[n - 1].time)
            *why = "is not in time order";
    }
    if (!*why)
        return points;
    free(points);
    return NULL;
}

int impair_command(struct switchd *sw, const struct json *request, struct buffer *out)
{
    static const char *const known[] = {"port", "schedule", "clear", "base", "seed", NULL};
    uint64_t now = mono_ns();
    struct point *points[PARAMETERS] = {0};
    uint32_t counts[PARAMETERS] = {0};
    bool unset[PARAMETERS] = {0};
    const struct json *number = json_get(request, "port"), *seed = json_get(request, "seed");
    const struct json *schedule = json_get(request, "schedule");
    bool of_port = number && number->type != JSON_NULL;
    struct port *port = of_port ? command_port(sw, number) : NULL;
    int code = SP_INVALID_ARGUMENT;
    if (!command_keys(request, known, out))
        return code;
    if (of_port && !port)
        return command_refuse(out, SP_NOT_FOUND, "no such port", NULL);
    if ((schedule && schedule->type != JSON_OBJECT) ||
        (seed && (seed->type != JSON_NUMBER || !(fabs(seed->number) < 0x1p53))) ||
        (!schedule && !seed && !is_true(json_get(request, "clear"))))
        return command_refuse(out, code, "needs schedule (an object), clear or seed (a number)", NULL);
    for (const struct json *m = schedule ? schedule->first : NULL; m; m = m->next) {
        int p = parameter_by_name(m->key);
        const char *why = NULL;
        if (p < 0)
            why = "is no parameter";
        else if (parameter_of_device((enum parameter)p) == of_port)
            why = of_port ? "belongs to the device, not to a port" : "belongs to a port, not to the device";
        else if (points[p] || unset[p])
            why = "is given twice";
        else if (m->type == JSON_NULL)
            unset[p] = true;
        else
            points[p] = read_points(m, (enum parameter)p, now, &why);
        if (why) {
            buffer_printf(out, "%s %s", m->key, why);
            goto cleanup;
        }
        counts[p] = (uint32_t)m->count;
    }
    struct impairment *target = is_true(json_get(request, "base")) ? (port ? &port->base : &sw->device.base)
                                                                  : (port ? &port->fault : &sw->device.fault);
    if (port)
        stage_optics(port, now); /* what was in force until now counts */
    if (is_true(json_get(request, "clear")))
        impairment_clear(target);
    for (int p = 0; p < PARAMETERS; p++) {
        if (unset[p])
            schedule_clear(&target->schedules[p]);
        if (points[p])
            schedule_set(&target->schedules[p], points[p], counts[p], now);
        points[p] = NULL;
    }
    if (seed && port) {
        rng_seed(&port->fate, (uint64_t)(int64_t)seed->number);
        rng_seed(&port->optics.rng, ~(uint64_t)(int64_t)seed->number);
    }
    if (port)
        stage_configure(port, now);
    else
        device_configure(sw, now);
    code = SP_OK;
cleanup:
    for (int p = 0; p < PARAMETERS; p++)
        free(points[p]);
    return code;
}
