"""Heartbeats, death and revival of ports, under the test's own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.p4 import frames as f
from tests.p4.beats import (
    DEAD,
    DIED,
    INTERVAL,
    OTHER,
    PERIODIC,
    PORT,
    REVIVED,
    RTT,
    configure,
    peer_request,
    reply,
    round_trip,
    tick,
    way,
)
from tests.p4.target import nexthop

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded


class TestHeartbeat:
    def test_request(self, monitored: Embedded) -> None:
        assert tick(monitored) == {
            "dst": f.HEARTBEAT_DST_MAC,
            "src": f.heartbeat_src_mac(PORT),
            "version": 1,
            "op": f.REQUEST,
            "port": PORT,
            "seq": 1,
            "tx_time": monitored.now_us,
            "echo_time": 0,
        }
        assert tick(monitored)["seq"] == 2

    def test_padding_of_the_generator_pads_the_request(self, monitored: Embedded) -> None:
        seen = monitored.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, PORT) + bytes(27))
        assert len(seen[0][1]) == 60

    def test_the_controller_may_ask_for_one_too(self, monitored: Embedded) -> None:
        seen = monitored.send(f.CPU_PORT, f.command(f.HEARTBEAT, PORT))
        assert f.parse_heartbeat(seen[0][1])["seq"] == 1

    def test_heartbeats_overtake_data(self, monitored: Embedded) -> None:
        assert monitored.priorities(f.PKTGEN_PORT, f.command(f.HEARTBEAT, PORT)) == [7]
        assert monitored.priorities(PORT, f.heartbeat(f.REQUEST)) == [7]
        assert monitored.priorities(1, f.udp4()) == [0]
        monitored.insert("classify", {"dscp": 46}, "set_flow", {"flow_id": 1, "priority": 5, "sample": 0}, priority=1)
        assert monitored.priorities(1, f.udp4(dscp=46)) == [5]

    def test_unmonitored_ports_send_none(self, monitored: Embedded) -> None:
        assert monitored.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, OTHER)) == []
        assert monitored.counter("drops", 0) == (0, 0)

    def test_echo(self, monitored: Embedded) -> None:
        monitored.wait(5)
        assert peer_request(monitored, 41) == {
            "dst": f.HEARTBEAT_DST_MAC,
            "src": f.heartbeat_src_mac(PORT),
            "version": 1,
            "op": f.REPLY,
            "port": PORT,
            "seq": 41,
            "tx_time": 123_456,
            "echo_time": monitored.now_us,
        }

    def test_unmonitored_ports_echo_too(self, engine: Embedded) -> None:
        assert peer_request(engine, 9, port=4)["op"] == f.REPLY
        assert engine.digests() == []

    def test_round_trip_time(self, monitored: Embedded) -> None:
        round_trip(monitored, 1_234)
        assert monitored.register("liveness_rtt", PORT) == 1_234
        assert monitored.register("liveness_last_seen", PORT) == monitored.now_us
        round_trip(monitored, 99)
        assert monitored.register("liveness_rtt", PORT) == 99

    def test_reply_from_the_future_keeps_the_time_before(self, monitored: Embedded) -> None:
        round_trip(monitored, 1_234)
        monitored.send(PORT, f.heartbeat(f.REPLY, seq=2, tx_time=monitored.now_us + 1))
        assert monitored.register("liveness_rtt", PORT) == 1_234

    def test_missing_requests_are_counted(self, monitored: Embedded) -> None:
        for seq in (10, 11, 13, 17, 18, 19):
            peer_request(monitored, seq)
        assert monitored.register("liveness_lost", PORT) == 1 + 3
        assert monitored.register("liveness_rx_seq", PORT) == 19

    def test_restarted_neighbour_lost_nothing(self, monitored: Embedded) -> None:
        for seq in (1000, 1, 2):
            peer_request(monitored, seq)
        assert monitored.register("liveness_lost", PORT) == 0

    def test_ports_do_not_mix(self, monitored: Embedded) -> None:
        configure(monitored, OTHER)
        for _ in range(3):
            tick(monitored)
        assert tick(monitored, OTHER)["seq"] == 1
        peer_request(monitored, 5)
        peer_request(monitored, 9, OTHER)
        assert monitored.register("liveness_lost", OTHER) == 0

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(f.heartbeat(f.REQUEST, version=2), id="version"),
            pytest.param(f.heartbeat(3), id="op"),
            pytest.param(f.heartbeat(0), id="zero"),
        ],
    )
    def test_unknown_heartbeat(self, monitored: Embedded, frame: bytes) -> None:
        assert monitored.send(PORT, frame) == []
        assert monitored.counter("drops", 14)[0] == 1
        assert monitored.register("liveness_last_seen", PORT) == 0


class TestDeath:
    def test_never_heard_is_dead(self, monitored: Embedded) -> None:
        tick(monitored)
        assert way(monitored) == OTHER

    def test_without_a_tick_nothing_is_known(self, monitored: Embedded) -> None:
        """The table's interval takes effect with the port's next heartbeat."""
        assert way(monitored) == PORT

    def test_alive_until_the_interval_is_over(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.wait(DEAD)
        assert way(monitored) == PORT
        monitored.wait(1)
        assert way(monitored) == OTHER

    def test_requests_of_the_neighbour_keep_alive(self, monitored: Embedded) -> None:
        round_trip(monitored)
        for seq in range(1, 20):
            monitored.wait(INTERVAL)
            peer_request(monitored, seq)
            assert way(monitored) == PORT

    def test_revival(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.wait(DEAD + 1)
        assert way(monitored) == OTHER
        round_trip(monitored)
        assert way(monitored) == PORT

    def test_the_future_is_alive(self, monitored: Embedded) -> None:
        """A heartbeat may carry a later time stamp than the data packet that follows it."""
        round_trip(monitored)
        monitored.now_us -= 5
        assert way(monitored) == PORT

    def test_interval_zero_never_diverts(self, engine: Embedded) -> None:
        configure(engine, PORT, dead=0)
        engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", nexthop(PORT))
        engine.insert("shadow_nexthop", {"group_id": 1}, "set_nexthop", nexthop(OTHER))
        round_trip(engine)
        engine.wait(10 * DEAD)
        tick(engine)
        assert way(engine) == PORT
        assert [one["event"] for one in engine.digests()] == [PERIODIC, REVIVED, PERIODIC]

    def test_observed_port_is_reported_but_carries_on(self, engine: Embedded) -> None:
        configure(engine, PORT, "observe")
        engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", nexthop(PORT))
        engine.insert("shadow_nexthop", {"group_id": 1}, "set_nexthop", nexthop(OTHER))
        round_trip(engine)
        engine.digests()
        for _ in range(DEAD // INTERVAL + 1):
            engine.wait(INTERVAL)
            tick(engine)
        assert [one["event"] for one in engine.digests()] == [DIED]
        assert way(engine) == PORT

    def test_carrier_loss_is_death_at_once(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.digests()
        assert monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT)) == []
        assert way(monitored) == OTHER
        assert [one["event"] for one in monitored.digests()] == [DIED]
        assert monitored.register("liveness_last_seen", PORT) == 0

    def test_after_a_lost_carrier_only_a_new_answer_counts(self, monitored: Embedded) -> None:
        """Whatever was sent before may still be under way, and arrive with a time after the loss."""
        round_trip(monitored)
        under_way = [tick(monitored) for _ in range(3)]
        monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
        monitored.digests()
        for seq, request in enumerate(under_way, 1):
            monitored.wait(5)
            reply(monitored, request)
            peer_request(monitored, seq)
            assert way(monitored) == OTHER
        later = tick(monitored)
        peer_request(monitored, 4)
        assert way(monitored) == OTHER
        assert monitored.digests() == []
        reply(monitored, later)
        assert way(monitored) == PORT
        monitored.wait(DEAD)
        peer_request(monitored, 5)
        assert way(monitored) == PORT
        assert [one["event"] for one in monitored.digests()] == [REVIVED]

    def test_a_carrier_lost_again_and_again(self, monitored: Embedded) -> None:
        for _ in range(4):
            round_trip(monitored)
            assert way(monitored) == PORT
            stale = tick(monitored)
            for _ in range(2):
                monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
            reply(monitored, stale)
            assert way(monitored) == OTHER

    def test_numbers_of_requests_that_run_over(self, monitored: Embedded) -> None:
        """The last number before the counter begins anew is followed by 0, which no longer waits for anything."""
        index = [register.name for register in monitored.info.registers].index("liveness_tx_seq")
        for last in (0xFFFFFFF0, 0xFFFFFFFE):
            monitored.switch.register_write(index, PORT, last)
            stale = tick(monitored)
            monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
            if last != 0xFFFFFFFE:
                reply(monitored, stale)
                assert way(monitored) == OTHER
            reply(monitored, tick(monitored))
            assert way(monitored) == PORT

    def test_removed_entry_ends_the_override(self, monitored: Embedded) -> None:
        tick(monitored)
        assert way(monitored) == OTHER
        monitored.delete("liveness_config", {"port": PORT})
        assert monitored.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, PORT)) == []
        assert way(monitored) == PORT


class TestPatience:
    """How long an answer may wait: so long that nothing suffers from it."""

    def test_none_until_the_neighbour_is_known_to_live(self, monitored: Embedded) -> None:
        assert tick(monitored)["echo_time"] == 0
        round_trip(monitored)
        assert tick(monitored)["echo_time"] == DEAD // 2

    def test_none_while_an_answer_is_overdue(self, monitored: Embedded) -> None:
        round_trip(monitored)
        open_request = tick(monitored)
        told = []
        for seq in range(1, 5):
            monitored.wait(INTERVAL - 1000)
            peer_request(monitored, seq)
            monitored.wait(1000)
            told.append(tick(monitored)["echo_time"])
        assert told == [DEAD // 2, 0, 0, 0]
        reply(monitored, open_request)
        assert tick(monitored)["echo_time"] == DEAD // 2

    def test_none_for_the_dead(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
        assert tick(monitored)["echo_time"] == 0

    def test_none_of_ports_that_never_die(self, engine: Embedded) -> None:
        configure(engine, PORT, dead=0)
        round_trip(engine)
        assert tick(engine)["echo_time"] == 0

    def test_an_answer_at_once_keeps_the_time_of_its_request(self, monitored: Embedded) -> None:
        seen = monitored.send(PORT, f.heartbeat(f.REQUEST, seq=1, tx_time=123_456, echo_time=15_000))
        assert f.parse_heartbeat(seen[0][1])["tx_time"] == 123_456
        assert f.parse_heartbeat(seen[0][1])["echo_time"] == monitored.now_us
        assert monitored.register("liveness_held", PORT) == 0


class TestPause:
    """The switch itself stood still, and with it perhaps its neighbours."""

    PAUSE = 5 * DEAD

    def test_a_neighbour_that_lived_before_is_excused_once(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.digests()
        monitored.wait(self.PAUSE)
        tick(monitored)
        assert way(monitored) == PORT
        assert DIED not in [one["event"] for one in monitored.digests()]
        for _ in range(DEAD // INTERVAL):
            monitored.wait(INTERVAL)
            tick(monitored)
            assert way(monitored) == PORT
        monitored.wait(INTERVAL)
        tick(monitored)
        assert way(monitored) == OTHER
        assert [one["event"] for one in monitored.digests()] == [DIED]

    def test_pauses_in_a_row_excuse_nobody_for_ever(self, monitored: Embedded) -> None:
        round_trip(monitored)
        for _ in range(3):
            monitored.wait(self.PAUSE)
            tick(monitored)
        assert way(monitored) == OTHER

    def test_after_a_sign_of_life_there_is_another_excuse(self, monitored: Embedded) -> None:
        for _ in range(3):
            round_trip(monitored)
            monitored.wait(self.PAUSE)
            tick(monitored)
            assert way(monitored) == PORT

    def test_who_was_dead_before_stays_dead(self, monitored: Embedded) -> None:
        round_trip(monitored)
        for _ in range(DEAD // INTERVAL + 1):
            monitored.wait(INTERVAL)
            tick(monitored)
        assert way(monitored) == OTHER
        monitored.wait(self.PAUSE)
        tick(monitored)
        assert way(monitored) == OTHER

    def test_a_lost_carrier_has_no_excuse(self, monitored: Embedded) -> None:
        round_trip(monitored)
        monitored.send(f.PKTGEN_PORT, f.command(f.PORT_DOWN, PORT))
        monitored.wait(self.PAUSE)
        tick(monitored)
        assert way(monitored) == OTHER

    def test_what_came_before_the_pause_does_not_turn_time_back(self, monitored: Embedded) -> None:
        """The tick is served first; heartbeats that waited in the ring carry the time of their arrival."""
        round_trip(monitored)
        request = tick(monitored)
        monitored.wait(self.PAUSE)
        tick(monitored)
        monitored.now_us -= self.PAUSE - 5
        reply(monitored, request)
        peer_request(monitored, 7)
        monitored.now_us += self.PAUSE - 5
        assert way(monitored) == PORT
        assert monitored.register("liveness_last_seen", PORT) == monitored.now_us

    def test_the_neighbours_first_request_afterwards_does_not_look_one_way(self, monitored: Embedded) -> None:
        """Ours from before the pause is not answered yet: it could not be."""
        round_trip(monitored)
        tick(monitored)
        monitored.wait(self.PAUSE)
        tick(monitored)
        monitored.digests()
        monitored.wait(5)
        peer_request(monitored, 3)
        assert way(monitored) == PORT
        assert DIED not in [one["event"] for one in monitored.digests()]


class TestOneWay:
    """The neighbour's requests arrive, ours do not."""

    def one_way(self, switch: Embedded, intervals: int) -> None:
        for seq in range(1, intervals + 1):
            tick(switch)
            switch.wait(INTERVAL // 2)
            peer_request(switch, seq)
            switch.wait(INTERVAL // 2)

    def test_deaf_neighbour_is_as_bad_as_a_dead_one(self, monitored: Embedded) -> None:
        round_trip(monitored)
        self.one_way(monitored, 6)
        assert way(monitored) == OTHER
        assert monitored.digests()[-1]["event"] == DIED

    def test_it_is_noticed_in_time(self, monitored: Embedded) -> None:
        round_trip(monitored)
        self.one_way(monitored, 2)
        assert way(monitored) == PORT
        self.one_way(monitored, 2)
        assert way(monitored) == OTHER

    def test_an_answer_ends_it(self, monitored: Embedded) -> None:
        round_trip(monitored)
        self.one_way(monitored, 6)
        round_trip(monitored)
        assert way(monitored) == PORT
        peer_request(monitored, 99)
        assert way(monitored) == PORT

    def test_a_switch_held_up_itself_blames_nobody(self, monitored: Embedded) -> None:
        """No ticks for long, but the neighbour's requests came in time: ours was answered, none is open."""
        round_trip(monitored)
        for seq in range(1, 30):
            monitored.wait(INTERVAL)
            peer_request(monitored, seq)
            assert way(monitored) == PORT

    def test_a_neighbour_that_only_answers_is_alive(self, monitored: Embedded) -> None:
        for _ in range(20):
            round_trip(monitored)
            monitored.wait(INTERVAL - RTT)
            assert way(monitored) == PORT

    def test_long_links_are_not_deaf(self, monitored: Embedded) -> None:
        """Round-trip time far above the dead interval: several requests are under way, each is answered."""
        under_way: list[dict[str, int | str]] = []
        for seq in range(1, 40):
            under_way.append(tick(monitored))
            monitored.wait(INTERVAL // 2)
            if len(under_way) > 8:
                reply(monitored, under_way.pop(0))
                peer_request(monitored, seq)
                assert way(monitored) == PORT
            monitored.wait(INTERVAL // 2)
        assert monitored.register("liveness_rtt", PORT) > DEAD
