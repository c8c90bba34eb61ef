/* One register cell or one plain table entry: decoded, checked, sent to the data plane and answered in one call.
 *
 * What is not that simple, or not right, is left to the server's Python (engine/p4rt/single.py), which knows all of
 * P4Runtime and words the errors. Messages to the data plane: engine/native/switchd/control.c, engine/codec.py. */
#include <errno.h>
#include <sys/socket.h>

#include "message.h"

enum { REGISTER_ENTRY = 11, MODIFY = 2 };
enum { OP_TABLE_WRITE = 0x02, OP_REGISTER_WRITE = 0x09 };
enum { LEFT = 0, DONE = 1, REFUSED = 2, BROKEN = -1 };
enum { ANSWER_MOST = 4096, CLOCK = 8 };

struct message {
    uint32_t len, id;
    uint16_t op, code;
};

/* What is known of the pipeline, and of who may write. `registers`: id, index, cells, width of each. */
struct single {
    const uint32_t *plan, *registers;
    uint32_t most, n_registers;
    uint8_t *out; /* room for a message of `room` bytes */
    uint32_t room;
};

/* The index of p4.v1.Index; an absent number is 0. */
static bool cell_number(struct span s, uint64_t *number)
{
    uint64_t tag;
    *number = 0;
    while (s.p < s.end)
        if (!varint(&s, &tag) || tag != 1 << 3 || !varint(&s, number))
            return false;
    return true;
}

/* p4.v1.RegisterEntry with an index and a bit string, as REGISTER_WRITE; its length, 0: leave it. */
static uint32_t cell(const struct single *w, struct span s, uint8_t *out)
{
    struct span at = {0}, data = {0}, value;
    uint64_t tag, id = 0, number;
    while (s.p < s.end) {
        if (!varint(&s, &tag))
            return 0;
        if (tag == 1 << 3 ? !varint(&s, &id) : tag == (2 << 3 | 2) ? at.p || !bytes(&s, &at)
                                           : tag == (3 << 3 | 2) ? data.p || !bytes(&s, &data) : true)
            return 0;
    }
    if (!at.p || !data.p || !cell_number(at, &number) || !varint(&data, &tag) || tag != (1 << 3 | 2) ||
        !bytes(&data, &value) || data.p != data.end)
        return 0;
    for (const uint32_t *r = w->registers, *end = r + 4 * w->n_registers; r < end; r += 4)
        if (r[0] == id) {
            uint32_t index = (uint32_t)number, size = (r[3] + 7) / 8;
            if (number >= r[2] || 8 + size > w->room || !fixed(value, r[3], out + 8))
                return 0;
            memcpy(out, &r[1], 4);
            memcpy(out + 4, &index, 4);
            return 8 + size;
        }
    return 0;
}

/* A request with one update, of a register cell; the length of REGISTER_WRITE's payload, 0: leave it. */
static uint32_t register_write(const struct single *w, const uint8_t *request, uint32_t len, struct head *head,
                               uint8_t *out)
{
    struct span s = {request, request + len}, part, body, election = {0};
    uint64_t tag, type;
    uint32_t size = 0;
    memset(head, 0, sizeof *head);
    while (s.p < s.end) {
        if (!varint(&s, &tag))
            return 0;
        if (tag != (4 << 3 | 2)) {
            if (!head_field(&s, tag, request, head, &election))
                return 0;
            continue;
        }
        if (head->updates++ || !bytes(&s, &part) || !entity_of(part, REGISTER_ENTRY, &type, &body) || type != MODIFY)
            return 0;
        size = cell(w, body, out);
        if (!size)
            return 0;
    }
    return head_election(head, election) ? size : 0;
}

static uint32_t table_write(const struct single *w, const uint8_t *request, uint32_t len, struct head *head,
                            uint8_t *out)
{
    static const uint8_t one[5] = {0, 1, 0, 0, 0}; /* not atomic, one update */
    uint32_t mark;
    if (!sp_decode_write(request, len, w->plan, w->most, out + sizeof one, w->room - (uint32_t)sizeof one, &mark, 1, 1,
                         head))
        return 0;
    memcpy(out, one, sizeof one);
    return (uint32_t)sizeof one + head->bytes;
}

static bool send_all(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            data += n, len -= (size_t)n;
    }
    return true;
}

/* The answer to request `id` into `answer` (ANSWER_MOST bytes); false: the connection cannot be used any more. */
static bool receive(int fd, uint32_t id, uint8_t *answer, struct message *head)
{
    size_t have = 0, whole = sizeof *head;
    while (have < whole) {
        ssize_t n = recv(fd, answer + have, ANSWER_MOST - have, 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        if (n > 0)
            have += (size_t)n;
        if (have >= sizeof *head) {
            memcpy(head, answer, sizeof *head);
            if (head->id != id || head->len < CLOCK || head->len > ANSWER_MOST - sizeof *head)
                return false;
            whole = sizeof *head + head->len;
        }
    }
    return have == whole;
}

/* `device`, `high`, `low`: whom requests must be from, in the default role. `tables`: table entries, too. `fd` is a
 * connection to the data plane on which nothing is under way, `id` not 0. DONE; LEFT: nothing was sent; REFUSED by the
 * data plane, which changed nothing; BROKEN: no answer, the connection must be closed. */
EXPORT int sp_write_single(const struct single *w, const uint8_t *request, uint32_t len, uint64_t device, uint64_t high,
                           uint64_t low, int tables, int fd, uint32_t id)
{
    uint8_t answer[ANSWER_MOST], *out = w->out + sizeof(struct message);
    struct message m = {.id = id, .op = OP_REGISTER_WRITE};
    struct head head;
    m.len = register_write(w, request, len, &head, out);
    if (!m.len && tables) {
        m.op = OP_TABLE_WRITE;
        m.len = table_write(w, request, len, &head, out);
    }
    if (!m.len || head.updates != 1 || head.device_id != device || head.role_id || head.role_len || head.atomicity ||
        !head.has_election || head.election_high != high || head.election_low != low)
        return LEFT;
    memcpy(w->out, &m, sizeof m);
    if (!send_all(fd, w->out, sizeof m + m.len) || !receive(fd, id, answer, &m))
        return BROKEN;
    if (m.code)
        return REFUSED;
    if (m.op == OP_TABLE_WRITE)
        return m.len != CLOCK + 1 ? BROKEN : answer[sizeof m + CLOCK] ? REFUSED : DONE;
    return DONE;
}
