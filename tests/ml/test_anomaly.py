"""Anomalies without labels: what stands out, what does not, and what broken samples do."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.anomaly import Oddity, play
from ml.anomaly_watch import AnomalyWatch
from ml.schema import DeviceSample, PortSample


def quiet(count: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(10.0, 1.0, count)


def odd_of(value: np.ndarray[tuple[int], np.dtype[np.float64]], **settings: float) -> np.ndarray:  # type: ignore[type-arg]
    return play([(np.arange(len(value), dtype=np.float64), value)], Oddity(1, **settings))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["spike", "shift", "swelling noise"])
def test_what_changes_is_odder_than_anything_before(what: str) -> None:
    value = quiet(1200)
    if what == "spike":
        value[1000] += 15.0
    elif what == "shift":
        value[1000:] += 6.0
    else:
        value[1000:] += np.random.default_rng(2).normal(0.0, 12.0, 200)
    found = odd_of(value)
    assert found[1000:1080].max() > 1.2 * found[150:1000].max()


def test_a_daily_rhythm_is_usual_and_its_absence_is_odd() -> None:
    rng = np.random.default_rng(3)
    hour = np.arange(24 * 20, dtype=np.float64)
    value = 50.0 + 30.0 * np.sin(hour * 2 * np.pi / 24) + rng.normal(0.0, 1.0, len(hour))
    value[24 * 17 + 6] = 50.0  # no extreme value at all, but the wrong one for this hour
    found = odd_of(value, period=24.0, warm=48)
    assert found.argmax() == 24 * 17 + 6
    blind = odd_of(value, warm=48)
    assert found.max() > 2.0 * blind[24 * 17 + 6]


def test_an_episode_is_told_once() -> None:
    value = quiet(1000)
    value[600:610] += 20.0
    found = odd_of(value)
    assert found[600] > 3.0
    assert found[602:700].max() < found[600]


def test_nothing_is_odd_while_learning() -> None:
    value = quiet(100)
    value[50] = 1e6
    assert odd_of(value, warm=100).max() == 0.0


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True)),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_scores_are_finite_whatever_comes(samples: list[tuple[float, float]]) -> None:
    odd = Oddity(1, 1, warm=3, period=10.0)
    for time, value in samples:
        odd.learn_one(0, time, value)
        found = odd.score_one(0)
        assert np.isfinite(found.odd).all() and np.isfinite(found.whole).all() and np.isfinite(found.sigmas).all()


@given(seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_many_rows_at_once_are_the_same_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 3))
    values[rng.random(values.shape) < 0.1] = nan
    together, single = Oddity(3, warm=5, period=20.0), Oddity(3, warm=5, period=20.0)
    for i, row in enumerate(values):
        together.learn_many(slice(None), float(i), row[:, None])
        for k in range(3):
            single.learn_one(k, float(i), float(row[k]))
    np.testing.assert_allclose(together.state, single.state, rtol=1e-9, atol=1e-9)


def test_settings_are_checked() -> None:
    for wrong in ({"warm": 0}, {"period": -1.0}, {"long": inf}, {"fade": 0.0}):
        with pytest.raises(ValueError):
            Oddity(1, **wrong)  # type: ignore[arg-type]


def fed(watch: AnomalyWatch, start: int, count: int, elements: int = 70) -> None:
    rng = np.random.default_rng(5)
    for i in range(start, start + count):
        for k in range(elements):
            watch.observe(
                PortSample(f"s{k}:1", float(i), rx_power_dbm=-8.0 + rng.normal(0, 0.1), tx_bytes_total=1e6 * i)
            )
        watch.observe(DeviceSample("s1", float(i), cpu_utilization=0.2 + rng.normal(0, 0.01)))
        watch.tick(float(i))


def test_the_watch_names_element_and_signal() -> None:
    watch = AnomalyWatch(warm=20, keep_s=10.0)
    fed(watch, 0, 40)
    assert not watch.anomalies(39.0)
    watch.observe(PortSample("s7:1", 40.0, rx_power_dbm=-12.0, tx_bytes_total=40e6))
    watch.observe(DeviceSample("s1", 40.0, cpu_utilization=0.9))
    found = watch.tick(40.0)
    assert {(item.element, item.signal) for item in found} == {("s7:1", "rx_power_dbm"), ("s1", "cpu_utilization")}
    assert "rx power dbm" in next(item.text for item in found if item.signal == "rx_power_dbm")
    assert watch.anomalies(45.0) == sorted(found, key=lambda item: -item.oddity)
    assert not watch.anomalies(60.0)


def test_the_watch_survives_resets_clocks_and_elements_that_vanish() -> None:
    watch = AnomalyWatch(warm=5)
    fed(watch, 0, 20, elements=3)
    watch.observe(PortSample("s0:1", 20.0, tx_bytes_total=0.0))  # the counter was reset
    watch.observe(PortSample("s1:1", 3.0, rx_power_dbm=nan, tx_bytes_total=inf))  # the clock went back
    watch.observe(PortSample("s2:1", nan, rx_power_dbm=-8.0))
    assert not watch.tick(20.0)
    watch.drop("s0:1")
    watch.observe(PortSample("new:1", 21.0, rx_power_dbm=-1.0))
    assert not watch.tick(21.0)
    assert watch.ports.rows["new:1"] not in (watch.ports.rows["s1:1"], watch.ports.rows["s2:1"])
