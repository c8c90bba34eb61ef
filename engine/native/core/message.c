/* log_msg(): numbers of any width in decimal. */
#include "sp_core.h"
#include "sp_wide.h"

#define LIMBS 128u
#define CHUNK 10000000000000000000ull /* the largest power of ten in a limb */
#define DIGITS 19u

/* Divides in place and returns the remainder. */
static uint64_t sp_w_divide_small(uint64_t *a, unsigned n, uint64_t by)
{
    unsigned __int128 rest = 0;
    for (unsigned i = n; i-- > 0;) {
        rest = rest << 64 | a[i];
        a[i] = (uint64_t)(rest / by);
        rest %= by;
    }
    return (uint64_t)rest;
}

/* The number's digits at the end of `text`; returns their start. */
static const char *sp_w_decimal(char *text, size_t size, struct sp_number number)
{
    uint64_t left[LIMBS];
    unsigned n = number.n < LIMBS ? number.n : LIMBS;
    bool negative = number.limbs[n - 1] >> 63;
    for (unsigned i = 0, carry = negative; i < n; i++) {
        left[i] = negative ? ~number.limbs[i] + carry : number.limbs[i];
        carry = carry && !left[i];
    }
    char *at = text + size;
    *--at = 0;
    do {
        uint64_t chunk = sp_w_divide_small(left, n, CHUNK);
        bool last = sp_w_zero(left, n);
        for (unsigned i = 0; i < DIGITS && (chunk || !last); i++, chunk /= 10)
            *--at = (char)('0' + chunk % 10);
    } while (!sp_w_zero(left, n));
    if (!*at)
        *--at = '0';
    if (negative)
        *--at = '-';
    return at;
}

void sp_message(struct sp_switch *sw, const char *format, const struct sp_number *numbers, unsigned count)
{
    char line[8192], digits[LIMBS * 20];
    size_t len = 0;
    for (unsigned used = 0; *format && len < sizeof line;) {
        const char *part = format;
        size_t n = 1;
        if (format[0] == '{' && format[1] == '}' && used < count) {
            part = sp_w_decimal(digits, sizeof digits, numbers[used++]);
            n = strlen(part);
            format++;
        }
        format++;
        n = n < sizeof line - len ? n : sizeof line - len;
        memcpy(line + len, part, n);
        len += n;
    }
    sw->options.log(sw->options.user, line, (uint32_t)len);
}
