/* Integers of more than 128 bits: `n` 64-bit limbs, the lowest first, in two's complement. `n` is a constant wherever
 * generated code calls these, and results go to an array of the caller's (r), which is returned. Operands keep their
 * values; r may be one of them only where that is said. */
#ifndef SP_WIDE_H
#define SP_WIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SP_W(n) ((uint64_t[n]){0}) /* a fresh number; lives as long as the enclosing block */
#define SP_W_BYTES 512             /* of the widest field */
#define SP_WIDE static inline __attribute__((unused))

struct sp_number {
    const uint64_t *limbs;
    unsigned n;
};

struct sp_switch;
/* log_msg(): puts the numbers, decimal, in place of each {} of the format (message.c). */
void sp_message(struct sp_switch *sw, const char *format, const struct sp_number *numbers, unsigned count);

static const uint8_t sp_w_nothing[SP_W_BYTES] __attribute__((unused));

/* -- in and out -------------------------------------------------------------------------------------------------- */

/* Big endian bytes as an unsigned number; what does not fit n limbs is cut. */
SP_WIDE uint64_t *sp_w_load(uint64_t *r, unsigned n, const uint8_t *p, unsigned size)
{
    memset(r, 0, n * sizeof *r);
    for (unsigned i = 0; i < size && i < n * 8; i++)
        r[i / 8] |= (uint64_t)p[size - 1 - i] << (i % 8 * 8);
    return r;
}

/* `width` bits from bit `at` of p, big endian. */
SP_WIDE uint64_t *sp_w_bits(uint64_t *r, unsigned n, const uint8_t *p, uint32_t at, uint32_t width)
{
    memset(r, 0, n * sizeof *r);
    for (uint32_t i = 0; i < width && i < n * 64; i++) {
        uint32_t bit = at + width - 1 - i;
        r[i / 64] |= (uint64_t)((p[bit >> 3] >> (7 - (bit & 7))) & 1) << (i % 64);
    }
    return r;
}

/* The low `width` bits, big endian in whole bytes; the bits before them in the first byte become zero. */
SP_WIDE void sp_w_store(uint8_t *p, unsigned width, const uint64_t *a)
{
    unsigned size = (width + 7) / 8;
    for (unsigned i = 0; i < size; i++)
        p[size - 1 - i] = (uint8_t)(a[i / 8] >> (i % 8 * 8));
    if (width % 8)
        p[0] &= (uint8_t)((1u << width % 8) - 1);
}

/* The low `width` bits to bit `at` of p, big endian. */
SP_WIDE void sp_w_put_bits(uint8_t *p, uint32_t at, const uint64_t *a, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) {
        uint32_t bit = at + width - 1 - i;
        uint8_t m = (uint8_t)(0x80 >> (bit & 7));
        if (a[i / 64] >> (i % 64) & 1)
            p[bit >> 3] |= m;
        else
            p[bit >> 3] &= (uint8_t)~m;
    }
}

SP_WIDE uint64_t *sp_w_unsigned(uint64_t *r, unsigned n, unsigned __int128 v)
{
    memset(r, 0, n * sizeof *r);
    r[0] = (uint64_t)v;
    r[1] = (uint64_t)(v >> 64);
    return r;
}

SP_WIDE uint64_t *sp_w_signed(uint64_t *r, unsigned n, __int128 v)
{
    memset(r, v < 0 ? 0xff : 0, n * sizeof *r);
    r[0] = (uint64_t)v;
    r[1] = (uint64_t)(v >> 64);
    return r;
}

SP_WIDE unsigned __int128 sp_w_low(const uint64_t *a) { return (unsigned __int128)a[1] << 64 | a[0]; }

/* a, of m limbs, in n limbs: cut, or continued with its sign. */
SP_WIDE uint64_t *sp_w_fit(uint64_t *r, unsigned n, const uint64_t *a, unsigned m)
{
    memset(r, a[m - 1] >> 63 ? 0xff : 0, n * sizeof *r);
    memcpy(r, a, (n < m ? n : m) * sizeof *r);
    return r;
}

/* The low `width` bits of a as a two's complement number; width <= 64 * n. */
SP_WIDE uint64_t *sp_w_sext(uint64_t *r, const uint64_t *a, unsigned n, unsigned width)
{
    unsigned top = (width - 1) / 64, shift = 63 - (width - 1) % 64;
    memcpy(r, a, n * sizeof *r);
    r[top] = (uint64_t)((int64_t)(a[top] << shift) >> shift);
    for (unsigned i = top + 1; i < n; i++)
        r[i] = r[top] >> 63 ? ~0ull : 0;
    return r;
}

/* -- arithmetic modulo 2**(64 n) -------------------------------------------------------------------------------------- */

SP_WIDE uint64_t *sp_w_add(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    unsigned __int128 sum = 0;
    for (unsigned i = 0; i < n; i++) {
        sum += (unsigned __int128)a[i] + b[i];
        r[i] = (uint64_t)sum;
        sum >>= 64;
    }
    return r;
}

