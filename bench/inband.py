"""What in-band telemetry costs, and what it gives.

Cost: nanoseconds of one core per packet, by role, in memory. The same packets (200 bytes of UDP payload) with and
without telemetry, so the difference is the price of the role; the digest of the sink is made for one packet in many, as
in use.
Reports taken in: real protobuf messages through the control plane's own path.

Gain: live labs in which ports and devices are polled too slowly for their failures, or not at all, with and without
in-band reports: time from the flip to the first possible loss. ``SHADOWPLANE_BENCH_REPETITIONS`` (default 5) seeds of
each scenario on each topology.
"""

from __future__ import annotations

import os
import resource
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from bench._common import Result, quantile, write
from bench._wire import PROGRAM, _checksum
from bench.engine_memory import PACKETS, PORTS, ROUNDS, Pipeline, best, frames, prefixes, prepare
from control.inband.report import COUNTED
from control.inband.runtime import InbandConfig, InbandTelemetry
from control.program import Program
from control.scoreboard.experiment import session
from control.settings import Settings, Strategy
from engine.api import Match, TableUpdate
from engine.p4rt.stubs import p4r
from topo import userns
from topo.load import load
from topo.spec import Topology

DSCP = 0x17
SIZE = 242
NODE = 7
HOPS = 3  # before the sink
REPETITIONS = int(os.environ.get("SHADOWPLANE_BENCH_REPETITIONS", "5"))
TOPOLOGIES = ("diamond", "abilene")
SCENARIOS = ("congestion", "overload")
SLOW_MS = 2000  # between two samples, where failures announce themselves within one or two seconds
REPORTS, LIST = 200_000, 32


