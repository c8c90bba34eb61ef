"""One suite of checks that every estimator must pass, and what each of them is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.estimators import (
    FAR_S,
    CounterRate,
    Crossing,
    Cusum,
    Estimator,
    RobustLevel,
    Silence,
    Trend,
    Variance,
    time_to_threshold,
)

Maker = Callable[[int], Estimator[Any]]
SIGNALS = 2
EVERY: dict[str, Maker] = {
    "level": lambda rows: RobustLevel(rows, SIGNALS, tau=3.0),
    "variance": lambda rows: Variance(rows, SIGNALS, tau=3.0),
    "trend": lambda rows: Trend(rows, SIGNALS, tau=[0.5, 2.0]),
    "trend with jumps": lambda rows: Trend(rows, SIGNALS, tau=1.0, jump=3.0, jump_rate=1.0),
    "crossing": lambda rows: Crossing(rows, SIGNALS, tau=1.0, threshold=3.0),
    "cusum": lambda rows: Cusum(rows, SIGNALS),
    "counter": lambda rows: CounterRate(rows, SIGNALS, tau=1.0),
    "silence": lambda rows: Silence(rows, SIGNALS),
}
every = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY.keys())

odd = st.floats(allow_nan=True, allow_infinity=True, width=64)
usual = st.floats(-1e6, 1e6)
values = st.lists(st.tuples(st.one_of(usual, odd), st.one_of(usual, odd)), min_size=1, max_size=40)
gaps = st.lists(st.one_of(st.floats(1e-3, 5.0), st.sampled_from([0.0, -1.0, 1e5])), min_size=40, max_size=40)


def scores(estimator: Estimator[Any], row: int) -> list[list[float]]:
    return [part.tolist() for part in estimator.score_one(row)]


def same(a: list[list[float]], b: list[list[float]]) -> bool:
    return bool(np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True))


@every
@settings(max_examples=40)
@given(values=values, gaps=gaps)
def test_one_by_one_is_the_same_as_many_at_once(
    make: Maker, values: list[tuple[float, float]], gaps: list[float]
) -> None:
    single, many, whole = make(3), make(3), make(3)
    time = 0.0
    for value, gap in zip(values, gaps, strict=False):
        time += gap
        rows = np.array([2, 0])
        block = np.array([value, value[::-1]])
        single.learn_one(2, time, block[0])
        single.learn_one(0, time, block[1])
        many.learn_many(rows, time, block)
        whole.learn_many(slice(None), time, np.array([block[1], [np.nan, np.nan], block[0]]))
    for row in range(3):
        assert same(scores(single, row), scores(many, row))
        assert same(scores(single, row), scores(whole, row))
        at_once = [part[row].tolist() for part in many.score_many()]
        assert same(at_once, scores(many, row))


@every
@given(values=values, gaps=gaps)
@settings(max_examples=40)
def test_scores_are_never_infinite(make: Maker, values: list[tuple[float, float]], gaps: list[float]) -> None:
    estimator = make(1)
    time = 0.0
    for value, gap in zip(values, gaps, strict=False):
        time += gap
        estimator.learn_one(0, time, np.array(value))
        for part in estimator.score_one(0):
            assert not np.isinf(part).any()


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_what_is_not_finite_changes_nothing(make: Maker, bad: float) -> None:
    estimator = make(2)
    for i in range(6):
        estimator.learn_one(0, float(i), np.array([1.0 * i, 2.0]))
    before, clock = estimator.state.copy(), estimator.clock.last.copy()
    estimator.learn_one(0, 6.0, bad)
    estimator.learn_one(0, bad, 1.0)
    estimator.learn_many(np.array([0, 1]), 6.0, np.full((2, SIGNALS), bad))
    assert np.array_equal(estimator.state, before, equal_nan=True)
    assert np.array_equal(estimator.clock.last, clock, equal_nan=True)


@every
@pytest.mark.parametrize("time", [5.0, 4.9, -3.0])
def test_what_is_late_or_comes_twice_changes_nothing(make: Maker, time: float) -> None:
    estimator = make(1)
    for i in range(6):
        estimator.learn_one(0, float(i), np.array([1.0 * i, 2.0]))
    before = estimator.state.copy()
    estimator.learn_one(0, time, 77.0)
    assert np.array_equal(estimator.state, before, equal_nan=True)


@every
def test_signals_have_clocks_of_their_own(make: Maker) -> None:
    both, split = make(1), make(1)
    for i in range(8):
        both.learn_one(0, float(i), np.array([i * 1.0, 3.0 * i]))
        split.learn_one(0, float(i), np.array([i * 1.0, np.nan]))
        split.learn_one(0, float(i), np.array([np.nan, 3.0 * i]))
    assert same(scores(both, 0), scores(split, 0))


@every
def test_rows_do_not_touch_each_other(make: Maker) -> None:
    estimator = make(3)
    for i in range(5):
        estimator.learn_one(1, float(i), np.array([i * 1.0, 2.0]))
    fresh = make(3)
    for row in (0, 2):
        assert np.array_equal(estimator.state[:, row], fresh.state[:, row])


@every
def test_forget_is_a_first_day_again(make: Maker) -> None:
    estimator, fresh = make(2), make(2)
    for i in range(5):
        estimator.learn_one(0, float(i), np.array([i * 1.0, 2.0]))
    estimator.forget(0)
    assert np.array_equal(estimator.state[:, 0], fresh.state[:, 0], equal_nan=True)
    for i in range(5):
        estimator.learn_one(0, float(i), np.array([9.0, i * 2.0]))  # earlier times than before are welcome
        fresh.learn_one(0, float(i), np.array([9.0, i * 2.0]))
    assert same(scores(estimator, 0), scores(fresh, 0))


@every
def test_scoring_changes_nothing_and_gives_copies(make: Maker) -> None:
    estimator = make(1)
    for i in range(5):
        estimator.learn_one(0, float(i), np.array([i * 1.0, 2.0]))
    before = estimator.state.copy()
    for part in estimator.score_one(0):
        part += 1.0
    assert np.array_equal(estimator.state, before, equal_nan=True)


@every
def test_the_epoch_does_not_matter(make: Maker) -> None:
    near, far = make(1), make(1)
    for i in range(60):
        value = np.array([np.sin(i), i * 0.5])
        near.learn_one(0, 0.0625 * i, value)
        far.learn_one(0, 1.8e9 + 0.0625 * i, value)
    assert np.allclose(scores(near, 0), scores(far, 0), rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RobustLevel(tau=0.0),
        lambda: Trend(tau=[1.0, -1.0], signals=2),
        lambda: Cusum(drift=np.inf),
        lambda: Variance(0),
        lambda: RobustLevel(clip=np.nan),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="positive"):
        make()


def test_level_stands_firm_where_a_mean_is_dragged() -> None:
    rng = np.random.default_rng(1)
    level, spread = RobustLevel(tau=20.0), Variance(tau=20.0)
    for i in range(400):
        value = 1000.0 if i % 40 == 39 else rng.normal(5.0, 1.0)
        level.learn_one(0, 0.1 * i, value)
        spread.learn_one(0, 0.1 * i, value)
    score = level.score_one(0)
    assert abs(float(score.level[0]) - 5.0) < 0.5
    assert 0.7 < float(score.sigma[0]) < 1.6
    assert float(spread.score_one(0).mean[0]) > 20.0


@given(level=st.floats(-50, 50), slope=st.floats(-20, 20), seed=st.integers(0, 99))
def test_trend_finds_a_line_at_irregular_times(level: float, slope: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trend = Trend(tau=1.0)
    time = 0.0
    for _ in range(40):
        time += rng.uniform(0.02, 0.3)
        trend.learn_one(0, time, level + slope * time)
    line = trend.score_one(0)
    assert float(line.level[0]) == pytest.approx(level + slope * time, abs=1e-5)
    assert float(line.slope[0]) == pytest.approx(slope, abs=1e-4)


def test_slope_error_is_about_what_slopes_scatter() -> None:
    rng = np.random.default_rng(2)
    trend = Trend(300, tau=0.7)
    for i in range(80):
        trend.learn_many(slice(None), 0.05 * i, rng.normal(0.0, 0.5, (300, 1)))
    line = trend.score_many()
    scatter = float(line.slope.std())
    assert 0.5 * scatter < float(line.slope_error.mean()) < 2.0 * scatter


def test_a_jump_moves_the_line_and_does_not_tilt_it() -> None:
    plain, jumping = Trend(tau=0.5), Trend(tau=0.5, jump=1.0, jump_rate=1.0)
    for i in range(30):
        value = 2.0 if i < 25 else 6.0
        plain.learn_one(0, 0.1 * i, value)
        jumping.learn_one(0, 0.1 * i, value)
    assert float(plain.score_one(0).slope[0]) > 2.0
    assert float(jumping.score_one(0).slope[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(jumping.score_one(0).level[0]) == pytest.approx(6.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.5, 0.65, 0.9, 1.0])
@pytest.mark.parametrize("step", [0.4, -0.4])
def test_a_step_inside_a_window_is_a_jump_over_two_samples(share: float, step: float) -> None:
    trend, plain = Trend(tau=0.5, jump=0.15, jump_rate=1.0), Trend(tau=0.5)
    values = [0.1] * 12 + [0.1 + share * step] + [0.1 + step] * 3
    for i, value in enumerate(values):
        for line in (trend, plain):
            line.learn_one(0, 0.05 * i, value)
        if i >= 13:
            found = trend.score_one(0)
            assert float(found.slope[0]) == pytest.approx(0.0, abs=1e-9)
            assert float(found.level[0]) == pytest.approx(0.1 + step)
            assert float(found.slope_error[0]) == pytest.approx(0.0, abs=1e-6)
    assert abs(float(plain.score_one(0).slope[0])) > 0.4


def test_ramps_and_swings_are_no_jump_over_two_samples() -> None:
    for values in (
        [0.1 + 0.9 * 0.05 * max(i - 5, 0) for i in range(25)],  # as steep as a limit of 1 per unit of time allows
        [0.5 + 0.09 * (-1) ** i for i in range(25)],  # each change near the limit, together nothing
    ):
        trend, plain = Trend(tau=0.5, jump=0.15, jump_rate=1.0), Trend(tau=0.5)
        for i, value in enumerate(values):
            trend.learn_one(0, 0.05 * i, value)
            plain.learn_one(0, 0.05 * i, value)
        np.testing.assert_array_equal(trend.state, plain.state)


def test_a_jump_over_two_samples_ends_there() -> None:
    trend = Trend(tau=0.5, jump=0.15, jump_rate=1.0)
    values = [0.1] * 12 + [0.3, 0.5] + [0.5 + 0.03 * i for i in range(1, 8)]  # then a ramp, in the same direction
    for i, value in enumerate(values):
        trend.learn_one(0, 0.05 * i, value)
    assert float(trend.score_one(0).slope[0]) > 0.2


def test_time_to_threshold_never_promises_what_moves_away() -> None:
    left = time_to_threshold(np.array([1.0, 1.0, 1.0, 3.0, np.nan]), np.array([1.0, -1.0, 0.0, 5.0, 1.0]), 3.0)
    assert left[:4].tolist() == [2.0, FAR_S, FAR_S, 0.0]
    assert left[4] == FAR_S


def test_cusum_ignores_noise_and_notices_a_small_shift() -> None:
    rng = np.random.default_rng(3)
    cusum = Cusum(200)
    for i in range(100):
        cusum.learn_many(slice(None), 0.1 * i, np.clip(rng.normal(0.0, 1.0, (200, 1)), -3, 3))
    quiet = float(np.quantile(cusum.score_many().down, 0.99))
    for i in range(100, 125):
        cusum.learn_many(slice(None), 0.1 * i, rng.normal(-1.5, 1.0, (200, 1)))
    change = cusum.score_many()
    assert float(np.quantile(change.down, 0.05)) > quiet
    assert 1.5 < float(np.median(change.since)) < 6.0


@pytest.mark.parametrize("size", [2**32, 2**64])
def test_counter_goes_on_over_a_wrap(size: int) -> None:
    counter = CounterRate(tau=10.0)
    step = size // 2**12
    for i in range(20):
        counter.learn_one(0, float(i), float((size - 8 * step + i * step) % size))
        if i > 1:
            assert float(counter.score_one(0).rate[0]) == pytest.approx(float(step))
    assert float(counter.score_one(0).resets[0]) == 0.0


def test_counter_reset_is_no_burst_and_no_negative_rate() -> None:
    counter = CounterRate(tau=1e5)
    for i, total in enumerate([1000, 1100, 1200, 30, 130, 230]):
        counter.learn_one(0, float(i), float(total))
        assert not float(counter.score_one(0).rate[0]) < 0.0
    score = counter.score_one(0)
    assert (float(score.rate[0]), float(score.resets[0])) == (100.0, 1.0)
    assert float(score.recent[0]) == pytest.approx(400.0, abs=0.1)


def test_a_steady_rate_hardly_notices_a_late_stamp() -> None:
    counter = CounterRate(tau=1.0, steady_tau=0.2)
    single, steady = [], []
    for i in range(60):
        late = 0.03 if i % 10 == 5 else 0.0
        counter.learn_one(0, 0.05 * i + late, 100.0 * i)  # 2,000 a second
        score = counter.score_one(0)
        single.append(float(score.rate[0]))
        steady.append(float(score.steady[0]))
    assert max(single[30:]) > 4500.0
    assert min(steady[30:]) > 1600.0 and max(steady[30:]) < 2500.0


def test_silence_counts_from_the_last_sample_and_knows_the_pace() -> None:
    silence = Silence(2)
    for i in range(20):
        silence.learn_one(0, 0.1 * i, 1.0)
    assert silence.silent(3.0)[:, 0].tolist() == pytest.approx([1.1, FAR_S])
    assert float(silence.score_one(0).interval[0]) == pytest.approx(0.1)
