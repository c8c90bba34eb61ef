"""Loss-free packet rate between two veths, the embedded switch against simple_switch_grpc.

Same programs (p4/build/shadowplane.json and programs/l3.json), same entries, same sender and receiver, same run. A rate
holds when one of three short streams loses nothing: on a shared machine a stream may meet a pause that is not the
switch's. "Delivered" is the highest rate at which packets arrived in any stream, whatever was lost.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench._bmv2 import available, bmv2_switch, version
from bench._common import Result, say, write
from bench._program import L3, STEERING, Subject, updates
from bench._wire import PRIMARY, SHADOW, Cables, blast, cables, engine_switch, udp_frame, unusable

SECONDS = 0.7
ATTEMPTS = 3
STEP = 1.06  # the search ends when the bounds are this near
SIZES = (64, 1400)
PORTS = (1, PRIMARY, SHADOW)
LIMIT = 2_000_000.0
OFFERED = (80_000.0, 1_000_000.0)  # for the delivered rate


@dataclass(slots=True)
class Stream:
    """Streams of frames of one size through one switch."""

    made: Cables
    size: int
    delivered: float = 0.0  # packets/s, the most so far

    def lossless(self, rate: float) -> tuple[bool, float]:
        """Whether some attempt at ``rate`` loses nothing, and the rate that the sender really reached."""
        sent = 0.0
        for _ in range(ATTEMPTS):
            receivers = [self.made.host[PRIMARY]]
            summary = blast(self.made.host[1], receivers, rate, int(rate * SECONDS), udp_frame(self.size))
            sent = summary["sent"] / summary["seconds"]
            self.delivered = max(self.delivered, summary["received"][0] / max(summary["seconds"], SECONDS))
            if summary["received"][0] == summary["sent"]:
                return True, sent
        return False, sent


def search(try_rate: Callable[[float], tuple[bool, float]], start: float) -> float:
    """Highest rate (packets/s, as sent) that loses nothing; the sender itself may be the limit."""
    low, high, best = 0.0, LIMIT, 0.0
    rate = start
    while high / max(low, 1) > STEP and rate > 500:
        holds, sent = try_rate(rate)
        say(f"{rate:,.0f} packets/s: {'nothing lost' if holds else 'losses'}")
        if holds:
            best = max(best, sent)
            low = rate
            if sent < 0.93 * rate:  # the sender cannot do more
                break
        else:
            high = rate
        rate = low * 2 if high == LIMIT else (low + high) / 2 if low else high / 2
    return best


def measure(made: Cables, start: float) -> dict[int, tuple[float, float]]:
    """(loss-free rate, delivered rate) by frame size."""
    rates = {}
    for size in SIZES:
        time.sleep(0.5)  # what the size before left in queues is gone
        stream = Stream(made, size)
        say(f"{size} bytes; first what is delivered when too much is offered")
        for rate in OFFERED:
            stream.lossless(rate)
        rates[size] = (search(stream.lossless, start), stream.delivered)
    return rates


def compare(
    what: str, size: int, ours: float, theirs: float | None, target: str, ratio: str, notes: str
) -> list[Result]:
    """The embedded switch's figure, BMv2's beside it, and their ratio."""
    unit = "packets/s"
    if theirs is None:
        return [Result(f"{what}, {size} B", unit, ours, target, "simple_switch_grpc about 80,000", ATTEMPTS, notes)]
    beside = f"simple_switch_grpc {theirs:,.0f} in this run"
    results = [
        Result(f"{what}, {size} B", unit, ours, target, beside, ATTEMPTS, notes),
        Result(f"{what}, {size} B, simple_switch_grpc", unit, theirs, "", version(), ATTEMPTS),
    ]
    if theirs >= 1:  # on a busy machine it may lose something at any rate
        results.append(
            Result(f"{what}, {size} B, ratio", "times", ours / theirs, ratio, "wanted 5 times, aim 10 times", 1, notes)
        )
    return results


def of_program(subject: Subject) -> list[Result]:
    """Both switches with one program, one after the other on the same cables."""
    results: list[Result] = []
    theirs: dict[int, tuple[float, float]] = {}
    with cables(PORTS) as made:
        rows = partial(updates, rows=subject.rows)
        say(f"{subject.name}, embedded switch")
        with engine_switch(made, subject.shared_object(), "--ring-kib", "8192", rows=rows):
            ours = measure(made, 200_000)
        if available():
            say(f"{subject.name}, simple_switch_grpc")
            with bmv2_switch(made, subject):
                theirs = measure(made, 10_000)
    notes = f"{subject.name}; 8 MiB rings, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    for size in SIZES:
        loss_free, delivered = theirs.get(size, (None, None))
        results += compare(f"{subject.name}, loss-free", size, ours[size][0], loss_free, ">= 300000", ">= 10", notes)
        results += compare(f"{subject.name}, delivered", size, ours[size][1], delivered, "", ">= 5", notes)
    return results


def main() -> int:
    if reason := unusable():
        print(f"live_throughput: {reason}")
        return 1
    results: list[Result] = []
    for subject in (STEERING, L3):
        results += of_program(subject)
    if not available():
        print("simple_switch_grpc is not on the PATH: no ratio")
    write("live_throughput", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
