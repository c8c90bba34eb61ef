/* Values that the server keeps here, so that they outlive it. */
#include <stdlib.h>
#include <string.h>

#include "sp_engine.h"
#include "switchd.h"

enum { MOST = 64 << 20 }; /* bytes of all values, with their keys */

struct kept {
    struct kept *next;
    uint32_t key_len, len;
    uint8_t data[]; /* key, value */
};
static struct kept *all;
static size_t total;

static struct kept **find(const uint8_t *key, uint32_t len)
{
    struct kept **at = &all;
    while (*at && ((*at)->key_len != len || memcmp((*at)->data, key, len) != 0))
        at = &(*at)->next;
    return at;
}

int kept_put(const uint8_t *data, uint32_t len, struct buffer *out)
{
    uint32_t key_len = len ? data[0] : 0;
    if (key_len == 0 || len < 1 + key_len)
        return command_refuse(out, SP_INVALID_ARGUMENT, "needs a key", NULL);
    uint32_t size = len - 1 - key_len;
    struct kept **at = find(data + 1, key_len), *old = *at, *fresh = NULL;
    size_t before = old ? sizeof *old + old->key_len + old->len : 0;
    size_t after = size ? sizeof *fresh + key_len + size : 0;
    if (total - before + after > MOST)
        return command_refuse(out, SP_RESOURCE_EXHAUSTED, "more than 64 MiB of state", NULL);
    if (size > 0) {
        fresh = malloc(after);
        if (!fresh)
            return command_refuse(out, SP_RESOURCE_EXHAUSTED, "out of memory", NULL);
        *fresh = (struct kept){.next = old ? old->next : NULL, .key_len = key_len, .len = size};
        memcpy(fresh->data, data + 1, key_len + size);
    }
    if (old || fresh)
        *at = fresh ? fresh : old->next;
    free(old);
    total = total - before + after;
    return SP_OK;
}

int kept_get(const uint8_t *key, uint32_t len, struct buffer *out)
{
    const struct kept *b = *find(key, len);
    if (!b)
        return command_refuse(out, SP_NOT_FOUND, "no such key", NULL);
    return buffer_append(out, b->data + b->key_len, b->len) ? SP_OK : SP_RESOURCE_EXHAUSTED;
}
