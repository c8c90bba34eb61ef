"""Failures that in-band reports alone announce: digests as a lab's switches sent them, while nothing was polled.

``data/*.digests.gz`` were recorded on the diamond (``congestion`` and ``overload`` of ``topo/faults``, seed 1; one
packet in 10 with telemetry, reports at least each 50 ms, ``gnmi: off``): time of the first lost packet (double), then
per ``DigestList`` the time of its arrival since the first packet (double), switch (one byte), length (two), message.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from finsy import P4Schema
from finsy.proto import p4r

from control.inband.runtime import InbandConfig, InbandTelemetry
from control.pha import HealthAnalyzer
from ml.schema import Forecast, Mode
from tests.p4.program import P4INFO_PATH
from topo.load import load

DATA = Path(__file__).parent / "data"
SCHEMA = P4Schema(P4INFO_PATH)
ROUND_S = 0.005
START_S = 1_000.0


def recorded(name: str) -> tuple[float, list[tuple[float, str, bytes]]]:
    """(first loss, lists of digests with their arrival and switch); times in seconds since the first packet."""
    raw = gzip.decompress((DATA / f"{name}.digests.gz").read_bytes())
    (loss_s,) = struct.unpack_from("<d", raw)
    found, at = [], 8
    while at < len(raw):
        time_s, switch, size = struct.unpack_from("<dBH", raw, at)
        found.append((time_s, f"s{switch}", raw[at + 11 : at + 11 + size]))
        at += 11 + size
    return loss_s, found


def alarms(name: str, mode: Mode, *, told: bool = True, damage: int = 0) -> Iterator[tuple[float, list[Forecast]]]:
    """What steering would be told, round by round until the first loss. ``damage``: every so many-th list is spoilt."""
    loss_s, lists = recorded(name)
    topology = load("diamond")
    inband = InbandTelemetry(topology, InbandConfig(max_interval_ms=50), SCHEMA)
    analyzer = HealthAnalyzer(topology)
    waiting = list(enumerate(lists))
    now = -0.3
    while now < loss_s:
        now += ROUND_S
        while waiting and waiting[0][1][0] <= now:
            number, (_, switch, message) = waiting.pop(0)
            digest = p4r.DigestList.FromString(message)
            if damage and number % damage == 0:
                for item in digest.data:
                    for member in item.struct.members[21:]:
                        member.bitstring = b"\xff" * 16
                digest.data.append(digest.data[0])
            if told:
                inband.on_digest(switch, digest)
        for sample in inband.take(START_S + now):
            analyzer.observe(sample)
        yield now, [one for one in analyzer.alarms(START_S + now) if one.mode is mode]
    if told and not damage:
        assert inband.counts.malformed == inband.counts.absurd == 0 and inband.counts.reports > 250
    if damage:
        assert inband.counts.malformed + inband.counts.absurd > 20


def first(name: str, mode: Mode, **how: bool | int) -> tuple[float, str]:
    for now, found in alarms(name, mode, **how):
        if found:
            return now, found[0].element
    pytest.fail(f"{name} was not foreseen")


@pytest.mark.parametrize(
    ("name", "mode", "element", "early_s"),
    [("congestion", Mode.CONGESTION, "s1:3", 1.0), ("overload", Mode.DEVICE_OVERLOAD, "s2", 0.3)],
)
def test_reports_alone_announce_it_before_the_first_lost_packet(
    name: str, mode: Mode, element: str, early_s: float
) -> None:
    loss_s, _ = recorded(name)
    alarm_s, where = first(name, mode)
    assert where == element
    assert 0.8 < alarm_s < loss_s - early_s, "neither before it began nor late"
    # Without reports, nothing is known and nothing is said.
    assert not any(found for _, found in alarms(name, mode, told=False))


@pytest.mark.parametrize(("name", "mode"), [("congestion", Mode.CONGESTION), ("overload", Mode.DEVICE_OVERLOAD)])
def test_every_fifth_list_spoilt_changes_little(name: str, mode: Mode) -> None:
    whole, _ = first(name, mode)
    spoilt, _ = first(name, mode, damage=5)
    assert abs(spoilt - whole) < 0.3
    for _ in alarms(name, mode, damage=5):
        pass


@pytest.mark.parametrize(("name", "other"), [("congestion", Mode.DEVICE_OVERLOAD), ("overload", Mode.CONGESTION)])
def test_one_failure_is_not_taken_for_the_other(name: str, other: Mode) -> None:
    assert not any(found for _, found in alarms(name, other))
