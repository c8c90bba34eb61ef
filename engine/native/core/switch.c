/* Life cycle of a switch and the state that packets touch besides tables. */
#include "sp_core.h"
#include "sp_wire.h"

#include <stdlib.h>

static void sp_member_free(void *p)
{
    struct sp_member *m = p;
    sp_act_release(m->act);
    free(m);
}

static void sp_group_free(void *p)
{
    struct sp_group *g = p;
    free(g->member);
    free(g->choice);
    free(g);
}

static void sp_clear(struct sp_switch *sw)
{
    const struct sp_program *p = sw->program;
    sw->deep = false;
    for (uint32_t i = 0; sw->tables && i < p->n_tables; i++)
        sp_table_clear(&sw->tables[i]);
    for (uint32_t i = 0; sw->profiles && i < p->n_profiles; i++) {
        sp_map_clear(&sw->profiles[i].groups, sp_group_free);
        sp_map_clear(&sw->profiles[i].members, sp_member_free);
    }
    for (uint32_t i = 0; sw->value_sets && i < p->n_value_sets; i++) {
        free(sw->value_sets[i].values);
        sw->value_sets[i] = (struct sp_value_set){0};
    }
    for (uint32_t i = 0; sw->registers && i < p->n_registers; i++)
        if (sw->registers[i])
            memset(sw->registers[i], 0, (size_t)p->registers[i].size * p->registers[i].cell);
    for (uint32_t i = 0; sw->counters && i < p->n_counters; i++)
        if (sw->counters[i])
            memset(sw->counters[i], 0, p->counters[i].size * sizeof **sw->counters);
    for (uint32_t i = 0; sw->meters && i < p->n_meters; i++)
        if (sw->meters[i])
            memset(sw->meters[i], 0, p->meters[i].size * sizeof **sw->meters);
    sp_map_clear(&sw->multicast, free);
    sp_map_clear(&sw->clones, free);
}

bool sp_reset(struct sp_switch *sw)
{
    sp_clear(sw);
    for (uint32_t i = 0; i < sw->program->n_initial; i++) {
        struct sp_reader r = {sw->program->initial[i].data, sw->program->initial[i].len, true};
        if (sp_apply_initial(sw, &r) != SP_OK)
            return false;
    }
    return true;
}

void sp_destroy(struct sp_switch *sw)
{
    if (!sw)
        return;
    const struct sp_program *p = sw->program;
    sp_clear(sw);
    for (uint32_t i = 0; sw->registers && i < p->n_registers; i++)
        free(sw->registers[i]);
    for (uint32_t i = 0; sw->counters && i < p->n_counters; i++)
        free(sw->counters[i]);
    for (uint32_t i = 0; sw->meters && i < p->n_meters; i++)
        free(sw->meters[i]);
    free(sw->tables);
    free(sw->profiles);
    free(sw->registers);
    free(sw->counters);
    free(sw->meters);
    free(sw->value_sets);
    sp_acts_clear(&sw->acts);
    sp_preparer_stop(sw->preparer);
    free(sw->reply.data);
    free(sw->reply_between.data);
    free(sw->out);
    free(sw->contexts);
    free(sw);
}

/* Twice what tables and profiles hold, for what a batch replaces, and many more: only addresses, no memory. */
static uint32_t sp_act_limit(const struct sp_program *p)
{
    uint64_t sum = 1u << 23;
    for (uint32_t i = 0; i < p->n_tables; i++)
        sum += 2ull * p->tables[i].size;
    for (uint32_t i = 0; i < p->n_profiles; i++)
        sum += 2ull * p->profiles[i].size;
    return sum < UINT32_MAX ? (uint32_t)sum : UINT32_MAX;
}

#define LARGE 2048u /* entries, members: fewer need no preparation */

static bool sp_is_large(const struct sp_program *p)
{
    bool large = false;
    for (uint32_t i = 0; i < p->n_tables; i++)
        large |= p->tables[i].fields && p->tables[i].size > LARGE;
    for (uint32_t i = 0; i < p->n_profiles; i++)
        large |= p->profiles[i].size > LARGE;
    return large;
}

