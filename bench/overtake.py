"""Register writes while something large runs on the same switch: batches and reads of 100,000 entries, pipeline pushes.

Server and data plane run as the processes that users run. One client, a process of its own, keeps them busy over one
connection; flips go over another, as the controller sends them (:mod:`control.shortway`), at moments that have nothing
to do with what the other one does. Their time from the request to its answer, which comes after the effect, is told
beside that of the same flips while nothing else runs, before and after.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from bench._common import Result, quantile, say, write
from bench._short import Short
from bench.p4runtime import BUILD, ENTRIES, Requests, Target, _engine
from engine.dataplane import Client
from engine.p4rt.stubs import p4i, p4r

import grpc  # isort: skip  (after the stubs, which keep the import light)

LIMIT_MS = 2.0
FLIPS = 1_000  # while a kind of work runs; at least so many
QUIET = 2_000
PAUSE_S = 0.001  # mean time between two flips
ROUNDS = 4  # pairs of work
PRIMARY = p4r.Uint128(low=1)
_Set = p4r.SetForwardingPipelineConfigRequest


class Worker:
    """Large requests over a channel of its own; runs in its own process."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", -1)]
        channel: Any = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self._info = text_format.Parse((BUILD / "shadowplane.p4info.txtpb").read_text(), p4i.P4Info())
        self._requests = Requests(self._info)
        self._write = channel.unary_unary("/p4.v1.P4Runtime/Write")
        self._read = channel.unary_stream("/p4.v1.P4Runtime/Read")
        self._set = channel.unary_unary("/p4.v1.P4Runtime/SetForwardingPipelineConfig")

    def _batch(self, kind: str, atomicity: int, spoilt: bool = False) -> bytes:
        # The stubs know enumerators by name, and the wish is a number.
        request = p4r.WriteRequest(device_id=1, atomicity=atomicity, election_id=PRIMARY)  # type: ignore[arg-type]
        for number in range(ENTRIES):
            self._requests.route(request, kind, 0 if spoilt and number == ENTRIES - 1 else number, 1 + number % 1000)
        return request.SerializeToString()

    def calls(self, kind: str) -> list[Callable[[], Any]]:
        """What to do in turn."""
        if kind == "read":
            reading = p4r.ReadRequest(device_id=1)
            reading.entities.add().table_entry.table_id = self._requests.ids["route_ipv4"]
            data = reading.SerializeToString()
            return [lambda: sum(len(message) for message in self._read(data, timeout=60))]
        if kind == "push":
            request = _Set(device_id=1, action=_Set.VERIFY_AND_COMMIT, election_id=PRIMARY)
            request.config.p4info.CopyFrom(self._info)
            request.config.p4_device_config = (BUILD / "shadowplane.json").read_bytes()
            push = request.SerializeToString()
            return [lambda: self._set(push, timeout=60)]
        if kind == "undone":
            refused = self._batch("INSERT", p4r.WriteRequest.DATAPLANE_ATOMIC, spoilt=True)

            def undo() -> None:
                with contextlib.suppress(grpc.RpcError):
                    self._write(refused, timeout=60)

            return [undo]
        atomicity = p4r.WriteRequest.DATAPLANE_ATOMIC if kind == "atomic" else p4r.WriteRequest.CONTINUE_ON_ERROR
        both = [self._batch(op, atomicity) for op in ("INSERT", "DELETE")]
        # mypy infers no type for a lambda with a default.
        return [lambda data=data: self._write(data, timeout=60) for data in both]  # type: ignore[misc]


def work(port: int, pipe: Connection) -> None:
    """The worker's process: (kind, rounds) comes, then the spans (s) of the calls go back, each as soon as it ends."""
    worker = Worker(port)
    while (order := pipe.recv()) is not None:
        kind, rounds = order
        calls = worker.calls(kind)
        pipe.send("ready")
        for _ in range(rounds):
            for call in calls:
                time.sleep(0.02)  # so that each starts with nothing under way
                began = time.monotonic()
                call()
                pipe.send((began, time.monotonic()))
        pipe.send("done")


