"""Links on which nothing passes are asked less often; nothing that passes may suffer from it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.p4 import frames as f
from tests.p4.beats import DEAD as USUAL
from tests.p4.beats import (
    DIED,
    OTHER,
    PORT,
    REVIVED,
    RTT,
    peer_request,
    reply,
    round_trip,
    way,
)
from tests.p4.beats import INTERVAL as TICK
from tests.p4.idle_pair import DEAD, HOST, INTERVAL, RELAX_AFTER, Generator, Pair, is_heartbeat

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded

STRETCH = 2
LONG = USUAL << STRETCH
SETTLED = RELAX_AFTER + 200_000
SPACING = 500


def order(switch: Embedded, stretch: int = STRETCH) -> dict[str, int | str]:
    """The generator's order for a relaxed port; returns the request that leaves."""
    seen = switch.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, PORT, stretch))
    return f.parse_heartbeat(seen[0][1])


def relaxed(switch: Embedded) -> None:
    """Known to live, and asked seldom since."""
    round_trip(switch)
    reply(switch, order(switch))
    switch.digests()


class TestProgram:
    def test_everything_stretches(self, monitored: Embedded) -> None:
        relaxed(monitored)
        assert monitored.register("liveness_relaxed", PORT) == STRETCH
        assert monitored.register("liveness_dead_interval", PORT) == LONG
        monitored.wait(LONG)
        assert way(monitored) == PORT
        monitored.wait(1)
        assert way(monitored) == OTHER

    def test_other_heartbeats_leave_it_stretched(self, monitored: Embedded) -> None:
        relaxed(monitored)
        peer_request(monitored, 5)
        assert monitored.register("liveness_dead_interval", PORT) == LONG

    def test_patience_stretches(self, monitored: Embedded) -> None:
        relaxed(monitored)
        assert order(monitored)["echo_time"] == LONG // 2

    def test_the_controllers_orders_are_usual_ones(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.send(f.CPU_PORT, f.command(f.HEARTBEAT, PORT))
        assert monitored.register("liveness_dead_interval", PORT) == USUAL

    @pytest.mark.parametrize("silence", [0, TICK // 2, USUAL, USUAL + 1, LONG])
    def test_who_lives_has_a_usual_interval_when_it_ends(self, monitored: Embedded, silence: int) -> None:
        """And the time of a round trip, in which no answer can be here."""
        relaxed(monitored)
        rtt = monitored.register("liveness_rtt", PORT)
        monitored.wait(silence)
        order(monitored, 0)
        assert monitored.register("liveness_dead_interval", PORT) == USUAL
        monitored.wait(rtt + USUAL)
        assert way(monitored) == PORT
        monitored.wait(1)
        assert way(monitored) == OTHER

    def test_a_nonsensical_round_trip_time_delays_nothing_for_long(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.set_register("liveness_rtt", PORT, 0xFFFFFFFF)
        order(monitored, 0)
        monitored.wait(LONG)
        assert way(monitored) == PORT
        monitored.wait(1)
        assert way(monitored) == OTHER

    def test_who_is_dead_stays_so_when_it_ends(self, monitored: Embedded) -> None:
        relaxed(monitored)
        for _ in range(4):
            monitored.wait(TICK << STRETCH)
            order(monitored)
        assert order(monitored, 0)["echo_time"] == 0
        assert way(monitored) == OTHER
        assert [one["event"] for one in monitored.digests()][-1] == DIED

    def test_who_is_dead_stays_so_when_it_begins(self, monitored: Embedded) -> None:
        round_trip(monitored)
        for _ in range(4):
            monitored.wait(TICK)
            order(monitored, 0)
        assert way(monitored) == OTHER
        order(monitored)
        assert way(monitored) == OTHER
        reply(monitored, order(monitored))
        assert way(monitored) == PORT
        assert [one["event"] for one in monitored.digests()][-1] == REVIVED

    def test_a_lost_carrier_is_death_at_once(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
        assert way(monitored) == OTHER
        order(monitored, 0)
        assert way(monitored) == OTHER
        assert [one["event"] for one in monitored.digests()] == [DIED]

    def test_a_pause_of_the_switch_is_excused(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.wait(10 * LONG)
        order(monitored)
        assert way(monitored) == PORT
        monitored.wait(LONG + 1)
        assert way(monitored) == OTHER

    def test_a_pause_after_the_change_is_excused_once(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.wait(TICK)
        assert order(monitored, 0)["echo_time"] == 0  # the neighbour is to answer at once
        monitored.wait(TICK)
        order(monitored, 0)
        for alive in (PORT, OTHER):
            monitored.wait(5 * USUAL)
            order(monitored, 0)
            assert way(monitored) == alive

    def test_a_late_order_that_ends_it_is_excused(self, monitored: Embedded) -> None:
        relaxed(monitored)
        monitored.wait(10 * LONG)
        order(monitored, 0)
        assert way(monitored) == PORT
        monitored.wait(USUAL + 1)
        assert way(monitored) == OTHER

    def test_excused_once_for_each_end(self, monitored: Embedded) -> None:
        """To be relaxed again takes a second of usual orders, in which the dead are found."""
        relaxed(monitored)
        order(monitored, 0)
        for _ in range(4):
            monitored.wait(TICK)
            order(monitored, 0)
        assert way(monitored) == OTHER
        order(monitored)
        order(monitored, 0)
        assert way(monitored) == OTHER

    def test_no_stretch_for_who_was_not_heard_since(self, monitored: Embedded) -> None:
        """Or packets that come seldom would excuse a dead neighbour for ever, where the interval is long."""
        relaxed(monitored)
        for _ in range(3):
            order(monitored, 0)
            order(monitored)
            assert monitored.register("liveness_dead_interval", PORT) == USUAL
        monitored.wait(RTT)  # as long as the excuse lasts, nothing that arrived proves more
        peer_request(monitored, 7)
        order(monitored)
        assert monitored.register("liveness_dead_interval", PORT) == LONG

    def test_interval_zero_never_diverts(self, monitored: Embedded) -> None:
        parameters = {"dead_interval": 0, "report_interval": 100_000, "rtt_delta": 500}
        monitored.modify("liveness_config", {"port": PORT}, "monitor", parameters)
        for stretch in (STRETCH, 0, STRETCH):
            monitored.wait(10 * LONG)
            assert order(monitored, stretch)["echo_time"] == 0
            assert way(monitored) == PORT


Drop = Callable[[int, str, bytes], bool]


class Made:
    """Pairs that are closed at the end."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []

    def __call__(self, a: Generator, b: Generator, delay: int = 100, dead: dict[str, int] | None = None) -> Pair:
        pair = Pair(a, b, delay, dead)
        self.pairs.append(pair)
        pair.run(SETTLED)
        return pair


@pytest.fixture
def pair() -> Iterator[Made]:
    made = Made()
    yield made
    for one in made.pairs:
        one.close()


def woken(pair: Pair, name: str, since: int) -> float:
    """Wake-ups a second."""
    return sum(time >= since for time in pair.nodes[name].wakes) * 1e6 / (pair.now - since)


def quiet(pair: Pair, seconds: int = 1) -> bool:
    """Both ends are relaxed, and sleep between their own orders."""
    since = pair.now
    pair.run(seconds * 1_000_000)
    return all(node.relaxed and woken(pair, name, since) <= 26 for name, node in pair.nodes.items())


PHASES = [0, 1, 3_333, 9_999, 10_000, 17_500, 20_000, 39_000]
DELAYS = [20, 1_000, 8_000, 15_000]


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("phase", PHASES)
def test_idle_neighbours_let_each_other_sleep(pair: Made, phase: int, delay: int) -> None:
    made = pair(Generator(), Generator(phase), delay)
    assert quiet(made, 3)
    for name in "ab":
        assert made.lost(name) == 0
        assert made.nodes[name].switch.register("liveness_rtt", 2) == 2 * delay


def test_ends_of_different_intervals_let_each_other_sleep(pair: Made) -> None:
    made = pair(Generator(), Generator(1_234, interval=5_000), dead={"b": 13_500})
    since = made.now
    made.run(3_000_000)
    assert woken(made, "a", since) <= 50 + 100 + 1  # b's requests do not wait for so long
    assert woken(made, "b", since) <= 50 + 1


@pytest.mark.parametrize("seed", range(8))
def test_nothing_that_passes_is_diverted_or_lost(pair: Made, seed: int) -> None:
    """Bursts of either host and of both at any phase, links of any length, a switch that is busy for a while."""
    rng = random.Random(seed)
    delay = rng.choice(DELAYS)
    made = pair(Generator(rng.randrange(40_000)), Generator(rng.randrange(40_000)), delay)
    for _ in range(4):
        for name in rng.choice(["a", "b", "ab"]):
            made.traffic(
                name, made.now + rng.randrange(50_000), rng.choice([1, 30_000, 150_000]), rng.choice([300, 2_000])
            )
        if rng.random() < 0.5:
            held = made.now + rng.randrange(60_000)
            made.run(held - made.now)
            made.nodes[rng.choice("ab")].held_until = made.now + 12_000
        made.run(300_000)
        assert made.detoured == []
        if rng.random() < 0.6:
            made.run(SETTLED)
            assert quiet(made)
    assert len(made.delivered) == made.sent
    assert made.lost("a") == made.lost("b") == 0


@pytest.mark.parametrize("stall", [40_000, 400_000])
@pytest.mark.parametrize("gap", [50, 300, 3_000, 12_000])
@pytest.mark.parametrize("phase", [0, 3_333, 9_999, 23_000])
def test_a_pause_of_all_just_after_the_change_is_excused(pair: Made, phase: int, gap: int, stall: int) -> None:
    """The start of traffic is when a busy machine stalls."""
    made = pair(Generator(), Generator(phase))
    for node in made.nodes.values():
        node.switch.digests()
    made.traffic("a", made.now + 5_000, 1)
    made.run(5_000 + gap)
    for node in made.nodes.values():
        node.held_until = made.now + stall
    made.traffic("a", made.now + stall + 50, 100_000)
    made.run(stall + 200_000)
    assert made.detoured == []
    assert len(made.delivered) == made.sent
    assert all(one["event"] != DIED for node in made.nodes.values() for one in node.switch.digests())


def first(number: int, sender: str, beats_only: bool = True) -> Drop:
    """The first frames of a sender get lost."""
    left = [number]

    def drop(_time: int, name: str, frame: bytes) -> bool:
        if name == sender and (is_heartbeat(frame) or not beats_only) and left[0]:
            left[0] -= 1
            return True
        return False

    return drop


@pytest.mark.parametrize("sender", ["a", "b"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("phase", PHASES)
def test_lost_heartbeats_at_the_change_divert_nothing(pair: Made, phase: int, number: int, sender: str) -> None:
    made = pair(Generator(), Generator(phase))
    made.run(phase // 3)
    made.drop = first(number, sender)
    made.traffic("a", made.now, 100_000)
    made.run(200_000)
    assert made.detoured == []
    assert len(made.delivered) == made.sent


def test_first_packets_lost_with_their_heartbeats(pair: Made) -> None:
    """The neighbour learns of the change from none of them."""
    made = pair(Generator(), Generator(7_000))
    made.drop = first(2, "a", beats_only=False)
    made.traffic("a", made.now, 100_000)
    made.run(200_000)
    assert made.detoured == []
    assert made.sent - len(made.delivered) <= 1


@pytest.mark.parametrize("delay", [20, 8_000])
@pytest.mark.parametrize("phase", [0, 5_000, 23_000])
@pytest.mark.parametrize("offset", [-150_000, -60_000, -20_000, -1_000, 0, 1_000, 5_000, 200_000])
def test_a_silent_cut_costs_what_it_always_did(pair: Made, offset: int, phase: int, delay: int) -> None:
    """Before, at and after the first packet."""
    made = pair(Generator(), Generator(phase), delay)
    begin = made.now + 300_000
    made.drop = lambda time, _name, _frame: time >= begin + offset
    made.traffic("a", begin, 400_000, SPACING)
    made.run(1_000_000)
    gone = made.sent - len(made.delivered) - len(made.detoured)
    assert gone <= (DEAD + 2 * delay) // SPACING + 2
    assert len(made.detoured) > 300_000 // SPACING - (2 * offset // SPACING if offset > 0 else 0)


@pytest.mark.parametrize("phase", PHASES)
def test_a_cut_in_the_sending_direction_only(pair: Made, phase: int) -> None:
    """The neighbour is heard all the time: it does not hear us."""
    made = pair(Generator(), Generator(phase))
    begin = made.now + 100_000
    made.drop = lambda time, name, _frame: name == "a" and time >= begin - 10_000
    made.traffic("a", begin, 300_000, SPACING)
    made.run(500_000)
    gone = made.sent - len(made.delivered) - len(made.detoured)
    assert gone <= (2 * DEAD) // SPACING + 2


def test_a_carrier_lost_on_an_idle_link_costs_nothing(pair: Made) -> None:
    made = pair(Generator(), Generator(6_000))
    begin = made.now + 50_000
    made.carrier_lost("a", begin)
    made.drop = lambda time, _name, _frame: time >= begin
    made.traffic("a", begin + 1, 100_000)
    made.run(200_000)
    assert len(made.detoured) == made.sent


def test_an_idle_link_that_dies_is_reported(pair: Made) -> None:
    made = pair(Generator(), Generator(6_000))
    made.run(300_000)
    cut = made.now
    made.drop = lambda _time, _name, _frame: True
    for node in made.nodes.values():
        node.switch.digests()
    made.run(400_000)
    for node in made.nodes.values():
        told = [one for one in node.switch.digests() if one["event"] == DIED]
        assert 0 < told[0]["time"] - cut <= (DEAD << STRETCH) + (INTERVAL << STRETCH) + 1_000


def test_reports_of_an_idle_link_come_as_often(pair: Made) -> None:
    made = pair(Generator(), Generator(6_000))
    made.nodes["a"].switch.digests()
    made.run(6_000_000)
    assert len(made.nodes["a"].switch.digests()) >= 6_000_000 // 120_000 - 1


@pytest.mark.parametrize(
    "older",
    [
        pytest.param(Generator(3_000, stretch=0), id="asks each interval"),
        pytest.param(Generator(3_000, stretch=0, defers=False, patient=False), id="lets nobody wait"),
        pytest.param(Generator(3_000, stretch=0, defers=False, interval=20_000), id="on BMv2"),
    ],
)
def test_neighbours_that_know_nothing_of_it(pair: Made, older: Generator) -> None:
    dead = {"b": 27 * older.interval // 10}
    made = pair(Generator(), older, dead=dead)
    assert made.nodes["a"].relaxed and not made.nodes["b"].relaxed
    for name in "ab":
        begin = made.now
        made.traffic(name, begin, 300_000)
        made.run(SETTLED + 300_000)
        assert made.detoured == []
        assert made.nodes["a"].relaxed
    assert len(made.delivered) == made.sent
    begin = made.now
    made.drop = lambda _time, _name, _frame: True
    made.traffic("a", begin, 200_000, SPACING)
    made.run(300_000)
    assert made.sent - len(made.delivered) - len(made.detoured) <= DEAD // SPACING + 2


def test_a_link_broken_in_one_direction_and_mended(pair: Made) -> None:
    """Both ends are dead to each other, ask without patience, and are back at rest soon after."""
    made = pair(Generator(), Generator(6_000))
    made.drop = lambda _time, name, _frame: name == "a"
    made.run(1_000_000)
    made.drop = lambda _time, _name, _frame: False
    made.run(300_000)
    assert quiet(made)
    made.traffic("a", made.now, 50_000)
    made.run(100_000)
    assert made.detoured == [] and len(made.delivered) == made.sent


def test_the_host_ports_do_not_matter(pair: Made) -> None:
    """Port 1 is not monitored: its orders send nothing."""
    made = pair(Generator(), Generator())
    assert made.nodes["a"].switch.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, HOST, STRETCH)) == []
