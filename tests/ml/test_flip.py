"""Flips are decided late: the score, its confirmation, thresholds from links that never fail."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from control.hysteresis import Threshold, Watch
from ml import fit, heldout, retrain, wide
from ml.boosted import FLIP_FROM
from ml.profiles import OPERATIONS
from ml.schema import Mode
from ml.sim import runs
from ml.sim.world import FAMILIAR, SCALES, Scale
from ml.store import packaged
from ml.trees import Forest, parse


def test_a_flip_comes_after_the_forecast_and_spares_what_stops() -> None:
    """The packaged models on ramps: forecast early, flipped late; no flip where failure is not even possible."""
    shares = {"congestion": 0.6, "ramp_within": 0.4}
    run = runs.ports(FAMILIAR, SCALES[0], 21, 24, shares).congestion
    bank = heldout.PortBank(24, OPERATIONS.unit_s, taus=OPERATIONS.taus)
    models = packaged("operations")
    cascade = models.cascade()
    bar = models.raise_at[Mode.CONGESTION]
    first, flip = np.full((2, 24), np.inf)
    for i in heldout.stream(bank, run):
        if i < 8 or i % 2:
            continue
        judged = cascade.ports(bank)[1]
        assert ((judged.flip >= 0.0) & (judged.flip <= 1.0)).all()
        assert not judged.flip[judged.probability < FLIP_FROM].any()
        first = np.where(judged.probability >= 0.5, np.minimum(first, run.time[i]), first)
        flip = np.where(judged.flip >= bar, np.minimum(flip, run.time[i]), flip)
    struck = np.isfinite(run.event) & np.isfinite(flip)
    assert struck.sum() >= 5
    assert (flip >= first)[struck].all() and (flip > first)[struck].mean() > 0.5
    assert np.isfinite(flip[~np.isfinite(run.event)]).sum() <= np.isfinite(first[~np.isfinite(run.event)]).sum()


def test_what_a_flip_learns_from_is_possible_judged_and_not_failing() -> None:
    cascade = packaged("operations").cascade()
    ports = runs.ports(FAMILIAR, Scale("short", (300.0, 1500.0), (6.0, 12.0), 400), 77, 60)
    found = fit.tempting(OPERATIONS, cascade, ports, None)
    assert set(found) == {Mode.LINK_FAILURE, Mode.CONGESTION}
    for mode, rows in found.items():
        assert len(rows) and (rows.left != 0.0).all() and (rows.weight == 1.0).all()  # 0: failing
        assert (cascade.models[mode].probability(rows.x.astype(np.float64)) >= 0.99 * FLIP_FROM).all()  # rounded
    rows = found[Mode.LINK_FAILURE]
    assert fit.flip(rows.pick(rows.left > fit.SETTLED), Mode.LINK_FAILURE, 60.0, seed=1) == ""  # nothing to tell apart


def test_a_false_flip_counts_once_however_long_it_tempts() -> None:
    """At one level 300 runs fail and 30 do not: what is learned of it is the same, whether these stay for one row or a
    hundred."""
    rng = np.random.default_rng(8)
    features = [f.name for f in wide.WIDE[Mode.DEVICE_OVERLOAD]]

    def rows(first_run: int, runs_: int, each: int, level: float, left: float) -> fit.Rows:
        many = np.ones(runs_ * each)
        x = np.zeros((len(many), len(features)))
        x[:, 0] = level + rng.normal(0.0, 0.01, len(x))
        run = (first_run + np.repeat(np.arange(runs_), each)).astype(np.intp)
        return fit.Rows(x, x[:, :0], left * many, 600.0 * many, many, many, run)

    failing, calm = rows(0, 300, 1, 0.8, 0.2), rows(330, 270, 5, 0.2, np.inf)
    odds = []
    for each in (1, 100):
        parts = (failing, rows(300, 30, each, 0.8, np.inf), calm)
        names = [field.name for field in fields(fit.Rows)]
        joined = fit.Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        text = fit.flip(joined, Mode.DEVICE_OVERLOAD, 60.0, seed=1, trees=20)
        odds.append(float(Forest([parse(text, features)])(failing.x[:20]).mean()))
    assert odds[0] == pytest.approx(odds[1], abs=0.3)  # row by row it would be the log of seven


def test_the_strongest_threshold_is_the_one_that_would_have_raised() -> None:
    rng = np.random.default_rng(4)
    time = np.cumsum(rng.uniform(5.0, 12.0, (300, 40)), axis=0)
    score = rng.random((300, 40)) ** 3
    score[rng.random(score.shape) < 0.1] = np.nan  # samples that did not come
    for confirm_s, confirm_at in ((0.0, 1.0), (0.0, 0.1), (0.0, 0.5), (30.0, 1.0), (30.0, 0.1)):
        best = heldout.Strongest((40,), 3, confirm_s, confirm_at)
        for now, s in zip(time, score, strict=True):
            best.add(now, s)
        if confirm_s == 0.0:  # over a time, more samples than three may be needed: the bound is from above
            for limit in (0.2, 0.4, 0.6, 0.8):
                raised = np.isfinite(heldout.raised_at(time, score, limit, confirm_s, 3, confirm_at))
                assert np.array_equal(best.found >= limit, raised)
        assert (best.found <= np.nanmax(score, axis=0)).all()


def test_an_alarm_is_raised_on_the_flip_and_cleared_on_the_probability() -> None:
    watch = Watch(1, Threshold(raise_at=0.4, clear_at=0.3, confirm_s=0.0, clear_s=60.0, confirm_samples=3))

    def feed(probability: float, flip: float, at: float) -> bool:
        watch.update(np.array([probability]), np.array([at]), np.array([flip]))
        return bool(watch.raised[0])

    assert not any(feed(0.99, 0.1, 10.0 * i) for i in range(10))  # certain within the hour, but not yet
    assert [feed(0.99, 0.5, 100.0 + 10.0 * i) for i in range(3)] == [False, False, True]
    assert not any(not feed(0.2, 0.5, 130.0 + 10.0 * i) for i in range(10))  # the flip score stands: no clearing
    assert feed(0.5, 0.1, 240.0) and feed(0.2, 0.1, 250.0)
    assert not feed(0.2, 0.1, 320.0)
    assert not feed(float("nan"), 0.9, 330.0) and not feed(float("nan"), 0.9, 340.0)  # what is not judged


def tally(limit: float, right: int, false: int) -> heldout.Tally:
    """Of 1,000 foreseeable failures."""
    precision = right / (right + false)
    return heldout.Tally(limit, 1000, right, right / 1000, right / 1000, precision, false, 100.0, 30.0, right)


def test_thresholds_stand_where_flips_are_worth_most() -> None:
    tried = [tally(0.5, 990, 90), tally(0.6, 970, 20), tally(0.7, 965, 10), tally(0.75, 965, 10), tally(0.8, 920, 0)]
    assert retrain.best(tried) == 0.75  # 935, as at 0.7, which is less strict
    assert retrain.best(tried[:3]) == 0.7
    assert retrain.best(tried[:2]) == 0.6  # what is not precise is no measure
    assert retrain.best(tried[:1]) == 0.5  # but better than nothing
    assert retrain.best([tally(0.5, 990, 32), tally(0.6, 900, 20)]) == 0.6, "worth less, but precise"


@pytest.mark.parametrize(("floor", "expected"), [(0.0, 0.6), (0.7, 0.8), (0.85, 0.9)])
def test_thresholds_lie_above_what_healthy_links_reach(floor: float, expected: float) -> None:
    tried = [tally(0.4, 990, 250), tally(0.6, 950, 20), tally(0.8, 880, 10), tally(0.9, 500, 0)]
    assert retrain.best(tried, floor) == expected


def test_false_flips_are_counted_for_other_mixes_of_kinds() -> None:
    days = heldout.HealthyDays(
        100.0, 3, {"noisy": 1, "bursts": 2}, 30.0, 6.0, 88.0, np.zeros((2, 200)), {"noisy": 50.0, "bursts": 150.0}
    )
    assert days.among({"noisy": 0.25, "bursts": 0.75}) == pytest.approx(30.0)  # as played
    assert days.among({"noisy": 1.0}) == pytest.approx(40.0)  # one in 50 days of an end: 40 in 1,000 days of two
