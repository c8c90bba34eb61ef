"""Why a probability is what it is: the signals that moved it, in words with units."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, expm1, isnan, nan

from ml.bank import CONTEXT, Bank
from ml.boosted import BoostedModel
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.hazard import HazardModel
from ml.schema import Reason

MOST = 4  # reasons given
SMALLEST = 0.05  # log odds
OUTSIDE = {
    "rain_mm_per_h": "rain of {:.0f} mm/h",
    "rain_fade_db": "rain that ought to cost {:.0f} dB on this link",
    "gust_m_per_s": "gusts of {:.0f} m/s",
    "alert_severity": "weather alert of severity {:.0f} of 4",
    "maintenance_reduced_redundancy": "work that leaves less redundancy",
}


def reasons(
    model: HazardModel | BoostedModel, bank: Bank, row: int, x: Floats, *, prefix: str = ""
) -> tuple[Reason, ...]:
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
    """A slope per second in words; slow ones per minute or hour."""
    for scale, name in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if abs(slope) * scale >= 0.05:
            return f"{'rising' if slope > 0 else 'falling'} {abs(slope) * scale:.1f} {unit}/{name}"
    return "steady"


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
    if signal == "laser_bias_ma":
        level, slope, _, _ = bank.describe(row, "bias_log")
        usual = float(bank.deep.state[1, row, bank.SIGNALS.index("bias_log")])
        return exp(level), f"laser bias {exp(level):.1f} mA, {_moving(slope, 'e-folds')}, usually {exp(usual):.1f} mA"
    if signal == "temperature_c":
        level, slope, base, _ = bank.describe(row, "temperature_c")
        return level, f"transceiver at {level:.1f} degrees C, {_moving(slope, 'degrees')}, usually {base:.1f}"
    if signal == "neighbours":
        return nan, "others that share a risk with it are unwell"
    if signal in CONTEXT:
        value = float(bank.context[row, CONTEXT.index(signal)])
        return value, OUTSIDE[signal].format(value)
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
    if signal in CONTEXT:
        value = float(bank.context[row, CONTEXT.index(signal)])
        return value, OUTSIDE[signal].format(value)
    level, slope, base, _ = bank.describe(row, signal)
    name = "CPU" if signal == "cpu_utilization" else "memory"
    return level, f"{name} at {level:.0%}, {_moving(100 * slope, 'points')}, usually {base:.0%}"


def summary(items: Sequence[Reason]) -> str:
    """One line for logs.

    >>> summary([Reason("up", 0.0, "port is down", 3.0)])
    'port is down (+3.0)'
    """
    return "; ".join(f"{item.text} ({item.weight:+.1f})" for item in items)
