"""Packets through the real switch in a network namespace: they flow on when the P4Runtime server is killed."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.dataplane import Client
from engine.p4rt.stubs import p4r
from tests.p4runtime.harness import INSERT, MODIFY, RawClient
from tests.p4runtime.test_process import ROOT, START_S, Switch, config, failover, ids

ETH_P_ALL = 0x0003
PORTS = 3


def _namespaces() -> str:
    """Why there can be none; empty if there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    name = f"pr-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return ""


REASON = _namespaces()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "-")


class Namespace:
    """A namespace with one veth pair per port: ``s<n>`` for the switch, ``h<n>`` for the test."""

    def __init__(self) -> None:
        self.name = f"pr-fwd-{os.getpid()}"

    def ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True)

    def __enter__(self) -> Namespace:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link", "set", "lo", "up")
        for port in range(1, PORTS + 1):
            self.ip("link", "add", f"s{port}", "type", "veth", "peer", "name", f"h{port}")
            for end in ("s", "h"):
                self.ip("link", "set", f"{end}{port}", "addrgenmode", "none")
                self.ip("link", "set", f"{end}{port}", "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False)

    def sockets(self) -> dict[int, socket.socket]:
        """Raw sockets on the test's ends."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        there = os.open(f"/var/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            made = {}
            for port in range(1, PORTS + 1):
                made[port] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                made[port].bind((f"h{port}", ETH_P_ALL))  # nothing of other interfaces before
            return made
        finally:
            _setns(home)
            os.close(home)
            os.close(there)


def _setns(descriptor: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")


class NamespacedSwitch(Switch):
    """The switch inside the namespace, its gRPC server on a Unix socket (namespaces do not hide those)."""

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        super().__init__(folder)
        self._namespace = namespace

    @property
    def address(self) -> str:
        return f"unix:{self.folder}/grpc"

    def start(self, *flags: str) -> None:
        (self.folder / "grpc").unlink(missing_ok=True)
        ports = [word for port in range(1, PORTS + 1) for word in ("-i", f"{port}@s{port}")]
        command = ["ip", "netns", "exec", self._namespace.name, *self.command(*flags, *ports)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=(self.folder / "err").open("ab"))
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.folder / "grpc"))
                return
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "err").read_text()
            time.sleep(0.02)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[NamespacedSwitch, dict[int, socket.socket]]]:
    with Namespace() as namespace:
        switch = NamespacedSwitch(tmp_path, namespace)
        sockets = namespace.sockets()
        yield switch, sockets
        switch.clean()
        for item in sockets.values():
            item.close()


def frame(number: int) -> bytes:
    """UDP to 10.0.0.9, numbered."""
    payload = struct.pack("!HHHH", 1000, 2000, 12, 0) + struct.pack("!I", number)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, 17, 0, b"\x0a\1\0\1", b"\x0a\0\0\x09")
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return b"\2\0\0\0\0\1" + b"\2\0\0\0\0\2" + b"\x08\0" + head + payload


def arrives(sockets: dict[int, socket.socket], number: int, seconds: float = 5.0) -> int | None:
    """The port on which frame ``number``, sent into port 1, comes out."""
    sockets[1].send(frame(number))
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for ready in select.select([sockets[port] for port in (2, 3)], [], [], left)[0]:
            data, address = ready.recvfrom(2048)
            outgoing = address[2] == socket.PACKET_OUTGOING
            if not outgoing and data[12:14] == b"\x08\0" and data[-4:] == struct.pack("!I", number):
                return next(port for port, item in sockets.items() if item is ready)
    return None


def program(raw: RawClient) -> None:
    """10.0.0.0/8 to group 1: primary port 2, shadow port 3."""
    known = ids()
    entries = []
    for name, port in (("primary_nexthop", 2), ("shadow_nexthop", 3)):
        entry = p4r.TableEntry(table_id=known[name])
        entry.match.add(field_id=1).exact.value = b"\1"
        entry.action.action.action_id = known["set_nexthop"]
        for number, value in enumerate((bytes([port]), b"\2\0\0\0\0\3", b"\2\0\0\0\0\4"), 1):
            entry.action.action.params.add(param_id=number, value=value)
        entries.append(entry)
    entry = p4r.TableEntry(table_id=known["route_ipv4"])
    entry.match.add(field_id=1).lpm.CopyFrom(p4r.FieldMatch.LPM(value=b"\x0a\0\0\0", prefix_len=8))
    entry.action.action.action_id = known["set_group"]
    entry.action.action.params.add(param_id=1, value=b"\1")
    raw.write(*((INSERT, {"table_entry": item}) for item in [*entries, entry]))


def test_a_flip_moves_packets_and_the_servers_death_does_not(
    world: tuple[NamespacedSwitch, dict[int, socket.socket]],
) -> None:
    switch, sockets = world
    switch.start("--no-p4")
    raw = RawClient(switch.address)
    raw.become_primary()
    raw.set_config(config())
    program(raw)
    assert arrives(sockets, 1) == 2
    raw.write((MODIFY, {"register_entry": failover(1, b"\1")}))
    assert arrives(sockets, 2) == 3
    raw.close()
    _kill_server(switch)
    assert arrives(sockets, 3) == 3
    switch.start("--no-p4")
    again = RawClient(switch.address)
    again.become_primary(5)
    assert arrives(sockets, 4) == 3
    again.write((MODIFY, {"register_entry": failover(1, b"\0")}))
    assert arrives(sockets, 5) == 2
    assert len(again.read(table_entry=p4r.TableEntry())) == 3
    again.close()


def _kill_server(switch: NamespacedSwitch) -> None:
    """``ip netns exec`` becomes the server itself, so its process is ours to kill; the data plane must live."""
    with Client(switch.socket) as plane:
        pid = plane.hello()["pid"]
    switch.kill()
    os.kill(pid, 0)
