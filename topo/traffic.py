"""Traffic whose every packet is accounted for: numbered UDP flows between hosts of a lab.

:class:`Traffic` runs one native sender and one native receiver per host (``native/traffic.c``); their records
give a :class:`FlowReport` per flow. All times are nanoseconds of CLOCK_REALTIME unless a name says otherwise.
"""

from __future__ import annotations

import ipaddress
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from topo.spec import Topology

#: Layout of ``struct record`` in native/traffic.h.
RECORD = np.dtype(
    [
        ("sequence", "<u8"),
        ("sent_ns", "<u8"),
        ("received_ns", "<u8"),
        ("flow", "<u4"),
        ("size", "<u2"),
        ("ttl", "u1"),
        ("flags", "u1"),
    ]
)
NOT_SENT = 1  # flag: the sender's kernel refused the packet
MIN_SIZE, MAX_SIZE = 24, 1400
_READY_TIMEOUT_S = 20.0

Records = NDArray[np.void]


class TrafficError(RuntimeError):
    """A sender or receiver did not start or failed; the text holds what it said."""


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """One UDP flow. Host names are the topology's."""

    name: str
    src: str
    dst: str
    rate_pps: float
    size: int = 200  # UDP payload, bytes (24 to 1400); the IPv4 packet is 28 bytes longer
    dscp: int = 0
    port: int = 5001  # UDP destination port
    priority: int = 0
    protected: bool = True
    family: int = 4  # or 6
    #: (seconds from the start, packets/s) points of a piecewise linear rate, instead of the constant rate_pps
    schedule: tuple[tuple[float, float], ...] = ()

    def points(self, duration_s: float) -> tuple[tuple[float, float], ...]:
        """The rate schedule for a run of ``duration_s``."""
        return self.schedule or ((0.0, self.rate_pps), (duration_s, self.rate_pps))

    def check(self, topology: Topology) -> None:
        """Raise ``ValueError`` (or :class:`topo.spec.TopologyError` for unknown hosts) if it cannot be sent."""
        topology.host(self.src)
        topology.host(self.dst)
        if self.src == self.dst:
            raise ValueError(f"flow {self.name}: source and destination are both {self.src}")
        for label, value, low, high in (
            ("size", self.size, MIN_SIZE, MAX_SIZE),
            ("dscp", self.dscp, 0, 63),
            ("port", self.port, 1, 65535),
        ):
            if not low <= value <= high:
                raise ValueError(f"flow {self.name}: {label} {value} is not in {low}..{high}")
        if self.family not in (4, 6):
            raise ValueError(f"flow {self.name}: family {self.family} is neither 4 nor 6")
        times = [point[0] for point in self.schedule]
        if times != sorted(times) or any(rate < 0 for _, rate in self.schedule) or self.rate_pps < 0:
            raise ValueError(f"flow {self.name}: the rate schedule runs backwards or is negative")


@dataclass(frozen=True, slots=True)
class FlowReport:
    """What became of one flow's packets."""

    name: str
    sent: int
    received: int  # distinct packets
    lost: int
    reordered: int  # arrived after one with a higher number (RFC 4737, Type-P-Reordered)
    duplicated: int  # arrivals beyond the first
    outage_ms: float
    send_errors: int = 0
    first_loss_ns: int = 0  # when the first lost packet was sent; 0: none was
    last_loss_ns: int = 0
    delay_ms_p50: float = 0.0  # one way
    delay_ms_p99: float = 0.0
    delay_ms_max: float = 0.0
    ttl_min: int = 0
    ttl_max: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def account(name: str, sent: Records, received: Records) -> FlowReport:
    """Compare what one flow's sender and receiver recorded (arrays of :data:`RECORD`, any order)."""
    errors = int(np.count_nonzero(sent["flags"] & NOT_SENT))
    sent = sent[(sent["flags"] & NOT_SENT) == 0]
    sent = sent[np.argsort(sent["sequence"], kind="stable")]
    arrivals = received[np.argsort(received["received_ns"], kind="stable")]
    arrivals = arrivals[np.isin(arrivals["sequence"], sent["sequence"])]
    _, first = np.unique(arrivals["sequence"], return_index=True)
    distinct = arrivals[np.sort(first)]
    lost = sent[~np.isin(sent["sequence"], distinct["sequence"])]
    numbers = distinct["sequence"].astype(np.int64)
    in_order = numbers >= np.maximum.accumulate(numbers) if len(numbers) else np.zeros(0, dtype=bool)
    delay = (distinct["received_ns"].astype(np.int64) - distinct["sent_ns"].astype(np.int64)) / 1e6
    return FlowReport(
        name=name,
        sent=len(sent),
        received=len(distinct),
        lost=len(lost),
        reordered=int(np.count_nonzero(~in_order)),
        duplicated=len(arrivals) - len(distinct),
        outage_ms=_outage_ms(sent, distinct[in_order]),
        send_errors=errors,
        first_loss_ns=int(lost["sent_ns"][0]) if len(lost) else 0,
        last_loss_ns=int(lost["sent_ns"][-1]) if len(lost) else 0,
        delay_ms_p50=float(np.percentile(delay, 50)) if len(delay) else 0.0,
        delay_ms_p99=float(np.percentile(delay, 99)) if len(delay) else 0.0,
        delay_ms_max=float(delay.max()) if len(delay) else 0.0,
        ttl_min=int(distinct["ttl"].min()) if len(distinct) else 0,
        ttl_max=int(distinct["ttl"].max()) if len(distinct) else 0,
    )


