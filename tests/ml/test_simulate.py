"""The simulator: seeded, physical, and honest about what cannot be foreseen."""

from __future__ import annotations

import numpy as np
import pytest

from ml import simulate
from ml.features import DeviceBank, PortBank
from ml.physics import FEC_LIMIT_BER, ber, margin_db, q_factor

COUNT = 600
POWER, BER, QUEUE, RATE = 0, 1, 2, 4
UNCORRECTED, BYTES, DROPPED, LOST = 9, 11, 12, 13


@pytest.fixture(scope="module")
def ports() -> simulate.PortRuns:
    return simulate.ports(5, COUNT)


@pytest.fixture(scope="module")
def devices() -> simulate.Runs:
    return simulate.devices(5, COUNT)


def test_the_same_seed_gives_the_same_runs(ports: simulate.PortRuns, devices: simulate.Runs) -> None:
    again = simulate.ports(5, COUNT)
    assert np.array_equal(again.link.raw, ports.link.raw, equal_nan=True)
    assert np.array_equal(simulate.devices(5, COUNT).raw, devices.raw, equal_nan=True)
    other = simulate.ports(6, COUNT)
    assert not np.array_equal(other.link.raw, ports.link.raw, equal_nan=True)


def test_only_what_fails_has_an_event(ports: simulate.PortRuns, devices: simulate.Runs) -> None:
    may = {"gray", "abrupt", "lossy", "flapping"}
    assert set(ports.link.kind[np.isfinite(ports.link.event)]) == may
    assert set(ports.congestion.kind[np.isfinite(ports.congestion.event)]) == {"congestion", "surge"}
    assert set(devices.kind[np.isfinite(devices.event)]) == {"overload", "leak", "abrupt"}


def test_every_kind_occurs(ports: simulate.PortRuns, devices: simulate.Runs) -> None:
    assert set(ports.link.kind) == set(simulate.LINK_KINDS)
    assert set(devices.kind) == set(simulate.DEVICE_KINDS)


def test_nothing_is_lost_before_the_event(ports: simulate.PortRuns) -> None:
    raw, runs = ports.link.raw, ports.link
    before = runs.time < runs.event
    assert np.nanmax(np.where(before, raw[..., UNCORRECTED], 0.0)) == 0.0
    full = ports.congestion.time < ports.congestion.event
    assert np.nanmax(np.where(full, raw[..., DROPPED], 0.0)) == 0.0


def test_a_gray_link_shows_its_end_in_power_and_error_ratio(ports: simulate.PortRuns) -> None:
    gray = (ports.link.kind == "gray") & np.isfinite(ports.link.event)
    time, event = ports.link.time[:, gray], ports.link.event[gray]
    margin = margin_db(ports.link.raw[:, gray, BER])
    early = margin[(time < 1.0) & ~np.isnan(margin)]
    last = margin[(time > event - 0.3) & (time < event) & ~np.isnan(margin)]
    assert early.min() > 6.0
    assert (last < 2.5).mean() > 0.95


def test_power_and_error_ratio_tell_one_story(ports: simulate.PortRuns) -> None:
    gray = ports.link.kind == "gray"
    drop = np.diff(ports.link.raw[:60, gray, POWER], axis=0)
    change = np.diff(margin_db(ports.link.raw[:60, gray, BER]), axis=0)
    known = ~np.isnan(drop) & ~np.isnan(change)
    assert np.corrcoef(drop[known], change[known])[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["noisy", "wandering", "healthy"])
def test_decoys_stay_within_the_margin(ports: simulate.PortRuns, kind: str) -> None:
    margin = margin_db(ports.link.raw[:, ports.link.kind == kind, BER])
    assert np.nanquantile(margin, 0.001) > 2.0


def test_an_abrupt_failure_has_no_precursor(ports: simulate.PortRuns) -> None:
    abrupt = ports.link.kind == "abrupt"
    calm = ports.link.kind == "healthy"
    before = ports.link.time[:, abrupt] < ports.link.event[abrupt]
    margin = margin_db(ports.link.raw[:, :, BER])
    assert np.nanmin(np.where(before, margin[:, abrupt], np.nan)) > np.nanmin(margin[:, calm]) - 1.0


def test_load_never_exceeds_the_line_rate_on_the_wire(ports: simulate.PortRuns) -> None:
    bits = 8.0 * np.diff(ports.link.raw[..., BYTES], axis=0) / np.diff(ports.link.time, axis=0)
    share = bits / ports.link.raw[1:, :, RATE]
    exact = np.nanmax(np.where(np.isnan(share), 0.0, share), axis=0) < 1.2  # one packet more may fit in an interval
    assert 0.3 < exact.mean() < 1.0  # half of them stamp their samples late now and then
    assert np.nanmedian(share) < 1.0


def test_a_full_queue_precedes_drops(ports: simulate.PortRuns) -> None:
    failing = ports.congestion.failing & ~np.isnan(ports.link.raw[..., QUEUE])
    assert (ports.link.raw[..., QUEUE][failing] >= 255.0).all()


def test_shapes_follow_the_banks(ports: simulate.PortRuns, devices: simulate.Runs) -> None:
    assert ports.link.raw.shape == (simulate.STEPS, COUNT, len(PortBank.INPUTS))
    assert devices.raw.shape == (simulate.STEPS, COUNT, len(DeviceBank.INPUTS))
    assert (np.diff(ports.link.time, axis=0) > 0).all()


@pytest.mark.parametrize("value", [1e-12, 1e-8, 1e-4, FEC_LIMIT_BER, 0.1])
def test_error_ratio_and_q_are_inverses(value: float) -> None:
    assert float(ber(q_factor(value))) == pytest.approx(value, rel=0.02)


def test_a_step_of_load_is_read_in_part_in_the_window_in_which_it_falls() -> None:
    time = np.repeat(np.arange(0.05, 10.0, 0.05)[:, None], 50, axis=1)
    usual, window = np.linspace(0.05, 0.5, 50), np.full(time.shape, 0.05)
    above = simulate._moved(np.random.default_rng(1), time, window, 1.0 - usual)
    assert above.min() == 0.0 and (usual + above).max() <= 0.9
    change = np.diff(above, axis=0)
    partial = (change[1:] * change[:-1] > 1e-6).sum()  # low, mid, high
    assert partial > 30
    assert (np.abs(change) > 1e-9).sum(axis=0).max() <= 6
