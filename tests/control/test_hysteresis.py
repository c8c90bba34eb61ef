"""Alarms over many samples: the watch, which does nothing while all is quiet, against one that always does all."""

from __future__ import annotations

from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.ends import Ends
from control.hysteresis import Threshold, Watch
from ml.features import PortBank
from ml.profiles import WARM_UP


class Plain:
    """One key, written down as the words of :class:`Threshold` have it."""

    def __init__(self, threshold: Threshold) -> None:
        self.limit, self.raised = threshold, False
        self.above = self.below = inf
        self.seen, self.streak = -inf, 0

    def update(self, probability: float, newest_s: float, flip: float) -> None:
        limit = self.limit
        fresh, self.seen = newest_s != self.seen, newest_s
        if isnan(probability):
            return
        high = flip >= min(limit.raise_at, limit.confirm_at)
        low = probability < limit.clear_at and flip < limit.raise_at
        self.streak = self.streak + fresh if high else 0
        self.above = min(self.above, newest_s) if high else inf
        self.below = min(self.below, newest_s) if low else inf
        sure = flip >= limit.raise_at and newest_s - self.above >= limit.confirm_s - 5e-7
        if sure and self.streak >= limit.confirm_samples:
            self.raised = True
        if self.raised and low and newest_s - self.below >= limit.clear_s - 5e-7:
            self.raised = False


levels = st.sampled_from([nan, 0.0, 0.1, 0.29, 0.3, 0.5, 0.79, 0.8, 0.95, 1.0])
keys = st.tuples(levels, levels, st.booleans())  # probability, flip score, whether a sample came
gaps = st.sampled_from([0.0, 0.02, 0.5, 3.0])
steps = st.lists(st.tuples(st.lists(keys, min_size=3, max_size=3), gaps), min_size=1, max_size=60)


@pytest.mark.parametrize(("scored", "confirm_at"), [(False, 1.0), (True, 1.0), (True, 0.1), (False, 0.5)])
@settings(max_examples=100)
@given(steps=steps)
def test_a_watch_raises_and_clears_as_its_threshold_says(
    scored: bool, confirm_at: float, steps: list[tuple[list[tuple[float, float, bool]], float]]
) -> None:
    threshold = Threshold(0.8, clear_at=0.3, confirm_s=0.04, clear_s=1.0, confirm_samples=2, confirm_at=confirm_at)
    watch, plain = Watch(3, threshold), [Plain(threshold) for _ in range(3)]
    now, newest = 100.0, np.full(3, 100.0)
    for told_of, gap in steps:
        now += gap
        newest = np.where([told for *_, told in told_of], now, newest)
        probability = np.array([p for p, *_ in told_of])
        flip = np.array([0.0 if isnan(p) else score for p, score, _ in told_of])
        watch.update(probability, newest.copy(), flip if scored else None)
        for k, one in enumerate(plain):
            one.update(float(probability[k]), float(newest[k]), float(flip[k] if scored else probability[k]))
        assert watch.raised.tolist() == [one.raised for one in plain]


def test_the_end_that_fares_worse_speaks_for_its_link() -> None:
    bank = PortBank(6)
    values = [nan] * len(PortBank.INPUTS)
    values[0] = -8.0
    for i in range(WARM_UP):
        for row in range(5):  # nothing is heard of port 5
            bank.learn_one(row, 10.0 + 0.1 * i + 0.01 * row, values)
    now = 10.0 + 0.1 * WARM_UP
    ends = Ends(bank, 6, stale_s=1.0)
    ends.look(now)
    assert ends.sighted.tolist() == [True] * 5 + [False] and not ends.metered.any()
    port = np.array([0.1, 0.6, 0.4, 0.2, 0.7, 0.9])
    probability, seen, flip = ends.links(port, port[::-1].copy())
    assert probability.tolist() == [0.6, 0.4, 0.7] and ends.worse.tolist() == [True, False, False]
    assert seen.tolist() == [bank.newest[1], bank.newest[2], bank.newest[4]]
    assert flip is not None and flip.tolist() == [0.9, 0.4, 0.6]  # port 5 has none of its own
    assert np.isnan(ends.ports(port, None)[0]).all()
    ends.look(now + 5.0)  # all are silent
    assert np.isnan(ends.links(port, None)[0]).all()