def _outage_ms(sent: Records, progress: Records) -> float:
    """The longest silence beyond the sending interval, in ms.

    Over arrivals that bring a new highest number: with the very next number the gap in arrival less the gap in
    sending, otherwise the gap in arrival less the sending interval (measured across the gap). Packets missing
    at the beginning or the end count by the time in which they were sent.
    """
    if len(sent) == 0:
        return 0.0
    sent_at = sent["sent_ns"].astype(np.int64)
    if len(progress) == 0:
        interval = (sent_at[-1] - sent_at[0]) / max(1, len(sent) - 1)
        return float(sent_at[-1] - sent_at[0] + interval) / 1e6
    numbers = progress["sequence"].astype(np.int64)
    left, arrived = progress["sent_ns"].astype(np.int64), progress["received_ns"].astype(np.int64)
    steps, sending, silence = np.diff(numbers), np.diff(left), np.diff(arrived)
    worst = [0.0, float(left[0] - sent_at[0]), float(sent_at[-1] - left[-1])]
    if len(steps):
        worst.append(float(np.max(silence - sending / steps)))
    return max(worst) / 1e6


def total(reports: Sequence[FlowReport]) -> dict[str, float]:
    """Sums over flows, and the worst outage."""
    keys = ("sent", "received", "lost", "reordered", "duplicated", "send_errors")
    found: dict[str, float] = {key: sum(getattr(report, key) for report in reports) for key in keys}
    found["outage_ms"] = max((report.outage_ms for report in reports), default=0.0)
    return found


