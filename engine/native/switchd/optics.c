/* Transceiver model; the formulas and their sources are in optics.h. */
#include "optics.h"

#include <math.h>

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
    r->state[0] = splitmix(&seed);
    r->state[1] = splitmix(&seed);
    r->has_spare = 0;
}

/* xoroshiro128+ (Blackman and Vigna, public domain); the low bits are weak and not used. */
uint64_t rng_next(struct rng *r)
{
    uint64_t a = r->state[0], b = r->state[1], result = a + b;
    b ^= a;
    r->state[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    r->state[1] = (b << 37) | (b >> 27);
    return result;
}

double rng_uniform(struct rng *r)
{
    return (double)(rng_next(r) >> 11) * 0x1.0p-53;
}

double rng_normal(struct rng *r) /* Marsaglia's polar method */
{
    if (r->has_spare) {
        r->has_spare = 0;
        return r->spare;
    }
    double u, v, s;
    do {
        u = 2 * rng_uniform(r) - 1;
        v = 2 * rng_uniform(r) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    double factor = sqrt(-2 * log(s) / s);
    r->spare = v * factor;
    r->has_spare = 1;
    return u * factor;
}

double optics_ber(double power_dbm)
{
    double reference = OPTICS_LAUNCH_DBM - OPTICS_PATH_LOSS_DB;
    double q = OPTICS_Q0 * pow(10, (power_dbm - reference) / 20);
    return 0.5 * erfc(q / sqrt(2));
}

double optics_word_error(double ber)
{
    if (ber <= OPTICS_FEC_LIMIT)
        return 0;
    double mean = OPTICS_WORD_BITS * ber;
    double deviation = sqrt(mean * (1 - ber));
    return 0.5 * erfc((OPTICS_WORD_ERRORS - mean) / deviation / sqrt(2));
}

double optics_frame_loss(double word_error, uint32_t frame_bytes)
{
    if (word_error <= 0)
        return 0;
    double words = ceil(frame_bytes * 8.0 / OPTICS_WORD_BITS);
    return word_error >= 1 ? 1 : 1 - pow(1 - word_error, words < 1 ? 1 : words);
}

double optics_jitter_ns(double ber)
{
    /* More decoder iterations as errors near the limit; nothing worth mentioning below a tenth of it. */
    double share = ber / OPTICS_FEC_LIMIT;
    if (share < 0.1)
        return 0;
    return 300e3 * (share > 1 ? 1 : share);
}

void optics_init(struct optics *o, uint64_t seed, uint64_t now)
{
    rng_seed(&o->rng, seed);
    o->corrected = o->uncorrected = 0;
    o->updated = now;
    o->power_dbm = OPTICS_LAUNCH_DBM - OPTICS_PATH_LOSS_DB;
    o->ber = optics_ber(o->power_dbm);
    o->word_error = 0;
}

void optics_read(struct optics *o, double attenuation_db, double noise_db, uint64_t now)
{
    double sigma = hypot(OPTICS_READING_NOISE, noise_db);
    double power = OPTICS_LAUNCH_DBM - OPTICS_PATH_LOSS_DB - attenuation_db + sigma * rng_normal(&o->rng);
    o->power_dbm = power < OPTICS_DARK_DBM ? OPTICS_DARK_DBM : power;
    o->ber = optics_ber(o->power_dbm);
    o->word_error = optics_word_error(o->ber);
    double seconds = now > o->updated ? (double)(now - o->updated) * 1e-9 : 0;
    o->updated = now;
    double words = seconds * OPTICS_LINE_RATE / OPTICS_WORD_BITS;
    double corrected = (1 - o->word_error) * o->ber * seconds * OPTICS_LINE_RATE;
    corrected += sqrt(corrected) * rng_normal(&o->rng); /* a Poisson count */
    if (corrected > 0)
        o->corrected += corrected;
    o->uncorrected += o->word_error * words;
}
