/* JSON (RFC 8259), recursive descent with a depth limit. */
#include "json.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 16 };

struct reader {
    const char *text;
    size_t len, at;
};

static void skip_space(struct reader *r)
{
    while (r->at < r->len && strchr(" \t\r\n", r->text[r->at]) && r->text[r->at])
        r->at++;
}

static bool accept(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->len - r->at < n || memcmp(r->text + r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static int hex4(struct reader *r)
{
    int value = 0;
    if (r->len - r->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = r->text[r->at++];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 63));
    out[2] = (char)(0x80 | (c & 63));
    return 3;
}

static char *parse_string(struct reader *r)
{
    if (!accept(r, "\""))
        return NULL;
    size_t end = r->at;
    while (end < r->len && r->text[end] != '"')
        end += r->text[end] == '\\' ? 2 : 1;
    if (end >= r->len)
        return NULL;
    char *out = malloc(end - r->at + 1); /* no escape grows */
    size_t n = 0;
    while (out && r->at < end) {
        char c = r->text[r->at++];
        if (c == '\\') {
            static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
            char escape = r->text[r->at++];
            const char *known = escape ? strchr(from, escape) : NULL;
            int code = known ? to[known - from] : escape == 'u' ? hex4(r) : -1;
            if (code <= 0 || r->at > end) {
                free(out);
                return NULL;
            }
            n += utf8(out + n, (uint32_t)code);
        } else if ((unsigned char)c < 0x20) {
            free(out);
            return NULL;
        } else {
            out[n++] = c;
        }
    }
    if (out)
        out[n] = '\0';
    r->at = end + 1;
    return out;
}

static struct json *parse_value(struct reader *r, int depth);

static bool parse_members(struct reader *r, struct json *v, char close, int depth)
{
    struct json **tail = &v->first;
    skip_space(r);
    if (r->at < r->len && r->text[r->at] == close) {
        r->at++;
        return true;
    }
    for (;;) {
        char *key = NULL;
        skip_space(r);
        if (v->type == JSON_OBJECT) {
            key = parse_string(r);
            if (!key)
                return false;
            skip_space(r);
            if (!accept(r, ":")) {
                free(key);
                return false;
            }
        }
        struct json *member = parse_value(r, depth + 1);
        if (!member) {
            free(key);
            return false;
        }
        member->key = key;
        *tail = member;
        tail = &member->next;
        v->count++;
        skip_space(r);
        if (r->at >= r->len)
            return false;
        char c = r->text[r->at++];
        if (c == close)
            return true;
        if (c != ',') {
            r->at--;
            return false;
        }
    }
}

static bool parse_number(struct reader *r, struct json *v)
{
    char text[64];
    size_t n = 0, start = r->at;
    while (r->at < r->len && n < sizeof text - 1 && r->text[r->at] && strchr("+-.eE0123456789", r->text[r->at]))
        text[n++] = r->text[r->at++];
    text[n] = '\0';
    char *end;
    v->number = strtod(text, &end);
    if (n > 0 && *end == '\0' && (isdigit((unsigned char)text[0]) || text[0] == '-'))
        return true;
    r->at = start;
    return false;
}

static struct json *parse_value(struct reader *r, int depth)
{
    struct json *v = depth < DEPTH ? calloc(1, sizeof *v) : NULL;
    if (!v)
        return NULL;
    skip_space(r);
    char c = r->at < r->len ? r->text[r->at] : '\0';
    bool ok = true;
    if (c == '{' || c == '[') {
        r->at++;
        v->type = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        ok = parse_members(r, v, c == '{' ? '}' : ']', depth);
    } else if (c == '"') {
        v->type = JSON_STRING;
        v->string = parse_string(r);
        ok = v->string != NULL;
    } else if (accept(r, "true") || accept(r, "false")) {
        v->type = JSON_BOOL;
        v->boolean = c == 't';
    } else if (accept(r, "null")) {
        v->type = JSON_NULL;
    } else {
        v->type = JSON_NUMBER;
        ok = parse_number(r, v);
    }
    if (ok)
        return v;
    json_free(v);
    return NULL;
}

struct json *json_parse(const char *text, size_t len, size_t *offset)
{
    struct reader r = {text, len, 0};
    struct json *v = parse_value(&r, 0);
    skip_space(&r);
    if (v && r.at != len) {
        json_free(v);
        v = NULL;
    }
    *offset = r.at;
    return v;
}

void json_free(struct json *v)
{
    while (v) {
        struct json *next = v->next;
        json_free(v->first);
        free(v->string);
        free(v->key);
        free(v);
        v = next;
    }
}

const struct json *json_get(const struct json *object, const char *key)
{
    if (!object || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json *m = object->first; m; m = m->next)
        if (strcmp(m->key, key) == 0)
            return m;
    return NULL;
}
