"""Loss that can be seen already: rising error, drop and gap counters. Pure.

No forecast: this is what answers a fault that nobody predicted. Counters are compared with their last value;
a counter that went backwards (a restarted switch) starts anew and is no evidence.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import isnan

from ml.schema import DeviceSample, PortSample


@dataclass(frozen=True, slots=True)
class Evidence:
    """``element``: the port or device; ``mode``: what kind of failure the loss speaks for."""

    element: str
    mode: str
    text: str
    lost: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How much loss is evidence.

    A single missing heartbeat says little: it can be an overrun receive ring. Frames lost to bit errors and
    packets dropped by a full queue are counted by the port itself and speak at once.
    """

    errors: float = 1.0
    drops: float = 1.0
    heartbeats: float = 3.0
    window_s: float = 0.5


_LINK = (("rx_errors_total", "frames lost to bit errors"), ("uncorrected_total", "uncorrectable code words"))


@dataclass(slots=True)
class DegradationDetector:
    """Remembers the last counters of every port and device."""

    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    _gaps: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    _losses: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)

    def observe(self, sample: PortSample | DeviceSample) -> list[Evidence]:
        """Evidence in one sample; usually none."""
        if isinstance(sample, DeviceSample):
            step = self._step(sample.element, "dropped_total", sample.dropped_total)
            if step < self.sensitivity.drops:
                return []
            self._book(sample.element, sample.time_s, step)
            return [Evidence(sample.element, "device_overload", f"{step:.0f} packets dropped by a full backlog", step)]
        found = []
        for name, text in _LINK:
            step = self._step(sample.element, name, getattr(sample, name))
            if step >= self.sensitivity.errors:
                found.append(Evidence(sample.element, "link_failure", f"{step:.0f} {text}", step))
                if name == "rx_errors_total":
                    self._book(sample.element, sample.time_s, step)
        step = self._step(sample.element, "tx_dropped_total", sample.tx_dropped_total)
        if step >= self.sensitivity.drops:
            self._book(sample.element, sample.time_s, step)
            found.append(Evidence(sample.element, "congestion", f"{step:.0f} packets dropped by a full queue", step))
        gaps = self._step(sample.element, "heartbeat_lost_total", sample.heartbeat_lost_total)
        if gaps > 0:
            recent = self._gaps.setdefault(sample.element, deque(maxlen=64))
            recent.append((sample.time_s, gaps))
            total = sum(count for time_s, count in recent if sample.time_s - time_s <= self.sensitivity.window_s)
            if total >= self.sensitivity.heartbeats:
                text = f"{total:.0f} heartbeats missing within {self.sensitivity.window_s:.1f} s"
                found.append(Evidence(sample.element, "link_failure", text, total))
        return found

    def lost(self, elements: set[str], since_s: float) -> int:
        """Packets that these ports and devices are known to have lost since a time."""
        return int(
            sum(count for element in elements for time_s, count in self._losses.get(element, ()) if time_s >= since_s)
        )

    def forget(self) -> None:
        """Start anew; the next sample of each element sets its baseline."""
        self._last.clear()
        self._gaps.clear()
        self._losses.clear()

    def _step(self, element: str, name: str, value: float) -> float:
        if isnan(value):
            return 0.0
        before = self._last.get((element, name))
        self._last[element, name] = value
        return value - before if before is not None and value > before else 0.0

    def _book(self, element: str, time_s: float, count: float) -> None:
        self._losses.setdefault(element, deque(maxlen=256)).append((time_s, count))
