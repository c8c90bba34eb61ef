"""Loss that can be seen already: rising error, drop and gap counters. Pure.

No forecast: this is what answers a fault that nobody predicted. Counters are compared with their last value;
a counter that went backwards (a restarted switch) starts anew and is no evidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan

from ml.schema import DeviceSample, PortSample

LATE_S = 5.0  # a sample is never this late (control.telemetry): a clock that far back was set


@dataclass(frozen=True, slots=True)
class Evidence:
    """``element``: the port or device; ``mode``: what kind of failure the loss speaks for."""

    element: str
    mode: str
    text: str
    lost: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How much loss is evidence, counted over ``window_s``.

    Frames lost to bit errors are counted by the port itself and speak at once. A single missing heartbeat says
    little, and one full queue may be the burst after a stall: drops count once they come in two samples, or in
    numbers (``burst``) no stall explains.
    """

    errors: float = 1.0
    drops: float = 5.0
    burst: float = 500.0
    heartbeats: float = 2.0  # of both directions of a link together
    window_s: float = 0.4


_LINK = (("rx_errors_total", "frames lost to bit errors"), ("uncorrected_total", "uncorrectable code words"))


@dataclass(slots=True)
class DegradationDetector:
    """Remembers the last counters of every port and device. ``link_of`` names the link of a port."""

    link_of: Callable[[str], str] = str
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    _last: dict[tuple[str, str], float] = field(default_factory=dict)
    _recent: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    _losses: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)

    def observe(self, sample: PortSample | DeviceSample) -> list[Evidence]:
        """Evidence in one sample; usually none."""
        if isinstance(sample, DeviceSample):
            return self._drops(sample, "dropped_total", sample.dropped_total, "device_overload", "a full backlog")
        found = []
        for name, text in _LINK:
            step = self._step(sample.element, name, getattr(sample, name))
            if step >= self.sensitivity.errors:
                found.append(Evidence(sample.element, "link_failure", f"{step:.0f} {text}", step))
                if name == "rx_errors_total":
                    self._book(sample.element, sample.time_s, step)
        if sample.up:
            found += self._drops(sample, "tx_dropped_total", sample.tx_dropped_total, "congestion", "a full queue")
        gaps = self._step(sample.element, "heartbeat_lost_total", sample.heartbeat_lost_total)
        if gaps > 0:
            _, total = self._within("gaps " + self.link_of(sample.element), sample.time_s, gaps)
            if total >= self.sensitivity.heartbeats:
                text = f"{total:.0f} heartbeats missing within {self.sensitivity.window_s:.1f} s"
                found.append(Evidence(sample.element, "link_failure", text, total))
        return found

    def _drops(
        self, sample: PortSample | DeviceSample, name: str, value: float, mode: str, where: str
    ) -> list[Evidence]:
        step = self._step(sample.element, name, value)
        if step <= 0:
            return []
        self._book(sample.element, sample.time_s, step)
        samples, total = self._within(f"{name} {sample.element}", sample.time_s, step)
        if not (total >= self.sensitivity.burst or (samples >= 2 and total >= self.sensitivity.drops)):
            return []
        return [Evidence(sample.element, mode, f"{total:.0f} packets dropped by {where}", total)]

    def _within(self, key: str, time_s: float, count: float) -> tuple[int, float]:
        """Enter a count; (number of entries, sum) within the window."""
        recent = self._recent.setdefault(key, deque(maxlen=64))
        _begin_anew(recent, time_s)
        recent.append((time_s, count))
        counts = [value for when, value in recent if time_s - when <= self.sensitivity.window_s]
        return len(counts), sum(counts)

    def lost(self, elements: set[str], since_s: float) -> int:
        """Packets that these ports and devices are known to have lost since a time."""
        return int(
            sum(count for element in elements for time_s, count in self._losses.get(element, ()) if time_s >= since_s)
        )

    def forget(self) -> None:
        """Start anew; the next sample of each element sets its baseline."""
        self._last.clear()
        self._recent.clear()
        self._losses.clear()

    def _step(self, element: str, name: str, value: float) -> float:
        if isnan(value):
            return 0.0
        before = self._last.get((element, name))
        self._last[element, name] = value
        return value - before if before is not None and value > before else 0.0

    def _book(self, element: str, time_s: float, count: float) -> None:
        losses = self._losses.setdefault(element, deque(maxlen=256))
        _begin_anew(losses, time_s)
        losses.append((time_s, count))


def _begin_anew(counts: deque[tuple[float, float]], time_s: float) -> None:
    """A clock that was set back: what was counted until then is of no known age."""
    if counts and time_s < counts[-1][0] - LATE_S:
        counts.clear()
