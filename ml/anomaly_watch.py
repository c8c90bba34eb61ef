"""Anomalies per port and device, live: what stands out although no model foretells anything.

Samples are kept by reference; every ``interval_s`` the newest of each element goes through one :class:`Oddity` for
all ports and one for all devices. So a sample costs a dictionary entry, and the work is a few numpy passes a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.anomaly import RAISE_AT, VIEWS, WARM, Oddity
from ml.estimators.base import Floats
from ml.schema import DeviceSample, PortSample

MOST_ELEMENTS = 50_000  # of one kind; more are counted and left out
FIRST_ROWS = 64
TINY_BER = 1e-15

# Signal, and how it is read: as it is, as a logarithm, or a cumulative count as the logarithm of its rate.
PORT = {
    "rx_power_dbm": "plain", "pre_fec_ber": "error ratio", "queue_max_packets": "size", "heartbeat_rtt_us": "size",
    "corrected_total": "count", "uncorrected_total": "count", "rx_errors_total": "count", "tx_bytes_total": "count",
    "tx_dropped_total": "count", "heartbeat_lost_total": "count", "laser_bias_ma": "plain", "temperature_c": "plain",
}  # fmt: skip
DEVICE = {
    "cpu_utilization": "plain", "memory_utilization": "plain", "backlog_packets": "size", "dropped_total": "count",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Anomaly:
    """``oddity``: mean sigmas over all views of the signal; ``sigmas``: of the view that stands out most."""

    element: str
    signal: str
    oddity: float
    sigmas: float
    view: str
    time_s: float
    text: str  # for people


class _Kind:
    """All elements of one kind: rows that grow, the newest samples, the detector."""

    def __init__(self, signals: dict[str, str], warm: int, period_s: float) -> None:
        self.signals, self.names = signals, tuple(signals)
        self.counts = np.array([how == "count" for how in signals.values()])
        self.detector = Oddity(FIRST_ROWS, len(signals), warm=warm, period=period_s)
        self.rows: dict[str, int] = {}
        self.elements: list[str] = []
        self.free: list[int] = []
        self.newest: dict[str, PortSample | DeviceSample] = {}
        self.totals = np.full((FIRST_ROWS, len(signals)), np.nan)
        self.totals_s = np.full(FIRST_ROWS, np.nan)

    def row(self, element: str) -> int:
        found = self.rows.get(element)
        if found is None:
            found = self.free.pop() if self.free else len(self.elements)
            if found == len(self.elements):
                self.elements.append(element)
            self.elements[found] = element
            self.rows[element] = found
            while found >= len(self.totals):
                self._grow()
        return found

    def _grow(self) -> None:
        more = len(self.totals)
        self.totals = np.pad(self.totals, ((0, more), (0, 0)), constant_values=np.nan)
        self.totals_s = np.pad(self.totals_s, (0, more), constant_values=np.nan)
        detector = self.detector
        detector.state = np.pad(detector.state, ((0, 0), (0, more), (0, 0)))
        detector.clock.last = np.pad(detector.clock.last, ((0, more), (0, 0)), constant_values=np.nan)

    def drop(self, element: str) -> None:
        row = self.rows.pop(element, None)
        self.newest.pop(element, None)
        if row is not None:
            self.forget(row)
            self.free.append(row)

    def forget(self, row: int) -> None:
        self.detector.forget(row)
        self.totals[row], self.totals_s[row] = np.nan, np.nan

    def pass_(self, raise_at: float) -> list[Anomaly]:
        """Take in the newest samples; what stands out."""
        samples = list(self.newest.values())
        self.newest = {}
        if not samples:
            return []
        rows = np.array([self.row(sample.element) for sample in samples], dtype=np.intp)
        time = np.array([sample.time_s for sample in samples], dtype=np.float64)
        raw = np.array([[getattr(sample, name) for name in self.names] for sample in samples], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            for row in rows[time < self.totals_s[rows] - 1.0].tolist():  # the element's clock went back
                self.forget(row)
        values = self._values(rows, time, raw)
        # All rows as one slice, without those that brought nothing: their state is worked on where it is.
        known = slice(0, len(self.elements))
        full, when = np.full((len(self.elements), len(self.names)), np.nan), np.full(len(self.elements), np.nan)
        full[rows], when[rows] = values, time
        self.detector.learn_many(known, when, full)
        return self._told(samples, rows, values, raise_at)

    def _told(
        self, samples: list[PortSample | DeviceSample], rows: NDArray[np.intp], values: Floats, raise_at: float
    ) -> list[Anomaly]:
        odd = self.detector.state[Oddity.FIELDS.index("odd")][rows]
        found = []
        for i, k in np.argwhere((odd >= raise_at) & ~np.isnan(values)).tolist():
            one = self.detector.score_one(int(rows[i]))
            found.append(self._anomaly(samples[i], k, float(one.odd[k]), float(one.sigmas[k]), int(one.view[k])))
        return found

    def _values(self, rows: NDArray[np.intp], time: Floats, raw: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            grown = (raw - self.totals[rows]) / (time - self.totals_s[rows])[:, None]
            grown[~((grown >= 0.0) & (grown < np.inf))] = np.nan  # first sample, reset, or no time between
            values = np.where(self.counts, np.log1p(grown), raw)
            for k, how in enumerate(self.signals.values()):
                if how == "error ratio":
                    values[:, k] = np.log10(np.maximum(raw[:, k], TINY_BER))
                elif how == "size":
                    values[:, k] = np.where(raw[:, k] >= 0.0, np.log1p(np.maximum(raw[:, k], 0.0)), np.nan)
        keep = ~np.isnan(raw)
        self.totals[rows] = np.where(keep, raw, self.totals[rows])
        self.totals_s[rows] = time
        return values

    def _anomaly(self, sample: PortSample | DeviceSample, k: int, odd: float, sigmas: float, view: int) -> Anomaly:
        name = self.names[k]
        what = name.removesuffix("_total") + (" rate" if self.counts[k] else "")
        way = "above" if sigmas > 0 else "below"
        text = f"{what.replace('_', ' ')}: {VIEWS[view]} {abs(sigmas):.1f} sigma {way} its own past"
        return Anomaly(sample.element, name, odd, sigmas, VIEWS[view], sample.time_s, text)


class AnomalyWatch:
    """Live anomalies of a network. Times are seconds of one epoch, given by the caller.

    ``interval_s``: between passes; ``period_s``: of a season such as a day (0: none); ``keep_s``: how long an anomaly
    is shown; ``warm``: passes before an element is judged.

    >>> watch = AnomalyWatch(warm=20)
    >>> for i in range(60):
    ...     watch.observe(PortSample("s1:2", float(i), rx_power_dbm=-8.0 + 0.1 * (i % 3)))
    ...     _ = watch.tick(float(i))
    >>> watch.observe(PortSample("s1:2", 60.0, rx_power_dbm=-13.0))
    >>> [(item.element, item.signal) for item in watch.tick(60.0)]
    [('s1:2', 'rx_power_dbm')]
    """

    def __init__(
        self, *, interval_s: float = 1.0, period_s: float = 0.0, raise_at: float = RAISE_AT, keep_s: float = 60.0,
        warm: int = WARM,
    ) -> None:  # fmt: skip
        if not 0 < interval_s < np.inf or not 0 < raise_at < np.inf or not keep_s >= 0:
            raise ValueError(f"interval_s {interval_s}, raise_at {raise_at} and keep_s {keep_s} must be positive")
        self.interval_s, self.raise_at, self.keep_s = interval_s, raise_at, keep_s
        self.ports, self.devices = _Kind(PORT, warm, period_s), _Kind(DEVICE, warm, period_s)
        self.refused = 0  # samples of elements beyond MOST_ELEMENTS
        self._passed_s = -np.inf
        self._shown: dict[tuple[str, str], Anomaly] = {}

    def observe(self, sample: PortSample | DeviceSample) -> None:
        """Keep a sample for the next pass; a newer one of the element replaces it."""
        kind = self.ports if isinstance(sample, PortSample) else self.devices
        if sample.element not in kind.rows and len(kind.rows) + len(kind.newest) >= MOST_ELEMENTS:
            self.refused += 1
        elif abs(sample.time_s) < 1e100:  # nan too
            kind.newest[sample.element] = sample

    def observe_many(self, samples: Sequence[PortSample | DeviceSample]) -> None:
        for sample in samples:
            self.observe(sample)

    def tick(self, now_s: float) -> list[Anomaly]:
        """A pass when the interval is over; returns what is new in it, the oddest first."""
        if self._passed_s <= now_s < self._passed_s + self.interval_s:
            return []
        self._passed_s = now_s
        found = self.ports.pass_(self.raise_at) + self.devices.pass_(self.raise_at)
        for item in found:
            self._shown[item.element, item.signal] = item
        return sorted(found, key=lambda item: -item.oddity)

    def anomalies(self, now_s: float) -> list[Anomaly]:
        """The latest anomaly of each signal in the last ``keep_s``, the oddest first."""
        self._shown = {key: item for key, item in self._shown.items() if now_s - item.time_s <= self.keep_s}
        return sorted(self._shown.values(), key=lambda item: -item.oddity)

    def drop(self, element: str) -> None:
        """Forget an element that is gone; its row is used again."""
        self.ports.drop(element)
        self.devices.drop(element)
        self._shown = {key: item for key, item in self._shown.items() if key[0] != element}
