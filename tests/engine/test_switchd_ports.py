"""Carrier, interfaces that go and come, heartbeats."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.utils import RawPcapReader

from engine.api import Digest, PortStatus
from engine.dataplane import Client
from tests.engine.switchd_support import (
    Rig,
    eventually,
    frame,
    hello_port,
    ip,
    needs_interfaces,
    number_of,
    numbered,
    rig,
)

pytestmark = needs_interfaces()
HEARTBEAT = 0x88B5
PORT_DOWN = 1  # the test pipeline's digest
DOWN_REGISTER = 2


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        yield built


def sent_at(data: bytes) -> int:
    """The generator's time (us) in a heartbeat of the test pipeline."""
    return int.from_bytes(data[14:22], "big")


def test_lost_carrier_reaches_program_and_clients(switch: Rig) -> None:
    client = switch.start()
    switch.client(subscribe=True)
    client.pktgen(0, port_down=True)
    before = time.time_ns()
    ip("link", "set", switch.host[2].interface, "down")
    status = eventually(lambda: switch.of_kind(PortStatus), "port status")[0]
    digest = eventually(lambda: switch.of_kind(Digest), "PORT_DOWN")[0]
    assert (status.port, status.up) == (2, False)
    assert (digest.digest, digest.values) == (PORT_DOWN, ((2).to_bytes(4, "big"),))
    assert before <= status.time_ns
    assert client.register_read(DOWN_REGISTER, 0, 4) == [0, 0, 1, 0]
    assert not {port.port: port.up for port in client.device_state().ports}[2]

    ip("link", "set", switch.host[2].interface, "up")
    eventually(lambda: any(event.up for event in switch.of_kind(PortStatus)), "port up")
    assert client.register_read(DOWN_REGISTER, 0, 4) == [0, 0, 0, 0]
    switch.host[1].send(numbered(1))
    assert [number_of(data) for data, _ in switch.host[2].receive()] == [1]


def test_our_own_end_taken_down(switch: Rig) -> None:
    client = switch.start()
    ip("link", "set", switch.port[1], "down")
    eventually(lambda: not hello_port(client, 1)["up"], "port down")
    ip("link", "set", switch.port[1], "up")
    eventually(lambda: hello_port(client, 1)["up"], "port up")
    switch.host[1].send(numbered(5))
    assert [number_of(data) for data, _ in switch.host[2].receive()] == [5]


def test_interface_disappears_and_comes_back(switch: Rig) -> None:
    client = switch.start()
    switch.unplug(2)
    eventually(lambda: not hello_port(client, 2)["up"], "port down")
    for number in range(40):
        switch.host[1].send(numbered(number))
    eventually(lambda: hello_port(client, 2)["tx_failed"] >= 40, "frames without a line")
    assert client.device_state().ports[1].tx_dropped == 0  # that is the queue's
    switch.plug(2)
    eventually(lambda: hello_port(client, 2)["up"], "port up")
    switch.host[1].send(numbered(99))
    assert [number_of(data) for data, _ in switch.host[2].receive()] == [99]


def test_all_interfaces_die_under_traffic(switch: Rig) -> None:
    client = switch.start(pktgen_interval_us=1000)
    for n in (1, 2, 3):
        for number in range(100):
            switch.host[n].send(numbered(number))
        switch.unplug(n)
    eventually(lambda: not any(port.up for port in client.device_state().ports), "all ports down")
    for n in (1, 2, 3):
        switch.plug(n)
    eventually(lambda: all(port.up for port in client.device_state().ports), "all ports up")


def test_port_waits_for_its_interface(switch: Rig) -> None:
    switch.unplug(3)
    client = switch.start()
    assert not hello_port(client, 3)["up"]
    switch.plug(3)
    eventually(lambda: hello_port(client, 3)["up"], "port up")


def test_ports_added_and_removed_at_run_time(switch: Rig) -> None:
    client = switch.start()
    client.remove_port(2)
    assert [port.port for port in client.device_state().ports] == [1, 3]
    client.add_port(2, switch.port[2])
    switch.host[1].send(numbered(4))
    assert [number_of(data) for data, _ in switch.host[2].receive()] == [4]


