"""From samples to features: one bank of estimator states for all ports, one for all devices.

A feature is 0 where all is well or nothing is known, and grows with the evidence; no feature shrinks as things
get worse, so models may be fitted with weights that are never negative.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml import compiled
from ml.bank import BASE, DAYLESS_S, DOUBT, QUICK, SLOW, STEADY, Bank, Taus
from ml.block import Block
from ml.estimators.base import ONE, TWO, ZERO, Floats, Rows, fixed
from ml.estimators.trend import JUMP_SAMPLES, Line
from ml.physics import FEC_LIMIT_BER, margin_reader
from ml.schema import DeviceSample, Mode, PortSample

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
    settings = [QUICK, SLOW, BASE, STEADY, DOUBT, MARGIN_OK, jumps, JUMP_SAMPLES]
    content = [*settings, [[f.name, f.signal, f.bound] for f in features]]
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
PORT_BOUNDS = np.concatenate((BOUNDS[Mode.LINK_FAILURE], BOUNDS[Mode.CONGESTION]))
# Where features begin: dB of margin for margin_lost_quick, _slow and margin_low; shares of a line or a processor.
MARGIN_QUICK, MARGIN_SLOW, MARGIN_LOW = (fixed(v) for v in (7.0, 5.0, 3.0))
MOST_LOAD, MOST_REAL_LOAD = 2.0, 1.0  # of the line rate: in compressed time, and where samples take seconds
LOAD_HIGH, LOAD_FULL, MEAN_FULL = (fixed(v) for v in (0.7, 0.85, 0.92))
HALF, NEARLY, SOME_LEFT, SOONEST = (fixed(v) for v in (0.5, 0.05, 0.3, 1e-6))  # the latter three keep quotients finite
MINUS_ONE, SHORTEST, LEAST_BIAS, LEAST_WEIGHT, UNKNOWN = (fixed(v) for v in (-1.0, 1e-6, 0.1, 1e-12, np.nan))
SENT = 2  # the counter of bytes


def _filler(x: Floats, block: Block, line: Line, signal: int) -> Callable[[Floats], None]:
    """A function that writes the first ten features of what fills up, a line or a processor, into the first rows of
    ``x``, given how fast it does."""
    quick, load = line.level[:2, signal]
    weight, total, origin = block.parts.trend[:7:3, 0, signal]
    left, part = np.empty_like(load), np.empty_like(load)
    first, over, high, mean, full, half, one, rises, closing, soon = x[:10]

    def fill(rising: Floats) -> None:
        np.maximum(rising, ZERO, out=rises)
        np.subtract(quick, HALF, out=first)
        np.subtract(load, LOAD_HIGH, out=over)
        np.subtract(load, LOAD_FULL, out=high)
        np.maximum(weight, LEAST_WEIGHT, out=part)
        np.divide(total, part, out=part)
        np.add(part, origin, out=part)  # the short mean
        np.subtract(part, LOAD_HIGH, out=mean)
        np.subtract(part, MEAN_FULL, out=full)
        np.multiply(rises, HALF, out=half)  # half a unit ahead
        np.add(half, load, out=half)
        np.subtract(half, LOAD_FULL, out=half)
        np.add(rises, load, out=one)  # one unit ahead
        np.subtract(one, LOAD_FULL, out=one)
        np.subtract(ONE, load, out=left)
        np.maximum(left, NEARLY, out=part)
        np.divide(rises, part, out=closing)
        np.maximum(left, ZERO, out=left)
        np.maximum(rises, SOONEST, out=part)
        np.divide(left, part, out=left)
        np.subtract(TWO, left, out=soon)

    return fill


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
    JUDGED = 5
    FLOOR = np.array([0.1, 0.1, 0.02, 0.3, 0.2, 0.01, 0.5])
    JUMP = (2.0, 2.0, 0.15, np.inf, np.inf, np.inf, np.inf)
    LATE_JUMP = (2.0, 2.0, 0.35, np.inf, np.inf, np.inf, np.inf)
    JUMP_RATE = (5.0, 5.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    SEASONAL = (2,)
    HELD: ClassVar[dict[str, float]] = {"rate_bps": np.nan, "up": 1.0, "queue_limit_packets": np.nan}

    def __init__(
        self,
        rows: int,
        unit_s: float = 1.0,
        fec_limit_ber: float = FEC_LIMIT_BER,
        taus: Taus = Taus(),  # noqa: B008 (immutable)
    ) -> None:
        super().__init__(rows, unit_s, taus)
        self.fec_limit_ber = fec_limit_ber
        # Share of the line rate: a reading above it is a late stamp.
        self.most_load = MOST_LOAD if unit_s < DAYLESS_S else MOST_REAL_LOAD
        self.rate_bps, self.up, self.queue_limit = self.held
        self.screening = None if self.kernels is None else compiled.Screening(self.kernels, self)

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

    def bind_signals(self, block: Block) -> Callable[[], None]:
        if self.kernels is not None:
            return compiled.port_signals(self.kernels, block, 8.0 / self.unit_s, self.most_load, self.fec_limit_ber)
        power, ber, queue, rtt, speed_told, up_told, bias, warm, room_told = block.raw[: self.GAUGES]
        strength, margin, load, longest, trip, current, warmth = block.values
        (speed, up, room), moved = block.parts.held, block.counted[SENT]
        sent, span = block.parts.counters[4:6, SENT]  # bytes and the time in which they were sent
        flag = np.empty(block.rows, dtype=bool)
        read_margin = margin_reader(ber, margin, self.fec_limit_ber)
        bits, most = fixed(8.0 / self.unit_s), fixed(self.most_load)

        def read() -> None:
            for told, kept, above in ((speed_told, speed, ZERO), (up_told, up, MINUS_ONE), (room_told, room, ZERO)):
                np.greater(told, above, out=flag)
                np.copyto(kept, told, where=flag)
            np.copyto(strength, power)
            read_margin()
            np.greater(span, ZERO, out=flag)
            np.bitwise_and(flag, moved, out=flag)
            if np.count_nonzero(flag):
                np.maximum(span, SHORTEST, out=load)
                np.divide(sent, load, out=load)
                np.multiply(load, bits, out=load)
                np.divide(load, speed, out=load, where=flag)
                np.minimum(load, most, out=load)
                np.bitwise_not(flag, out=flag)
                np.copyto(load, UNKNOWN, where=flag)
            else:
                load.fill(np.nan)
            np.log1p(queue, out=longest)
            np.add(rtt, ONE, out=trip)
            np.log10(trip, out=trip)
            np.maximum(bias, LEAST_BIAS, out=current)
            np.log(current, out=current)
            np.copyto(warmth, warm)

        return read

    def features(self, rows: Rows = slice(None)) -> tuple[Floats, Floats]:
        """(link failure, congestion): one row per port of ``rows``, columns as the feature lists."""
        x = self.narrow(rows)
        return x[: len(LINK_FEATURES)].T.copy(), x[len(LINK_FEATURES) :].T.copy()

    def bind_features(self, block: Block, line: Line) -> Callable[[], Floats]:
        """Columns (features, rows): :data:`LINK_FEATURES`, then :data:`CONGESTION_FEATURES`."""
        if self.kernels is not None:  # all counters but that of bytes
            told = slice(SENT), slice(SENT + 1, None)
            return compiled.features(self.kernels, "port_features", block, line, PORT_BOUNDS, told)
        own = block.parts
        x = np.zeros((len(PORT_BOUNDS), block.rows))
        most = np.repeat(PORT_BOUNDS, block.rows, axis=1)
        (strength, near), trip, (power, margin), queue = (
            line.level[0, :2],
            line.level[0, 4],
            line.level[1, :2],
            line.level[1, 3],
        )
        usual, usual_trip, sigma = own.levels[1, 0, 0], own.levels[1, 0, 4], own.levels[2, 0, 4]
        fallen, up, recent = own.cusum[1, 0], own.held[1], own.counters[3]
        blind, left, part = np.empty(block.rows, dtype=bool), np.empty(block.rows), np.empty(block.rows)
        (
            gone, slow, low, half, one, falls, closing, soon, drop, change, uncorrected, errors, losses, rtt, down,
        ) = x[: len(LINK_FEATURES)]  # fmt: skip
        queues, swelling, dropped = x[-3:]
        slopes, fill = self.bind_lasting(line, 4), _filler(x[len(LINK_FEATURES) :], block, line, 2)
        cap, floor = fixed(self.cusum.cap), fixed(self.FLOOR[4])

        def read() -> Floats:
            lasting = slopes()
            np.subtract(usual, power, out=drop)
            np.isnan(margin, out=blind)
            first, level, slope = near, margin, lasting[1]
            if np.count_nonzero(blind):  # no bit error ratio: what the power lost, the margin lost
                first = np.where(blind, MARGIN_OK - (usual - strength), near)
                level = np.where(blind, MARGIN_OK - drop, margin)
                slope = np.where(blind, lasting[0], slope)
            np.negative(slope, out=falls)
            np.maximum(falls, ZERO, out=falls)
            np.subtract(MARGIN_QUICK, first, out=gone)
            np.subtract(MARGIN_SLOW, level, out=slow)
            np.subtract(MARGIN_LOW, level, out=low)
            np.multiply(falls, HALF, out=half)  # half a unit ahead
            np.subtract(level, half, out=half)
            np.subtract(MARGIN_LOW, half, out=half)
            np.subtract(level, falls, out=one)  # one unit ahead
            np.subtract(MARGIN_LOW, one, out=one)
            np.maximum(level, SOME_LEFT, out=part)
            np.divide(falls, part, out=closing)
            np.maximum(level, ZERO, out=left)
            np.maximum(falls, SOONEST, out=part)
            np.divide(left, part, out=left)
            np.subtract(TWO, left, out=soon)
            np.divide(fallen, cap, out=change)
            np.log1p(recent[0], out=uncorrected)
            np.log1p(recent[1], out=errors)
            np.log1p(recent[4], out=losses)
            np.subtract(trip, usual_trip, out=rtt)
            np.maximum(sigma, floor, out=part)
            np.divide(rtt, part, out=rtt)
            np.subtract(ONE, up, out=down)
            fill(lasting[2])
            np.copyto(queues, queue)
            np.copyto(swelling, lasting[3])
            np.log1p(recent[3], out=dropped)
            np.fmax(x, ZERO, out=x)  # nan becomes 0
            np.minimum(x, most, out=x)
            return x

        return read

    def link_features(self, rows: Rows = slice(None)) -> Floats:
        """Columns as :data:`LINK_FEATURES`."""
        return self.features(rows)[0]

    def congestion_features(self, rows: Rows = slice(None)) -> Floats:
        """Columns as :data:`CONGESTION_FEATURES`."""
        return self.features(rows)[1]


class DeviceBank(Bank):
    """All devices. Signals: CPU and memory (share), log backlog."""

    INPUTS = ("cpu_utilization", "memory_utilization", "backlog_packets", "dropped_total")
    GAUGES = 3
    SIGNALS = ("cpu_utilization", "memory_utilization", "backlog_log")
    TOLD = np.ones(4, dtype=bool)
    LOW = np.zeros(4)
    HIGH = np.array([1.5, 1.5, 1e9, 2.0**64])
    JUDGED = 3
    FLOOR = np.array([0.02, 0.01, 0.3])
    JUMP = LATE_JUMP = (0.15, 0.1, np.inf)
    JUMP_RATE = (1.0, 1.0, 0.0)
    SEASONAL = (0,)
    HELD: ClassVar[dict[str, float]] = {}

    @staticmethod
    def values(s: DeviceSample) -> tuple[float, ...]:
        """A sample as :attr:`INPUTS`."""
        return (s.cpu_utilization, s.memory_utilization, s.backlog_packets, s.dropped_total)

    def bind_signals(self, block: Block) -> Callable[[], None]:
        shares, backlog = block.raw[:2], block.raw[2]
        filled, logs = block.values[:2], block.values[2]

        def read() -> None:
            np.copyto(filled, shares)
            np.log1p(backlog, out=logs)

        return read

    def features(self, rows: Rows = slice(None)) -> Floats:
        """One row per device of ``rows``, columns as :data:`OVERLOAD_FEATURES`."""
        return self.narrow(rows).T.copy()

    def bind_features(self, block: Block, line: Line) -> Callable[[], Floats]:
        """Columns (features, rows): :data:`OVERLOAD_FEATURES`."""
        if self.kernels is not None:
            every = (slice(None),)
            return compiled.features(self.kernels, "device_features", block, line, BOUNDS[Mode.DEVICE_OVERLOAD], every)
        x = np.zeros((len(OVERLOAD_FEATURES), block.rows))
        most = np.repeat(BOUNDS[Mode.DEVICE_OVERLOAD], block.rows, axis=1)
        memory, backlog, dropped = line.level[1, 1], line.level[1, 2], block.parts.counters[3, 0]
        left = np.empty_like(memory)
        high, closing, waiting, swelling, drops = x[10:]
        slopes, fill = self.bind_lasting(line, 3), _filler(x, block, line, 0)

        def read() -> Floats:
            lasting = slopes()
            fill(lasting[0])
            np.subtract(memory, LOAD_FULL, out=high)
            np.subtract(ONE, memory, out=left)
            np.maximum(left, NEARLY, out=left)
            np.maximum(lasting[1], ZERO, out=closing)
            np.divide(closing, left, out=closing)
            np.copyto(waiting, backlog)
            np.copyto(swelling, lasting[2])
            np.log1p(dropped, out=drops)
            np.fmax(x, ZERO, out=x)  # nan becomes 0
            np.minimum(x, most, out=x)
            return x

        return read
