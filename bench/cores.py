"""What cores of their own for sending bring: streams through one switch on one thread, on three, and automatically.

The streams take different ports. Senders and receivers need cores too: on a machine without free ones, threads
only get into each other's way, which is why the automatic mode begins only where cores are free, and ends when the rate
has not risen. Modes take turns, so that a drift of the machine shows in all of them.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any

from bench._common import Result, write
from bench._program import Row, shared_object, updates
from bench._wire import HOST_MAC, SOURCE_MAC, Cables, _checksum, blast, cables, engine_switch, udp_frame, unusable
from engine.api import ProgramInfo, TableUpdate

MODES = (("one thread", ("--cores", "1")), ("three threads", ("--cores", "3")), ("automatic", ()))
STREAMS = ((1, 2, "10.0.2.1"), (3, 4, "10.0.3.1"))
RATE = 700_000
SECONDS = 1.5
TURNS = 4


def entries(program: ProgramInfo) -> list[TableUpdate]:
    """A route, a group and a next hop for each stream."""
    rows = []
    for group, (_, port, address) in enumerate(STREAMS, 1):
        number = group.to_bytes(2, "big")
        network = socket.inet_aton(address)[:3] + b"\0"
        rows.append(Row("route_ipv4", network, 24, "set_group", (number,)))
        hop = (port.to_bytes(2, "big"), SOURCE_MAC, HOST_MAC)
        rows.append(Row("primary_nexthop", number, None, "set_nexthop", hop))
    return updates(program, rows)


def frame(target: str) -> bytes:
    """64 bytes on the wire to ``target``."""
    data = bytearray(udp_frame(64))
    data[30:34] = socket.inet_aton(target)
    data[24:26] = b"\0\0"
    data[24:26] = _checksum(bytes(data[14:34])).to_bytes(2, "big")
    return bytes(data)


def delivered(made: Cables, streams: Sequence[tuple[int, int, str]]) -> float:
    """Packets/s that arrive, of all streams, when far too many are offered."""
    found: list[dict[str, Any]] = []

    def send(source: int, target: int, address: str) -> None:
        count = int(RATE * SECONDS)
        found.append(blast(made.host[source], [made.host[target]], RATE, count, frame(address)))

    threads = [threading.Thread(target=send, args=stream) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum((float(one["received"][0] / max(one["seconds"], SECONDS)) for one in found), 0.0)


def main() -> int:
    """Run and write the results."""
    if reason := unusable():
        print(f"cores: {reason}")
        return 1
    best: dict[tuple[str, int], float] = {}
    with cables((1, 2, 3, 4)) as made:
        for _ in range(TURNS):
            for mode, options in MODES:
                with engine_switch(made, shared_object(), "--ring-kib", "8192", *options, rows=entries):
                    for count in (1, 2):
                        rate = delivered(made, STREAMS[:count])
                        best[mode, count] = max(best.get((mode, count), 0), rate)
    notes = f"best of {TURNS}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    results = []
    for (mode, count), rate in best.items():
        alone = best["one thread", count]
        text = f"{rate / alone:.2f} times one thread; {notes}"
        results.append(Result(f"delivered, {count} stream(s), {mode}", "packets/s", rate, "", "", TURNS, text))
    write("cores", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
