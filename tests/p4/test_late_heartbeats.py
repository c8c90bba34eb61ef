"""Requests of the neighbour in any order: what counts as lost, beside a model of it that remembers everything."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.p4 import frames as f
from tests.p4.beats import DEAD, INTERVAL, PORT, configure, peer_request, round_trip, tick
from tests.p4.embedded import Embedded
from tests.p4.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FIRST = 1_000
PATIENCE = 2  # a request may come after so many later ones
LATE = 256
MOST_MISSING = 1 << 24


class Model:
    """What arrived, number by number; no arithmetic of the program's."""

    def __init__(self) -> None:
        self.highest = 0
        self.missing: set[int] = set()
        self.lost = 0

    def request(self, seq: int, dead: bool = False) -> None:
        if self.highest == 0:
            self.highest, self.missing = seq, set()  # 0 says that none came yet
            return
        behind = (self.highest - seq) % 2**32
        ahead = (seq - self.highest) % 2**32
        if behind <= LATE:
            self.missing.discard(seq)
        elif ahead >= MOST_MISSING:
            self.highest, self.missing = seq, set()
        else:
            self.missing |= {(self.highest + step) % 2**32 for step in range(1, ahead)}
            self.highest = seq
            gone = {one for one in self.missing if dead or (seq - one) % 2**32 > PATIENCE}
            self.missing -= gone
            self.lost += len(gone)


def lost(switch: Embedded, numbers: Iterable[int]) -> int:
    for seq in numbers:
        peer_request(switch, seq)
    return switch.register("liveness_lost", PORT)


@st.composite
def arrivals(draw: st.DrawFn) -> list[int]:
    """Numbers as they may arrive: displaced, dropped, doubled, with a neighbour that begins anew now and then."""
    found: list[int] = []
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.sampled_from([1, 2, FIRST, 2**31 - 8, 2**32 - 12]))
        count = draw(st.integers(1, 25))
        places = []
        for number in range(begin, begin + count):
            if draw(st.integers(0, 9)) == 0:
                continue
            for _ in range(1 + (draw(st.integers(0, 9)) == 0)):
                places.append((number + draw(st.sampled_from([0, 0, 0, 0.5, 1.5, 2.5, 3.5, 9.5])), number))
        found += [number % 2**32 for _, number in sorted(places)]
    return found


@pytest.fixture(scope="module")
def shared() -> Iterator[Embedded]:
    """A switch for many examples, each at a port of its own state."""
    switch = Embedded()
    configure(switch, PORT, dead=0)
    yield switch
    switch.close()


def forget(switch: Embedded) -> None:
    for name in ("liveness_rx_seq", "liveness_missing", "liveness_lost"):
        switch.set_register(name, PORT, 0)


@settings(max_examples=150)
@given(data=arrivals())
def test_any_order(shared: Embedded, data: list[int]) -> None:
    forget(shared)
    model, before = Model(), 0
    for seq in data:
        model.request(seq)
        total = lost(shared, [seq])
        assert total == model.lost
        assert total >= before, "the counter never runs backwards"
        before = total
        assert shared.register("liveness_rx_seq", PORT) == model.highest
        missing = shared.register("liveness_missing", PORT)
        assert {(model.highest - 1 - bit) % 2**32 for bit in range(2) if missing >> bit & 1} == model.missing


@settings(max_examples=100)
@given(delays=st.lists(st.sampled_from([0, 0, 1, 2]), min_size=4, max_size=60), begin=st.sampled_from([1, 2**32 - 20]))
def test_changing_places_loses_nothing(shared: Embedded, delays: list[int], begin: int) -> None:
    """Each may come after the one or two that were sent behind it."""
    forget(shared)
    order = sorted(range(len(delays)), key=lambda place: (place + delays[place], place))
    assert lost(shared, [(begin + place) % 2**32 for place in order]) == 0


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        pytest.param((5, 7, 6, 8, 9, 10), 0, id="two change places"),
        pytest.param((5, 8, 6, 7, 9, 10), 0, id="one is early"),
        pytest.param((5, 7, 8, 6, 9, 10), 0, id="one is late"),
        pytest.param((5, 7, 8, 9, 6, 10), 1, id="later than is waited for: stays counted"),
        pytest.param((5, 7, 6, 6, 5, 7, 8, 9, 10), 0, id="all of it twice"),
        pytest.param((5, 8, 6, 6, 9, 10), 1, id="one that came twice stands for no other"),
        pytest.param((5, 7), 0, id="not yet"),
        pytest.param((5, 7, 8, 9), 1, id="two requests later"),
        pytest.param((5, 16, 17, 18), 10, id="many at once"),
        pytest.param((300, 200, 44, 301, 302, 303), 0, id="very late ones set nothing back"),
        pytest.param((300, 43, 44, 45, 47, 48, 49), 1, id="far below: began anew"),
        pytest.param((2**32 - 2, 2**32 - 1, 0, 1, 2, 3), 0, id="over the end"),
        pytest.param((2**32 - 3, 2**32 - 1, 2**32 - 2, 0, 1, 2), 0, id="change places at the end"),
        pytest.param((3_000_000_000, 1, 2, 3), 0, id="began anew from far above"),
    ],
)
def test_examples(monitored: Embedded, numbers: tuple[int, ...], expected: int) -> None:
    assert lost(monitored, numbers) == expected


def test_a_revival_brings_no_losses_with_it(monitored: Embedded) -> None:
    """What is missing when a dead port is heard again is told with its revival, and no later."""
    round_trip(monitored)
    lost(monitored, [1, 2, 4])
    monitored.wait(DEAD + 1)
    assert lost(monitored, [9]) == 1 + 4
    assert lost(monitored, [10, 11, 12]) == 5


def test_nor_does_one_after_a_lost_carrier(monitored: Embedded) -> None:
    round_trip(monitored)
    peer_request(monitored, 1)
    monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
    tick(monitored)
    monitored.wait(INTERVAL)
    assert lost(monitored, [4]) == 2
    assert lost(monitored, [5, 6, 7]) == 2


def test_every_target_counts_alike(switch: Target) -> None:
    """By the reports, which every target sends: here each heartbeat brings one."""
    switch.insert(
        "liveness_config", {"port": PORT}, "observe", {"dead_interval": 0, "report_interval": 0, "rtt_delta": 0}
    )
    rng, model, expected = random.Random(5), Model(), []
    numbers = sorted((seq + rng.choice([0, 0, 0, 0, 1.5, 2.5, 4.5]), seq) for seq in range(2**32 - 30, 2**32 + 30))
    for _, seq in numbers:
        if rng.random() < 0.1:
            continue
        model.request(seq % 2**32)
        expected.append(model.lost)
        switch.send(PORT, f.heartbeat(f.REQUEST, port=77, seq=seq % 2**32, tx_time=5))
    assert [report["lost"] for report in switch.digests()] == expected
    assert expected[-1] > 5
