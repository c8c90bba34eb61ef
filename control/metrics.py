"""``/metrics`` in Prometheus's text format: base units, counters end in ``_total``."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping

from control.lag import BOUNDS_S, PERIOD_S
from control.service import Service
from control.tse import Kind

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0)


class Page:
    """Collects lines; ``name`` gets the prefix ``shadowplane_``."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, text: str, values: Iterable[tuple[Mapping[str, object], float]]) -> None:
        """One metric with its samples."""
        full = f"shadowplane_{name}"
        self._lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        self._lines += [f"{full}{_labels(labels)} {value:.10g}" for labels, value in values]

    def one(self, name: str, kind: str, text: str, value: float, **labels: object) -> None:
        """A metric with a single sample."""
        self.add(name, kind, text, [(labels, value)])

    def histogram(self, name: str, text: str, bounds: Iterable[float], counts: list[int], total: float) -> None:
        """``counts`` per bucket, the last one beyond all ``bounds``."""
        full = f"shadowplane_{name}"
        self._lines += [f"# HELP {full} {text}", f"# TYPE {full} histogram"]
        seen = 0
        for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], counts, strict=True):
            seen += count
            self._lines.append(f'{full}_bucket{{le="{bound}"}} {seen}')
        self._lines += [f"{full}_sum {total:.10g}", f"{full}_count {seen}"]

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def _labels(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    parts = []
    for name, value in labels.items():
        escaped = str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        parts.append(f'{name}="{escaped}"')
    return "{" + ",".join(parts) + "}"


def exposition(service: Service) -> str:
    """The whole page."""
    page = Page()
    _network(page, service)
    _telemetry(page, service)
    _decisions(page, service)
    _process(page, service)
    return page.text()


def _network(page: Page, service: Service) -> None:
    sessions = service.fleet.sessions
    page.add(
        "switch_ready", "gauge", "1 while the switch holds what it should",
        [({"switch": name}, float(session.ready)) for name, session in sessions.items()],
    )  # fmt: skip
    page.add(
        "switch_restores_total", "counter", "Times the switch was brought in line after a connection",
        [({"switch": name}, session.restores) for name, session in sessions.items()],
    )  # fmt: skip
    page.one("groups", "gauge", "Steering groups", len(service.plan.groups))
    page.one("groups_flipped", "gauge", "Steering groups on their shadow", len(service.tse.flipped()))
    page.one("ports_dead", "gauge", "Ports declared dead", len(service.book.suspects))
    page.add(
        "threats", "gauge", "Active threats by cause", _counted({"cause": t.cause.value} for t in service.book.active())
    )


def _telemetry(page: Page, service: Service) -> None:
    counts, inbox = service.intake.counts, service.inbox
    page.one("samples_total", "counter", "Samples received from gNMI and other sources", inbox.received)
    page.one("samples_dropped_total", "counter", "Samples dropped because too many waited", inbox.dropped)
    malformed = sum(source.malformed for source in service.sources.values())
    page.one("samples_malformed_total", "counter", "gNMI values that are not what their path promises", malformed)
    page.add(
        "reports_total", "counter", "Port reports by what became of them",
        [
            ({"result": "taken"}, counts.reports),
            ({"result": "dropped"}, counts.dropped),
            ({"result": "missing"}, counts.missing),
            ({"result": "stale"}, counts.stale),
            ({"result": "malformed"}, counts.malformed),
            ({"result": "unknown_port"}, counts.unknown),
        ],
    )  # fmt: skip
    page.one("elements_unjudged", "gauge", "Elements without a judgement",
             len(service.analyzer.unjudged(service.clock.time())))  # fmt: skip
    page.add(
        "source_failures_total", "counter", "Polls of a source that failed",
        [({"element": s.entry.element, "kind": "node_exporter"}, s.failures) for s in service.exporters],
    )  # fmt: skip
    if service.feeds is not None:
        told: dict[str, list[tuple[Mapping[str, object], float]]] = {}
        for name, labels, value in service.feeds.manager.metrics(service.clock.time()):
            told.setdefault(name.removeprefix("shadowplane_"), []).append((labels, value))
        for name, values in told.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            page.add(name, kind, "Of feeds of maintenance and weather", values)
    written = service.recorder.counts
    waiting = service.recorder.writer.waiting if service.recorder.writer is not None else 0
    page.one("history_rows_total", "counter", "Rows of history written", written.written)
    page.one("history_rows_dropped_total", "counter", "Rows of history dropped because they could not be written",
             written.dropped)  # fmt: skip
    page.one("history_failures_total", "counter", "Batches of history that could not be written", written.failures)
    page.one("history_rows_waiting", "gauge", "Rows of history not written yet", waiting)


def _decisions(page: Page, service: Service) -> None:
    lines = service.ledger.lines(limit=10_000)
    page.add(
        "decisions", "gauge", "Ledger lines in memory by kind, cause and outcome",
        _counted(
            {"kind": line.kind, "cause": line.cause, "outcome": line.outcome.partition(":")[0]} for line in lines
        ),
    )  # fmt: skip
    timed = [line.telemetry_ms for line in lines if line.telemetry_ms is not None and line.kind == Kind.FLIP.value]
    counts = [0] * (len(_BUCKETS_MS) + 1)
    for value in timed:
        counts[sum(value > bound for bound in _BUCKETS_MS)] += 1
    page.histogram(
        "telemetry_to_flip_seconds", "Arrival of the sample that carried the news to the flip's confirmation",
        [bound / 1000 for bound in _BUCKETS_MS], counts, sum(timed) / 1000,
    )  # fmt: skip
    page.one("ledger_dropped_total", "counter", "Ledger lines not kept on disk", service.ledger.dropped)
    page.one("steering_rounds_total", "counter", "Rounds of steering", service.steering.rounds)


def _process(page: Page, service: Service) -> None:
    lag = service.lag
    page.histogram(
        "loop_lag_seconds", f"How late a sleep of {PERIOD_S:g} s ends in the event loop", BOUNDS_S, lag.counts,
        lag.total_s,
    )  # fmt: skip
    page.one("loop_lag_worst_seconds", "gauge", "The latest so far", lag.worst_s)
    page.one("uptime_seconds", "gauge", "Since the start", service.clock.monotonic() - service.started_s)
    page.one("cpu_seconds_total", "counter", "Processor time used", time.process_time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    page.one("memory_peak_bytes", "gauge", "Largest resident set so far", peak, pid=os.getpid())


def _counted(labels: Iterable[dict[str, object]]) -> list[tuple[dict[str, object], float]]:
    found: dict[tuple[tuple[str, object], ...], int] = {}
    for item in labels:
        key = tuple(item.items())
        found[key] = found.get(key, 0) + 1
    return [(dict(key), count) for key, count in sorted(found.items(), key=str)]
