/* Numbers in bytes and bits, as headers and keys hold them, and shifts that are defined for any count. */
#ifndef SP_BITS_H
#define SP_BITS_H

#include <stdint.h>
#include <string.h>

typedef unsigned __int128 sp_u128;
typedef __int128 sp_s128;

#define SP_INLINE static inline __attribute__((always_inline, unused))
#define SP_LIKELY(x) __builtin_expect(!!(x), 1)
#define SP_UNLIKELY(x) __builtin_expect(!!(x), 0)

SP_INLINE uint64_t sp_load(const uint8_t *p, unsigned n) /* n <= 8 bytes, big endian */
{
    uint64_t w = 0;
    uint32_t d;
    uint16_t h;
    switch (n) {
    case 8:
        memcpy(&w, p, 8);
        return __builtin_bswap64(w);
    case 4:
        memcpy(&d, p, 4);
        return __builtin_bswap32(d);
    case 2:
        memcpy(&h, p, 2);
        return __builtin_bswap16(h);
    case 6:
        memcpy(&d, p, 4);
        memcpy(&h, p + 4, 2);
        return (uint64_t)__builtin_bswap32(d) << 16 | __builtin_bswap16(h);
    default:
        for (unsigned i = 0; i < n; i++)
            w = w << 8 | p[i];
        return w;
    }
}

SP_INLINE sp_u128 sp_load128(const uint8_t *p, unsigned n) /* 8 < n <= 16 */
{
    return (sp_u128)sp_load(p, n - 8) << 64 | sp_load(p + n - 8, 8);
}

SP_INLINE void sp_store(uint8_t *p, uint64_t v, unsigned n)
{
    uint64_t w;
    uint32_t d;
    uint16_t h;
    switch (n) {
    case 8:
        w = __builtin_bswap64(v);
        memcpy(p, &w, 8);
        return;
    case 4:
        d = __builtin_bswap32((uint32_t)v);
        memcpy(p, &d, 4);
        return;
    case 2:
        h = __builtin_bswap16((uint16_t)v);
        memcpy(p, &h, 2);
        return;
    case 6:
        d = __builtin_bswap32((uint32_t)(v >> 16));
        h = __builtin_bswap16((uint16_t)v);
        memcpy(p, &d, 4);
        memcpy(p + 4, &h, 2);
        return;
    default:
        for (unsigned i = 0; i < n; i++)
            p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    }
}

SP_INLINE void sp_store128(uint8_t *p, sp_u128 v, unsigned n) /* 8 < n <= 16 */
{
    sp_store(p, (uint64_t)(v >> 64), n - 8);
    sp_store(p + n - 8, (uint64_t)v, 8);
}

/* Bit-granular access for layouts that no whole-byte run covers; width <= 128. */
static inline __attribute__((unused)) sp_u128 sp_get_bits(const uint8_t *p, uint32_t bit, uint32_t width)
{
    sp_u128 v = 0;
    for (uint32_t i = bit; i < bit + width; i++)
        v = v << 1 | ((p[i >> 3] >> (7 - (i & 7))) & 1);
    return v;
}

static inline __attribute__((unused)) void sp_put_bits(uint8_t *p, uint32_t bit, sp_u128 v, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++) {
        uint32_t at = bit + i;
        uint8_t m = (uint8_t)(0x80 >> (at & 7));
        if ((v >> (width - 1 - i)) & 1)
            p[at >> 3] |= m;
        else
            p[at >> 3] &= (uint8_t)~m;
    }
}

/* Copy `width` bits from bit `from` of src to bit `to` of dst. */
static inline __attribute__((unused)) void sp_copy_bits(uint8_t *dst, uint32_t to, const uint8_t *src, uint32_t from,
                                                        uint32_t width)
{
    for (uint32_t i = 0; i < width; i++)
        sp_put_bits(dst, to + i, (src[(from + i) >> 3] >> (7 - ((from + i) & 7))) & 1, 1);
}

SP_INLINE uint64_t sp_shl64(uint64_t v, uint64_t n) { return n < 64 ? v << n : 0; }
SP_INLINE sp_u128 sp_shl128(sp_u128 v, uint64_t n) { return n < 128 ? v << n : 0; }
SP_INLINE uint64_t sp_shr64(uint64_t v, uint64_t n) { return n < 64 ? v >> n : 0; }
SP_INLINE sp_u128 sp_shr128(sp_u128 v, uint64_t n) { return n < 128 ? v >> n : 0; }
SP_INLINE int64_t sp_sar64(int64_t v, uint64_t n) { return v >> (n < 63 ? n : 63); }
SP_INLINE sp_s128 sp_sar128(sp_s128 v, uint64_t n) { return v >> (n < 127 ? n : 127); }
SP_INLINE uint64_t sp_clamp_shift(sp_u128 n) { return n > 4096 ? 4096 : (uint64_t)n; }
SP_INLINE int64_t sp_sext64(uint64_t v, unsigned w) { return (int64_t)(v << (64 - w)) >> (64 - w); }
SP_INLINE sp_s128 sp_sext128(sp_u128 v, unsigned w) { return (sp_s128)(v << (128 - w)) >> (128 - w); }

#endif