SP_WIDE uint64_t *sp_w_sub(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    uint64_t borrow = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned __int128 d = (unsigned __int128)a[i] - b[i] - borrow;
        r[i] = (uint64_t)d;
        borrow = (uint64_t)(d >> 64) & 1;
    }
    return r;
}

SP_WIDE uint64_t *sp_w_mul(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    memset(r, 0, n * sizeof *r);
    for (unsigned i = 0; i < n; i++) {
        uint64_t carry = 0;
        for (unsigned k = 0; i + k < n; k++) {
            unsigned __int128 t = (unsigned __int128)a[i] * b[k] + r[i + k] + carry;
            r[i + k] = (uint64_t)t;
            carry = (uint64_t)(t >> 64);
        }
    }
    return r;
}

SP_WIDE uint64_t *sp_w_and(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        r[i] = a[i] & b[i];
    return r;
}

SP_WIDE uint64_t *sp_w_or(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        r[i] = a[i] | b[i];
    return r;
}

SP_WIDE uint64_t *sp_w_xor(uint64_t *r, const uint64_t *a, const uint64_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        r[i] = a[i] ^ b[i];
    return r;
}

SP_WIDE uint64_t *sp_w_not(uint64_t *r, const uint64_t *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        r[i] = ~a[i];
    return r;
}

SP_WIDE uint64_t *sp_w_shl(uint64_t *r, const uint64_t *a, uint64_t count, unsigned n)
{
    uint64_t limbs = count / 64;
    unsigned bits = (unsigned)(count % 64);
    for (unsigned i = 0; i < n; i++) {
        uint64_t high = i >= limbs ? a[i - limbs] : 0, low = i >= limbs + 1 ? a[i - limbs - 1] : 0;
        r[i] = bits ? high << bits | low >> (64 - bits) : high;
    }
    return r;
}

/* Arithmetic: negative numbers stay negative. */
SP_WIDE uint64_t *sp_w_shr(uint64_t *r, const uint64_t *a, uint64_t count, unsigned n)
{
    uint64_t limbs = count / 64, sign = a[n - 1] >> 63 ? ~0ull : 0;
    unsigned bits = (unsigned)(count % 64);
    for (unsigned i = 0; i < n; i++) {
        uint64_t low = i + limbs < n ? a[i + limbs] : sign, high = i + limbs + 1 < n ? a[i + limbs + 1] : sign;
        r[i] = bits ? low >> bits | high << (64 - bits) : low;
    }
    return r;
}

/* -- comparison ---------------------------------------------------------------------------------------------------- */

SP_WIDE bool sp_w_zero(const uint64_t *a, unsigned n)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < n; i++)
        any |= a[i];
    return !any;
}

/* Below, equal or above: -1, 0, 1. */
SP_WIDE int sp_w_compare(const uint64_t *a, const uint64_t *b, unsigned n)
{
    if (a[n - 1] != b[n - 1])
        return (int64_t)a[n - 1] < (int64_t)b[n - 1] ? -1 : 1;
    for (unsigned i = n - 1; i-- > 0;)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

SP_WIDE const uint64_t *sp_w_min(const uint64_t *a, const uint64_t *b, unsigned n)
{
    return sp_w_compare(a, b, n) < 0 ? a : b;
}

SP_WIDE const uint64_t *sp_w_max(const uint64_t *a, const uint64_t *b, unsigned n)
{
    return sp_w_compare(a, b, n) > 0 ? a : b;
}

SP_WIDE bool sp_w_matches(const uint64_t *a, const uint64_t *mask, const uint64_t *value, unsigned n)
{
    uint64_t differ = 0;
    for (unsigned i = 0; i < n; i++)
        differ |= (a[i] & mask[i]) ^ value[i];
    return !differ;
}

/* -- division of numbers that are not negative; by zero: 0 -------------------------------------------------------------- */

/* The remainder goes to `rest`, the quotient to r; bit by bit. */
SP_WIDE uint64_t *sp_w_divide(uint64_t *r, uint64_t *rest, const uint64_t *a, const uint64_t *b, unsigned n)
{
    memset(r, 0, n * sizeof *r);
    memset(rest, 0, n * sizeof *rest);
    if (sp_w_zero(b, n))
        return r;
    for (unsigned i = n * 64; i-- > 0;) {
        for (unsigned k = n - 1; k > 0; k--)
            rest[k] = rest[k] << 1 | rest[k - 1] >> 63;
        rest[0] = rest[0] << 1 | (a[i / 64] >> (i % 64) & 1);
        if (sp_w_compare(rest, b, n) >= 0) {
            sp_w_sub(rest, rest, b, n);
            r[i / 64] |= 1ull << (i % 64);
        }
    }
    return r;
}

SP_WIDE uint64_t *sp_w_modulo(uint64_t *r, uint64_t *quotient, const uint64_t *a, const uint64_t *b, unsigned n)
{
    sp_w_divide(quotient, r, a, b, n);
    return r;
}

#endif
