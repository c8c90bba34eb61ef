"""The flip over P4Runtime: from the start of the write to the first packet on the shadow, and how its time grows.

The embedded switch runs as users run it, with its server and its data plane as processes. A stream crosses it
while ``RegisterEntry`` writes, prepared beforehand and sent as the controller does (:mod:`control.shortway`), move its
group to and fro. Then the group's prefixes grow to 100,000 and shrink again, so that a drift of the machine shows on
both sides.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from bench._common import Result, quantile, write
from bench._short import Short
from bench._wire import (
    GROUP,
    HOST_MAC,
    P4INFO,
    PRIMARY,
    SHADOW,
    SOURCE_MAC,
    Cables,
    blast_records,
    cables,
    udp_frame,
    unusable,
)
from bench.p4runtime import BATCH, Requests, Target, _free_port
from engine.dataplane import Client
from engine.p4rt.stubs import p4i, p4r

RATE = 20_000
FLIPS = 500
FLIP_EVERY_S = 0.02
PREFIXES = 100_000
MARGIN_NS = 20_000_000
ROUTED = bytes([10, 0, 2, 0])  # what the stream is sent to


def entry(requests: Requests, request: p4r.WriteRequest, table: str, action: str, *params: bytes) -> None:
    """Add one exact-match entry for the group."""
    item = request.updates.add(type="INSERT").entity.table_entry
    item.table_id = requests.ids[table]
    match = item.match.add(field_id=1)
    match.exact.value = bytes([GROUP])
    item.action.action.action_id = requests.ids[action]
    for number, value in enumerate(params, 1):
        item.action.action.params.add(param_id=number, value=value)


def setup(requests: Requests) -> p4r.WriteRequest:
    """The stream's route, and the group's primary and shadow."""
    request = p4r.WriteRequest(device_id=1)
    request.election_id.low = 1
    item = request.updates.add(type="INSERT").entity.table_entry
    item.table_id = requests.ids["route_ipv4"]
    match = item.match.add(field_id=1)
    match.lpm.value, match.lpm.prefix_len = ROUTED, 24
    item.action.action.action_id = requests.ids["set_group"]
    item.action.action.params.add(param_id=1, value=bytes([GROUP]))
    for table, port in (("primary_nexthop", PRIMARY), ("shadow_nexthop", SHADOW)):
        entry(requests, request, table, "set_nexthop", bytes([port]), SOURCE_MAC.lstrip(b"\0"), HOST_MAC.lstrip(b"\0"))
    return request


def prefixes(requests: Requests, first: int, kind: str) -> p4r.WriteRequest:
    """A batch of further prefixes of the group, none of them the stream's."""
    request = p4r.WriteRequest(device_id=1)
    request.election_id.low = 1
    for number in range(first, first + BATCH):
        item = request.updates.add(type=kind).entity.table_entry
        item.table_id = requests.ids["route_ipv4"]
        match = item.match.add(field_id=1)
        match.lpm.value, match.lpm.prefix_len = ((11 << 24) + (number << 4)).to_bytes(4, "big"), 28
        if kind == "INSERT":
            item.action.action.action_id = requests.ids["set_group"]
            item.action.action.params.add(param_id=1, value=bytes([GROUP]))
    return request


def flip(requests: Requests, bit: int) -> p4r.WriteRequest:
    """The write that sets the group's bit."""
    request = p4r.WriteRequest(device_id=1)
    request.election_id.low = 1
    item = request.updates.add(type="MODIFY").entity.register_entry
    item.register_id, item.index.index, item.data.bitstring = requests.ids["failover"], GROUP, bytes([bit])
    return request


def judge(records: NDArray[Any], flips: list[tuple[int, int]]) -> list[float]:
    """Milliseconds from the start of each write to the first packet on the port that it chose."""
    ordered = np.sort(records, order="received")
    times = [ordered[ordered["interface"] == index]["received"] for index in (0, 1)]
    first, last = int(ordered["received"][0]) + MARGIN_NS, int(ordered["received"][-1]) - MARGIN_NS
    found = []
    for bit, began in flips:
        if first < began < last - MARGIN_NS:
            found.append((int(times[bit][np.searchsorted(times[bit], began)]) - began) / 1e6)
    return found


