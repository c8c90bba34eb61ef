"""A switch process between veth pairs, for the tests of the switch process."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine.api import CompilerMissing, Event, PortState
from engine.build import build_shared, compiler
from engine.dataplane import Client
from engine.process import FLAGS, SOURCES, spawn

HERE = Path(__file__).resolve().parent
SO_TIMESTAMPNS = 35
PACKET_OUTGOING = 4
ETH_P_ALL = 3
DATA = 0x8899  # ether type of our frames
_names = itertools.count()


@cache
def missing() -> str:
    """Why no switch process can be tested here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root for interfaces and packet sockets"
    if shutil.which("ip") is None:
        return "needs iproute2"
    try:
        compiler()
    except CompilerMissing as error:
        return str(error)
    near, far = (f"swp{os.getpid()}{end}" for end in "ab")  # not the name that another test process probes with
    done = subprocess.run(["ip", "link", "add", near, "type", "veth", "peer", "name", far], check=False)
    if done.returncode:
        return "no veth interfaces can be made here"
    subprocess.run(["ip", "link", "del", near], check=True)
    return ""


def needs_interfaces() -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(missing()), reason=missing())


def functions_of(source: str) -> ctypes.CDLL:
    """The functions of one of the switch process's C files, to be called from here."""
    flags = (*FLAGS, "-fvisibility=default")
    name = f"switchd-{source}"
    path = build_shared([SOURCES / f"{source}.c"], name=name, flags=flags, include=(SOURCES,), libraries=("-lm",))
    return ctypes.CDLL(str(path))


@cache
def pipeline() -> Path:
    """The hand-written pipeline of ``switchd_pipeline.c``."""
    return build_shared([HERE / "switchd_pipeline.c"], name="switchd-test-pipeline")


def frame(payload: bytes = b"", *, kind: int = DATA, size: int = 60) -> bytes:
    head = b"\x02\x00\x00\x00\x00\x02" + b"\x02\x00\x00\x00\x00\x01" + kind.to_bytes(2, "big") + payload
    return head.ljust(size, b"\0")


def numbered(number: int, size: int = 60) -> bytes:
    return frame(number.to_bytes(4, "big"), size=size)


def number_of(data: bytes) -> int:
    return int.from_bytes(data[14:18], "big")


def eventually(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true value of ``condition()``; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.005)
    return value


class Host:
    """The far end of a port's cable."""

    def __init__(self, interface: str) -> None:
        self.interface = interface
        # No protocol yet: with one it would hear every interface, other tests' too, until it is bound.
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):  # root of a user namespace only
            self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.socket.bind((interface, ETH_P_ALL))

    def send(self, data: bytes) -> int:
        """Send and return the time (ns) just before."""
        now = time.time_ns()
        self.socket.send(data)
        return now

    def receive(
        self, count: int = 1, *, kind: int | None = DATA, seconds: float = 10.0, quiet: float = 3.0
    ) -> list[tuple[bytes, int]]:
        """Up to ``count`` frames of type ``kind`` with their kernel receive times (ns).

        Gives up ``seconds`` after the start, or ``quiet`` after the last frame. A pause is no end on a busy machine:
        ask for as many as there are (:func:`sent_out` tells), then :meth:`silent` whether there are no more.
        """
        out: list[tuple[bytes, int]] = []
        deadline = time.monotonic() + seconds
        while len(out) < count and (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(min(left, quiet) if out else left)
            try:
                data, controls, _flags, address = self.socket.recvmsg(65536, 64)
            except TimeoutError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once, after the interface was down
                    raise
                continue
            if address[2] == PACKET_OUTGOING or (kind is not None and data[12:14] != kind.to_bytes(2, "big")):
                continue
            seconds_, nanoseconds = next(
                struct.unpack("qq", value) for level, option, value in controls if option == SO_TIMESTAMPNS
            )
            out.append((data, seconds_ * 10**9 + nanoseconds))
        return out

    def silent(self, seconds: float = 0.2) -> bool:
        return not self.receive(seconds=seconds)


class Rig:
    """One switch process with its ports; ``host[n]`` is what hangs on port n."""

    def __init__(self, directory: Path, ports: Sequence[int]) -> None:
        tag = f"sw{os.getpid() % 100000}x{next(_names)}"
        self.directory = directory
        self.socket_path = directory / "control.sock"
        self.log = directory / "switchd.log"
        self.port = {n: f"{tag}p{n}" for n in ports}
        self.host: dict[int, Host] = {}
        self.events: list[Event] = []
        for n in ports:
            self.plug(n)
        self.process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def plug(self, n: int) -> None:
        """Make the veth pair of a port."""
        near, far = self.port[n], self.port[n] + "h"
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        for name in (near, far):
            quiet = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
            if quiet.exists():
                quiet.write_text("1")
            ip("link", "set", name, "up")
        self.host[n] = Host(far)

    def unplug(self, n: int) -> None:
        ip("link", "del", self.port[n])
        self.host.pop(n).socket.close()

    def start(self, **options: Any) -> Client:
        options = {"load": pipeline(), "log_file": self.log, "log_level": "debug", **options}
        self.process = spawn(self.port, self.socket_path, **options)
        return self.client()

    def client(self, *, subscribe: bool = False) -> Client:
        client = Client(self.socket_path)
        self._clients.append(client)
        if subscribe:
            client.subscribe(self.events.append)
        return client

    def of_kind(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGCONT)
                self.process.terminate()
                assert self.process.wait(60) == 0, self.log.read_text()
        finally:
            if self.process is not None and self.process.poll() is None:
                self.process.kill()
            for n, host in self.host.items():
                host.socket.close()
                ip("link", "del", self.port[n], check=False)


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@contextmanager
def rig(directory: Path, ports: Sequence[int] = (1, 2, 3)) -> Iterator[Rig]:
    built = Rig(directory, ports)
    try:
        yield built
    finally:
        built.stop()


def burst(host: Host, count: int, size: int = 60, first: int = 0) -> dict[int, int]:
    """Send numbered frames; number -> time of sending."""
    return {number: host.send(numbered(number, size)) for number in range(first, first + count)}


def sent_out(client: Client, *, of: int, port: int = 2) -> int:
    """How many of ``of`` frames a port has sent, once it has sent or dropped all of them."""

    def state() -> PortState:
        return next(one for one in client.device_state(keep_maxima=True).ports if one.port == port)

    eventually(lambda: state().tx_packets + state().tx_dropped >= of, "all frames sent or dropped")
    return state().tx_packets


def hello_port(client: Client, port: int) -> Mapping[str, Any]:
    return next(entry for entry in client.hello()["ports"] if entry["port"] == port)
