/* Feeds a corpus, and mutations of it, to a pipeline that is linked in and built with sanitizers.
 *
 * usage: fuzz CORPUS ROUNDS SEED. The corpus is a sequence of records: u32 kind (0 packet, 1 command), u32 port or
 * operation, u32 length, bytes. Every buffer is a heap block of exactly its length, so that any read beyond is seen.
 */
#include "sp_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
    uint32_t kind, number, len;
    uint8_t *data;
};

static uint64_t state, left, digests;

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static void emit(void *user, uint32_t port, const uint8_t *data, uint32_t len, const struct sp_tx *tx)
{
    (void)user, (void)port, (void)tx;
    for (uint32_t i = 0; i < len; i++) /* all bytes must be readable and defined */
        left += data[i];
}

static void digest(void *user, uint32_t number, const uint8_t *values, uint32_t len, uint64_t now)
{
    (void)user, (void)number, (void)now;
    for (uint32_t i = 0; i < len; i++)
        digests += values[i];
}

static void log_line(void *user, const char *text, uint32_t len)
{
    digest(user, 0, (const uint8_t *)text, len, 0);
}

static void idle(void *user, const uint8_t *entry, uint32_t len, uint64_t now)
{
    (void)user, (void)now;
    digests += entry[len - 1];
}

static void queue(void *user, uint32_t port, uint32_t priority, struct sp_queue *q)
{
    (void)user;
    q->enq_qdepth = port + priority;
    q->deq_timedelta_us = 5;
    q->held_us = port & 1 ? UINT32_MAX - 2 : port;
}

static struct sp_switch *breathing;
static const uint8_t plain[64] = {[12] = 8, [14] = 0x45};
static const uint8_t *passing = plain; /* what passes in the middle of commands: frames of the corpus, if it ends with some */
static uint32_t passing_len = sizeof plain, every = 16; /* of the chances to pass */

static struct record *all;
static uint32_t known;

/* A command of the corpus that comes in the middle of another one; most have to wait. */
static void overtake(const struct sp_engine *engine, struct sp_switch *sw, uint64_t now)
{
    const struct record *r = &all[chance(known)];
    const uint8_t *reply;
    uint32_t reply_len;
    if (r->kind != 1)
        return;
    uint8_t *exact = malloc(r->len ? r->len : 1);
    memcpy(exact, r->data, r->len);
    if (r->len && chance(8) == 0)
        exact[chance(r->len)] = (uint8_t)chance(256);
    engine->overtake(sw, r->number, exact, r->len, now, &reply, &reply_len);
    for (uint32_t i = 0; i < reply_len; i++)
        left += reply[i];
    free(exact);
}

static void breathe(void *user)
{
    static uint64_t calls;
    (void)user;
    if (!breathing)
        return;
    if (++calls % every == 0)
        sp_engine()->process(breathing, 1, passing, passing_len, calls);
    if (calls % 5 == 0)
        overtake(sp_engine(), breathing, calls);
}

static void run(const struct sp_engine *engine, struct sp_switch *sw, uint32_t kind, uint32_t number,
                const uint8_t *data, uint32_t len, uint64_t now)
{
    uint8_t *exact = malloc(len ? len : 1);
    const uint8_t *reply;
    uint32_t reply_len;
    memcpy(exact, data, len);
    if (kind == 0) {
        sw->deep = true; /* as if tables were large: the frame is looked into before it is processed */
        engine->ahead(sw, number, exact, len);
        engine->process(sw, number, exact, len, now);
    } else if (engine->command(sw, number, exact, len, now, &reply, &reply_len) == 0 || reply_len)
        for (uint32_t i = 0; i < reply_len; i++)
            left += reply[i];
    free(exact);
}

static void mutate(const struct sp_engine *engine, struct sp_switch *sw, const struct record *r, uint64_t now)
{
    uint32_t len = r->len + chance(9), flips = chance(6);
    uint8_t *data = calloc(len + 1, 1);
    memcpy(data, r->data, r->len);
    for (uint32_t i = r->len; i < len; i++)
        data[i] = (uint8_t)chance(256);
    if (chance(3) == 0)
        len = chance(len + 1);
    for (uint32_t i = 0; len && i < flips; i++)
        data[chance(len)] = chance(2) ? (uint8_t)chance(256) : (uint8_t)(chance(2) * 255);
    run(engine, sw, r->kind, r->kind ? r->number : chance(520), data, len, now);
    free(data);
}

static void pass(const struct record *r)
{
    passing = r->data;
    passing_len = r->len;
}

int main(int argc, char **argv)
{
    static struct record records[65536];
    uint32_t n = 0, head[3];
    FILE *file = argc == 4 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 2;
    for (; n < 65536 && fread(head, sizeof head, 1, file) == 1; n++) {
        records[n] = (struct record){head[0], head[1], head[2], malloc(head[2] + 1)};
        if (fread(records[n].data, 1, head[2], file) != head[2])
            return 2;
    }
    fclose(file);
    state = strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15ull | 1;
    const struct sp_engine *engine = sp_engine();
    struct sp_options options = {
        .abi = SP_ENGINE_ABI, .drop_port = 511, .emit = emit, .digest = digest, .queue = queue, .idle = idle,
        .seed = 1, .log = log_line, .breathe = breathe};
    struct sp_switch *sw = engine->create(&options);
    uint64_t now = 0, rounds = strtoull(argv[2], NULL, 10);
    if (!sw || !n)
        return 2;
    breathing = sw;
    all = records;
    known = n;
    uint32_t frames = 0; /* the corpus' last records */
    while (frames < n && records[n - 1 - frames].kind == 0)
        frames++;
    if (frames) {
        pass(&records[n - 1]);
        every = 3;
    }
    for (uint32_t i = 0; i < n; i++)
        run(engine, sw, records[i].kind, records[i].number, records[i].data, records[i].len, now += 1000);
    for (uint64_t i = 0; i < rounds; i++) {
        if (frames)
            pass(&records[n - 1 - chance(frames)]);
        mutate(engine, sw, &records[chance(n)], now += chance(1000000));
        if (chance(500) == 0)
            engine->port_status(sw, chance(600), (int)chance(2));
        if (chance(500) == 0)
            engine->tick(sw, now);
    }
    printf("%llu packets\n", (unsigned long long)engine->stats(sw)->received);
    breathing = NULL;
    engine->destroy(sw);
    for (uint32_t i = 0; i < n; i++)
        free(records[i].data);
    return 0;
}