@dataclass
class Seen:
    """Flips: when (s) they began, how long (ms) they took; and the spans of the work beside them."""

    flips: list[tuple[float, float]] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    refused: int = 0

    def during(self) -> list[float]:
        """Flips that began while work was under way."""
        return [ms for at, ms in self.flips if any(began <= at < ended for began, ended in self.spans)]


class Flips:
    """One flip after the other, at random moments."""

    def __init__(self, short: Short, requests: Requests) -> None:
        self._short = short
        self._data = [requests.flip(number).SerializeToString() for number in range(64)]
        self._random = random.Random(41)

    def one(self, seen: Seen) -> None:
        time.sleep(self._random.expovariate(1 / PAUSE_S))  # the moments between which work has gone on
        began = time.monotonic()
        try:
            self._short.write(self._data[len(seen.flips) & 63])
        except RuntimeError:  # the pipeline is being replaced
            seen.refused += 1
            return
        seen.flips.append((began, (time.monotonic() - began) * 1e3))

    def quiet(self, count: int) -> list[float]:
        seen = Seen()
        for _ in range(count):
            self.one(seen)
        return [ms for _at, ms in seen.flips]

    def beside(self, pipe: Any, kind: str) -> Seen:
        """As many flips as fit into rounds of work, at least FLIPS of them."""
        seen = Seen()
        while len(seen.during()) < FLIPS:
            pipe.send((kind, ROUNDS))
            assert pipe.recv() == "ready"
            while True:
                self.one(seen)
                if not pipe.poll():
                    continue
                message = pipe.recv()
                if message == "done":
                    break
                seen.spans.append(message)
        return seen


KINDS = {
    "atomic": f"an atomic batch of {ENTRIES:,}",
    "undone": f"an atomic batch of {ENTRIES:,} that is refused",
    "plain": f"a batch of {ENTRIES:,}, CONTINUE_ON_ERROR",
    "read": f"a read of {ENTRIES:,} entries",
    "push": "a pipeline push",
}


def measure(target: Target, requests: Requests, kinds: list[str]) -> list[Result]:
    """All kinds of work in turn, with quiet flips before and after each."""
    results: list[Result] = []
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=work, args=(target.port, far), daemon=True)
    process.start()
    short = Short(target.port)
    flips = Flips(short, requests)
    try:
        flips.quiet(64)
        for kind in kinds:
            if kind == "read":
                for first in range(0, ENTRIES, 1000):
                    target.write(requests.batch(first))
            say(KINDS[kind])
            quiet = flips.quiet(QUIET // 2)
            seen = flips.beside(near, kind)
            quiet += flips.quiet(QUIET // 2)
            if kind == "read":
                for first in range(0, ENTRIES, 1000):
                    target.write(requests.batch(first, "DELETE"))
            during = seen.during()
            took = quantile([ended - began for began, ended in seen.spans], 0.5) * 1e3
            notes = f"quiet, beside it: p50 {quantile(quiet, 0.5):.2f}, p99 {quantile(quiet, 0.99):.2f}, longest "
            notes += f"{max(quiet):.1f}; the work takes {took:.0f} ms"
            notes += f"; {seen.refused} refused meanwhile" if seen.refused else ""
            name = f"register write during {KINDS[kind]}"
            results += [
                Result(f"{name}, p50", "ms", quantile(during, 0.5), "", "", len(during)),
                Result(f"{name}, p99", "ms", quantile(during, 0.99), f"<= {LIMIT_MS:g}", "", len(during), notes),
                Result(f"{name}, longest", "ms", max(during), "", "", len(during)),
            ]
    finally:
        short.close()
        with contextlib.suppress(OSError):
            near.send(None)
        process.join(10)
        process.kill()
    return results


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    info = text_format.Parse((BUILD / "shadowplane.p4info.txtpb").read_text(), p4i.P4Info())
    requests = Requests(info)
    kinds = sys.argv[1:] or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as name:
        folder = Path(name)
        target = _engine(folder)
        try:
            target.install(info)
            results = measure(target, requests, kinds)
        finally:
            target.stop()
            with contextlib.suppress(Exception):  # gone already after a clean stop
                Client(folder / "s.sock").shutdown()
    write("overtake", results)
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
