"""Switchover inside the data plane: from a register's change to the first packet on the other path.

A steady stream crosses the embedded switch while the failover bit is flipped again and again. The reply to a register
write carries the data plane's clock at which it took effect; the receivers' kernel time stamps tell when the first
packet left on the new port, and whether any left on the old one after that. Same machine, same clock.

The question is about 100,000 packets/s. A real-time sender is stopped by the kernel for some 50 ms in every second,
so that others can run: flips in a pause of the sender longer than 1 ms (by its own time stamps) are counted, not
judged. The judged latency counts from the change or from the sending of the packet, whichever is later; the figure
from the change alone stands beside it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench._common import Result, quantile, write
from bench._program import shared_object
from bench._wire import GROUP, PRIMARY, SHADOW, blast_records, cables, engine_switch, udp_frame, unusable
from engine.dataplane import Client

RATE = 100_000
SECONDS = 10.0
FLIP_EVERY_S = 0.01
PAUSE_NS = 1_000_000
MARGIN_NS = 20_000_000  # flips so near to the stream's ends are not judged


def flip(client: Client, register: int, stop: threading.Event) -> list[tuple[int, int, float]]:
    """(bit, time of effect, duration of the command in us) of each write."""
    done = []
    bit = 0
    while not stop.is_set():
        bit ^= 1
        began = time.perf_counter()
        at = client.register_write(register, GROUP, bit)
        done.append((bit, at, (time.perf_counter() - began) * 1e6))
        time.sleep(FLIP_EVERY_S)  # enough packets on either path to see the change
    return done


@dataclass(slots=True)
class Verdict:
    latencies: list[float] = field(default_factory=list)  # us, from the later of change and sending
    raw: list[float] = field(default_factory=list)  # us, from the change
    strays: int = 0  # packets on the old port after a change
    paused: int = 0  # flips while the sender stood still


def judge(records: NDArray[Any], flips: list[tuple[int, int, float]]) -> Verdict:
    """Compare the flips with the packets."""
    ordered = np.sort(records, order="received")
    ports = [ordered[ordered["interface"] == index] for index in (0, 1)]
    times = [port["received"] for port in ports]
    first, last = int(ordered["received"][0]) + MARGIN_NS, int(ordered["received"][-1]) - MARGIN_NS
    sent = np.sort(records["sent"])
    verdict = Verdict()
    for position, (bit, at, _) in enumerate(flips[:-1]):
        until = flips[position + 1][1]
        if not first < at or not until < last:
            continue
        new, old = times[bit], times[1 - bit]
        arrived = int(np.searchsorted(new, at))
        came = int(new[arrived])
        verdict.strays += int(np.searchsorted(old, until) - np.searchsorted(old, at, side="right"))
        offered = int(np.searchsorted(sent, at))
        if int(sent[offered]) - int(sent[offered - 1]) > PAUSE_NS:
            verdict.paused += 1
            continue
        verdict.raw.append((came - at) / 1e3)
        verdict.latencies.append((came - max(at, int(ports[bit]["sent"][arrived]))) / 1e3)
    return verdict


def main() -> int:
    if reason := unusable():
        print(f"switchover: {reason}")
        return 1
    with cables((1, PRIMARY, SHADOW)) as made, engine_switch(made, shared_object(), "--ring-kib", "8192") as client:
        assert client.program is not None
        register = [item.name for item in client.program.registers].index("failover")
        stop = threading.Event()
        flips: list[tuple[int, int, float]] = []
        flipper = threading.Thread(target=lambda: flips.extend(flip(client, register, stop)))
        flipper.start()
        count = int(RATE * SECONDS)
        receivers = [made.host[PRIMARY], made.host[SHADOW]]
        summary, records = blast_records(made.host[1], receivers, RATE, count, udp_frame(64))
        stop.set()
        flipper.join()
    verdict = judge(records, flips)
    latencies, raw, strays = verdict.latencies, verdict.raw, verdict.strays
    commands = [duration for _, _, duration in flips]
    paused = f"{verdict.paused} flips in pauses of the sender not judged"
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    rate = f"{summary['sent'] / summary['seconds']:,.0f} packets/s, {load}"
    where = "register change to first packet on the other path"
    write(
        "switchover",
        [
            Result(f"{where}, p50", "us", quantile(latencies, 0.5), "", "next packet", len(latencies), rate),
            Result(f"{where}, p99", "us", quantile(latencies, 0.99), "<= 20", "next packet", len(latencies), rate),
            Result(f"{where}, maximum", "us", max(latencies), "", "", len(latencies), paused),
            Result("the same, from the change in any case, p50", "us", quantile(raw, 0.5), "", "", len(raw)),
            Result("the same, from the change in any case, p99", "us", quantile(raw, 0.99), "", "", len(raw)),
            Result("packets on the old path after the change", "packets", strays, "<= 0", "", len(flips)),
            Result("packets lost in the whole run", "packets", count - sum(summary["received"]), "<= 0", "", count),
            Result("register write command, p50", "us", quantile(commands, 0.5), "", "BMv2 table modify 710 us",
                   len(commands), "control socket, Python to Python, under this load"),
            Result("register write command, p99", "us", quantile(commands, 0.99), "<= 2000", "", len(commands)),
        ],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
