"""State in one array, worked on in place: one row, some rows and all rows give the same bits, and nothing leaks from
the scratch arrays of one call into the next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bank import Bank
from ml.block import FEW
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.hazard import HazardModel, Together, load_all
from ml.profiles import PROFILES
from ml.schema import Mode

ROWS = 7


def telemetry(rng: np.random.Generator, bank: type[Bank], rows: int, i: int) -> Floats:
    """Samples of all kinds: gaps, bursts, counters that begin anew, values that are absurd."""
    gauges, counters = bank.GAUGES, len(bank.INPUTS) - bank.GAUGES
    values = np.concatenate(
        (rng.uniform(0.0, 0.4, (rows, gauges)), rng.uniform(0.0, 3.0, (rows, counters)) * i + 1.0), axis=1
    )
    values[rng.random(values.shape) < 0.2] = np.nan
    values[rng.random(values.shape) < 0.02] = -1e6
    if i % 17 == 16:
        values[:, gauges:] = 1.0
    return values


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("kind", [PortBank, DeviceBank])
@settings(max_examples=6)
@given(seed=st.integers(0, 9_999))
def test_one_some_and_all_rows_are_learned_to_the_same_bits(kind: type[Bank], profile: str, seed: int) -> None:
    life = PROFILES[profile]
    rng = np.random.default_rng(seed)
    single, some, whole = (kind(ROWS, life.unit_s, taus=life.taus) for _ in range(3))
    time = 1e6
    for i in range(40):
        time += life.unit_s * float(rng.choice([0.01, 0.2, 3.0, 40.0, -5.0], p=[0.3, 0.5, 0.1, 0.05, 0.05]))
        values = telemetry(rng, kind, ROWS, i)
        order = rng.permutation(ROWS)
        one = [single.learn_one(int(row), time, values[row].tolist()) for row in range(ROWS)]
        few = np.zeros(ROWS, dtype=np.int64)
        for part in (order[:3], order[3:]):
            few[part] = some.learn_many(part, time, values[part])
        assert one == few.tolist() == whole.learn_many(slice(None), time, values).tolist()
    for bank in (some, whole):
        np.testing.assert_array_equal(bank.state, single.state)
        np.testing.assert_array_equal(bank.newest, single.newest)
        np.testing.assert_array_equal(bank.samples, single.samples)


@pytest.mark.parametrize("kind", [PortBank, DeviceBank])
@pytest.mark.parametrize("rows", [5, FEW, FEW + 1, 200])
def test_features_of_one_some_and_all_rows_are_the_same_bits(kind: type[Bank], rows: int) -> None:
    rng = np.random.default_rng(rows + 1)
    bank = kind(rows)
    for i in range(30):
        bank.learn_many(slice(None), 0.05 * i, telemetry(rng, kind, rows, i))
    whole = bank.narrow().copy()
    assert whole.any(axis=1).sum() >= 3  # there is something to compare
    for part in (np.arange(rows), np.array([rows - 1]), np.arange(0, rows, 2), np.array([1, 3])):
        np.testing.assert_array_equal(bank.narrow(part), whole[:, part])
        lines, wide = bank.fetch(part).wide()
        np.testing.assert_array_equal(wide, whole[:, part])
        for one, every in zip(lines, bank.lines(), strict=True):
            np.testing.assert_array_equal(one, every[:, part])
    np.testing.assert_array_equal(bank.narrow(), whole)


def test_what_was_learned_is_not_kept_in_the_scratch_arrays() -> None:
    one, other = PortBank(2), PortBank(2)
    rng = np.random.default_rng(3)
    for i in range(20):
        values = telemetry(rng, PortBank, 2, i)
        one.learn_one(0, 0.1 * i, values[0].tolist())
        one.learn_one(1, 0.1 * i, values[1].tolist())  # between two samples of row 0
        other.learn_one(0, 0.1 * i, values[0].tolist())
    np.testing.assert_array_equal(one.state[:, 0], other.state[:, 0])
    assert np.isinf(other.last_told[:, 1]).all() and other.samples[1] == 0


def test_a_row_that_is_forgotten_is_as_on_its_first_day() -> None:
    bank, fresh = PortBank(3), PortBank(3)
    for i in range(20):
        bank.learn_many(slice(None), 0.1 * i, telemetry(np.random.default_rng(i), PortBank, 3, i))
    bank.forget(1)
    np.testing.assert_array_equal(bank.state[:, 1], fresh.state[:, 1])
    bank.forget(np.array([0, 2]))
    np.testing.assert_array_equal(bank.state, fresh.state)


def test_described_lines_are_those_of_now() -> None:
    bank = PortBank(2)
    for i in range(40):
        for row in (0, 1):
            values = [np.nan] * len(PortBank.INPUTS)
            values[0] = -8.0 - 0.1 * i * (1 + row)
            bank.learn_one(row, 0.05 * i, values)
            line = bank.trend.score_one(row)
            level, slope, base, _ = bank.describe(row, "rx_power_dbm")
            assert (level, slope) == (float(line.level[0]), float(line.slope[0]))
            assert base == float(bank.base.score_one(row).level[0])
            assert np.isnan(bank.describe(row, "utilization")[0])


@settings(max_examples=30)
@given(seed=st.integers(0, 9_999), rows=st.integers(1, 40))
def test_models_together_say_what_they_say_alone(seed: int, rows: int) -> None:
    models = [model for mode, model in load_all().items() if mode is not Mode.DEVICE_OVERLOAD]
    short = models[0]  # and one with fewer intervals
    models.append(HazardModel(short.mode, short.features, short.edges[:2], short.intercepts[:2], short.weights[:2]))
    rng = np.random.default_rng(seed)
    xs = [rng.random((len(m.features), rows)) ** 3 * np.array([[f.bound] for f in m.features]) for m in models]
    together = Together(models)
    assert [part.stop - part.start for part in together.parts] == [len(m.features) for m in models]
    found = together(np.concatenate(xs))
    for model, x, p in zip(models, xs, found, strict=True):
        np.testing.assert_allclose(p, model.probability(x.T), rtol=1e-12)


def test_many_rows_in_a_room_that_is_larger_are_learned_to_the_same_bits() -> None:
    rng = np.random.default_rng(8)
    single, some = PortBank(2 * FEW, 60.0), PortBank(2 * FEW, 60.0)  # with seasons
    for i in range(25):
        rows = np.sort(rng.permutation(2 * FEW)[: FEW + 1 + i])
        values = telemetry(rng, PortBank, len(rows), i)
        one = [single.learn_one(int(row), 20.0 * i, v.tolist()) for row, v in zip(rows, values, strict=True)]
        assert one == some.learn_many(rows, 20.0 * i, values).tolist()
    np.testing.assert_array_equal(some.state, single.state)
    assert some.season is not None and single.season is not None
    np.testing.assert_array_equal(some.season.total, single.season.total)
