"""Optical receivers in three formulas: bit error ratio, Q factor, margin.

A binary decision in Gaussian noise errs with BER = erfc(Q / sqrt 2) / 2, where Q is the ratio of the eye's
half opening to the noise (ITU-T G.976, annex; Agrawal, Fiber-Optic Communication Systems, section 4.6).
Forward error correction hides all errors up to its limit; the distance to it in dB of Q, the *margin*, is what
a receiver has left to lose.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ml.estimators.base import Floats, Value

FEC_LIMIT_BER = 1.25e-2  # concatenated FEC of 400ZR (OIF-400ZR-01.0); the lab's transceivers behave like it
BEST_BER = 1e-15  # a reading of 0 or less than this says nothing more
WORST_BER = 0.48
_BEST, _WORST, _MINUS_TWO, _DECIBEL = (np.array(v) for v in (BEST_BER, WORST_BER, -2.0, 20.0))
# Coefficients of Hastings' numerator and denominator, highest power first.
HASTINGS = ((0.0, 0.001308), (0.010328, 0.189269), (0.802853, 1.432788), (2.515517, 1.0))


def q_reader(ber: Floats, q: Floats) -> Callable[[], None]:
    """A function that makes ``q`` of ``ber`` (bit error ratios), both arrays of one shape, by Hastings' rational
    approximation (Abramowitz and Stegun 26.2.23, error 4.5e-4)::

        t = sqrt(-2 log p)
        Q = t - (2.515517 + t (0.802853 + t 0.010328)) / (1 + t (1.432788 + t (0.189269 + t 0.001308)))
    """
    pair = np.empty((2, *ber.shape))  # numerator and denominator
    twice = np.empty_like(pair)  # t, for either
    t, again = twice[0, ...], twice[1, ...]
    over, under = pair[0, ...], pair[1, ...]  # arrays, even of no dimension
    first, *others = (np.multiply.outer(c, np.ones(ber.shape)) for c in HASTINGS)

    def read() -> None:
        np.maximum(ber, _BEST, out=q)
        np.minimum(q, _WORST, out=q)
        np.log(q, out=q)
        np.multiply(q, _MINUS_TWO, out=q)
        np.sqrt(q, out=t)
        np.sqrt(q, out=again)
        np.multiply(twice, first, out=pair)
        np.add(pair, others[0], out=pair)
        for coefficient in others[1:]:
            np.multiply(pair, twice, out=pair)
            np.add(pair, coefficient, out=pair)
        np.divide(over, under, out=over)
        np.subtract(t, over, out=q)

    return read


def q_factor(ber: Value) -> Floats:
    """Q of a bit error ratio.

    >>> round(float(q_factor(1e-8)), 2), round(float(q_factor(1.25e-2)), 2)
    (5.61, 2.24)
    """
    given = np.asarray(ber, dtype=np.float64)
    q = np.empty_like(given)
    q_reader(given, q)()
    return q


def margin_reader(ber: Floats, margin: Floats, limit: float = FEC_LIMIT_BER) -> Callable[[], None]:
    """A function that makes ``margin`` (see :func:`margin_db`) of ``ber``, both arrays of one shape."""
    q = q_reader(ber, margin)
    least = np.array(q_factor(limit))

    def read() -> None:
        q()
        np.divide(margin, least, out=margin)
        np.log10(margin, out=margin)
        np.multiply(margin, _DECIBEL, out=margin)

    return read


def margin_db(ber: Value, limit: float = FEC_LIMIT_BER) -> Floats:
    """Distance of a bit error ratio from the FEC limit, in dB of Q; negative beyond it, nan stays nan.

    >>> round(float(margin_db(1e-8)), 1), round(float(margin_db(1.25e-2)), 1)
    (8.0, 0.0)
    """
    given = np.asarray(ber, dtype=np.float64)
    margin = np.empty_like(given)
    margin_reader(given, margin, limit)()
    return margin


def ber(q: Value) -> Floats:
    """Bit error ratio of a Q factor: Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), and for Q above 3.6,
    where that is not enough, the asymptotic series 7.1.23.

    >>> f"{float(ber(2.2412)):.2e}", f"{float(ber(5.612)):.1e}"
    ('1.25e-02', '1.0e-08')
    """
    q = np.maximum(q, 0.0)
    x = q / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    near = 0.5 * series * np.exp(-x * x)
    safe = np.maximum(q, 1.0)
    tail = np.exp(-0.5 * q * q) / (safe * np.sqrt(2.0 * np.pi))
    far = tail * (1.0 - 1.0 / safe**2 + 3.0 / safe**4 - 15.0 / safe**6 + 105.0 / safe**8)
    result: Floats = np.where(q > 3.6, far, near)
    return result