struct sp_switch *sp_create(const struct sp_program *p, const struct sp_options *options)
{
    if (options->abi != SP_ENGINE_ABI)
        return NULL;
    struct sp_switch *sw = calloc(1, sizeof *sw);
    if (!sw)
        return NULL;
    sw->program = p;
    sw->options = *options;
    sw->random = options->seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
    bool ok = (sw->tables = calloc(p->n_tables + 1, sizeof *sw->tables)) != NULL;
    ok = (sw->profiles = calloc(p->n_profiles + 1, sizeof *sw->profiles)) && ok;
    ok = (sw->registers = calloc(p->n_registers + 1, sizeof *sw->registers)) && ok;
    ok = (sw->counters = calloc(p->n_counters + 1, sizeof *sw->counters)) && ok;
    ok = (sw->meters = calloc(p->n_meters + 1, sizeof *sw->meters)) && ok;
    ok = (sw->value_sets = calloc(p->n_value_sets + 1, sizeof *sw->value_sets)) && ok;
    ok = (sw->out = malloc(SP_OUT_ROOM)) && ok;
    sw->preparer = sp_is_large(p) ? sp_preparer_start() : NULL;
    sw->multicast.preparer = sw->clones.preparer = sw->preparer;
    sw->gone_multicast.preparer = sw->gone_clones.preparer = sw->preparer;
    sp_acts_prepare(&sw->acts, sw->preparer);
    sw->contexts = NULL;
    ok = ok && posix_memalign(&sw->contexts, 64, (p->context_size + 63) & ~(size_t)63) == 0;
    for (uint32_t i = 0; ok && i < p->n_tables; i++) {
        sw->tables[i].desc = &p->tables[i];
        sw->tables[i].owner = sw;
        sw->tables[i].index = i;
        sp_table_prepare(&sw->tables[i]);
    }
    for (uint32_t i = 0; ok && i < p->n_profiles; i++) {
        sw->profiles[i].desc = &p->profiles[i];
        sw->profiles[i].members.limit = sw->profiles[i].groups.limit = p->profiles[i].size;
        sw->profiles[i].members.preparer = sw->profiles[i].groups.preparer = sw->preparer;
    }
    sw->acts.limit = ok ? sp_act_limit(p) : 0;
    for (uint32_t i = 0; ok && i < p->n_registers; i++)
        ok = (sw->registers[i] = calloc((size_t)p->registers[i].size + 1, p->registers[i].cell)) != NULL;
    for (uint32_t i = 0; ok && i < p->n_counters; i++)
        ok = (sw->counters[i] = calloc((size_t)p->counters[i].size + 1, sizeof **sw->counters)) != NULL;
    for (uint32_t i = 0; ok && i < p->n_meters; i++)
        ok = (sw->meters[i] = calloc((size_t)p->meters[i].size + 1, sizeof **sw->meters)) != NULL;
    if (ok)
        memset(sw->contexts, 0, p->context_size);
    sw->still = true;
    if (!ok || !sp_reset(sw)) {
        sp_destroy(sw);
        return NULL;
    }
    sw->still = false;
    return sw;
}

const struct sp_stats *sp_get_stats(const struct sp_switch *sw) { return &sw->stats; }

/* -- selector groups ---------------------------------------------------------------------------------------------- */

static bool sp_is_live(const struct sp_switch *sw, const struct sp_group_member *m)
{
    uint32_t port = (uint32_t)m->watch;
    if (m->watch < 0 || port >= sizeof sw->port_down * 8)
        return true;
    return !(sw->port_down[port >> 3] & (1u << (port & 7)));
}

#define CHOICES 4096u /* filled without a break */

/* Fills choice[] with the live members; room for all was allocated when the group was written. */
void sp_group_refresh(struct sp_switch *sw, struct sp_group *g, bool unseen)
{
    uint16_t *choice = g->choice;
    uint32_t live = 0, filled = 0;
    for (uint32_t i = 0; i < g->members; i++) {
        if (!sp_is_live(sw, &g->member[i]))
            continue;
        for (uint32_t w = 0; w < g->member[i].weight; w++) {
            choice[live++] = (uint16_t)i;
            if (unseen && ++filled == CHOICES) { /* no packet finds it yet */
                sp_breathe(sw);
                filled = 0;
            }
        }
    }
    g->live = live;
}

/* Chooses among each replica and its backups. */
void sp_replicas_refresh(const struct sp_switch *sw, struct sp_replicas *g)
{
    const struct sp_replica *given = g->replica + g->count;
    bool settled = true;
    for (uint32_t i = 0, at = 0; i < g->given; i++) {
        struct sp_replica r = {given[i].port & ~SP_BACKUP, given[i].instance};
        bool up = r.port >= sizeof sw->port_down * 8 || !(sw->port_down[r.port >> 3] & (1u << (r.port & 7)));
        if (!(given[i].port & SP_BACKUP)) {
            g->replica[at++] = r;
            settled = up;
        } else if (!settled && up) {
            g->replica[at - 1] = r;
            settled = true;
        }
    }
}

static void sp_map_refresh(const struct sp_switch *sw, const struct sp_id_map *map)
{
    for (uint32_t k = 0; map->values && k <= map->mask; k++) {
        struct sp_replicas *g = map->values[k];
        if (g && g->given > g->count) /* without backups nothing can change */
            sp_replicas_refresh(sw, g);
    }
}

