/* A small JSON reader for control messages. */
#ifndef SWITCHD_JSON_H
#define SWITCHD_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool boolean;
    double number;
    char *string;       /* JSON_STRING; without NUL inside */
    char *key;          /* in an object */
    struct json *first; /* members, in order */
    struct json *next;
    size_t count;
};

/* NULL when malformed, nested deeper than 16 or out of memory; *offset then tells where. */
struct json *json_parse(const char *text, size_t len, size_t *offset);
void json_free(struct json *value);
/* NULL when there is no such member. */
const struct json *json_get(const struct json *object, const char *key);

#endif
