"""What the service hands to the history: samples, port reports, events, decisions; gaps are found here.

Everything is appended to lists that the writer's thread turns into columns; nothing here waits for a disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.history.writer import Block, Counts, Rows, Writer
from control.inband.columns import FlowColumns
from control.intake import Columns
from control.store import FlipRecord
from control.telemetry import PortEvent
from ml.schema import DeviceSample, PortSample

GAP_S = 1.0  # an element that is silent for longer leaves a gap
FAILURE_S = 1.0
GNMI, DIGEST, NODE_EXPORTER = "gnmi", "digest", "node_exporter"


class Recorder:
    """For one service; without a ``writer`` nothing is kept. ``elements``: the ports that report columns number."""

    def __init__(self, writer: Writer | None, elements: Sequence[str], *, gap_s: float = GAP_S) -> None:
        self.writer = writer
        self._elements = elements
        self._gap_s = gap_s
        self._last: dict[tuple[str, str], float] = {}
        self._last_report: NDArray[np.float64] = np.full(len(elements), np.nan)
        self._alive: dict[str, bool] = {}
        self._failed: dict[tuple[str, str], float] = {}

    @property
    def counts(self) -> Counts:
        return self.writer.counts if self.writer is not None else Counts()

    def samples(self, items: Sequence[PortSample | DeviceSample], source: str) -> None:
        """Keep samples, and a gap where one comes after a long silence."""
        if self.writer is None or not items:
            return
        gaps: list[dict[str, Any]] = []
        ports = [item for item in items if isinstance(item, PortSample)]
        devices = [item for item in items if isinstance(item, DeviceSample)]
        for item in items:
            key = (item.element, source)
            last = self._last.get(key)
            if last is not None and item.time_s - last > self._gap_s:
                gaps.append(_gap(item.element, source, last, item.time_s))
            if last is None or item.time_s > last:
                self._last[key] = item.time_s
        self.writer.put(Rows("ports", ports, source))
        self.writer.put(Rows("devices", devices, source))
        self.writer.put(Rows("gaps", gaps))

    def reports(self, columns: Columns) -> None:
        """Keep port reports."""
        if self.writer is None:
            return
        rows, times = columns.rows, columns.time_s
        last = self._last_report[rows]
        with np.errstate(invalid="ignore"):
            late = np.flatnonzero(times - last > self._gap_s)
        if len(late):
            gaps = [_gap(self._elements[rows[i]], DIGEST, float(last[i]), float(times[i])) for i in late]
            self.writer.put(Rows("gaps", gaps))
        self._last_report[rows] = np.fmax(last, times)
        shared: dict[str, Any] = {
            "time_s": times,
            "element": rows,
            "source": np.full(len(rows), DIGEST, dtype=object),
            "up": np.ones(len(rows)),
            **columns.values,
        }
        self.writer.put(Block("ports", shared, self._elements))

    def flows(self, time_s: float, flow: Sequence[str], columns: FlowColumns, ports: NDArray[np.intp]) -> None:
        """Keep what flows' packets met on their way, a row per switch, the source first; ``ports``: by place, or -1."""
        if self.writer is None or not len(columns):
            return
        report, place = np.nonzero(ports >= 0)
        if not len(report):
            return
        last = columns.number["hops"][report]  # the place of the source
        shared: dict[str, Any] = {
            "time_s": np.full(len(report), time_s),
            "flow": np.array(flow, dtype=object)[report],
            "hop": (last - place).astype(np.float64),
            "element": ports[report, place],
            "latency_us": columns.latency_us[report, place],
            "queue_packets": columns.queue_packets[report, place],
            "sequence": columns.number["seq"][report].astype(np.float64),
        }
        self.writer.put(Block("flows", shared, self._elements))

    def port(self, event: PortEvent) -> None:
        """Keep a port's death or return; being alive still is no event."""
        if self.writer is None or self._alive.get(event.element, True) == event.up:
            return
        self._alive[event.element] = event.up
        kind = "port_up" if event.up else "port_down"
        self.event(event.time_s, event.element, kind, detail=event.source)

    def failure(self, time_s: float, element: str, mode: str, text: str) -> None:
        """Keep loss that was seen, at most once in :data:`FAILURE_S` while it lasts: models are trained on it."""
        if self.writer is None or time_s - self._failed.get((element, mode), -inf) < FAILURE_S:
            return
        self._failed[element, mode] = time_s
        self.event(time_s, element, "failure", mode=mode, detail=text)

    def event(self, time_s: float, element: str, kind: str, *, mode: str = "", detail: str = "") -> None:
        """Keep something that happened."""
        if self.writer is not None:
            line = {"time_s": time_s, "element": element, "kind": kind, "mode": mode, "detail": detail}
            self.writer.put(Rows("events", [line]))

    def decisions(self, records: Sequence[FlipRecord]) -> None:
        """Keep flips, reverts, refusals and what was withheld."""
        for record in records:
            self.event(record.time_s, record.element, record.kind, mode=record.mode, detail=record.explanation)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _gap(element: str, source: str, start_s: float, end_s: float) -> dict[str, Any]:
    reason = f"silent for {end_s - start_s:.1f} s"
    return {"time_s": start_s, "element": element, "source": source, "end_s": end_s, "reason": reason}
