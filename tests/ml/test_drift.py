"""Drift is noticed when there is some, and only then; withheld flips give an unbiased precision."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.drift import CalibrationDrift, Drift, FeatureDrift, reference
from ml.features import Feature
from ml.offpolicy import Decision, precision, prevented, wilson
from ml.schema import Mode

FEATURES = (Feature("a", "x", 10.0), Feature("b", "x", 10.0), Feature("constant", "x", 1.0))


def rows(shift: float, seed: int = 1, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.gamma(2.0, 1.0, count) + shift, rng.gamma(2.0, 1.0, count), np.zeros(count)], axis=1)


def test_the_same_distribution_is_no_drift_a_shifted_one_is() -> None:
    known = reference(rows(0.0), np.ones(4000), FEATURES)
    assert set(known) == {"a", "b"}  # a constant says nothing
    same, moved = FeatureDrift(FEATURES, known), FeatureDrift(FEATURES, known)
    for part in range(8):
        same.learn(rows(0.0, seed=2 + part, count=400))
        moved.learn(rows(1.5, seed=2 + part, count=400))
    assert same.moved() == {}
    assert list(moved.moved()) == ["a"]


def test_few_rows_prove_nothing() -> None:
    drift = FeatureDrift(FEATURES, reference(rows(0.0), np.ones(4000), FEATURES))
    drift.learn(rows(9.0, count=100))
    drift.learn(np.empty((0, 3)))
    assert drift.moved() == {}


def test_weights_count_in_the_reference() -> None:
    x = np.concatenate([rows(0.0), rows(5.0)])
    weight = np.repeat([1.0, 1e-6], 4000)
    drift = FeatureDrift(FEATURES, reference(x, weight, FEATURES))
    drift.learn(rows(0.0, seed=5))
    assert drift.moved() == {}


@pytest.mark.parametrize(("bias", "expected"), [(0.0, 0), (0.4, 1)])
def test_probabilities_that_do_not_come_true_are_told(bias: float, expected: int) -> None:
    rng = np.random.default_rng(3)
    drift = Drift({Mode.CONGESTION: FEATURES}, {})
    for p in rng.uniform(0.4, 0.9, 300):
        drift.outcomes[Mode.CONGESTION].add(float(p), bool(rng.random() < p - bias))
    report = drift.report()
    assert len(report) == expected
    if expected:
        assert "too few" in report[0] and report[0].startswith("congestion")


def test_too_few_outcomes_are_no_surprise_and_nonsense_is_refused() -> None:
    drift = CalibrationDrift()
    for _ in range(10):
        drift.add(0.99, False)
    assert drift.surprise() == 0.0
    with pytest.raises(ValueError, match="no probability"):
        drift.add(float("nan"), True)


def decision(withheld: bool, struck: bool | None, mode: Mode = Mode.LINK_FAILURE) -> Decision:
    return Decision(0.0, "s1:1", mode, 0.9, withheld, struck)


def test_only_withheld_flips_of_known_outcome_count() -> None:
    decisions = [decision(True, True)] * 9 + [decision(True, False)] + [decision(True, None)] * 5
    decisions += [decision(False, False)] * 90  # flips prevented what they foretold: no failure came
    found = precision(decisions)
    assert (found.value, found.withheld) == (0.9, 10)
    assert found.low < 0.9 < found.high
    assert prevented(decisions) == pytest.approx(81.0)
    assert isnan(precision(decisions, Mode.CONGESTION).value)


@given(hits=st.integers(0, 50), more=st.integers(0, 50))
def test_the_interval_holds_the_share(hits: int, more: int) -> None:
    found = wilson(hits, hits + more)
    if hits + more:
        assert 0.0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1.0
    with pytest.raises(ValueError, match="of"):
        wilson(hits + more + 1, hits + more)