def live(short: Short, requests: Requests, made: Cables) -> list[float]:
    """Flip under traffic; milliseconds to the first packet on the other path."""
    outcome: list[NDArray[Any]] = []
    count = int(RATE * (FLIPS * FLIP_EVERY_S + 0.5))
    receivers = [made.host[PRIMARY], made.host[SHADOW]]

    def send() -> None:
        outcome.append(blast_records(made.host[1], receivers, RATE, count, udp_frame(128))[1])

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.3)  # until packets flow
    both = [flip(requests, bit).SerializeToString() for bit in (0, 1)]
    flips = []
    for number in range(FLIPS):
        bit = 1 - number % 2
        flips.append((bit, time.time_ns()))
        short.write(both[bit])
        time.sleep(FLIP_EVERY_S)  # enough packets on either path to see the change
    sender.join()
    return judge(outcome[0], flips)


def figures(target: Target, short: Short, requests: Requests, made: Cables) -> list[Result]:
    """All figures of this benchmark."""
    both = [flip(requests, 0), flip(requests, 1)]

    def timed() -> float:
        return statistics.median(target.timed(lambda number: both[number % 2]))

    target.write(setup(requests))
    latencies = live(short, requests, made)
    before = timed()
    for first in range(0, PREFIXES, BATCH):
        target.write(prefixes(requests, first, "INSERT"))
    many = timed()
    loaded = live(short, requests, made)
    for first in range(0, PREFIXES, BATCH):
        target.write(prefixes(requests, first, "DELETE"))
    after = timed()
    where = "register write to effect (start of the write to the first packet on the shadow)"
    anchor = "BMv2: UNIMPLEMENTED (table modify 0.71 ms p50, 1.8 ms p99)"
    return [
        Result(f"{where}, p50", "ms", quantile(latencies, 0.5), "<= 1", anchor, len(latencies), "1 prefix"),
        Result(f"{where}, p99", "ms", quantile(latencies, 0.99), "<= 2", anchor, len(latencies), "1 prefix"),
        Result(f"{where}, p50", "ms", quantile(loaded, 0.5), "<= 1", anchor, len(loaded), f"{PREFIXES:,} prefixes"),
        Result(f"{where}, p99", "ms", quantile(loaded, 0.99), "<= 2", anchor, len(loaded), f"{PREFIXES:,} prefixes"),
        Result(
            f"write's time, {PREFIXES:,} prefixes against 1",
            "share",
            many / ((before + after) / 2) - 1,
            "<= 0.1",
            "",
            3,
            f"medians {before:.3f}, {many:.3f}, {after:.3f} ms; 1 prefix measured before and after",
        ),
    ]


def main() -> int:
    """Measure and write the record."""
    if reason := unusable():
        print(f"flip: {reason}")
        return 1
    requests = Requests(text_format.Parse(P4INFO.read_text(), p4i.P4Info()))
    with cables((1, PRIMARY, SHADOW)) as made, tempfile.TemporaryDirectory(prefix="sp-flip-") as folder:
        port, control = _free_port(), Path(folder) / "s.sock"
        command = [sys.executable, "-m", "engine", "--device-id", "1", "--no-p4", "--pktgen-interval-us", "0"]
        for number, name in made.switch.items():
            command += ["-i", f"{number}@{name}"]
        command += ["--control-socket", str(control), "--", "--grpc-server-addr", f"127.0.0.1:{port}"]
        target = Target(command, port)
        try:
            target.install(text_format.Parse(P4INFO.read_text(), p4i.P4Info()))
            short = Short(port)
            try:
                results = figures(target, short, requests, made)
            finally:
                short.close()
        finally:
            target.stop()
            if control.exists():
                Client(control).shutdown()
    write("flip", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
