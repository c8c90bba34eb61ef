"""The steering program on two switch processes that share two cables: heartbeats, carrier loss, silent cuts.

host 1 -- (1) A (2) ==== (2) B (1) -- host 2
                (3) ==== (3)
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.api import ActionCall, Code, Digest, Match, Op, ProgramInfo, TableUpdate
from engine.dataplane import Client
from engine.library import compile_program
from engine.process import spawn
from tests.engine.switchd_support import Host, eventually, hello_port, ip, needs_interfaces
from tests.p4 import frames as f

pytestmark = needs_interfaces()
PROGRAM = Path(__file__).resolve().parents[2] / "p4" / "build" / "shadowplane.json"
GROUP = 5
PRIMARY, SHADOW = 2, 3
US_PER_S = 1_000_000
MAC = [bytes.fromhex(f"02000000000{n}") for n in range(4)]
EVENT = 3  # position of the event in a port report
DEAD = b"\x02"
_runs = itertools.count()


class Pair:
    """Two switches, two cables between them, a host at each."""

    def __init__(self, directory: Path) -> None:
        tag = f"sw{os.getpid() % 100000}s{next(_runs)}"
        self.names = {switch: {port: f"{tag}{switch}{port}" for port in (1, PRIMARY, SHADOW)} for switch in ("a", "b")}
        self._ends = [(self.names["a"][port], self.names["b"][port]) for port in (PRIMARY, SHADOW)]
        self._ends += [(self.names[switch][1], f"{tag}h{switch}") for switch in ("a", "b")]
        for near, far in self._ends:
            ip("link", "add", near, "type", "veth", "peer", "name", far)
            for name in (near, far):
                quiet = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                if quiet.exists():
                    quiet.write_text("1")
                ip("link", "set", name, "up")
        self.host = {switch: Host(f"{tag}h{switch}") for switch in ("a", "b")}
        program = compile_program(PROGRAM, packet_out_bytes=2, packet_in_bytes=2)
        self.processes = []
        self.client: dict[str, Client] = {}
        self.digests: dict[str, list[Digest]] = {"a": [], "b": []}
        for switch in ("a", "b"):
            path = directory / f"{switch}.sock"
            self.processes.append(
                spawn(self.names[switch], path, load=program.path, log_file=directory / f"{switch}.log")
            )
            self.client[switch] = client = Client(path)
            seen = self.digests[switch]
            client.subscribe(lambda event, seen=seen: seen.append(event) if isinstance(event, Digest) else None)  # type: ignore[misc]
        routes = {"a": {"10.0.2.0": (PRIMARY, SHADOW)}, "b": {"10.0.2.0": (1, None)}}
        for switch, table in routes.items():
            info = self.client[switch].program
            assert info is not None
            updates = [
                update for prefix, (primary, shadow) in table.items() for update in route(info, prefix, primary, shadow)
            ]
            assert self.client[switch].table_write(updates) == [Code.OK] * len(updates)

    def monitor(self, dead_interval_us: int) -> None:
        """Heartbeats every 10 ms on both cables."""
        for client in self.client.values():
            info = client.program
            assert info is not None
            updates = [
                entry(
                    info,
                    "liveness_config",
                    Match(port.to_bytes(2, "big")),
                    "monitor",
                    dead_interval_us.to_bytes(6, "big"),
                    (100_000).to_bytes(6, "big"),
                    (1000).to_bytes(4, "big"),
                )
                for port in (PRIMARY, SHADOW)
            ]
            assert client.table_write(updates) == [Code.OK] * 2
            client.pktgen(10_000, defer=True)
        for switch in ("a", "b"):
            eventually(lambda switch=switch: min(self.register(switch, "liveness_rx_seq")) > 3, "heartbeats")

    def register(self, switch: str, name: str) -> list[int]:
        """The cells of ports 2 and 3."""
        client = self.client[switch]
        return client.register_read(self.index(switch, name), PRIMARY, 2)

    def index(self, switch: str, name: str) -> int:
        info = self.client[switch].program
        assert info is not None
        return [item.name for item in info.registers].index(name)

    def dead_since(self, time_ns: int) -> bool:
        """Whether switch A has reported the primary port dead after ``time_ns`` (its clock)."""
        return any(
            report.values[0] == PRIMARY.to_bytes(2, "big") and report.values[EVENT] == DEAD and report.time_ns > time_ns
            for report in self.digests["a"]
        )

    def crosses(self) -> int:
        """Send a packet from host 1; the port on which switch A sent it."""
        client = self.client["a"]
        info = client.program
        assert info is not None
        group_tx = [item.name for item in info.counters].index("group_tx")
        before = client.counter_read(group_tx, 2 * GROUP, 2)
        self.host["a"].send(packet())
        assert len(self.host["b"].receive(kind=0x0800)) == 1
        after = client.counter_read(group_tx, 2 * GROUP, 2)
        return PRIMARY if after[0][0] > before[0][0] else SHADOW

    def close(self) -> None:
        for client in self.client.values():
            client.close()
        for process in self.processes:
            process.terminate()
            process.wait(60)
        for host in self.host.values():
            host.socket.close()
        for near, _ in self._ends:
            ip("link", "del", near, check=False)


def entry(info: ProgramInfo, table: str, key: Match, action: str, *params: bytes) -> TableUpdate:
    number = [item.name for item in info.tables].index(table)
    index = next(i for i in info.tables[number].actions if info.actions[i].name == action)
    return TableUpdate(Op.INSERT, number, (key,), ActionCall(index, params))


def route(info: ProgramInfo, prefix: str, primary: int, shadow: int | None) -> Iterator[TableUpdate]:
    group = GROUP.to_bytes(2, "big")
    yield entry(info, "route_ipv4", Match(socket.inet_aton(prefix), prefix_len=24), "set_group", group)
    yield entry(info, "primary_nexthop", Match(group), "set_nexthop", primary.to_bytes(2, "big"), MAC[1], MAC[2])
    if shadow is not None:
        yield entry(info, "shadow_nexthop", Match(group), "set_nexthop", shadow.to_bytes(2, "big"), MAC[1], MAC[2])


def packet() -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 17, 0) + socket.inet_aton("10.0.1.1")
    head += socket.inet_aton("10.0.2.1")
    total = sum(struct.unpack(">10H", head))
    checksum = ~(total % 0xFFFF) & 0xFFFF
    head = head[:10] + checksum.to_bytes(2, "big") + head[12:]
    return (MAC[0] + MAC[3] + b"\x08\x00" + head + struct.pack(">HHHH", 1, 2, 20, 0)).ljust(60, b"\0")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_failover_bit_moves_the_next_packet(pair: Pair) -> None:
    failover = pair.index("a", "failover")
    for bit, port in ((0, PRIMARY), (1, SHADOW), (0, PRIMARY), (1, SHADOW)):
        pair.client["a"].register_write(failover, GROUP, bit)
        assert pair.crosses() == port


def test_heartbeats_measure_both_cables(pair: Pair) -> None:
    pair.client["a"].impair(PRIMARY, {"delay_ms": [(0, 20)]})
    pair.monitor(60 * US_PER_S)
    rtt = eventually(lambda: (both := pair.register("a", "liveness_rtt")) and min(both) and both, "round-trip times")
    assert rtt[0] >= 20_000
    reports = eventually(lambda: len(pair.digests["a"]) > 2 and pair.digests["a"], "port reports")
    assert {report.values[0] for report in reports} <= {b"\0\2", b"\0\3"}


def test_loss_on_a_cable_shows_in_sequence_gaps(pair: Pair) -> None:
    pair.monitor(60 * US_PER_S)
    pair.client["a"].impair(PRIMARY, {"loss": [(0, 0.5)]}, seed=1)
    eventually(lambda: pair.register("a", "liveness_lost")[0] > 5, "missing sequence numbers")
    assert pair.register("a", "liveness_lost")[1] == 0


def test_lost_carrier_moves_traffic_at_once(pair: Pair) -> None:
    """The dead interval is a minute: only PORT_DOWN can have told the program."""
    pair.monitor(60 * US_PER_S)
    assert pair.crosses() == PRIMARY
    before = pair.client["a"].clock_ns
    ip("link", "set", pair.names["b"][PRIMARY], "down")
    eventually(lambda: pair.register("a", "liveness_last_seen")[0] == 0, "PORT_DOWN")
    assert pair.crosses() == SHADOW
    eventually(lambda: pair.dead_since(before), "a report of the death")
    ip("link", "set", pair.names["b"][PRIMARY], "up")
    eventually(lambda: pair.crosses() == PRIMARY, "the way back")


def test_heartbeats_under_way_do_not_revive_a_port_without_carrier(pair: Pair) -> None:
    """They are in the fibre (or in a ring, or in the device) when the carrier goes, and arrive afterwards."""
    pair.monitor(60 * US_PER_S)
    client = pair.client["a"]
    client.impair(PRIMARY, {"delay_ms": [(0, 300)]})
    eventually(lambda: hello_port(client, PRIMARY)["delayed"] > 4, "answers and requests under way")
    ip("link", "set", pair.names["b"][PRIMARY], "down")
    eventually(lambda: not hello_port(client, PRIMARY)["up"], "the loss of the carrier")
    eventually(lambda: hello_port(client, PRIMARY)["delayed"] == 0, "their arrival")
    assert pair.register("a", "liveness_last_seen")[0] == 0
    assert pair.crosses() == SHADOW
    ip("link", "set", pair.names["b"][PRIMARY], "up")
    eventually(lambda: pair.crosses() == PRIMARY, "the way back")


def test_an_answer_tells_how_long_it_was_kept_back(pair: Pair) -> None:
    """The requester reads the round-trip time as if it had been answered at once."""
    client, host = pair.client["a"], pair.host["a"]
    client.pktgen(20_000, defer=True)

    def exchange(patience_us: int) -> tuple[int, int]:
        """(us that the answer says it was kept back, us until it came)"""
        sent = host.send(f.heartbeat(f.REQUEST, tx_time=1000, echo_time=patience_us))
        ((answer, at),) = host.receive(kind=f.ETHERTYPE_HEARTBEAT)
        told = f.parse_heartbeat(answer)
        assert told["op"] == f.REPLY
        return int(told["tx_time"]) - 1000, (at - sent) // 1000

    def mostly_kept_back() -> bool:
        held, took = exchange(US_PER_S)
        assert 0 <= held <= took + 1000  # the clocks' readings are not of one moment
        return held > 5000 and took - held < held // 2

    eventually(mostly_kept_back, "an answer that waited for a tick")
    assert exchange(0)[0] == 0
    assert client.register_read(pair.index("a", "liveness_held"), 1, 1) == [0]


def test_a_silent_cut_is_noticed_by_missing_heartbeats(pair: Pair) -> None:
    pair.monitor(US_PER_S)
    assert pair.crosses() == PRIMARY
    for client in pair.client.values():
        client.impair(PRIMARY, {"loss": [(0, 1.0)]})
    cut = pair.client["a"].clock_ns
    eventually(lambda: pair.dead_since(cut), "a report of the death")
    assert pair.crosses() == SHADOW
    state = pair.client["a"].device_state()
    assert all(port.up for port in state.ports)  # no carrier told
    for client in pair.client.values():
        client.impair(PRIMARY, clear=True)
    eventually(lambda: pair.crosses() == PRIMARY, "the way back")
