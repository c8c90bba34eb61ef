"""From samples to features: one bank of estimator states for all ports, one for all devices.

A feature is 0 where all is well or nothing is known, and grows with the evidence; no feature shrinks as things
get worse, so models may be fitted with weights that are never negative.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ml.bank import BASE, DOUBT, QUICK, SLOW, STEADY, Bank, Taus
from ml.estimators.base import Floats, Rows, pick_rows
from ml.physics import FEC_LIMIT_BER, margin_db
from ml.schema import DeviceSample, Mode, PortSample

Lines: TypeAlias = tuple[Floats, Floats, Floats]
MARGIN_OK = 8.0  # dB of Q that a healthy receiver has; used only until its own is known


@dataclass(frozen=True, slots=True)
class Feature:
    """``signal`` is the schema's field (or ``utilization``) that a person would look at."""

    name: str
    signal: str
    bound: float  # values are within 0..bound
    direction: int = 1  # 1: more is never better; 0: may speak for or against (boosted hazards only)


def schema_digest(features: Sequence[Feature]) -> str:
    """Identifies a list of features and the settings that give them their meaning."""
    jumps = [[bank.JUMP, bank.JUMP_RATE] for bank in (PortBank, DeviceBank)]
    content = [QUICK, SLOW, BASE, STEADY, DOUBT, MARGIN_OK, jumps, [[f.name, f.signal, f.bound] for f in features]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def bounds(features: Sequence[Feature]) -> Floats:
    """Their bounds, shape (features, 1)."""
    return np.array([[f.bound] for f in features])


def bounded(columns: Floats, bound: Floats) -> Floats:
    """Columns (features, rows) brought within their bounds in place, unknown as 0; shape (rows, features)."""
    np.fmax(columns, 0.0, out=columns)  # nan becomes 0
    np.minimum(columns, bound, out=columns)
    return columns.T


LINK_FEATURES = (
    Feature("margin_lost_quick", "pre_fec_ber", 9.0),  # dB below 7
    Feature("margin_lost_slow", "pre_fec_ber", 8.0),  # dB below 5
    Feature("margin_low", "pre_fec_ber", 6.0),  # dB below 3
    Feature("margin_in_half", "pre_fec_ber", 8.0),  # dB below 3, half a unit ahead
    Feature("margin_in_one", "pre_fec_ber", 8.0),  # dB below 3, one unit ahead
    Feature("margin_falling", "pre_fec_ber", 8.0),  # dB per unit
    Feature("margin_closing", "pre_fec_ber", 6.0),  # 1 / units until the limit
    Feature("margin_soon", "pre_fec_ber", 2.0),  # units by which the limit comes sooner than in 2
    Feature("power_drop", "rx_power_dbm", 12.0),  # dB under the baseline
    Feature("power_change", "rx_power_dbm", 1.0),  # CUSUM, share of its cap
    Feature("uncorrected", "uncorrected_total", 8.0),  # log(1 + recent words)
    Feature("errors", "rx_errors_total", 8.0),  # log(1 + recent frames)
    Feature("lost", "heartbeat_lost_total", 4.0),  # log(1 + recent heartbeats)
    Feature("rtt", "heartbeat_rtt_us", 3.0),  # sigmas over the baseline; its weight is kept small
    Feature("down", "up", 1.0),
)
CONGESTION_FEATURES = (
    Feature("load_quick", "utilization", 0.8),  # share of the line rate over 0.5
    Feature("load_slow", "utilization", 0.6),  # over 0.7
    Feature("load_high", "utilization", 0.4),  # over 0.85
    Feature("load_mean", "utilization", 0.6),  # over 0.7, short mean instead of a line's end: no overshoot
    Feature("load_full", "utilization", 0.2),  # short mean over 0.92
    Feature("load_in_half", "utilization", 1.0),  # over 0.85, half a unit ahead
    Feature("load_in_one", "utilization", 1.0),  # over 0.85, one unit ahead
    Feature("load_rising", "utilization", 1.0),  # per unit
    Feature("load_closing", "utilization", 6.0),  # 1 / units until the line rate
    Feature("load_soon", "utilization", 2.0),  # units by which the line rate comes sooner than in 2
    Feature("queue", "queue_max_packets", 8.0),  # log(1 + packets)
    Feature("queue_rising", "queue_max_packets", 8.0),  # log per unit
    Feature("dropped", "tx_dropped_total", 8.0),  # log(1 + recent packets)
)
OVERLOAD_FEATURES = (
    Feature("cpu_quick", "cpu_utilization", 0.5),  # over 0.5
    Feature("cpu_slow", "cpu_utilization", 0.3),  # over 0.7
    Feature("cpu_high", "cpu_utilization", 0.15),  # over 0.85
    Feature("cpu_mean", "cpu_utilization", 0.3),  # over 0.7, short mean
    Feature("cpu_full", "cpu_utilization", 0.1),  # short mean over 0.92
    Feature("cpu_in_half", "cpu_utilization", 1.0),  # over 0.85, half a unit ahead
    Feature("cpu_in_one", "cpu_utilization", 1.0),  # over 0.85, one unit ahead
    Feature("cpu_rising", "cpu_utilization", 1.0),
    Feature("cpu_closing", "cpu_utilization", 6.0),
    Feature("cpu_soon", "cpu_utilization", 2.0),
    Feature("memory_high", "memory_utilization", 0.15),  # over 0.85
    Feature("memory_closing", "memory_utilization", 6.0),
    Feature("backlog", "backlog_packets", 10.0),  # log(1 + packets)
    Feature("backlog_rising", "backlog_packets", 10.0),  # log per unit
    Feature("dropped", "dropped_total", 8.0),
)
FEATURES: dict[Mode, tuple[Feature, ...]] = {
    Mode.LINK_FAILURE: LINK_FEATURES,
    Mode.CONGESTION: CONGESTION_FEATURES,
    Mode.DEVICE_OVERLOAD: OVERLOAD_FEATURES,
}
BOUNDS = {mode: bounds(features) for mode, features in FEATURES.items()}
MARGIN_LEVELS = np.array([[5.0], [3.0]])  # dB of margin under which margin_lost_slow and margin_low begin
LOAD_LEVELS, LOAD_MEANS = np.array([[0.7], [0.85]]), np.array([[0.7], [0.92]])  # load_slow, _high; load_mean, _full
AHEAD = np.array([[0.5], [1.0]])  # units


def _filling(x: Floats, quick: Floats, load: Floats, mean: Floats, rising: Floats) -> None:
    """The first ten features of what fills up, a line or a processor, into the first rows of ``x``."""
    np.subtract(quick, 0.5, out=x[0])
    np.subtract(load, LOAD_LEVELS, out=x[1:3])
    np.subtract(mean, LOAD_MEANS, out=x[3:5])
    ahead = x[5:7]
    np.multiply(AHEAD, rising, out=ahead)
    ahead += load
    ahead -= 0.85
    x[7] = rising
    left = 1.0 - load
    np.divide(rising, np.maximum(left, 0.05), out=x[8])
    np.maximum(left, 0.0, out=left)
    np.subtract(2.0, left / np.maximum(rising, 1e-6), out=x[9])


class PortBank(Bank):
    """All ports. Signals: receive power (dBm), margin (dB of Q), utilization (share), log queue, log10 RTT, laser bias
    (log of mA), temperature (degrees C)."""

    INPUTS = (
        "rx_power_dbm",
        "pre_fec_ber",
        "queue_max_packets",
        "heartbeat_rtt_us",
        "rate_bps",
        "up",
        "laser_bias_ma",
        "temperature_c",
        "queue_limit_packets",
        "uncorrected_total",
        "rx_errors_total",
        "tx_bytes_total",
        "tx_dropped_total",
        "heartbeat_lost_total",
    )
    GAUGES = 9
    SIGNALS = ("rx_power_dbm", "margin_db", "utilization", "queue_log", "rtt_log", "bias_log", "temperature_c")
    TOLD = np.array([True] * 4 + [False] * 2 + [True] * 2 + [False] + [True] * 5)
    LOW = np.array([-60.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -60.0, 0.0] + [0.0] * 5)
    HIGH = np.array([30.0, 0.5, 1e9, 6e7, 1e14, 1.0, 1e4, 150.0, 1e9] + [2.0**64] * 5)
    FLOOR = np.array([0.1, 0.1, 0.02, 0.3, 0.2, 0.01, 0.5])
    JUMP = (2.0, 2.0, 0.15, np.inf, np.inf, np.inf, np.inf)
    JUMP_RATE = (5.0, 5.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    SEASONAL = (2,)

    def __init__(
        self,
        rows: int,
        unit_s: float = 1.0,
        fec_limit_ber: float = FEC_LIMIT_BER,
        taus: Taus = Taus(),  # noqa: B008 (immutable)
    ) -> None:
        super().__init__(rows, unit_s, taus)
        self.fec_limit_ber = fec_limit_ber
        self.rate_bps = np.full(rows, np.nan)
        self.queue_limit = np.full(rows, np.nan)
        self.up = np.ones(rows)

    @staticmethod
    def values(s: PortSample) -> tuple[float, ...]:
        """A sample as :attr:`INPUTS`."""
        return (
            s.rx_power_dbm,
            s.pre_fec_ber,
            s.queue_max_packets,
            s.heartbeat_rtt_us,
            s.rate_bps,
            float(s.up),
            s.laser_bias_ma,
            s.temperature_c,
            s.queue_limit_packets,
            s.uncorrected_total,
            s.rx_errors_total,
            s.tx_bytes_total,
            s.tx_dropped_total,
            s.heartbeat_lost_total,
        )

    def forget(self, rows: int | Rows = slice(None)) -> None:
        super().forget(rows)
        self.rate_bps[rows] = np.nan
        self.queue_limit[rows] = np.nan
        self.up[rows] = 1.0

    def _signals(self, pick: int | Rows, raw: Floats, rates: Floats) -> Floats:
        speed = np.where(raw[..., 4] > 0.0, raw[..., 4], self.rate_bps[pick])
        self.rate_bps[pick] = speed
        self.up[pick] = np.where(np.isnan(raw[..., 5]), self.up[pick], raw[..., 5])
        self.queue_limit[pick] = np.where(raw[..., 8] > 0.0, raw[..., 8], self.queue_limit[pick])
        values = np.empty((*raw.shape[:-1], 7))
        values[..., 0] = raw[..., 0]
        values[..., 1] = margin_db(raw[..., 1], self.fec_limit_ber)
        values[..., 2] = np.minimum(8.0 / self.unit_s * rates[..., 2] / speed, 2.0)
        values[..., 3] = np.log1p(raw[..., 2])
        values[..., 4] = np.log10(raw[..., 3] + 1.0)
        values[..., 5] = np.log(np.maximum(raw[..., 6], 0.1))
        values[..., 6] = raw[..., 7]
        return values

    def features(self, rows: Rows = slice(None)) -> tuple[Floats, Floats]:
        """(link failure, congestion): one row per port of ``rows``, columns as the feature lists."""
        lines = self._lines(4, rows)
        return self.link_features(rows, lines), self.congestion_features(rows, lines)

    def _recent(self, rows: Rows, counter: slice) -> Floats:
        """log(1 + increments lately), shape (counters, rows)."""
        found: Floats = np.log1p(pick_rows(self.counters.state[3], rows)[:, counter].T)
        return found

    def link_features(self, rows: Rows = slice(None), lines: Lines | None = None) -> Floats:
        """Columns as :data:`LINK_FEATURES`; ``lines`` where they are known already."""
        quick, slow, lasting = lines or self._lines(4, rows)
        levels = pick_rows(self.base.state, rows)
        base, sigma = levels[1].T, levels[2].T
        drop = base[0] - slow[0]
        near, margin, falling = quick[1], slow[1], lasting[1]
        blind = np.isnan(margin)
        if np.count_nonzero(blind):  # no bit error ratio: what the power lost, the margin lost
            near = np.where(blind, MARGIN_OK - (base[0] - quick[0]), near)
            margin = np.where(blind, MARGIN_OK - drop, margin)
            falling = np.where(blind, lasting[0], falling)
        falling = np.maximum(-falling, 0.0)
        x = np.empty((len(LINK_FEATURES), len(drop)))
        np.subtract(7.0, near, out=x[0])
        np.subtract(MARGIN_LEVELS, margin, out=x[1:3])
        np.subtract(3.0, margin - AHEAD * falling, out=x[3:5])
        x[5] = falling
        np.divide(falling, np.maximum(margin, 0.3), out=x[6])
        np.subtract(2.0, np.maximum(margin, 0.0) / np.maximum(falling, 1e-6), out=x[7])
        x[8] = drop
        np.divide(pick_rows(self.cusum.state[1], rows)[:, 0], self.cusum.cap, out=x[9])
        x[10:12], x[12] = self._recent(rows, slice(2)), self._recent(rows, slice(4, 5))
        np.divide(quick[4] - base[4], np.maximum(sigma[4], self.FLOOR[4]), out=x[13])
        np.subtract(1.0, self.up[rows], out=x[14])
        return bounded(x, BOUNDS[Mode.LINK_FAILURE])

    def congestion_features(self, rows: Rows = slice(None), lines: Lines | None = None) -> Floats:
        """Columns as :data:`CONGESTION_FEATURES`."""
        quick, slow, lasting = lines or self._lines(4, rows)
        load, rising = slow[2], np.maximum(lasting[2], 0.0)
        x = np.empty((len(CONGESTION_FEATURES), len(load)))
        _filling(x, quick[2], load, self._mean(2, rows), rising)
        x[10], x[11] = slow[3], lasting[3]
        x[12] = self._recent(rows, slice(3, 4))
        return bounded(x, BOUNDS[Mode.CONGESTION])


class DeviceBank(Bank):
    """All devices. Signals: CPU and memory (share), log backlog."""

    INPUTS = ("cpu_utilization", "memory_utilization", "backlog_packets", "dropped_total")
    GAUGES = 3
    SIGNALS = ("cpu_utilization", "memory_utilization", "backlog_log")
    TOLD = np.ones(4, dtype=bool)
    LOW = np.zeros(4)
    HIGH = np.array([1.5, 1.5, 1e9, 2.0**64])
    FLOOR = np.array([0.02, 0.01, 0.3])
    JUMP = (0.15, 0.1, np.inf)
    JUMP_RATE = (1.0, 1.0, 0.0)
    SEASONAL = (0,)

    @staticmethod
    def values(s: DeviceSample) -> tuple[float, ...]:
        """A sample as :attr:`INPUTS`."""
        return (s.cpu_utilization, s.memory_utilization, s.backlog_packets, s.dropped_total)

    def _signals(self, pick: int | Rows, raw: Floats, rates: Floats) -> Floats:
        values = raw[..., :3].copy()
        values[..., 2] = np.log1p(values[..., 2])
        return values

    def features(self, rows: Rows = slice(None), lines: Lines | None = None) -> Floats:
        """One row per device of ``rows``, columns as :data:`OVERLOAD_FEATURES`."""
        quick, slow, lasting = lines or self._lines(3, rows)
        x = np.empty((len(OVERLOAD_FEATURES), len(slow[0])))
        _filling(x, quick[0], slow[0], self._mean(0, rows), np.maximum(lasting[0], 0.0))
        np.subtract(slow[1], 0.85, out=x[10])
        np.divide(np.maximum(lasting[1], 0.0), np.maximum(1.0 - slow[1], 0.05), out=x[11])
        x[12], x[13] = slow[2], lasting[2]
        x[14] = np.log1p(self.counters.state[3, rows, 0])
        return bounded(x, BOUNDS[Mode.DEVICE_OVERLOAD])
