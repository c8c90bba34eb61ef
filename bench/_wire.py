"""What the benchmarks of the live switch share: cables, the sender and receiver, the steering program's entries."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench._common import ROOT
from engine.api import ActionCall, Match, Op, ProgramInfo, TableUpdate
from engine.build import build_executable
from engine.dataplane import Client
from engine.process import spawn

PROGRAM = ROOT / "p4" / "build" / "shadowplane.json"
P4INFO = ROOT / "p4" / "build" / "shadowplane.p4info.txtpb"
GROUP = 1
PRIMARY, SHADOW = 2, 3
SOURCE_MAC, HOST_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
DESTINATION = "10.0.2.0"

RECORD = np.dtype([("sequence", "u4"), ("interface", "u4"), ("sent", "u8"), ("received", "u8")])


def unusable() -> str:
    """Why nothing can be measured here; empty when it can."""
    if os.geteuid() != 0:
        return "needs root for interfaces and packet sockets"
    return "" if shutil.which("ip") else "needs iproute2"


@dataclass(frozen=True, slots=True)
class Cables:
    """Port n of the switch is ``switch[n]``; ``host[n]`` is the other end."""

    switch: dict[int, str]
    host: dict[int, str]


@contextmanager
def cables(ports: Sequence[int]) -> Iterator[Cables]:
    """veth pairs without IPv6's own packets, gone at the end."""
    tag = f"sw{os.getpid() % 1000000}"
    made = Cables({n: f"{tag}p{n}" for n in ports}, {n: f"{tag}h{n}" for n in ports})
    try:
        for n in ports:
            subprocess.run(
                ["ip", "link", "add", made.switch[n], "type", "veth", "peer", "name", made.host[n]], check=True
            )
            for name in (made.switch[n], made.host[n]):
                quiet = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                if quiet.exists():
                    quiet.write_text("1")
                subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield made
    finally:
        for n in ports:
            subprocess.run(["ip", "link", "del", made.switch[n]], check=False, capture_output=True)


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(size: int) -> bytes:
    """Ethernet, IPv4, UDP without checksum; ``size`` is the frame's length on the wire, 4 bytes of FCS included."""
    length = size - 4
    addresses = socket.inet_aton("10.0.1.1") + socket.inet_aton("10.0.2.1")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, length - 14, 0, 0, 64, 17, 0) + addresses
    ip = ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]
    udp = struct.pack(">HHHH", 40000, 40001, length - 34, 0)
    return (HOST_MAC + SOURCE_MAC + b"\x08\x00" + ip + udp).ljust(length, b"\0")


def blast(sender: str, receivers: Sequence[str], rate: float, count: int, frame: bytes) -> dict[str, Any]:
    """Send ``count`` frames at ``rate`` (packets/s); what ``blast.c`` prints."""
    return _blast(sender, receivers, rate, count, frame)


def blast_records(
    sender: str, receivers: Sequence[str], rate: float, count: int, frame: bytes
) -> tuple[dict[str, Any], NDArray[Any]]:
    """As :func:`blast`, with one RECORD per received frame."""
    with tempfile.NamedTemporaryFile(prefix="sw-records-") as file:
        summary = _blast(sender, receivers, rate, count, frame, file.name)
        return summary, np.fromfile(file.name, dtype=RECORD)


def _blast(sender: str, receivers: Sequence[str], rate: float, count: int, frame: bytes, *more: str) -> dict[str, Any]:
    tool = build_executable(
        [ROOT / "bench" / "native" / "blast.c"], name="blast", flags=("-D_GNU_SOURCE",), libraries=("-lpthread",)
    )
    done = subprocess.run(
        [str(tool), sender, ",".join(receivers), str(rate), str(count), frame.hex(), *more],
        capture_output=True,
        text=True,
        check=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _insert(program: ProgramInfo, table: str, key: Match, action: str, *params: bytes) -> TableUpdate:
    number = [item.name for item in program.tables].index(table)
    # The compiler may repeat an action for each table: take the table's own.
    index = next(i for i in program.tables[number].actions if program.actions[i].name == action)
    return TableUpdate(Op.INSERT, number, (key,), ActionCall(index, params))


def entries(program: ProgramInfo) -> list[TableUpdate]:
    """One route, one group with a primary and a shadow next hop."""
    group = GROUP.to_bytes(2, "big")
    return [
        _insert(program, "route_ipv4", Match(socket.inet_aton(DESTINATION), prefix_len=24), "set_group", group),
        *(
            _insert(program, table, Match(group), "set_nexthop", port.to_bytes(2, "big"), SOURCE_MAC, HOST_MAC)
            for table, port in (("primary_nexthop", PRIMARY), ("shadow_nexthop", SHADOW))
        ),
    ]


def liveness_entries(program: ProgramInfo, ports: Iterable[int], heartbeat_us: int) -> list[TableUpdate]:
    """Monitor ``ports``: dead after three heartbeats, reported every 100 ms."""
    times = ((3 * heartbeat_us).to_bytes(6, "big"), (100_000).to_bytes(6, "big"), (1000).to_bytes(4, "big"))
    return [_insert(program, "liveness_config", Match(port.to_bytes(2, "big")), "monitor", *times) for port in ports]


@contextmanager
def engine_switch(
    made: Cables, shared_object: Path, *options: str, rows: Callable[[ProgramInfo], list[TableUpdate]] | None = None
) -> Iterator[Client]:
    """The embedded switch with a program and the entries that ``rows`` makes for it (default: :func:`entries`)."""
    with tempfile.TemporaryDirectory(prefix="sw-bench-") as folder:
        path = Path(folder) / "control.sock"
        process = spawn(made.switch, path, load=shared_object, log_file=Path(folder) / "log", extra=options)
        try:
            with Client(path) as client:
                if client.program is not None and client.program.tables:
                    codes = client.table_write((rows or entries)(client.program))
                    if any(codes):
                        raise RuntimeError(f"entries refused: {codes}")
                yield client
        finally:
            process.terminate()
            process.wait(10)
