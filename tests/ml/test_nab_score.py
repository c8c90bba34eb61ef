"""The NAB score against cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.datasets.nab import Series, inside
from ml.nab_score import PROFILES, PUBLISHED, Profile, probation, score, score_at, sigmoid, worth

STANDARD, LOW_FP, LOW_FN = PROFILES


def series(count: int = 1000, *windows: tuple[int, int]) -> Series:
    return Series("x", np.arange(count) * 300.0, np.zeros(count), tuple(windows))


def marks(count: int, *places: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    found = np.zeros(count)
    found[list(places)] = 1.0
    return found


def test_nothing_is_zero_and_perfect_is_a_hundred() -> None:
    corpus = [series(1000, (400, 449), (700, 749)), series(500)]
    for profile in PROFILES:
        assert score(corpus, [np.zeros(1000), np.zeros(500)], profile).score == pytest.approx(0.0, abs=1e-9)
        perfect = [marks(1000, 400, 700), marks(500)]
        assert score(corpus, perfect, profile).score == pytest.approx(100.0)


def test_a_detection_is_worth_the_more_the_earlier_and_costs_outside() -> None:
    corpus = [series(1000, (400, 499))]
    early = score_at(corpus, [marks(1000, 400)], STANDARD, 0.5).score
    middle = score_at(corpus, [marks(1000, 450)], STANDARD, 0.5).score
    late = score_at(corpus, [marks(1000, 499)], STANDARD, 0.5).score
    assert early == pytest.approx(100.0) and early > middle > late > 49.0
    # a second detection in the window earns nothing, one far outside costs its weight
    assert score_at(corpus, [marks(1000, 400, 450)], STANDARD, 0.5).score == pytest.approx(100.0)
    far = score_at(corpus, [marks(1000, 300, 400)], STANDARD, 0.5)
    assert far.score == pytest.approx(100.0 * (2.0 - 0.11) / 2.0) and far.false == 1 and far.found == 1
    assert score_at(corpus, [marks(1000, 300, 400)], LOW_FP, 0.5).score == pytest.approx(100.0 * (2.0 - 0.22) / 2.0)
    near = score_at(corpus, [marks(1000, 400, 505)], STANDARD, 0.5).score
    assert far.score < near < 100.0  # just behind a window it costs less


def test_a_missed_window_costs_more_where_misses_are_dear() -> None:
    corpus = [series(1000, (400, 449), (700, 749))]
    half = [marks(1000, 400)]
    assert score_at(corpus, half, STANDARD, 0.5).score == pytest.approx(50.0)
    assert score_at(corpus, half, LOW_FN, 0.5).score == pytest.approx(50.0)
    raw = 1.0 - 2.0  # one found, one missed at twice the cost, of -4 to 2
    assert score_at(corpus, half, LOW_FN, 0.5).score == pytest.approx(100.0 * (raw + 4.0) / 6.0)


def test_the_start_does_not_count() -> None:
    corpus = [series(1000, (400, 449))]
    assert probation(1000) == 150 and probation(100_000) == 750
    assert score_at(corpus, [marks(1000, 10, 149, 400)], STANDARD, 0.5).score == pytest.approx(100.0)
    assert score_at(corpus, [marks(1000, 150, 400)], STANDARD, 0.5).score < 100.0


def by_hand(item: Series, odd: np.ndarray[tuple[int], np.dtype[np.float64]], profile: Profile, limit: float) -> float:
    """The definition, sample by sample."""
    total, found = 0.0, worth(item)
    for k in range(len(item.windows)):
        own = np.flatnonzero((found.window == k) & found.counts & (odd >= limit))
        total += found.value[own].max() if len(own) else -profile.missed
    outside = found.counts & ~inside(item) & (odd >= limit)
    return total + profile.false * float(found.value[outside].sum())


@given(seed=st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_the_sweep_finds_the_best_threshold_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    item = series(300, (80, 109), (200, 229))
    odd = np.round(rng.random(300), 1)  # many ties
    for profile in PROFILES:
        best = max(by_hand(item, odd, profile, limit) for limit in [*np.unique(odd), np.inf])
        empty = -profile.missed * 2
        expected = 100.0 * (best - empty) / ((1.0 + profile.missed) * 2)
        assert score([item], [odd], profile).score == pytest.approx(expected)


def test_the_sigmoid_is_that_of_the_paper() -> None:
    found = sigmoid(np.array([-1.0, -0.5, 0.0, 1.0, 2.9, 3.0]))
    assert found == pytest.approx([0.98661, 0.84828, 0.0, -0.98661, -1.0, -1.0], abs=1e-4)


def test_published_scores_are_in_order() -> None:
    standard = [values[0] for values in PUBLISHED.values()]
    assert standard == sorted(standard, reverse=True) and standard[-1] == 0.0
