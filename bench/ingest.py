"""Port reports ingested by one process: real protobuf ``DigestList`` messages through the control plane's own path.

A message is parsed as gRPC does it, handed to the service as a session does, decoded, put to the schema, learned by the
analyzer's estimators, compared with thresholds of loss, and written to the history on disk by its thread. Messages
arrive at a fixed rate (the target, twice and four times as much), so that what does not keep up shows as drops. Scoring
runs beside it, as it does in service.
"""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench._common import Result, write
from control.entries import PORT_REPORT
from control.history.reader import Reader
from control.service import Service
from control.settings import Settings
from control.steering import Steering
from engine.p4rt.stubs import p4d, p4r
from topo.builtin import numbered_host
from topo.spec import Endpoint, Link, Switch, Topology

TARGET = 50_000  # reports/s
SECONDS = 5.0
LIST = 64  # reports in a message
PERIOD_S = 0.005
SWITCHES, NEAR = 64, 8


def mesh() -> Topology:
    """64 switches of 16 ports each: every one is linked with its eight nearest on a ring on either side."""
    switches = tuple(Switch(f"s{n + 1}", n + 1) for n in range(SWITCHES))
    links = tuple(
        Link(Endpoint(f"s{n + 1}", step), Endpoint(f"s{(n + step) % SWITCHES + 1}", NEAR + step), rate_mbps=10_000.0)
        for n in range(SWITCHES)
        for step in range(1, NEAR + 1)
    )
    hosts = (numbered_host(1, "s1", 2 * NEAR + 1), numbered_host(2, "s30", 2 * NEAR + 1))
    return Topology("mesh", switches, hosts, links)


def messages(service: Service, rounds: int) -> list[list[tuple[str, bytes]]]:
    """Per round one report of every port, as serialized stream messages with the switch they come from."""
    digest_id = service.program.schema.digests[PORT_REPORT].id
    ports = {s.name: sorted(service.topology.ports(s.name)) for s in service.topology.switches}
    found = []
    for number in range(rounds):
        part = []
        for switch, mine in ports.items():
            for first in range(0, len(mine), LIST):
                digest = p4r.DigestList(digest_id=digest_id, list_id=number + 1)
                for port in mine[first : first + LIST]:
                    _add(digest, port, number)
                message = p4r.StreamMessageResponse(digest=digest)
                part.append((switch, message.SerializeToString()))
        found.append(part)
    return found


def _add(digest: p4r.DigestList, port: int, number: int) -> None:
    data: p4d.P4Data = digest.data.add()
    values = (port, number + 1, number * 20_000 + 1, 0, 900 + number % 50, 0, number * 9, number * 9000,
              number * 8, number * 8000, 0, number % 7)  # fmt: skip
    for value in values:
        data.struct.members.add(bitstring=value.to_bytes(8, "big").lstrip(b"\0") or b"\0")


async def play(service: Service, rounds: list[list[tuple[str, bytes]]], rate: float) -> tuple[float, float, int]:
    """(reports/s taken in, share of a core, dropped) at ``rate`` reports/s."""
    parse = p4r.StreamMessageResponse.FromString
    counts = service.intake.counts
    before, dropped = counts.reports, counts.dropped
    used = _cpu()
    began = time.perf_counter()
    queue = [message for part in rounds for message in part]
    sent = 0
    reports = 0
    while sent < len(queue):
        elapsed = time.perf_counter() - began
        if elapsed >= SECONDS:
            break
        allowed = elapsed * rate
        while sent < len(queue) and reports < allowed:
            switch, raw = queue[sent]
            digest = parse(raw).digest
            service.on_digest(switch, digest)
            reports += len(digest.data)
            sent += 1
        await asyncio.sleep(PERIOD_S)
    while service.intake:
        await asyncio.sleep(0)
    took = time.perf_counter() - began
    return (counts.reports - before) / took, (_cpu() - used) / took, counts.dropped - dropped


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(folder: Path) -> list[Result]:
    """All figures."""
    service = Service(mesh(), Settings(history_dir=folder / "history"))
    assert service.recorder.writer is not None
    service.recorder.writer.start()
    ports = len(service.intake.elements)
    steer = asyncio.create_task(Steering.run(service.steering))
    results = []
    number = 0
    for rate in (TARGET, 2 * TARGET, 4 * TARGET):
        count = int(SECONDS * rate / ports) + 2
        rounds = messages(service, number + count)[number:]
        number += count
        speed, share, dropped = await play(service, rounds, rate)
        note = f"{ports} ports of {len(service.topology.switches)} switches; {share:.2f} cores; {dropped} dropped"
        name = f"port reports at {rate:,}/s"
        target = f">= {0.99 * rate:.0f}" if rate == TARGET else ""
        results.append(Result(name, "reports/s", speed, target, "", int(speed * SECONDS), note))
        results.append(Result("of which dropped", "reports", dropped, "== 0" if rate == TARGET else ""))
    steer.cancel()
    await asyncio.gather(steer, return_exceptions=True)
    service.recorder.close()
    counts = service.recorder.counts
    size = sum(path.stat().st_size for path in (folder / "history").rglob("*.parquet"))
    written = f"{size / max(1, counts.written):.1f} bytes a row"
    rows = Reader(folder / "history").summary()[0]["rows"]
    lost = service.intake.counts.reports - rows
    results.append(Result("reports that history lacks", "rows", lost, "== 0", "", rows, written))
    service.ledger.close()
    return results


def main() -> None:
    """Measure and write the record."""
    with TemporaryDirectory(prefix="shadowplane-bench-") as directory:
        write("ingest", asyncio.run(measure(Path(directory))))


if __name__ == "__main__":
    main()