class HostRunner(Protocol):
    """The part of a lab that traffic needs."""

    @property
    def topology(self) -> Topology: ...

    def host_popen(self, host: str, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[str]:
        """Start a command in a host's network namespace, in text mode."""
        ...


def tool() -> Path:
    """The compiled sender and receiver (built and cached on first use)."""
    from engine.build import build_executable

    folder = Path(__file__).parent / "native"
    sources = [folder / name for name in ("traffic.c", "sender.c", "receiver.c")]
    return build_executable(sources, name="traffic", include=[folder], libraries=["-lm"])


@dataclass(slots=True)
class _Process:
    role: str
    host: str
    process: subprocess.Popen[str]
    records: Path
    log: Path
    done: dict[str, int]


class Traffic:
    """A set of flows on a lab: ``start``, then ``wait`` or ``stop``, then ``report``.

    ``duration_s`` bounds flows without a schedule of their own. Files go to ``run_dir``.
    """

    def __init__(
        self, lab: HostRunner, flows: Sequence[FlowSpec], run_dir: Path, *, duration_s: float, tag: str = "traffic"
    ) -> None:
        if len({flow.name for flow in flows}) != len(flows):
            raise ValueError("two flows have the same name")
        for flow in flows:
            flow.check(lab.topology)
        self._lab, self.flows, self._dir, self._tag = lab, tuple(flows), run_dir, tag
        self.duration_s = max([duration_s, *(flow.schedule[-1][0] for flow in flows if flow.schedule)])
        self._senders: list[_Process] = []
        self._receivers: list[_Process] = []
        self._records: dict[str, tuple[Records, Records]] | None = None
        self.start_mono_ns = 0  # CLOCK_MONOTONIC at which packet 0 was due

    # --- running ---

    def start(self, lead_s: float = 0.02, *, at_mono_ns: int | None = None) -> int:
        """Start everything; returns the start time (CLOCK_MONOTONIC ns), ``lead_s`` from when all are ready.

        ``at_mono_ns`` sets the start instead; when that has passed, what was due is made up for.
        """
        if self._senders:
            raise TrafficError("the traffic was started already")
        self._dir.mkdir(parents=True, exist_ok=True)
        binary = tool()
        try:
            self._receivers = self._spawn(binary, "recv", lambda flow: flow.dst)
            self._senders = self._spawn(binary, "send", lambda flow: flow.src)
            for process in (*self._receivers, *self._senders):
                self._await_ready(process)
            self.start_mono_ns = at_mono_ns or time.monotonic_ns() + int(lead_s * 1e9)
            for sender in self._senders:
                _stdin(sender.process).write(f"{self.start_mono_ns}\n")
                _stdin(sender.process).flush()
        except BaseException:
            self._kill()
            raise
        return self.start_mono_ns

    def wait(self, drain_s: float = 0.3) -> None:
        """Wait for the schedules' end, then ``drain_s`` for what is still on its way, and stop."""
        deadline = self.start_mono_ns / 1e9 + self.duration_s + 5.0
        for sender in self._senders:
            try:
                sender.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                sender.process.terminate()
        time.sleep(drain_s)
        self._finish()

    def stop(self, drain_s: float = 0.3) -> None:
        """Stop sending now; as :meth:`wait` otherwise."""
        for sender in self._senders:
            sender.process.terminate()
        self.wait(drain_s)

    @property
    def running(self) -> bool:
        return any(sender.process.poll() is None for sender in self._senders)

    # --- results ---

    @property
    def overflow(self) -> int:
        """Packets that a receiver's own socket had no room for: not the network's loss."""
        return sum(receiver.done.get("overflow", 0) for receiver in self._receivers)

    @property
    def late_ms(self) -> float:
        """The longest that a sender was behind its schedule."""
        return max((sender.done.get("late_ns", 0) for sender in self._senders), default=0) / 1e6

    def records(self, flow: str) -> tuple[Records, Records]:
        """(sent, received) records of a flow, in the order they were made. Only after ``wait`` or ``stop``."""
        if self._records is None:
            raise TrafficError("the traffic has not ended")
        return self._records[flow]

    def report(self, *, since_ns: int = 0, until_ns: int | None = None) -> dict[str, FlowReport]:
        """A report per flow, on the packets sent in [since_ns, until_ns)."""
        found = {}
        for flow in self.flows:
            sent, received = self.records(flow.name)
            if since_ns or until_ns is not None:
                keep = sent["sent_ns"] >= since_ns
                if until_ns is not None:
                    keep &= sent["sent_ns"] < until_ns
                sent = sent[keep]
            found[flow.name] = account(flow.name, sent, received)
        return found

    # --- inside ---

    def _spawn(self, binary: Path, role: str, at: Any) -> list[_Process]:
        started = []
        by_host: dict[str, list[str]] = {}
        for index, flow in enumerate(self.flows):
            by_host.setdefault(at(flow), []).append(self._line(index, flow))
        for host, lines in by_host.items():
            stem = self._dir / f"{self._tag}-{role}-{host}"
            listing, records, log = stem.with_suffix(".flows"), stem.with_suffix(".bin"), stem.with_suffix(".log")
            listing.write_text("".join(lines))
            with log.open("w") as errors:
                process = self._lab.host_popen(
                    host,
                    [str(binary), role, str(listing), str(records)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            started.append(_Process(role, host, process, records, log, {}))
            (self._receivers if role == "recv" else self._senders)[:] = started
        return started

    def _line(self, index: int, flow: FlowSpec) -> str:
        source, target = self._lab.topology.host(flow.src), self._lab.topology.host(flow.dst)
        ends = (source.ipv4, target.ipv4) if flow.family == 4 else (source.ipv6, target.ipv6)
        addresses = " ".join(str(ipaddress.ip_interface(end).ip) for end in ends)
        points = flow.points(self.duration_s)
        rates = " ".join(f"{when:.9g} {rate:.9g}" for when, rate in points)
        return f"{index} {flow.family} {addresses} {flow.port} {flow.size} {flow.dscp} {len(points)} {rates}\n"

    def _await_ready(self, item: _Process) -> None:
        line = _readline(item.process, _READY_TIMEOUT_S)
        if line.strip() != "ready":
            item.process.kill()
            item.process.wait()
            said = item.log.read_text().strip() or "it said nothing"
            raise TrafficError(f"{item.role} on {item.host} did not start: {said}")

    def _finish(self) -> None:
        for item in (*self._senders, *self._receivers):
            item.process.terminate()
        for item in (*self._senders, *self._receivers):
            try:
                out, _ = item.process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                item.process.kill()
                out, _ = item.process.communicate()
            for word in out.split():
                key, equals, value = word.partition("=")
                if equals and value.isdigit():
                    item.done[key] = int(value)
            if item.process.returncode != 0:
                said = item.log.read_text().strip()
                self._kill()
                raise TrafficError(f"{item.role} on {item.host} failed ({item.process.returncode}): {said}")
        sent, received = _load(self._senders), _load(self._receivers)
        self._records = {
            flow.name: (sent[sent["flow"] == index], received[received["flow"] == index])
            for index, flow in enumerate(self.flows)
        }

    def _kill(self) -> None:
        for item in (*self._senders, *self._receivers):
            item.process.kill()
            item.process.wait()
            for pipe in (item.process.stdin, item.process.stdout):
                if pipe is not None:
                    with suppress(OSError):  # what was not flushed has no reader any more
                        pipe.close()


def _stdin(process: subprocess.Popen[str]) -> IO[str]:
    if process.stdin is None:
        raise TrafficError("the process has no standard input")
    return process.stdin


def _readline(process: subprocess.Popen[str], timeout_s: float) -> str:
    """One line of output, or what there is after ``timeout_s``."""
    if process.stdout is None:
        raise TrafficError("the process has no standard output")
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    return process.stdout.readline() if ready else ""


def _load(processes: Sequence[_Process]) -> Records:
    parts = []
    for item in processes:
        size = item.records.stat().st_size // RECORD.itemsize
        parts.append(np.fromfile(item.records, dtype=RECORD, count=size))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=RECORD)


def merge(reports: Mapping[str, FlowReport], names: Sequence[str]) -> dict[str, float]:
    """:func:`total` of the named flows."""
    return total([reports[name] for name in names])
