"""The operations simulator: seeded, consistent, physical, and silent about what it knows."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from ml.features import PortBank
from ml.physics import FEC_LIMIT_BER, margin_db
from ml.sim import runs, traffic
from ml.sim.world import FAMILIAR, SCALES, TEMPTING, UNSEEN, Draw, Scale

SHORT = Scale("short", (200.0, 900.0), (5.0, 10.0), 400)
POWER, BER, QUEUE, BIAS, WARM, ROOM = 0, 1, 2, 6, 7, 8
DROPPED, LOST = 12, 13


@pytest.fixture(scope="module")
def ports() -> runs.PortRuns:
    return runs.ports(FAMILIAR, SHORT, 3, 400)


@pytest.fixture(scope="module")
def devices() -> runs.Runs:
    return runs.devices(FAMILIAR, SHORT, 3, 200)


def test_the_same_arguments_give_the_same_runs(ports: runs.PortRuns) -> None:
    again = runs.ports(FAMILIAR, SHORT, 3, 400)
    assert np.array_equal(again.link.raw, ports.link.raw, equal_nan=True)
    other = runs.ports(FAMILIAR, SHORT, 4, 400)
    assert not np.array_equal(other.link.raw, ports.link.raw, equal_nan=True)


def test_every_kind_occurs_and_only_what_fails_has_an_event(ports: runs.PortRuns, devices: runs.Runs) -> None:
    assert set(ports.link.kind) == set(runs.LINK_KINDS) | {"shared"}
    congesting = {"congestion", "incast", "surge"}
    failing = set(ports.link.kind[np.isfinite(ports.link.event)])
    assert failing <= {
        "bend",
        "connector",
        "bend_cut",
        "shared",
        "laser",
        "receiver",
        "rain",
        "abrupt",
        "lossy",
        "flapping",
    }
    assert set(ports.congestion.kind[np.isfinite(ports.congestion.event)]) <= congesting
    for kind in ("bend", "laser", "receiver", "rain", "connector", "bend_cut", "abrupt", "lossy"):
        assert np.isfinite(ports.link.event[ports.link.kind == kind]).all()
    assert set(devices.kind[np.isfinite(devices.event)]) == {"creep", "leak", "abrupt"}


def test_sound_links_never_fail_in_any_world() -> None:
    shares = dict.fromkeys(runs.SOUND, 1.0)
    for world in (FAMILIAR, UNSEEN, TEMPTING):
        found = runs.ports(world, SHORT, 5, 200, shares)
        assert np.isinf(found.link.event).all() and np.isinf(found.congestion.event).all()
        assert np.nanmax(np.diff(found.link.raw[..., DROPPED], axis=0)) <= 0.0


def before(run: runs.Runs, kind: str) -> np.ndarray:
    return (run.kind == kind) & (run.time < run.event)


def test_an_abrupt_failure_is_announced_by_nothing(ports: runs.PortRuns) -> None:
    run = ports.link
    margin = margin_db(run.raw[..., BER])
    assert np.nanmin(margin[before(run, "abrupt")]) > 5.0


def test_laser_wear_shows_in_bias_first_then_in_power(ports: runs.PortRuns) -> None:
    run = ports.link
    for k in np.flatnonzero(run.kind == "laser"):
        bias, early = run.raw[:, k, BIAS], run.time[:, k] < 0.04 * run.time[-1, k]
        if np.isnan(bias).all():
            continue
        last = (run.time[:, k] < run.event[k]) & (run.time[:, k] > run.event[k] - 60.0)
        assert np.nanmean(bias[last]) > 1.2 * np.nanmean(bias[early])


def test_a_failing_receiver_keeps_its_light(ports: runs.PortRuns) -> None:
    run = ports.link
    for k in np.flatnonzero(run.kind == "receiver"):
        power, margin = run.raw[:, k, POWER], margin_db(run.raw[:, k, BER])
        last = (run.time[:, k] < run.event[k]) & (run.time[:, k] > run.event[k] - 60.0)
        if np.isnan(power).all() or np.isnan(margin[last]).all():
            continue
        assert abs(np.nanmean(power[last]) - np.nanmean(power[:20])) < 0.5
        assert np.nanmean(margin[last]) < 3.0


def test_rain_is_told_by_the_weather_and_fades_the_link(ports: runs.PortRuns) -> None:
    run = ports.link
    assert run.context is not None
    dry = ~np.isin(run.kind, ("rain", "shower"))
    assert not run.context[:, dry].any()
    assert run.context[:, run.kind == "rain", 1].max(axis=0).min() > 5.0


def test_incast_fills_the_queue_at_a_harmless_load(ports: runs.PortRuns) -> None:
    run = ports.congestion
    for k in np.flatnonzero(run.kind == "incast"):
        last = (run.time[:, k] < run.event[k]) & (run.time[:, k] > run.event[k] - 60.0)
        room = np.nanmax(run.raw[:, k, QUEUE])
        assert np.nanmean(run.raw[last, k, QUEUE]) > 0.6 * room


def test_neighbours_in_a_duct_fade_together() -> None:
    world = replace(FAMILIAR, shapes={})
    found = runs.ports(world, SHORT, 11, 400).link
    shared = np.flatnonzero(found.kind == "shared")
    assert len(shared) >= runs.GROUP
    for group in np.unique(found.groups[shared]):
        events = found.event[found.groups == group]
        assert np.ptp(events[np.isfinite(events)]) < 400.0


def test_counters_reset_now_and_then_and_samples_get_lost() -> None:
    world = replace(FAMILIAR, resets=1.0, lost_samples=(0.05, 0.05))
    found = runs.ports(world, SHORT, 12, 60).link
    whole = [column[~np.isnan(column)] for column in found.raw[..., 11].T]
    assert np.mean([(np.diff(column) < 0).any() for column in whole]) > 0.9
    assert 0.03 < np.isnan(found.raw).all(axis=-1).mean() < 0.15


def test_unseen_devices_differ_from_those_of_the_training(ports: runs.PortRuns) -> None:
    unseen = runs.ports(UNSEEN, SHORT, 3, 400)
    pace = [np.median(np.diff(item.link.time, axis=0)) for item in (ports, unseen)]
    assert pace[1] > 1.2 * pace[0]
    assert np.isnan(unseen.link.raw).mean() > np.isnan(ports.link.raw).mean()


def test_tempting_trouble_stops_later_on_the_same_devices() -> None:
    differs = {f.name for f in fields(FAMILIAR) if getattr(FAMILIAR, f.name) != getattr(TEMPTING, f.name)}
    assert differs == {"name", "stops", "within", "showers", "bursts", "incast"}
    assert all(getattr(TEMPTING, name) > getattr(FAMILIAR, name) for name in differs - {"name"})
    deepest = []
    for world in (FAMILIAR, TEMPTING):
        margin = margin_db(runs.ports(world, SHORT, 31, 80, {"wandering": 1.0}).link.raw[..., BER])
        told = ~np.isnan(margin).all(axis=0)
        deepest.append(np.median(np.nanmin(margin[:, told], axis=0)))
    assert deepest[1] < deepest[0] - 0.5


def test_inputs_are_in_their_places(ports: runs.PortRuns) -> None:
    raw = ports.link.raw
    assert raw.shape[-1] == len(PortBank.INPUTS)
    low, high = PortBank.LOW, PortBank.HIGH
    known = ~np.isnan(raw)
    assert ((raw >= low) & (raw <= high))[known].all()
    assert FEC_LIMIT_BER < 0.5
    assert [scale.name for scale in SCALES] == ["minutes", "hours", "half-days"]


def test_a_step_of_load_is_read_in_part_in_the_interval_in_which_it_falls() -> None:
    time = np.cumsum(np.full((20, 3), 5.0), axis=0)
    draw = Draw(np.random.default_rng(1), FAMILIAR, time, np.zeros(3), np.ones(3), np.ones(3))
    seen = draw.since(np.array([50.0, 52.0, 54.0]))
    assert (np.diff(seen, axis=0) >= 0.0).all() and not seen[:10].any() and (seen[11:] == 1.0).all()
    np.testing.assert_allclose(seen[10], [1.0, 0.6, 0.2])
    np.testing.assert_allclose(draw.since(np.array([52.0, 52.0, 52.0]), np.array([1.0, 0.5, 0.1]))[10], [0.6, 1.0, 1.0])


def test_traffic_that_is_moved_stays_and_stays_within_the_line_rate() -> None:
    for world in (FAMILIAR, UNSEEN, TEMPTING):
        found = runs.ports(world, SHORT, 9, 60, {"moved": 1.0}).congestion
        assert np.isinf(found.event).all()
    time = np.cumsum(np.full((400, 80), 10.0), axis=0)
    draw = Draw(np.random.default_rng(2), TEMPTING, time, np.zeros(80), np.ones(80), np.ones(80))
    load = traffic.moved(draw)
    assert load.min() > 0.0 and load.max() <= TEMPTING.bursts[1] + 1e-9
    large = np.abs(np.diff(load, axis=0)) > 0.05
    assert 0 < large.sum(axis=0).max() <= 6  # three steps, each in one reading or two
