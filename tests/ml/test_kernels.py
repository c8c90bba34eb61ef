"""Compiled code and numpy's say the same, bit by bit: what is learned, features, suspects, and sums of trees."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.kernels import build
from ml import kernels, wide
from ml.bank import Bank
from ml.cascade import PORTS, Cascade
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.hazard import HazardModel, Together, load_all
from ml.neighbours import Neighbours
from ml.profiles import PROFILES
from ml.schema import Mode
from ml.screen import screen_ports
from ml.store import packaged
from ml.trees import Forest
from tests.ml.test_block import telemetry

ROWS = 150


@pytest.fixture(scope="module")
def library() -> Path:
    return build()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = list(kernels._active)
    yield
    kernels._active[:] = before


def both(library: Path, make: Callable[[], Any]) -> tuple[Any, Any]:
    """What ``make`` gives with numpy's code and with the compiled."""
    kernels.use(None)
    plain = make()
    kernels.use(library)
    return plain, make()


def lived(kind: type[Bank], profile: str, seed: int, samples: int) -> Bank:
    """A bank with a history of all kinds of samples, learned all at once, some at a time, and one by one."""
    life = PROFILES[profile]
    bank, rng, time = kind(ROWS, life.unit_s, taus=life.taus), np.random.default_rng(seed), 1e6
    for i in range(samples):
        time += life.unit_s * float(rng.choice([0.01, 0.2, 3.0, 40.0, -5.0], p=[0.3, 0.5, 0.1, 0.05, 0.05]))
        values = telemetry(rng, kind, ROWS, i)
        some = rng.permutation(ROWS)[: rng.integers(1, ROWS)]
        if i % 3 == 0:
            bank.learn_many(slice(None), time, values)
        elif i % 3 == 1:
            bank.learn_many(some, time - rng.random(len(some)), values[some])
        else:
            for row in some[:5].tolist():
                bank.learn_one(row, time, values[row].tolist())
    return bank


