/* What decoding serialized p4.v1.WriteRequests takes: protobuf's encoding, and the parts around an update's body. */
#ifndef SP_P4RT_MESSAGE_H
#define SP_P4RT_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The parts of the request that are not updates. */
struct head {
    uint64_t device_id, role_id, election_high, election_low;
    uint32_t has_election, atomicity, role_at, role_len, updates, bytes;
};

struct span {
    const uint8_t *p, *end;
};

static inline bool varint(struct span *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; s->p < s->end && shift < 64; shift += 7) {
        uint8_t b = *s->p++;
        v |= (uint64_t)(b & 127) << shift;
        if (b < 128) {
            *out = v;
            return true;
        }
    }
    return false;
}

static inline bool bytes(struct span *s, struct span *out)
{
    uint64_t n;
    if (!varint(s, &n) || n > (uint64_t)(s->end - s->p))
        return false;
    *out = (struct span){s->p, s->p + n};
    s->p += n;
    return true;
}

/* The value big endian in `size` bytes at `out`; false when it is empty or does not fit. */
static inline bool fixed(struct span v, uint32_t width, uint8_t *out)
{
    uint32_t size = (width + 7) / 8, have = (uint32_t)(v.end - v.p);
    if (!have)
        return false;
    while (have > size) {
        if (*v.p)
            return false;
        v.p++;
        have--;
    }
    memset(out, 0, size - have);
    memcpy(out + size - have, v.p, have);
    return !(width & 7) || !(out[0] >> (width & 7));
}

/* A field of the request that is not an update (field 4); `election` is for head_election(). */
static inline bool head_field(struct span *s, uint64_t tag, const uint8_t *request, struct head *head,
                              struct span *election)
{
    struct span role;
    uint64_t value;
    switch (tag) {
    case 1 << 3:
        return varint(s, &head->device_id);
    case 2 << 3:
        return varint(s, &head->role_id);
    case 3 << 3 | 2:
        if (head->has_election || !bytes(s, election))
            return false;
        head->has_election = 1;
        return true;
    case 5 << 3:
        if (!varint(s, &value) || value > 2)
            return false;
        head->atomicity = (uint32_t)value;
        return true;
    case 6 << 3 | 2:
        if (!bytes(s, &role))
            return false;
        head->role_at = (uint32_t)(role.p - request);
        head->role_len = (uint32_t)(role.end - role.p);
        return true;
    default:
        return false;
    }
}

static inline bool head_election(struct head *head, struct span election)
{
    uint64_t tag, value;
    while (election.p < election.end) {
        if (!varint(&election, &tag) || !varint(&election, &value) || (tag != 1 << 3 && tag != 2 << 3))
            return false;
        *(tag == 1 << 3 ? &head->election_high : &head->election_low) = value;
    }
    return true;
}

/* Type (1 INSERT, 2 MODIFY, 3 DELETE) and entity of an update, which must be of field `kind` of p4.v1.Entity. */
static inline bool entity_of(struct span s, uint32_t kind, uint64_t *type, struct span *body)
{
    struct span entity = {0};
    uint64_t tag;
    *type = 0;
    while (s.p < s.end) {
        if (!varint(&s, &tag))
            return false;
        if (tag == 1 << 3 ? !varint(&s, type) : tag != (2 << 3 | 2) || entity.p || !bytes(&s, &entity))
            return false;
    }
    return *type >= 1 && *type <= 3 && entity.p && varint(&entity, &tag) && tag == (kind << 3 | 2) &&
           bytes(&entity, body) && entity.p == entity.end;
}

int sp_decode_write(const uint8_t *request, uint32_t len, const uint32_t *plan, uint32_t most, uint8_t *out,
                    uint32_t room, uint32_t *marks, uint32_t step, uint32_t n_marks, struct head *head);

#endif
