"""Playing plans: what reaches the lab, and that everything is taken back."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.faults import FaultPlan, load_scenario, plan
from topo.impairments import Schedule, shifted
from topo.load import load
from topo.play import play
from topo.spec import Link, Topology

PATHS = {"f1": ("s1", "s2", "s4")}


class FakeLab:
    """Records what it is told."""

    def __init__(self) -> None:
        self.topology: Topology = load("diamond")
        self.impaired: dict[str, Schedule] = {}
        self.cleared: list[str] = []
        self.carriers: list[tuple[str, bool]] = []
        self.seeds: list[int] = []
        self.happened = threading.Event()
        self.fail = False

    def impair(self, target: Any, schedule: Schedule) -> None:
        if self.fail:
            raise RuntimeError("no such port")
        self.impaired[str(target)] = schedule

    def clear_impairments(self, target: Any = None) -> None:
        self.cleared.append(str(target))

    def carrier(self, link: Link, up: bool) -> None:
        self.carriers.append((link.name, up))
        self.happened.set()

    def seed_noise(self, seed: int) -> None:
        self.seeds.append(seed)

    def host_popen(self, host: str, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[str]:
        raise AssertionError("no background traffic in these tests")


def drawn(name: str, seed: int = 1) -> FaultPlan:
    return plan(load_scenario(name), load("diamond"), seed, PATHS)


points = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=6).map(
    lambda items: tuple(sorted(items, key=lambda item: item[0]))
)


def value_at(schedule: Sequence[tuple[float, float]], time_s: float) -> float:
    before = [point for point in schedule if point[0] <= time_s]
    after = [point for point in schedule if point[0] > time_s]
    if not before or not after:
        return (before[-1] if before else after[0])[1]
    (t0, v0), (t1, v1) = before[-1], after[0]
    return v0 + (v1 - v0) * (time_s - t0) / (t1 - t0)


@given(points, st.floats(-10, 10), st.floats(0.001, 10))
def test_a_shifted_schedule_is_the_same_schedule_later(
    schedule: tuple[tuple[float, float], ...], by_s: float, time_s: float
) -> None:
    moved = shifted(schedule, by_s)
    assert all(when >= 0 for when, _ in moved)
    if any(abs(when + by_s - time_s) < 1e-6 for when, _ in schedule):
        return  # on a step, either side is right
    assert value_at(moved, time_s) == pytest.approx(value_at(schedule, time_s - by_s), abs=1e-6)


def test_impairments_are_armed_ahead_with_their_first_value() -> None:
    lab = FakeLab()
    player = play(drawn("gray_link"), lab, time.monotonic() + 100)
    player.stop()
    struck = drawn("gray_link")
    end = lab.topology.link(struck.elements[0]).a
    armed = lab.impaired[str(end)]["attenuation_db"]
    assert armed[0] == (0.0, 0.0)
    assert struck.onset_s is not None
    assert armed[1][0] == pytest.approx(100 + struck.onset_s, abs=5)
    assert armed[-1][1] == 11.0
    assert set(lab.cleared) == set(lab.impaired)
    assert lab.seeds == [struck.seed]


def test_carrier_goes_and_comes_back() -> None:
    lab = FakeLab()
    plan_ = drawn("carrier_loss")
    player = play(plan_, lab, time.monotonic() - plan_.carrier[0].at_s)
    assert lab.happened.wait(60)
    player.stop()
    assert lab.carriers == [(plan_.elements[0], False), (plan_.elements[0], True)]


def test_carrier_stays_when_stopped_before() -> None:
    lab = FakeLab()
    play(drawn("carrier_loss"), lab, time.monotonic() + 1000).stop()
    assert lab.carriers == []


def test_notice_appears_whole_and_goes(tmp_path: Path) -> None:
    lab = FakeLab()
    plan_ = drawn("maintenance")
    player = play(plan_, lab, time.monotonic() - 1, notices_dir=tmp_path / "notices")
    deadline = time.monotonic() + 60
    found: list[Path] = []
    while not found and time.monotonic() < deadline:
        found = list((tmp_path / "notices").glob("*.json"))
    notice = json.loads(found[0].read_text())
    assert notice["element"] == plan_.elements[0]
    assert notice["start"] - time.time() == pytest.approx(plan_.notices[0].start_s - 1, abs=60)
    assert notice["end"] - notice["start"] == pytest.approx(600)
    assert set(notice) == {"id", "element", "start", "end", "summary"}
    player.stop()
    assert not list((tmp_path / "notices").iterdir())


def test_missing_folders_are_refused() -> None:
    with pytest.raises(ValueError, match="needs notices_dir"):
        play(drawn("maintenance"), FakeLab(), 0)
    with pytest.raises(ValueError, match="needs run_dir"):
        play(drawn("congestion"), FakeLab(), 0)


def test_a_failed_start_takes_everything_back() -> None:
    lab = FakeLab()
    lab.fail = True
    with pytest.raises(RuntimeError, match="no such port"):
        play(drawn("gray_link"), lab, time.monotonic())
    assert lab.cleared
