"""What is done to the live lab, and what has to hold: see ``live.py``. The network is healed after each case."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from control.scoreboard.service import ServiceError, ServiceProcess
from engine.p4rt.stubs import p4r
from tests.integration import packets
from tests.integration.live import Live, lossless, pause
from tests.integration.support import eventually
from tests.p4runtime.harness import RawClient
from topo.marks import start_time

ELEMENT = "s1-s2"  # has groups of two switches on it, and a way around
ALL = [
    "broken_packets",
    "random_packets",
    "a_controller_dies_and_returns",
    "a_link_dies_without_a_controller",
    "a_transit_switch_dies_and_returns",
    "an_edge_switch_dies_and_returns",
    "a_server_dies_and_returns",
    "telemetry_stops",
    "the_machine_stands_still",
    "a_second_controller_waits_and_takes_over",
]


def flip(live: Live, service: ServiceProcess | None = None) -> dict[str, set[int]]:
    """Move what leads into :data:`ELEMENT`; returns the bits by switch, as the data planes have them."""
    answer = (service or live.service).post("/flip", {"element": ELEMENT})
    bits = live.all_bits()
    assert answer["moved"] == sum(map(len, bits.values())) > 0, (answer, bits)
    assert bits["s1"] and bits["s2"]
    return bits


# --- packets ---


def broken_packets(live: Live) -> None:
    """Every kind of broken packet from a host: each is dropped under its own reason, and nobody else suffers."""
    with live.traffic() as sending, packets.Injector(live, "h1") as injector:
        before, pids = live.drops("s1"), data_planes(live)
        expected = injector.send_broken()

        def counted() -> bool:
            return sum(live.drops("s1")) - sum(before) >= sum(expected.values())

        eventually(counted, "all broken packets counted")
        pause(0.2)
        found = {reason: now - was for reason, (was, now) in enumerate(zip(before, live.drops("s1"), strict=True))}
    found = {reason: count for reason, count in found.items() if count}
    assert found == expected, (found, expected)
    assert data_planes(live) == pids and not any(live.all_bits().values())
    lossless(sending.reports)


def random_packets(live: Live) -> None:
    """Noise behind every EtherType that the parser knows."""
    with live.traffic() as sending, packets.Injector(live, "h1") as injector:
        before, pids = sum(live.drops("s1")), data_planes(live)
        count = injector.send_random(2000, seed=7)
        eventually(lambda: sum(live.drops("s1")) - before >= count, "all random packets counted")
        pause(0.1)
        assert sum(live.drops("s1")) - before == count
    assert data_planes(live) == pids and not any(live.all_bits().values())
    lossless(sending.reports)


def data_planes(live: Live) -> list[tuple[int, int | None]]:
    """Process ids of all data planes with their start times."""
    pids = [live.lab.node(item.name).dataplane_pid() for item in live.lab.topology.switches]
    return [(pid, start_time(pid)) for pid in pids]


# --- the controller ---


def a_controller_dies_and_returns(live: Live) -> None:
    """SIGKILL with groups on their shadow: traffic goes on, and the next one carries on from where it was."""
    held = flip(live)
    flipped, entries = live.status()["flipped"], {name: live.entries(name) for name in held}
    lines = live.service.get("/ledger", limit=1000)
    with live.traffic() as sending:
        pause(0.2)
        live.kill_controller()
        pause(0.5)
        assert live.all_bits() == held
        live.start_controller()
        assert live.all_bits() == held
        assert live.status()["flipped"] == flipped
        assert {name: live.entries(name) for name in held} == entries
        pause(0.2)
    lossless(sending.reports)
    known = {line["id"] for line in live.service.get("/ledger", limit=1000)}
    assert {line["id"] for line in lines} <= known, "the ledger survived"
    assert live.service.post("/revert", {"element": ELEMENT})["moved"] == sum(map(len, held.values()))
    assert not any(live.all_bits().values())


def a_link_dies_without_a_controller(live: Live) -> None:
    """Nobody is there: heartbeats alone divert the traffic; the controller that comes later knows of the dead link."""
    link = live.lab.topology.link(ELEMENT)
    live.kill_controller()
    with live.traffic() as sending:
        pause(0.2)
        live.lab.cut(link)
        cut = pause(0.5)
        pause(0.5)
        live.start_controller()
        ends = sorted(map(str, (link.a, link.b)))
        eventually(lambda: live.status()["dead_ports"] == ends, "both ends are known to be dead")
        live.lab.cut(link, restore=True)
        eventually(lambda: not live.status()["dead_ports"], "alive again")
        healed = pause(0.3)
        pause(0.3)
    assert sum(report.lost for report in sending.reports.values()) > 0, "the cut did not hurt: nothing was tested"
    lossless(sending.since(cut, healed))
    lossless(sending.since(healed))


@contextmanager
def second_controller(live: Live) -> Iterator[ServiceProcess]:
    service = ServiceProcess(
        "diamond", live.directory / "second", api="127.0.0.1:8081", extra=("--strategy", "predictive")
    )
    service.start()
    try:
        eventually(lambda: role(live, service) is not None, "the second controller answers")
        yield service
    finally:
        service.stop()


def role(live: Live, service: ServiceProcess) -> str | None:
    """What a controller says that it is; None while it does not answer."""
    try:
        return str(live.status(service)["role"])
    except ServiceError:
        return None


def refused(request: Callable[[], object]) -> None:
    try:
        answer = request()
    except ServiceError as error:
        assert "backup" in str(error), error
    else:
        raise AssertionError(f"a backup pretended to do it: {answer}")


def write_from_outside(live: Live) -> None:
    """A client that was never made primary may not write."""
    client = RawClient(live.lab.grpc_address("s1"))  # device id 1
    try:
        client.write((p4r.Update.MODIFY, {"register_entry": p4r.RegisterEntry()}))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED, error
    else:
        raise AssertionError("a stranger may write")
    finally:
        client.close()


def a_second_controller_waits_and_takes_over(live: Live) -> None:
    """It writes nothing while the first one lives, and finds everything when that one is gone."""
    with live.traffic() as sending:
        held = flip(live)
        with second_controller(live) as second:
            states = lambda: {item["state"] for item in live.status(second)["switches"]}  # noqa: E731
            eventually(lambda: states() == {"backup"}, "the second one is a backup everywhere")
            assert live.status()["role"] == "primary" and live.status()["ready"]
            refused(lambda: second.post("/revert", {"element": ELEMENT}))
            assert live.all_bits() == held
            live.kill_controller()
            second.wait_ready()
            assert live.status(second)["role"] == "primary"
            assert live.all_bits() == held, "it took the bits over as they were"
            write_from_outside(live)
            live.service.start()
            live.without_controller = False
            eventually(lambda: role(live, live.service) == "backup", "the first one is the backup now")
            pause(0.2)
        live.service.wait_ready()
        assert live.status()["role"] == "primary"
        pause(0.2)
    lossless(sending.reports)


# --- switches ---


def _switch_dies(live: Live, name: str) -> None:
    held, entries = flip(live), live.entries(name)
    restores, pid = live.switch_status(name)["restores"], live.lab.node(name).dataplane_pid()
    with live.traffic() as sending:
        pause(0.2)
        live.lab.kill_switch(name)
        eventually(lambda: live.switch_status(name)["state"] != "ready", "the controller noticed")
        live.lab.restart_switch(name)
        live.restored(name, restores)
        eventually(lambda: not live.status()["dead_ports"], "neighbours hear it again")
        back = pause(0.3)
        pause(0.5)
    assert live.lab.node(name).dataplane_pid() != pid
    assert live.bits(name) == held[name], "the bits that were set came back"
    eventually(lambda: live.entries(name) == entries, "shadows through the switch planned again")
    lossless(sending.since(back))


def a_transit_switch_dies_and_returns(live: Live) -> None:
    """SIGKILL of s2 in mid-run; it carries flipped groups of its own."""
    _switch_dies(live, "s2")


def an_edge_switch_dies_and_returns(live: Live) -> None:
    """SIGKILL of s1, which half of the traffic cannot avoid."""
    _switch_dies(live, "s1")


def a_server_dies_and_returns(live: Live) -> None:
    """SIGKILL of the P4Runtime server alone: not a packet is lost, and a new server finds everything."""
    held, entries = flip(live), live.entries("s1")
    restores, pid = live.switch_status("s1")["restores"], live.lab.node("s1").dataplane_pid()
    with live.traffic() as sending:
        pause(0.2)
        live.lab.kill_server("s1")
        eventually(lambda: live.switch_status("s1")["state"] != "ready", "the controller noticed")
        answer = live.service.post("/flip", {"switch": "s1", "destination": "h6"})
        assert answer["moved"] == 0 and {item["outcome"] for item in answer["decisions"]} <= {"failed", "refused"}
        assert live.all_bits() == held
        live.lab.restart_switch("s1")
        live.restored("s1", restores)
        assert live.lab.node("s1").dataplane_pid() == pid
        assert live.entries("s1") == entries and live.all_bits() == held
        live.service.post("/revert", {"element": ELEMENT})
        assert not any(live.all_bits().values()), "the new server writes for the controller"
        pause(0.2)
    lossless(sending.reports)


def telemetry_stops(live: Live) -> None:
    """A P4Runtime server that hangs sends neither samples nor digests: silence is told, and moves no traffic."""
    node = live.lab.node("s2")
    eventually(lambda: not live.status()["unjudged"], "everything is judged")
    with live.traffic() as sending:
        os.kill(node.process.pid, signal.SIGSTOP)
        try:
            silent = eventually(lambda: live.status()["unjudged"], "the silence is noticed")
            assert "s2" in silent and all(name.partition(":")[0] == "s2" for name in silent), silent
            assert all("silent for" in text for text in silent.values())
            pause(0.5)
            assert not any(live.all_bits().values()) and not live.status()["threats"]
        finally:
            os.kill(node.process.pid, signal.SIGCONT)
        eventually(lambda: not live.status()["unjudged"], "samples come again")
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:  # what was held up arrives late and must not look like a failure
            assert not live.status()["threats"]
    lossless(sending.reports)


def the_machine_stands_still(live: Live) -> None:
    """All data planes stop together for longer than the dead interval, while a link is dead: nobody blames the rest."""
    link = live.lab.topology.link(ELEMENT)
    pids = [pid for pid, _ in data_planes(live)]
    live.lab.carrier(link, up=False)
    ends = sorted([str(link.a), str(link.b)])
    eventually(lambda: live.status()["dead_ports"] == ends, "both ends are known to be dead")
    with live.traffic() as sending:
        began = pause(0.2)
        for _ in range(4):
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                pause(0.045)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            pause(0.25)
        ended = pause(0.1)
    lossless(sending.since(began, ended))
    assert live.status()["dead_ports"] == ends
