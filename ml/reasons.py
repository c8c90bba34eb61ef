"""Why a probability is what it is: the signals that moved it, in words with units."""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1, isnan

from ml.bank import Bank
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.hazard import HazardModel
from ml.schema import Reason

MOST = 4  # reasons given
SMALLEST = 0.05  # log odds


def reasons(model: HazardModel, bank: Bank, row: int, x: Floats, *, prefix: str = "") -> tuple[Reason, ...]:
    """The strongest signals behind one row's probability; features of the same signal are added up.

    ``prefix`` says where, for example ``"s2:3 "``.
    """
    weights: dict[str, float] = {}
    for feature, part in zip(model.features, model.contributions(x).tolist(), strict=True):
        weights[feature.signal] = weights.get(feature.signal, 0.0) + part
    strongest = sorted(weights.items(), key=lambda item: -item[1])[:MOST]
    found = []
    for signal, weight in strongest:
        if weight < SMALLEST:
            continue
        if isinstance(bank, PortBank):
            value, text = _port(bank, row, signal)
        elif isinstance(bank, DeviceBank):
            value, text = _device(bank, row, signal)
        else:
            raise TypeError(f"no words for {type(bank).__name__}")
        found.append(Reason(signal, value, prefix + text, weight))
    return tuple(found)


def _moving(slope: float, unit: str) -> str:
    if abs(slope) < 0.05:
        return "steady"
    return f"{'rising' if slope > 0 else 'falling'} {abs(slope):.1f} {unit}/s"


def _port(bank: PortBank, row: int, signal: str) -> tuple[float, str]:
    if signal in ("rx_power_dbm", "pre_fec_ber"):
        level, slope, base, sigma = bank.describe(row, "rx_power_dbm")
        margin, closing, _, _ = bank.describe(row, "margin_db")
        if signal == "pre_fec_ber" and not isnan(margin):
            return margin, f"error-correction margin {margin:.1f} dB, {_moving(closing, 'dB')}"
        away = (base - level) / sigma
        return level, f"receive power {level:.1f} dBm, {_moving(slope, 'dB')}, {away:.1f} sigma under its baseline"
    if signal == "utilization":
        level, slope, base, _ = bank.describe(row, "utilization")
        moving = _moving(100 * slope, "points")
        return level, f"load {level:.0%} of the line rate, {moving}, usually {base:.0%}"
    if signal == "queue_max_packets":
        level, slope, _, _ = bank.describe(row, "queue_log")
        return expm1(max(level, 0.0)), f"queue of {expm1(max(level, 0.0)):.0f} packets, {_moving(slope, 'e-folds')}"
    if signal == "heartbeat_rtt_us":
        level, _, base, _ = bank.describe(row, "rtt_log")
        return 10.0**level, f"heartbeat round trip {10.0**level:.0f} µs, usually {10.0**base:.0f} µs"
    if signal == "up":
        return float(bank.up[row]), "port is down"
    recent = bank.recent(row, signal)
    words = {
        "uncorrected_total": "uncorrectable code words",
        "rx_errors_total": "damaged frames",
        "heartbeat_lost_total": "heartbeats lost",
        "tx_dropped_total": "packets dropped at the full queue",
    }
    return recent, f"{recent:.1f} {words[signal]} lately"


def _device(bank: DeviceBank, row: int, signal: str) -> tuple[float, str]:
    if signal == "dropped_total":
        recent = bank.recent(row, signal)
        return recent, f"{recent:.1f} packets dropped by the device lately"
    if signal == "backlog_packets":
        level, slope, _, _ = bank.describe(row, "backlog_log")
        return expm1(max(level, 0.0)), f"backlog of {expm1(max(level, 0.0)):.0f} packets, {_moving(slope, 'e-folds')}"
    level, slope, base, _ = bank.describe(row, signal)
    name = "CPU" if signal == "cpu_utilization" else "memory"
    return level, f"{name} at {level:.0%}, {_moving(100 * slope, 'points')}, usually {base:.0%}"


def summary(items: Sequence[Reason]) -> str:
    """One line for logs.

    >>> summary([Reason("up", 0.0, "port is down", 3.0)])
    'port is down (+3.0)'
    """
    return "; ".join(f"{item.text} ({item.weight:+.1f})" for item in items)