def test_heartbeats_keep_their_interval(switch: Rig) -> None:
    """Counted by the generator's own times, whatever the machine's load does to their delivery."""
    client = switch.start()
    client.pktgen(10_000)
    received = switch.host[1].receive(40, kind=HEARTBEAT)
    client.pktgen(0)
    times = [sent_at(data) for data, _ in received]
    assert len(times) == 40
    steps = [b - a for a, b in pairwise(times)]
    assert all(step > 0 and abs(step / 10_000 - round(step / 10_000)) < 0.001 for step in steps)  # never off the grid
    assert steps.count(10_000) + steps.count(10_001) + steps.count(9_999) >= 20
    switch.host[1].receive(100, kind=HEARTBEAT, seconds=0.2)
    assert not switch.host[1].receive(1, kind=HEARTBEAT, seconds=0.1)


def answer(number: int) -> bytes:
    """An answer to a heartbeat (version 1, operation 2), with a number behind it."""
    return frame(b"\x12" + number.to_bytes(4, "big"), kind=HEARTBEAT)


def received(client: Client, port: int) -> int:
    return next(state.rx_packets for state in client.device_state().ports if state.port == port)


def sleeps_of(pid: int) -> int:
    """How often a process has gone to sleep, by the kernel's count: asking the process would wake it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")))


def request(patience_us: int, number: int = 0) -> bytes:
    """A request (version 1, operation 1) whose answer may take so long; the number stands where answers have it."""
    return frame(b"\x11" + number.to_bytes(4, "big") + bytes(8) + patience_us.to_bytes(6, "big"), kind=HEARTBEAT)


def turns_and_ticks(switch: Rig, client: Client, data: bytes, *, waits: bool) -> tuple[int, int]:
    """(sleeps, ticks) of the switch while it gets 60 frames one by one; ``waits``: nobody wakes up for them."""
    assert switch.process is not None
    pid, before, frames = switch.process.pid, client.hello(), received(client, 3)
    for _ in range(60):
        slept = sleeps_of(pid)
        switch.host[3].send(data)
        if waits:
            time.sleep(0.002)  # apart, so that each would wake it on its own
        else:  # it wakes up and sleeps again, however long that takes here
            eventually(lambda slept=slept: sleeps_of(pid) > slept, "a turn")
    after = client.hello()
    eventually(lambda: received(client, 3) == frames + 60, "all frames")
    ticks = after["pktgen"]["ticks"] - before["pktgen"]["ticks"]
    return after["statistics"]["sleeps"] - before["statistics"]["sleeps"], ticks


@pytest.mark.parametrize("data", [answer(0), request(20_000)], ids=["answers", "patient requests"])
def test_heartbeats_that_may_wait_wake_nobody(switch: Rig, data: bytes) -> None:
    """They are seen with the next tick, of a program that wants it; for others they are frames like all."""
    client = switch.start()
    client.pktgen(20_000, defer=True)

    def waits() -> bool:
        sleeps, ticks = turns_and_ticks(switch, client, data, waits=True)
        return sleeps <= 2 * ticks + 4

    eventually(waits, "a while without interfaces of other tests that come or go, of which the kernel tells all")
    client.pktgen(20_000)
    sleeps, ticks = turns_and_ticks(switch, client, data, waits=False)
    assert sleeps >= ticks + 30


@pytest.mark.parametrize("patience_us", [0, 19_999, 1 << 47], ids=["none", "less than a tick", "absurd"])
def test_requests_in_a_hurry_wake_us_up(switch: Rig, patience_us: int) -> None:
    client = switch.start()
    client.pktgen(20_000, defer=True)
    sleeps, ticks = turns_and_ticks(switch, client, request(patience_us), waits=False)
    assert sleeps >= ticks + 30


def test_an_older_process_is_not_asked_to_defer(switch: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes over the data plane of the version before must not stumble over it."""
    client = switch.start()
    older = client.hello()
    del older["pktgen"]["defer"]
    with monkeypatch.context() as patch:
        patch.setattr(client, "hello", lambda: older)
        client.pktgen(10_000, defer=True)
    assert not client.hello()["pktgen"]["defer"]
    client.pktgen(10_000, defer=True)
    assert client.hello()["pktgen"]["defer"]


