/* From a serialized p4.v1.WriteRequest of plain table entries straight to the data plane's updates (engine/codec.py).
 *
 * Only what is simple is decoded: entries with match, direct action, priority and idle time-out, everything well-formed,
 * canonical enough and known to the plan. At anything else, errors included, it gives up, and the server's Python takes
 * the request as a whole, which knows all of P4Runtime and words the errors. engine/p4rt/decoder.py makes the plan. */
#include "message.h"

enum { EXACT, LPM, TERNARY, RANGE, OPTIONAL };
enum { MAX_FIELDS = 64, MAX_PARAMS = 64, MAX_TABLES = 4096, MAX_BYTES = 512 };
enum { HAS_PRIORITY = 1, HAS_IDLE = 2, HAS_INITIAL = 4 };

/* Messages with bytes in field 1 and nothing, bytes or a varint in field 2. */
static bool pair(struct span s, struct span *first, struct span *other, uint64_t *number)
{
    *first = *other = (struct span){0};
    *number = 0;
    while (s.p < s.end) {
        uint64_t tag;
        if (!varint(&s, &tag))
            return false;
        if (tag == (1 << 3 | 2) ? !bytes(&s, first) : tag == (2 << 3 | 2) ? !bytes(&s, other)
                                                  : tag == (2 << 3) ? !varint(&s, number) : true)
            return false;
    }
    return first->p != NULL;
}

static bool all_of(const uint8_t *p, uint32_t n, uint8_t what)
{
    for (uint32_t i = 0; i < n; i++)
        if (p[i] != what)
            return false;
    return true;
}

/* One FieldMatch body (without the id) as the data plane's key part; its length, 0: give up. */
static uint32_t match(uint32_t kind, uint32_t width, uint32_t number, struct span body, uint8_t *out)
{
    static const uint8_t numbers[] = {[EXACT] = 2, [TERNARY] = 3, [LPM] = 4, [RANGE] = 6, [OPTIONAL] = 7};
    struct span value, other;
    uint64_t length;
    uint32_t size = (width + 7) / 8;
    if (number != numbers[kind] || !pair(body, &value, &other, &length) || !fixed(value, width, out))
        return 0;
    switch (kind) {
    case EXACT:
        return other.p || length ? 0 : size;
    case LPM:
        if (other.p || length < 1 || length > width)
            return 0;
        for (uint32_t bit = (uint32_t)length + (size * 8 - width); bit < size * 8; bit++)
            if (out[bit >> 3] >> (7 - (bit & 7)) & 1)
                return 0;
        out[size] = (uint8_t)length;
        out[size + 1] = (uint8_t)(length >> 8);
        return size + 2;
    case OPTIONAL:
        memset(out + size, 0xff, size);
        if (width & 7)
            out[size] = (uint8_t)((1u << (width & 7)) - 1);
        return other.p || length ? 0 : 2 * size;
    case TERNARY:
        if (!other.p || length || !fixed(other, width, out + size) || all_of(out + size, size, 0))
            return 0;
        for (uint32_t i = 0; i < size; i++)
            if (out[i] & ~out[size + i])
                return 0;
        return 2 * size;
    default:
        if (!other.p || length || !fixed(other, width, out + size) || memcmp(out, out + size, size) > 0)
            return 0;
        if (all_of(out, size, 0) && all_of(out + size + !!(width & 7), size - !!(width & 7), 0xff) &&
            (!(width & 7) || out[size] == (1u << (width & 7)) - 1))
            return 0; /* everything: must be left out */
        return 2 * size;
    }
}

static uint32_t absent(uint32_t kind, uint32_t width, uint8_t *out)
{
    uint32_t size = (width + 7) / 8;
    memset(out, 0, 2 * size + 2);
    if (kind == EXACT)
        return 0;
    if (kind == LPM)
        return size + 2;
    if (kind == RANGE) {
        memset(out + size, 0xff, size);
        if (width & 7)
            out[size] = (uint8_t)((1u << (width & 7)) - 1);
    }
    return 2 * size;
}

/* Plan of a table: id, index, flags, fields, actions, then fields (id, kind, width), then actions (id, index, params,
 * then params (id, width)). */
static bool key(const uint32_t *t, const struct span *given, uint32_t n, uint8_t **out)
{
    uint32_t used = 0;
    for (uint32_t f = 0; f < t[3]; f++) {
        const uint32_t *field = t + 5 + 3 * f;
        uint32_t length = 0;
        bool found = false;
        for (uint32_t g = 0; g < n; g++) {
            struct span s = given[(g + f) % n]; /* mostly in order */
            uint64_t tag, id = 0;
            if (!varint(&s, &tag) || tag != 1 << 3 || !varint(&s, &id) || id != field[0])
                continue;
            struct span body;
            if (found || !varint(&s, &tag) || (tag & 7) != 2 || !bytes(&s, &body) || s.p != s.end)
                return false;
            length = match(field[1], field[2], (uint32_t)(tag >> 3), body, *out);
            found = true;
            used++;
            if (!length)
                return false;
            if (n == t[3])
                break; /* as many as fields: any that is there twice leaves another without */
        }
        if (!found)
            length = absent(field[1], field[2], *out);
        if (!length)
            return false;
        *out += length;
    }
    return used == n;
}