void sp_port_status(struct sp_switch *sw, uint32_t port, int up)
{
    if (port >= sizeof sw->port_down * 8)
        return;
    uint8_t bit = (uint8_t)(1u << (port & 7));
    if (up)
        sw->port_down[port >> 3] &= (uint8_t)~bit;
    else
        sw->port_down[port >> 3] |= bit;
    for (uint32_t i = 0; i < sw->program->n_profiles; i++) {
        struct sp_id_map *groups = &sw->profiles[i].groups;
        for (uint32_t k = 0; groups->values && k <= groups->mask; k++)
            if (groups->values[k])
                sp_group_refresh(sw, groups->values[k], false);
    }
    sp_map_refresh(sw, &sw->multicast);
    sp_map_refresh(sw, &sw->clones);
}

/* -- externs ------------------------------------------------------------------------------------------------------ */

uint64_t sp_random(struct sp_switch *sw, uint64_t low, uint64_t high)
{
    uint64_t x = sw->random += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    uint64_t span = high - low + 1;
    return span ? low + (uint64_t)(((sp_u128)x * span) >> 64) : x;
}

/* Decimal digits of a value at the end of a buffer; returns where they start. */
static const char *sp_decimal(char text[48], sp_s128 value)
{
    char *at = text + 47;
    sp_u128 rest = value < 0 ? -(sp_u128)value : (sp_u128)value;
    *at = 0;
    do
        *--at = (char)('0' + (unsigned)(rest % 10));
    while (rest /= 10);
    if (value < 0)
        *--at = '-';
    return at;
}

void sp_log(struct sp_switch *sw, const char *format, const sp_s128 *values, unsigned count)
{
    char line[1024], digits[48];
    size_t len = 0;
    for (unsigned used = 0; *format && len < sizeof line;) {
        const char *part = format;
        size_t n = 1;
        if (format[0] == '{' && format[1] == '}' && used < count) {
            part = sp_decimal(digits, values[used++]);
            n = strlen(part);
            format++;
        }
        format++;
        n = n < sizeof line - len ? n : sizeof line - len;
        memcpy(line + len, part, n);
        len += n;
    }
    sw->options.log(sw->options.user, line, (uint32_t)len);
}

/* One bucket: refilled from the total since time zero so that rounding does not accumulate. */
static bool sp_rate_take(struct sp_rate *r, uint64_t now_us, uint64_t amount)
{
    uint64_t total = (uint64_t)((double)now_us * r->per_us);
    uint64_t fresh = total > r->tokens_last ? total - r->tokens_last : 0;
    r->tokens_last = total;
    r->tokens = r->tokens + fresh < r->burst ? r->tokens + fresh : r->burst;
    if (r->tokens < amount)
        return false;
    r->tokens -= amount;
    return true;
}

uint8_t sp_meter_run(struct sp_meter *m, uint8_t bytes, uint32_t len, uint64_t now_ns)
{
    uint64_t amount = bytes ? len : 1, now_us = now_ns / 1000;
    if (!m || !m->configured)
        return 0;
    if (!sp_rate_take(&m->peak, now_us, amount))
        return 2;
    return sp_rate_take(&m->committed, now_us, amount) ? 0 : 1;
}

bool sp_value_set_has(const struct sp_value_set *set, uint32_t width, const uint8_t *value, const uint8_t *mask)
{
    uint32_t n = (width + 7) / 8;
    for (uint32_t i = 0; i < set->count; i++) {
        uint8_t different = 0;
        const uint8_t *member = set->values + (size_t)i * 2 * n;
        for (uint32_t b = 0; b < n; b++)
            different |= (uint8_t)((member[b] ^ value[b]) & member[n + b] & (mask ? mask[b] : 0xff));
        if (!different)
            return true;
    }
    return false;
}

void sp_tick(struct sp_switch *sw, uint64_t now_ns)
{
    if (!sw->options.idle)
        return;
    sw->running = (struct sp_running){.busy = true};
    for (uint32_t i = 0; i < sw->program->n_tables; i++) {
        struct sp_table *t = &sw->tables[i];
        for (uint32_t k = 0; t->desc->idle && k < t->pool_len; k++) {
            struct sp_entry *e = sp_table_entry(t, k);
            if (k % 256 == 255)
                sp_breathe(sw);
            if (!e || !e->idle_ns)
                continue;
            uint64_t since = e->reported_at > e->last_hit ? e->reported_at : e->last_hit;
            if (now_ns < since || now_ns - since < e->idle_ns)
                continue;
            e->reported_at = now_ns;
            sw->reply.len = 0;
            sw->reply.failed = false;
            sp_write_entry(sw, t, e, now_ns);
            if (!sw->reply.failed)
                sw->options.idle(sw->options.user, sw->reply.data, sw->reply.len, now_ns);
        }
    }
    sw->running.busy = false;
}