def test_a_new_server_that_asks_for_the_same_reopens_nothing(switch: Rig) -> None:
    """Closing a ring takes the kernel so long that neighbours would take the port for dead."""

    def sockets() -> set[str]:
        opened = [str(one.readlink()) for one in Path(f"/proc/{switch.process.pid}/fd").iterdir()]
        return {name for name in opened if name.startswith("socket:")}

    client = switch.start()
    client.pktgen(20_000, defer=True)
    before = sockets()
    client.pktgen(20_000, defer=True)
    assert sockets() == before
    client.pktgen(20_000)
    assert sockets() < before, "the rings of heartbeats are gone"


def test_what_waits_is_processed_before_heartbeats_end(switch: Rig) -> None:
    """A request that is thrown away would count as lost."""
    client = switch.start()
    client.pktgen(20_000, defer=True)
    for interval_us, defer in ((20_000, False), (20_000, True), (10_000, True), (0, False)):
        before = received(client, 3)
        for number in range(20):
            switch.host[3].send(request(20_000, number))
        client.pktgen(interval_us, defer=defer)
        eventually(lambda before=before: received(client, 3) >= before + 20, "all frames")


def test_answers_keep_their_place_among_other_frames(tmp_path: Path) -> None:
    """Two rings or one: the order is that of arrival, and nothing comes twice."""
    with rig(tmp_path) as switch:
        client = switch.start(pcap=tmp_path)
        for done, interval_us in enumerate((0, 20_000, 0), 1):
            client.pktgen(interval_us, defer=True)
            for number in range(0, 40, 2):
                switch.host[3].send(answer(number) if number % 4 else request(20_000, number))
                switch.host[3].send(frame(b"\0" + (number + 1).to_bytes(4, "big")))
            eventually(lambda done=done: received(client, 3) == 40 * done, "all frames")
        name = switch.port[3]
    frames = [data for data, _ in RawPcapReader(str(tmp_path / f"{name}_in.pcap"))]
    assert [int.from_bytes(data[15:19], "big") for data in frames] == [*range(40)] * 3


def test_ticks_missed_in_a_stall_are_not_made_up_for(switch: Rig) -> None:
    client = switch.start()
    assert switch.process is not None
    client.pktgen(10_000)
    received = switch.host[2].receive(5, kind=HEARTBEAT)
    switch.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    switch.process.send_signal(signal.SIGCONT)
    received += switch.host[2].receive(20, kind=HEARTBEAT)
    times = [sent_at(data) for data, _ in received]
    assert max(b - a for a, b in pairwise(times)) >= 200_000  # a gap, no bunch
    assert client.hello()["pktgen"]["skipped"] >= 20


def test_a_stall_does_not_make_arrivals_late(switch: Rig) -> None:
    """Frames that wait in the ring keep the time at which the kernel got them."""
    client = switch.start()
    assert switch.process is not None
    switch.process.send_signal(signal.SIGSTOP)
    switch.host[1].send(numbered(0).replace(b"\x88\x99", HEARTBEAT.to_bytes(2, "big"), 1))
    sent = time.time_ns()
    time.sleep(0.5)  # the stall: far longer than what is allowed below
    switch.process.send_signal(signal.SIGCONT)
    seen_us = eventually(lambda: client.register_read(1, 1, 1)[0], "the heartbeat")
    assert seen_us - sent // 1000 % (1 << 48) <= 200_000


def test_frames_before_the_loss_of_carrier_do_not_revive_the_port(switch: Rig) -> None:
    client = switch.start()
    switch.client(subscribe=True)
    client.pktgen(0, port_down=True)
    assert switch.process is not None
    switch.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        switch.host[2].send(numbered(number).replace(b"\x88\x99", HEARTBEAT.to_bytes(2, "big"), 1))
    ip("link", "set", switch.host[2].interface, "down")
    switch.process.send_signal(signal.SIGCONT)
    digest = eventually(lambda: switch.of_kind(Digest), "PORT_DOWN")[0]
    seen_us = client.register_read(1, 2, 1)[0]
    assert 0 < seen_us <= digest.time_ns // 1000 % (1 << 48)