def carrying(plain: list[bytes], hops: int) -> list[bytes]:
    """The frames with the telemetry of so many hops behind the UDP header."""
    stack = b"".join(struct.pack("!IIIIQQ", n, n << 16 | n, 10, 1, 1000, 1010) for n in range(hops))
    md = struct.pack("!BBBBIHHHH", 0x10, 3 + len(stack) // 4, 0, 0, 2 << 28 | 8 << 8 | 8, 0xFC00, 0, 0, 0) + stack
    out = []
    for frame in plain:
        ip, udp, payload = bytearray(frame[14:34]), bytearray(frame[34:42]), frame[42:]
        ip[1] = DSCP << 2
        struct.pack_into("!H", ip, 2, len(ip) + len(udp) + len(md) + len(payload))
        struct.pack_into("!H", ip, 10, 0)
        struct.pack_into("!H", ip, 10, _checksum(bytes(ip)))
        struct.pack_into("!H", udp, 4, len(udp) + len(md) + len(payload))
        out.append(frame[:14] + bytes(ip) + bytes(udp) + md + payload)
    return out


def ports(pipe: Pipeline, *, sink: bool) -> Iterator[TableUpdate]:
    """Packets come from other switches, and go to hosts (``sink``) or to other switches."""
    for port in PORTS:
        key = {"port": Match(port.to_bytes(2, "big"))}
        yield pipe.entry("int_ingress", key, "int_from_core", DSCP)
        if sink:
            yield pipe.entry("int_egress", key, "int_to_edge", NODE, DSCP)
        else:
            yield pipe.entry("int_egress", key, "int_to_core", NODE, DSCP, 0)


def measure(traffic: list[bytes], *, sink: bool = False, one_in: int = 0) -> float:
    """Nanoseconds per packet; ``one_in``: this switch is the source of telemetry in one packet of so many."""
    pipe = prepare(str(PROGRAM), prefixes(1000, 1))

    def updates() -> Iterator[TableUpdate]:
        yield from ports(pipe, sink=sink)
        yield pipe.entry("int_report", {"priority": Match(b"\0")}, "int_watch", 1000, 32, 10_000, 500_000)
        yield pipe.entry("int_report", {"priority": Match(b"\1")}, "int_watch", 1000, 32, 10_000, 500_000)
        if one_in:
            yield pipe.entry("classify", {}, "set_flow", 99, 0, 1, priority=1000)
            yield pipe.entry("int_source", {}, "int_start", 0xFC00, 8, 8, one_in, priority=1)

    pipe.fill(updates())
    try:
        fast, _slow = best(pipe, traffic)
    finally:
        pipe.close()
    return fast


WAY = ("s1", "s2", "s4")


def report(topology: Topology, number: int, flow: int) -> list[bytes]:
    """Members of a flow report: from a host of the first switch of :data:`WAY` to one of the last."""
    now = 1_000_000 + number * 10_000
    links = [topology.links_between(a, b)[0] for a, b in pairwise(WAY)]
    first, last = (next(host.port for host in topology.hosts if host.switch == name) for name in (WAY[0], WAY[-1]))
    came = [first, *(link.end(name).port for link, name in zip(links, WAY[1:], strict=True))]
    left = [*(link.end(name).port for link, name in zip(links, WAY, strict=False)), last]
    ids = [next(switch.device_id for switch in topology.switches if switch.name == name) for name in WAY]
    values = [flow + 1, 0, number + 1, now, 0, 0, len(links), 17, 1000 + flow, 2000, 10 << 24 | 1, 10 << 24 | 2, 0, 0]
    values += [ids[-1], came[-1], left[-1], now - 500, 90, 1]
    for place in range(len(links) - 1, -1, -1):
        at = now - 300 * (len(links) - place)
        values.append(ids[place] << 96 | came[place] << 80 | left[place] << 64 | 40 << 32 | number % 9)
        values.append(at << 64 | at + 40)
    values += [0] * (COUNTED - len(values)) + [number * 10, number * 1000]
    return [value.to_bytes((value.bit_length() + 7) // 8 or 1, "big") for value in values]


def ingest() -> Result:
    """Reports that one process takes in with one core."""
    schema = Program.load(Settings().build_dir).schema
    topology = load("diamond")
    inband = InbandTelemetry(topology, InbandConfig(), schema)
    messages = []
    for number in range(REPORTS // LIST):
        digest = p4r.DigestList(digest_id=schema.digests["flow_report_t"].id)
        for flow in range(LIST):
            item = digest.data.add()
            for value in report(topology, number // 16, number % 16 * LIST + flow):
                item.struct.members.add(bitstring=value)
        messages.append(p4r.StreamMessageResponse(digest=digest).SerializeToString())
    parse = p4r.StreamMessageResponse.FromString
    now, began = time.time(), _cpu()
    for place, message in enumerate(messages):
        inband.on_digest("s4", parse(message).digest)
        if place % 8 == 7:  # a round of steering each 5 ms
            now += 0.005
            inband.take(now)
    took = _cpu() - began
    taken = inband.counts.reports - inband.counts.absurd - inband.counts.stale
    note = f"{inband.counts.reports - taken} of {inband.counts.reports} left out"
    return Result(
        "flow reports taken in, parsing included", "reports/s/core", taken / took, ">= 50000", "", taken, note
    )


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def leads(folder: Path) -> list[Result]:
    """Flips before the first possible loss, with polling made slow and switched off, with reports and without."""
    found = []
    for name in TOPOLOGIES:
        for way, gnmi, extra in (
            (f"polled each {SLOW_MS} ms", "on", ("--sample-ms", str(SLOW_MS))),
            ("not polled", "off", ()),
        ):
            for told in (True, False):
                config = folder / f"{gnmi}{told}.yaml"
                config.write_text(f"gnmi: {gnmi}\n" + ("inband: {max_interval_ms: 50}\n" if told else ""))
                options = ("--config", str(config), *extra)
                with session(load(name), folder / f"{name}{gnmi}{told}", extra=options) as experiment:
                    for scenario in SCENARIOS:
                        runs = [
                            experiment.play(scenario, Strategy.PREDICTIVE, seed).row
                            for seed in range(1, REPETITIONS + 1)
                        ]
                        early = [row.lead_ms for row in runs if row.lead_ms is not None and row.lead_ms > 0]
                        label = f"{name}, {scenario}, {way}, {'with' if told else 'without'} in-band reports"
                        lost = sum(row.lost for row in runs)
                        note = f"flip before the first loss in {len(early)} of {len(runs)}; {lost} packets lost"
                        lead = quantile(early, 0.5) if early else float("nan")
                        found.append(Result(label, "ms", lead, "> 0" if told else "", "", len(runs), note))
                        print(f"  {label}: {lead:.0f} ms, {note}", flush=True)
    return found


def main() -> int:
    """Run and write the results."""
    userns.ensure()
    plain = frames(prefixes(1000, 1), SIZE, 2)
    took = {
        "no telemetry": measure(plain),
        "source, every packet": measure(plain, one_in=1),
        "source, one packet in 10": measure(plain, one_in=10),
        "transit": measure(carrying(plain, 1)),
        f"sink of {HOPS} hops": measure(carrying(plain, HOPS), sink=True),
    }
    samples = ROUNDS * PACKETS
    results = [Result(name, "ns/packet", value, samples=samples) for name, value in took.items()]
    results.append(ingest())
    with TemporaryDirectory(prefix="shadowplane-bench-") as folder:
        results += leads(Path(folder))
    write("inband", results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