static bool action(const uint32_t *t, struct span s, uint8_t **out)
{
    struct span call = {0}, params[MAX_PARAMS];
    uint64_t tag, id = 0;
    uint32_t n = 0;
    if (!varint(&s, &tag) || tag != (1 << 3 | 2) || !bytes(&s, &call) || s.p != s.end)
        return false;
    while (call.p < call.end) {
        if (!varint(&call, &tag))
            return false;
        if (tag == 1 << 3 ? !varint(&call, &id) : tag != (4 << 3 | 2) || n == MAX_PARAMS || !bytes(&call, &params[n++]))
            return false;
    }
    const uint32_t *a = t + 5 + 3 * t[3];
    uint32_t left = t[4];
    while (left && a[0] != id) {
        a += 3 + 2 * a[2];
        left--;
    }
    if (!left || a[2] != n)
        return false;
    *(*out)++ = 1;
    memcpy(*out, &a[1], 4);
    *out += 4;
    for (uint32_t i = 0; i < n; i++) { /* in the order of the P4Info, as everybody writes them */
        struct span p = params[i], value;
        uint64_t param = 0;
        if (!varint(&p, &tag) || tag != 2 << 3 || !varint(&p, &param) || param != a[3 + 2 * i] || !varint(&p, &tag) ||
            tag != (3 << 3 | 2) || !bytes(&p, &value) || p.p != p.end || !fixed(value, a[4 + 2 * i], *out))
            return false;
        *out += (a[4 + 2 * i] + 7) / 8;
    }
    return true;
}

static bool entry(const uint32_t *const *tables, uint32_t n_tables, uint8_t op, struct span s, uint8_t **out)
{
    struct span given[MAX_FIELDS], act = {0};
    uint64_t tag, id = 0, priority = 0, idle = 0;
    uint32_t n = 0;
    while (s.p < s.end) {
        bool ok = varint(&s, &tag);
        if (ok && tag == 1 << 3)
            ok = varint(&s, &id);
        else if (ok && tag == (2 << 3 | 2))
            ok = n < MAX_FIELDS && bytes(&s, &given[n++]);
        else if (ok && tag == (3 << 3 | 2))
            ok = !act.p && bytes(&s, &act);
        else if (ok && tag == 4 << 3)
            ok = varint(&s, &priority);
        else if (ok && tag == 9 << 3)
            ok = varint(&s, &idle);
        else
            return false;
        if (!ok)
            return false;
    }
    static _Thread_local uint32_t last; /* of the entry before, most likely the same table */
    const uint32_t *t = last < n_tables && tables[last][0] == id ? tables[last] : NULL;
    for (uint32_t i = 0; !t && i < n_tables; i++)
        if (tables[i][0] == id)
            t = tables[last = i];
    if (!t || (n == 0 && t[3]) || (op != 3 && !act.p) || (t[2] & HAS_PRIORITY ? priority - 1 >= INT32_MAX : priority))
        return false;
    if (idle && (!(t[2] & HAS_IDLE) || idle > INT64_MAX))
        return false;
    uint8_t *start = *out, *p = start + 4;
    int32_t rank = (int32_t)priority;
    *p++ = t[2] & HAS_INITIAL ? op | 0x80 : op;
    memcpy(p, &t[1], 4);
    p += 4;
    *p++ = (uint8_t)t[3];
    if (!key(t, given, n, &p))
        return false;
    memcpy(p, &rank, 4);
    memcpy(p + 4, &idle, 8);
    p += 12;
    if (op == 3)
        *p++ = 0;
    else if (!action(t, act, &p))
        return false;
    uint32_t length = (uint32_t)(p - start) - 4;
    memcpy(start, &length, 4);
    *out = p;
    return true;
}

static bool update(const uint32_t *const *tables, uint32_t n_tables, struct span s, uint8_t **out)
{
    struct span body;
    uint64_t type;
    if (!entity_of(s, 2, &type, &body))
        return false;
    return entry(tables, n_tables, (uint8_t)type, body, out);
}

/* Fills `out` (room for `room` bytes) with the framed updates and `marks` with the offset of every `step`-th of them.
 * Returns 1, or 0 for requests that it leaves to others. */
EXPORT int sp_decode_write(const uint8_t *request, uint32_t len, const uint32_t *plan, uint32_t most, uint8_t *out,
                           uint32_t room, uint32_t *marks, uint32_t step, uint32_t n_marks, struct head *head)
{
    const uint32_t *tables[MAX_TABLES];
    uint32_t n_tables = plan[0];
    const uint32_t *at = plan + 1;
    if (n_tables > MAX_TABLES)
        return 0;
    for (uint32_t i = 0; i < n_tables; i++) {
        tables[i] = at;
        uint32_t actions = at[4];
        for (at += 5 + 3 * at[3]; actions; actions--)
            at += 3 + 2 * at[2];
    }
    struct span s = {request, request + len}, part, election = {0};
    uint8_t *p = out;
    uint64_t tag;
    memset(head, 0, sizeof *head);
    while (s.p < s.end) {
        if (!varint(&s, &tag))
            return 0;
        if (tag != (4 << 3 | 2)) {
            if (!head_field(&s, tag, request, head, &election))
                return 0;
            continue;
        }
        if (!bytes(&s, &part) || (uint32_t)(out + room - p) < most)
            return 0;
        if (head->updates % step == 0) {
            if (head->updates / step >= n_marks)
                return 0;
            marks[head->updates / step] = (uint32_t)(p - out);
        }
        if (!update(tables, n_tables, part, &p))
            return 0;
        head->updates++;
    }
    if (!head_election(head, election))
        return 0;
    head->bytes = (uint32_t)(p - out);
    return head->updates > 0;
}