def mixed(seed: int) -> PortBank:
    """A bank of ports, two thirds of them well."""
    bank = lived(PortBank, "operations", seed, 60)
    assert isinstance(bank, PortBank)
    well, rng = np.arange(0, ROWS - ROWS // 3), np.random.default_rng(seed)
    bank.forget(well)
    for i in range(20):
        values = np.full((len(well), len(PortBank.INPUTS)), np.nan)
        values[:, 0], values[:, 1], values[:, 4] = rng.normal(-8.0, 0.05, len(well)), 1e-8, 1e9
        values[:, 2], values[:, 8], values[:, 11] = rng.integers(0, 20, len(well)), 512.0, 1e9 * i
        values[::4, 1] = np.nan
        bank.learn_many(well, 2e6 + 20.0 * i, values)
    return bank


def days(bank: Bank, seed: int) -> None:
    """Days that were lived through, some hours of them not."""
    assert bank.season is not None
    rng, past = np.random.default_rng(seed), bank.season.past
    past[:] = np.where(rng.random(past.shape) < 0.2, np.nan, rng.random(past.shape))


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("kind", [PortBank, DeviceBank])
@settings(max_examples=5)
@given(seed=st.integers(0, 9_999))
def test_what_is_learned_is_the_same(library: Path, kind: type[Bank], profile: str, seed: int) -> None:
    plain, compiled = both(library, lambda: lived(kind, profile, seed, 40))
    assert plain.kernels is None and compiled.kernels is not None
    np.testing.assert_array_equal(compiled.state, plain.state)
    assert plain.state[:, :].any(axis=1).mean() > 0.9  # there is something to compare
    for rows in (slice(None), np.arange(0, ROWS, 3), np.array([7])):
        np.testing.assert_array_equal(compiled.narrow(rows), plain.narrow(rows))
        lines, features = compiled.fetch(rows).wide()
        expected, narrow = plain.fetch(rows).wide()
        np.testing.assert_array_equal(features, narrow)
        for one, other in zip(lines, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [PortBank, DeviceBank])
def test_faults_are_the_same(library: Path, kind: type[Bank]) -> None:
    def faults() -> list[list[int]]:
        bank, rng = kind(6), np.random.default_rng(4)
        found = []
        for i in range(60):
            values = telemetry(rng, kind, 6, i)
            found.append(bank.learn_many(slice(None), 0.1 * (i - (3 if i % 11 == 10 else 0)), values).tolist())
        return found

    plain, compiled = both(library, faults)
    assert plain == compiled
    assert len({bits for row in plain for bits in row}) >= 4


@pytest.mark.parametrize("kind", [PortBank, DeviceBank])
def test_no_rows_and_rows_that_cannot_be_written_to(library: Path, kind: type[Bank]) -> None:
    none, some = np.array([], dtype=np.intp), np.array([1, 2])
    some.flags.writeable = False

    def tried() -> list[Floats]:
        bank = kind(4)
        found = [bank.learn_many(none, 1.0, np.zeros((0, len(kind.INPUTS)))), bank.narrow(none), bank.state.copy()]
        bank.learn_many(some, np.broadcast_to(1.0, (2,)), np.ones((2, len(kind.INPUTS))))
        return [*found, bank.narrow(some).copy(), bank.state]

    for one, other in zip(*both(library, tried), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_row_that_does_not_exist_is_refused(library: Path) -> None:
    kernels.use(library)
    bank = PortBank(3)
    neighbours = Neighbours(3, [[0, 1, 2]])
    for wrong in (3, -1, -4):
        which = np.array([0, wrong])
        with pytest.raises(IndexError):
            bank.learn_many(which, 1.0, np.zeros((2, len(PortBank.INPUTS))))
        with pytest.raises(IndexError):
            bank.narrow(which)
        with pytest.raises(IndexError):
            wide.ports(bank, which, neighbours)
        assert bank.screening is not None
        with pytest.raises(IndexError):
            bank.screening.columns(which)
        with pytest.raises(IndexError):
            bank.screening.suspects(which, np.zeros(13))
    with pytest.raises(IndexError):
        bank.screening.suspects(np.zeros(4, dtype=np.int64), np.zeros(13))


def test_counters_that_wrap_or_begin_anew_are_the_same(library: Path) -> None:
    def recent() -> Floats:
        bank = PortBank(3)
        totals = [2.0**32 - 50, 2.0**32 - 10, 30.0, 90.0, 5.0, 2.0**64 - 4096, 2.0**64 - 2048, 4096.0, np.nan, 9e3]
        for i, total in enumerate(totals):
            values = np.full((3, len(PortBank.INPUTS)), np.nan)
            values[:, PortBank.GAUGES :] = total
            values[:, 4] = 1e9
            bank.learn_many(slice(None), 0.1 * i, values)
        return bank.state

    plain, compiled = both(library, recent)
    np.testing.assert_array_equal(compiled, plain)
    assert PortBank(1).parts.counters[2].shape == (5, 1)


@pytest.mark.parametrize("seed", range(3))
def test_wide_features_and_judgements_are_the_same(library: Path, seed: int) -> None:
    groups = np.arange(ROWS).reshape(-1, 5).tolist()
    models = packaged("operations").cascade()

    def judged() -> list[Floats]:
        bank = mixed(seed)
        bank.told(3, np.array([20.0, 3.0, 10.0, 1.0, 1.0]))
        days(bank, seed)
        cascade = Cascade(models.models, models.screens, Neighbours(ROWS, groups))
        found = list(wide.ports(bank, np.arange(0, ROWS, 2), cascade.neighbours))
        found += screen_ports(bank)
        found += screen_ports(bank, np.array([9, 4, 77]))
        before = cascade.ports(bank)
        for item in before:
            found += [item.probability.copy(), item.rows, item.x, item.flip.copy()]
        bank.learn_many(np.array([5, 8]), 3e6, telemetry(np.random.default_rng(1), PortBank, 2, 9))
        for item in cascade.ports(bank, before, np.array([5, 8])):
            found += [item.probability, item.rows, item.x, item.flip]
        return found

    plain, compiled = both(library, judged)
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 0 < len(plain[7]) < ROWS  # suspicious: some


@pytest.mark.parametrize("rows", [1, 20, 71, ROWS])
def test_features_of_devices_are_the_same(library: Path, rows: int) -> None:
    def made() -> Floats:
        bank = lived(DeviceBank, "operations", rows, 50)
        assert isinstance(bank, DeviceBank)
        days(bank, rows)
        return wide.devices(bank, np.random.default_rng(rows).permutation(ROWS)[:rows])

    plain, compiled = both(library, made)
    assert plain.shape == (rows, len(wide.WIDE_OVERLOAD))
    np.testing.assert_array_equal(compiled, plain)
    assert rows < 20 or plain.any(axis=0).mean() > 0.6  # there is something to compare


def test_suspects_are_those_whose_score_is_not_below_zero(library: Path) -> None:
    kernels.use(library)
    bank = mixed(1)
    assert bank.screening is not None
    cascade = packaged("operations").cascade()
    weights = np.concatenate([(cascade.screens[m].offset, *cascade.screens[m].weights) for m in PORTS])
    for rows in (slice(None), np.array([140, 3, 17])):
        places = np.arange(ROWS)[rows]
        for mode, columns, found in zip(
            PORTS, screen_ports(bank, rows), bank.screening.suspects(rows, weights), strict=True
        ):
            np.testing.assert_array_equal(found, places[cascade.screens[mode].score(columns) >= 0.0])
            assert len(found) < ROWS


@pytest.mark.parametrize("mode", list(Mode)[:3])
@pytest.mark.parametrize("rows", [1, 7, 64, 65, 200])
def test_sums_of_trees_are_the_same(library: Path, mode: Mode, rows: int) -> None:
    model: Any = packaged("operations").models[mode]
    forest: Forest = model._forest
    bounds = np.array([f.bound for f in model.features])
    x = np.random.default_rng(rows).random((rows, len(bounds))) ** 3 * bounds
    kernels.use(None)
    plain = forest(x)
    kernels.use(library)
    np.testing.assert_array_equal(forest(x), plain)
    np.testing.assert_array_equal(forest(np.asfortranarray(x)), plain)


def test_a_model_that_was_asked_can_be_copied_and_shared_by_threads(library: Path) -> None:
    kernels.use(library)
    model: Any = packaged("operations").models[Mode.CONGESTION]
    x = np.random.default_rng(1).random((400, len(model.features)))
    expected = model._forest(x)
    np.testing.assert_array_equal(copy.deepcopy(model._forest)(x), expected)
    parts = [slice(k, k + 1 + k % 60) for k in range(300)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda part: model._forest(x[part]), parts))
    finally:
        sys.setswitchinterval(before)
    for part, sums in zip(parts, found, strict=True):
        np.testing.assert_array_equal(sums, expected[:, part])


@pytest.mark.parametrize("rows", [1, 4, 90])
def test_linear_models_say_the_same(library: Path, rows: int) -> None:
    models = [model for mode, model in load_all().items() if mode is not Mode.DEVICE_OVERLOAD]
    short = models[0]  # and one with fewer intervals
    models.append(HazardModel(short.mode, short.features, short.edges[:2], short.intercepts[:2], short.weights[:2]))
    bounds = np.array([[f.bound] for model in models for f in model.features])
    x = np.random.default_rng(rows).random((len(bounds), rows)) ** 3 * bounds
    together = Together(models)
    kernels.use(None)
    plain = together(x)
    kernels.use(library)
    np.testing.assert_array_equal(together(x), plain)


def test_a_struct_takes_its_members_and_nothing_else(library: Path) -> None:
    found = kernels.Kernels(library)
    members = kernels.structs()["fit"]
    assert members["rows"] == ("int64_t", False) and members["trend"] == ("double", True)
    values: dict[str, Any] = {"rows": 1, "count": 1, "series": 1, "which": np.zeros(1, dtype=np.int64)}
    values |= {name: np.zeros(1) for name in ("trend", "rates", "level", "slope", "error")}
    found.pack("fit", values)
    for wrong in ({"level": np.zeros(1, dtype=np.float32)}, {"level": np.zeros((4, 4))[:, 0]}, {"other": 1}):
        with pytest.raises(TypeError, match="struct fit"):
            found.pack("fit", values | wrong)
    with pytest.raises(TypeError, match=r"\['level'\] missing"):
        found.pack("fit", {k: v for k, v in values.items() if k != "level"})


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("no")
    with pytest.raises(OSError, match=r"x\.so"):
        kernels.use(tmp_path / "x.so")
