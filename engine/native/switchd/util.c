/* Clocks, log, byte buffers, packets. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "switchd.h"

uint64_t mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* The wall clock may be set while we run. Two clocks are never read at once: a large difference is looked at
 * closer, the pair of readings with the least time in between tells. */
void clock_update(struct switchd *sw, uint64_t now)
{
    const int64_t noise = 20 * NS_PER_US;
    int64_t change = (int64_t)(wall_clock() - now - sw->clock_offset);
    if (change < noise && change > -noise)
        return;
    uint64_t best = NEVER, offset = sw->clock_offset;
    for (int i = 0; i < 8; i++) {
        uint64_t before = mono_ns(), wall = wall_clock(), after = mono_ns();
        if (after - before < best) {
            best = after - before;
            offset = wall - before - best / 2;
        }
    }
    change = (int64_t)(offset - sw->clock_offset);
    if (change >= noise || change <= -noise)
        sw->clock_offset = offset;
}

static int log_level = LOG_INFO_;

void log_set_level(int level) { log_level = level; }

void log_message(int level, const char *format, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (level > log_level)
        return;
    char line[1024];
    struct timespec t;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &parts);
    size_t n = strftime(line, sizeof line, "%H:%M:%S", &parts);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ld switchd %s: ", t.tv_nsec / 1000000, names[level]);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    fprintf(stderr, "%s\n", line);
}

bool buffer_reserve(struct buffer *b, size_t extra)
{
    if (b->capacity - b->end >= extra)
        return true;
    if (b->start > 0) {
        memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start;
        b->start = 0;
        if (b->capacity - b->end >= extra)
            return true;
    }
    size_t capacity = b->capacity ? b->capacity : 1024;
    while (capacity - b->end < extra)
        capacity *= 2;
    uint8_t *data = realloc(b->data, capacity);
    if (!data)
        return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool buffer_append(struct buffer *b, const void *data, size_t len)
{
    if (len == 0)
        return true;
    if (!buffer_reserve(b, len))
        return false;
    memcpy(b->data + b->end, data, len);
    b->end += len;
    return true;
}

bool buffer_printf(struct buffer *b, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return n >= 0 && buffer_append(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

bool buffer_json_string(struct buffer *b, const char *text)
{
    bool ok = buffer_append(b, "\"", 1);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            ok = ok && buffer_printf(b, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            ok = ok && buffer_printf(b, "\\u%04x", c);
        else
            ok = ok && buffer_append(b, &c, 1);
    }
    return ok && buffer_append(b, "\"", 1);
}

void buffer_consume(struct buffer *b, size_t len)
{
    b->start += len;
    if (b->start < b->end)
        return;
    b->used = b->used > b->end ? b->used : b->end;
    b->start = b->end = 0;
}

/* Memory of one large message, which takes 70 us a megabyte to unmap, goes back in slices, so that packets pass. */
bool buffer_trim(struct buffer *b)
{
    const size_t slice = 128 * 1024, page = 4096;
    if (b->capacity <= 2 * slice || b->end > 0)
        return false;
    if (b->used <= 2 * slice) {
        buffer_free(b);
        return false;
    }
    b->used -= slice;
    uintptr_t from = ((uintptr_t)b->data + b->used) / page * page;
    (void)madvise((void *)from, slice, MADV_DONTNEED);
    return true;
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

struct packet *packet_new(const void *data, uint32_t len)
{
    struct packet *p = malloc(sizeof *p + len);
    if (!p)
        return NULL;
    p->next = NULL;
    p->time = p->arrived = 0;
    p->port = 0;
    p->aside = false;
    p->len = len;
    memcpy(p->data, data, len);
    return p;
}

void packet_free(struct packet *p) { free(p); }

void fifo_init(struct fifo *f) { *f = (struct fifo){.tail = &f->head}; }

void fifo_push(struct fifo *f, struct packet *p)
{
    p->next = NULL;
    *f->tail = p;
    f->tail = &p->next;
    f->count++;
    f->bytes += p->len;
}

struct packet *fifo_pop(struct fifo *f)
{
    struct packet *p = f->head;
    if (!p)
        return NULL;
    f->head = p->next;
    if (!f->head)
        f->tail = &f->head;
    f->count--;
    f->bytes -= p->len;
    return p;
}

void fifo_clear(struct fifo *f)
{
    for (struct packet *p; (p = fifo_pop(f));)
        packet_free(p);
}
