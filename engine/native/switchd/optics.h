/* Model of a coherent transceiver's receiver: attenuation in, readings and frame loss out.
 *
 *   receive power  P = P_launch - path loss - attenuation + noise                          [dBm]
 *   quality        Q = Q0 * sqrt(p / p0)     (amplified receiver: Q^2 follows the signal-to-noise ratio,
 *                                             which follows received power; Agrawal, "Fiber-Optic
 *                                             Communication Systems", ch. 4 and 6)
 *   pre-FEC BER    b = erfc(Q / sqrt 2) / 2                                                 [1]
 *   code word lost when more than T of its N bits are wrong (normal approximation of the binomial)
 *
 * P0 = -8 dBm with Q0 = 5.612 gives 1e-8. The FEC limit is that of the concatenated code of OIF 400ZR,
 * 1.25e-2, which this receiver reaches at 8.0 dB attenuation; N and T are chosen so that the word error
 * rate there is about 1e-12, one half near 9.1 dB and 1 at 10 dB. Below the limit nothing is lost.
 */
#ifndef SWITCHD_OPTICS_H
#define SWITCHD_OPTICS_H

#include <stdint.h>

#define OPTICS_LAUNCH_DBM 0.0
#define OPTICS_PATH_LOSS_DB 8.0
#define OPTICS_Q0 5.612
#define OPTICS_FEC_LIMIT 1.25e-2
#define OPTICS_WORD_BITS 4000.0
#define OPTICS_WORD_ERRORS 100.0
#define OPTICS_LINE_RATE 1e11     /* bits/s whose errors are counted, whatever the emulated port's rate */
#define OPTICS_READING_NOISE 0.02 /* dB, sigma of a healthy receiver's power readings */
#define OPTICS_STEP_NS 10000000ull /* a new reading every 10 ms */
#define OPTICS_DARK_DBM (-40.0)   /* lowest reading */

struct rng {
    uint64_t state[2];
    double spare;
    int has_spare;
};
void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
double rng_uniform(struct rng *r); /* [0, 1) */
double rng_normal(struct rng *r);

struct optics {
    double power_dbm, ber, word_error;       /* the reading in force */
    double corrected, uncorrected;           /* cumulative bits and words */
    uint64_t updated;                        /* mono ns */
    struct rng rng;
};

/* Pure parts of the model. */
double optics_ber(double power_dbm);
double optics_word_error(double ber);
double optics_frame_loss(double word_error, uint32_t frame_bytes);
/* Largest extra delay (ns) that error correction adds near its limit. */
double optics_jitter_ns(double ber);

void optics_init(struct optics *o, uint64_t seed, uint64_t now);
/* Takes a new reading at `now` and accumulates what the code corrected and lost since the last one. */
void optics_read(struct optics *o, double attenuation_db, double noise_db, uint64_t now);

#endif
