"""The features of the boosted hazards, computed for suspicious elements only: many more than the first stage has.

The first columns are those of :mod:`ml.features`; then come the long line and the lasting baseline (hours, where the
unit of time is minutes), variance, what is usual at this time of the day, neighbours that share a risk, and the
conditions outside. As there, a feature is 0 where all is well or nothing is known and grows with the evidence;
those with ``direction`` 0 may speak for or against. Nothing here depends on the clock, names or places.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.bank import BASE, CONTEXT, DEEP, DOUBT, LONG, PHASES, QUICK, SLOW, STEADY, Bank
from ml.block import LINES, Block
from ml.estimators.base import Floats, Rows
from ml.estimators.trend import JUMP_SAMPLES, Line
from ml.features import (
    CONGESTION_FEATURES,
    FEATURES,
    LINK_FEATURES,
    MOST_REAL_LOAD,
    OVERLOAD_FEATURES,
    DeviceBank,
    Feature,
    PortBank,
    bounded,
    bounds,
)
from ml.neighbours import Neighbours
from ml.schema import Mode

POWER, MARGIN, LOAD, QUEUE, BIAS, WARM = 0, 1, 2, 3, 5, 6
CPU, MEMORY, BACKLOG = 0, 1, 2
SOON = 2.0  # units ahead at which lines are read for the flip
MARGIN_MOST = 11.0  # dB: what an error ratio too small to be measured stands for (ml.physics.BEST_BER)

WIDE_LINK = (
    *LINK_FEATURES,
    Feature("margin_gone", "pre_fec_ber", 11.0),  # dB below 11
    Feature("margin_mean_gone", "pre_fec_ber", 11.0),  # dB below 11, short mean
    Feature("margin_long_gone", "pre_fec_ber", 11.0),  # dB below 11, long line
    Feature("margin_eaten", "pre_fec_ber", 11.0),  # dB below the lasting baseline
    Feature("margin_drifting", "pre_fec_ber", 8.0),  # dB per unit, long line
    Feature("margin_used_up", "pre_fec_ber", 6.0),  # 1 / units until the limit, long line
    Feature("margin_middle_gone", "pre_fec_ber", 11.0),  # dB below 11, middle line
    Feature("margin_sinking", "pre_fec_ber", 8.0),  # dB per unit, middle line
    Feature("margin_runs_out", "pre_fec_ber", 6.0),  # 1 / units until the limit, middle line
    Feature("margin_noise", "pre_fec_ber", 3.0, 0),  # dB, standard deviation
    Feature("power_lost", "rx_power_dbm", 40.0),  # dB below the lasting baseline
    Feature("power_drifting", "rx_power_dbm", 20.0),  # dB lost per unit, long line
    Feature("power_noise", "rx_power_dbm", 3.0, 0),  # dB, standard deviation
    Feature("bias_risen", "laser_bias_ma", 2.0),  # log of the multiple of the lasting baseline
    Feature("bias_rising", "laser_bias_ma", 1.0),  # log per unit, long line
    Feature("warmer", "temperature_c", 40.0, 0),  # degrees above the lasting baseline
    Feature("neighbours_lost", "neighbours", 20.0),  # dB that others of a shared risk have lost, mean
    Feature("rain", "rain_mm_per_h", 150.0, 0),
    Feature("rain_fade", "rain_fade_db", 60.0, 0),
    Feature("gust", "gust_m_per_s", 60.0, 0),
    Feature("alert", "alert_severity", 4.0, 0),
    Feature("less_redundant", "maintenance_reduced_redundancy", 1.0, 0),
    Feature("margin_share", "pre_fec_ber", 2.0),  # share of the lasting baseline that is gone, short mean
    Feature("margin_share_middle", "pre_fec_ber", 2.0),  # the same, middle line
    Feature("margin_share_long", "pre_fec_ber", 2.0),  # the same, long line
    Feature("margin_next", "pre_fec_ber", 22.0),  # dB below 11, SOON units ahead on the middle line
    Feature("margin_next_quick", "pre_fec_ber", 22.0),  # ... on the short line
)
WIDE_CONGESTION = (
    *CONGESTION_FEATURES,
    Feature("load_now", "utilization", 2.0),  # short mean
    Feature("load_long", "utilization", 2.0),  # long line
    Feature("load_drifting", "utilization", 1.0),  # per unit, long line
    Feature("load_used_up", "utilization", 6.0),  # 1 / units until the line rate, long line
    Feature("load_middle", "utilization", 2.0),  # middle line
    Feature("load_swelling", "utilization", 1.0),  # per unit, middle line
    Feature("load_runs_out", "utilization", 6.0),  # 1 / units until the line rate, middle line
    Feature("load_over_usual", "utilization", 2.0, 0),  # above the lasting baseline
    Feature("load_noise", "utilization", 1.0, 0),  # standard deviation
    Feature("load_season", "utilization", 2.0, 0),  # usual at this time of the day, where known
    Feature("load_season_next", "utilization", 2.0),  # usual in the hour that comes
    Feature("queue_now", "queue_max_packets", 1.5),  # longest queue over its room, short mean of the logs
    Feature("queue_long", "queue_max_packets", 1.5),  # the same, long line
    Feature("queue_ahead", "queue_max_packets", 2.0),  # the same, one long time constant ahead
    Feature("queue_used_up", "queue_max_packets", 6.0),  # 1 / units until the room is used up, long line
    Feature("queue_middle", "queue_max_packets", 1.5),  # over its room, middle line
    Feature("queue_runs_out", "queue_max_packets", 6.0),  # 1 / units until the room is used up, middle line
    Feature("queue_drifting", "queue_max_packets", 4.0),  # log per unit, long line
    Feature("neighbours_load", "neighbours", 2.0),  # mean load of the others of a shared risk
    Feature("load_next", "utilization", 3.0),  # SOON units ahead on the middle line
    Feature("load_next_quick", "utilization", 3.0),  # ... on the short line
    Feature("load_least", "utilization", 2.0),  # least of short mean, middle and long line
    Feature("load_sure", "utilization", 2.0),  # middle line less one standard deviation
    Feature("queue_next", "queue_max_packets", 2.0),  # queue over its room, SOON units ahead on the middle line
    Feature("queue_packets", "queue_max_packets", 12.0),  # log(1 + packets), middle line: headroom seen by arrivals
    Feature("queue_packets_long", "queue_max_packets", 12.0),  # ... long line
)
WIDE_OVERLOAD = (
    *OVERLOAD_FEATURES,
    Feature("cpu_now", "cpu_utilization", 1.5),  # short mean
    Feature("cpu_long", "cpu_utilization", 1.5),
    Feature("cpu_drifting", "cpu_utilization", 1.0),
    Feature("cpu_used_up", "cpu_utilization", 6.0),
    Feature("cpu_middle", "cpu_utilization", 1.5),
    Feature("cpu_swelling", "cpu_utilization", 1.0),
    Feature("cpu_runs_out", "cpu_utilization", 6.0),
    Feature("cpu_over_usual", "cpu_utilization", 1.5, 0),
    Feature("cpu_noise", "cpu_utilization", 1.0, 0),
    Feature("cpu_season_next", "cpu_utilization", 1.5),
    Feature("memory_now", "memory_utilization", 1.5),
    Feature("memory_drifting", "memory_utilization", 1.0),
    Feature("memory_used_up", "memory_utilization", 8.0),  # 1 / units until all is used, long line
    Feature("memory_ahead", "memory_utilization", 2.0),  # one long time constant ahead
    Feature("memory_over_usual", "memory_utilization", 1.0, 0),
    Feature("backlog_now", "backlog_packets", 12.0),  # log(1 + packets), short mean
    Feature("cpu_next", "cpu_utilization", 3.0),  # SOON units ahead on the middle line
    Feature("cpu_next_quick", "cpu_utilization", 3.0),  # ... on the short line
    Feature("cpu_least", "cpu_utilization", 1.5),  # least of short mean, middle and long line
    Feature("cpu_sure", "cpu_utilization", 1.5),  # middle line less one standard deviation
    Feature("memory_next", "memory_utilization", 2.0),  # SOON units ahead on the long line
    Feature("backlog_middle", "backlog_packets", 12.0),  # log(1 + packets), middle line
    Feature("backlog_long", "backlog_packets", 12.0),  # ... long line
)
WIDE: dict[Mode, tuple[Feature, ...]] = {
    Mode.LINK_FAILURE: WIDE_LINK,
    Mode.CONGESTION: WIDE_CONGESTION,
    Mode.DEVICE_OVERLOAD: WIDE_OVERLOAD,
}
_NARROW = {mode: len(features) for mode, features in FEATURES.items()}
_BOUNDS = {mode: bounds(features[_NARROW[mode] :]) for mode, features in WIDE.items()}


def wide_digest(features: Sequence[Feature]) -> str:
    """Identifies a list of features and the settings that give them their meaning."""
    jumps = [[bank.LATE_JUMP, bank.JUMP_RATE, bank.SEASONAL] for bank in (PortBank, DeviceBank)]
    settings = [QUICK, SLOW, BASE, LONG, DEEP, STEADY, DOUBT, PHASES, CONTEXT, MARGIN_MOST, SOON, MOST_REAL_LOAD, jumps]
    content = [settings, JUMP_SAMPLES, [[f.name, f.signal, f.bound, f.direction] for f in features]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def short_mean(bank: Bank, signal: int, rows: Rows = slice(None)) -> Floats:
    """Short mean of a signal, nan where it was never measured; shape (rows,)."""
    state = bank.trend.state
    weight = state[0, rows, signal]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Floats = state[3, rows, signal] / weight + state[6, rows, signal]
    return mean


def lasting(bank: Bank, signal: int, rows: Rows = slice(None)) -> Floats:
    """Lasting baseline of a signal, nan where it was never measured."""
    state = bank.deep.state
    level: Floats = np.where(state[0, rows, signal] > 0.0, state[1, rows, signal], np.nan)
    return level


def power_lost(bank: PortBank, rows: Rows = slice(None)) -> Floats:
    """dB below the lasting baseline, never negative, 0 where unknown."""
    lost: Floats = np.fmin(np.fmax(lasting(bank, POWER, rows) - short_mean(bank, POWER, rows), 0.0), 20.0)
    return lost


def _short_means(block: Block) -> Floats:
    """:func:`short_mean` of every signal, shape (signals, rows)."""
    weight, total, origin = block.parts.trend[0:7:3, 0]
    mean = np.full(weight.shape, np.nan)
    np.divide(total, weight, out=mean, where=weight > 0.0)
    mean += origin
    return mean


def _lastings(block: Block) -> Floats:
    """:func:`lasting` of every signal, shape (signals, rows)."""
    weight, level, _ = block.parts.levels[:, 1]
    known: Floats = np.where(weight > 0.0, level, np.nan)
    return known


def _noises(block: Block) -> Floats:
    """Standard deviation of every signal, shape (signals, rows)."""
    weight, _, squares = block.parts.spread
    deviation: Floats = np.sqrt(np.maximum(squares, 0.0) / np.maximum(weight, 1.0))
    return deviation


def _lines(lines: Line) -> tuple[Floats, Floats]:
    """(level, slope shrunk by two standard errors) of all signals, each (lines, signals, rows)."""
    level, slope, error = (part.reshape(LINES, -1, part.shape[-1]) for part in lines)
    sure = np.abs(slope)
    sure -= DOUBT[0] * error
    np.maximum(sure, 0.0, out=sure)
    return level, np.copysign(sure, slope, out=sure)


def _pack(narrow: Floats, mode: Mode, columns: Sequence[Floats]) -> Floats:
    """Narrow features (features, rows), which are bounded already, and further columns: (rows, features)."""
    found = np.empty((len(narrow) + len(columns), narrow.shape[1]))
    found[: len(narrow)] = narrow
    own = found[len(narrow) :]
    for row, column in zip(own, columns, strict=True):
        row[:] = column
    bounded(own, _BOUNDS[mode])
    return found.T


def _closing(rising: Floats, left: Floats, least: float) -> Floats:
    closing: Floats = np.maximum(rising, 0.0) / np.maximum(left, least)
    return closing


def _share(base: Floats, now: Floats) -> Floats:
    """Share of a baseline that is gone; a baseline of less than 1 counts as 1."""
    share: Floats = (base - now) / np.fmax(base, 1.0)
    return share


def _season(bank: Bank, rows: Rows, ahead: float) -> Floats:
    """Usual value of the seasonal signal some units after each row's newest sample; nan where unknown."""
    if bank.season is None:
        return np.full(len(bank.newest[rows]), np.nan)
    return bank.season.usual(rows, bank.newest[rows] + ahead).level[:, 0]


def _compiled(
    bank: Bank, rows: NDArray[np.intp], function: str, narrow: slice, mode: Mode,
    neighbours: Neighbours | None = None, others: str = "",
) -> Floats:  # fmt: skip
    """The same features from compiled code; ``others``: what is asked about who shares a risk."""
    which = np.ascontiguousarray(rows, dtype=np.int64)
    near = limit = None
    if isinstance(bank, PortBank):
        near = np.zeros(len(rows)) if neighbours is None else neighbours.compiled(bank)(others, which)
        limit = bank.queue_limit.take(which) if mode is Mode.CONGESTION else None
    return bank.roomy(which).further(function, which, narrow, _BOUNDS[mode], near, limit)


def ports(bank: PortBank, rows: NDArray[np.intp], neighbours: Neighbours | None = None) -> tuple[Floats, Floats]:
    """(link failure, congestion) features of ``rows``, columns as :data:`WIDE_LINK` and :data:`WIDE_CONGESTION`."""
    return link_ports(bank, rows, neighbours), congestion_ports(bank, rows, neighbours)


def link_ports(bank: PortBank, rows: NDArray[np.intp], neighbours: Neighbours | None = None) -> Floats:
    """Features of ``rows`` for link failure."""
    if bank.kernels is not None:
        return _compiled(
            bank, rows, "wide_link", slice(len(LINK_FEATURES)), Mode.LINK_FAILURE, neighbours, "power_lost"
        )
    near = np.zeros(len(rows)) if neighbours is None else neighbours.near(rows, lambda own: power_lost(bank, own))
    block = bank.fetch(rows)
    lines, narrow = block.wide()
    (brief, middle, level), (quickly, moving, slope) = _lines(lines)
    outside = bank.context[rows].T
    means, usual, noise = _short_means(block), _lastings(block), _noises(block)
    margin_base = usual[MARGIN]
    margin, quick = level[MARGIN], means[MARGIN]
    wide_link = (
        MARGIN_MOST - quick,
        MARGIN_MOST - np.fmin(quick, margin),
        MARGIN_MOST - margin,
        margin_base - quick,
        -slope[MARGIN],
        _closing(-slope[MARGIN], margin, 0.3),
        MARGIN_MOST - middle[MARGIN],
        -moving[MARGIN],
        _closing(-moving[MARGIN], middle[MARGIN], 0.3),
        noise[MARGIN],
        usual[POWER] - means[POWER],
        -slope[POWER],
        noise[POWER],
        means[BIAS] - usual[BIAS],
        slope[BIAS],
        means[WARM] - usual[WARM],
        near,
        *outside,
        _share(margin_base, quick),
        _share(margin_base, middle[MARGIN]),
        _share(margin_base, margin),
        MARGIN_MOST - (middle[MARGIN] + SOON * moving[MARGIN]),
        MARGIN_MOST - (brief[MARGIN] + SOON * quickly[MARGIN]),
    )
    return _pack(narrow[: len(LINK_FEATURES)], Mode.LINK_FAILURE, wide_link)


def congestion_ports(bank: PortBank, rows: NDArray[np.intp], neighbours: Neighbours | None = None) -> Floats:
    """Features of ``rows`` for congestion."""
    if bank.kernels is not None:
        own = slice(len(LINK_FEATURES), None)
        return _compiled(bank, rows, "wide_congestion", own, Mode.CONGESTION, neighbours, "load")
    busy = np.zeros(len(rows))
    if neighbours is not None:
        busy = neighbours.near(rows, lambda own: np.nan_to_num(short_mean(bank, LOAD, own)))
    block = bank.fetch(rows)
    lines, narrow = block.wide()
    (brief, middle, level), (quickly, moving, slope) = _lines(lines)
    means, usual, noise = _short_means(block), _lastings(block), _noises(block)
    mean = means[LOAD]
    room = np.log1p(bank.queue_limit[rows])
    queue, queue_long = means[QUEUE], level[QUEUE]
    wide_congestion = (
        mean,
        level[LOAD],
        slope[LOAD],
        _closing(slope[LOAD], 1.0 - level[LOAD], 0.05),
        middle[LOAD],
        moving[LOAD],
        _closing(moving[LOAD], 1.0 - middle[LOAD], 0.05),
        mean - usual[LOAD],
        noise[LOAD],
        _season(bank, rows, 0.0),
        _season(bank, rows, 3600.0 / bank.unit_s),
        np.exp(np.minimum(queue - room, 1.0)),
        np.exp(np.minimum(queue_long - room, 1.0)),
        np.exp(np.minimum(queue_long + bank.taus.long * np.maximum(slope[QUEUE], 0.0) - room, 1.0)),
        _closing(slope[QUEUE] * np.exp(np.minimum(queue_long - room, 0.0)), 1.0 - np.exp(queue_long - room), 0.05),
        np.exp(np.minimum(middle[QUEUE] - room, 1.0)),
        _closing(
            moving[QUEUE] * np.exp(np.minimum(middle[QUEUE] - room, 0.0)), 1.0 - np.exp(middle[QUEUE] - room), 0.05
        ),
        slope[QUEUE],
        busy,
        middle[LOAD] + SOON * moving[LOAD],
        brief[LOAD] + SOON * quickly[LOAD],
        np.minimum(np.minimum(mean, middle[LOAD]), level[LOAD]),
        middle[LOAD] - noise[LOAD],
        np.exp(np.minimum(middle[QUEUE] + SOON * np.maximum(moving[QUEUE], 0.0) - room, 1.0)),
        middle[QUEUE],
        queue_long,
    )
    return _pack(narrow[len(LINK_FEATURES) :], Mode.CONGESTION, wide_congestion)


def devices(bank: DeviceBank, rows: NDArray[np.intp]) -> Floats:
    """Features of ``rows``, columns as :data:`WIDE_OVERLOAD`."""
    if bank.kernels is not None:
        return _compiled(bank, rows, "wide_overload", slice(None), Mode.DEVICE_OVERLOAD)
    block = bank.fetch(rows)
    lines, narrow = block.wide()
    (brief, middle, level), (quickly, moving, slope) = _lines(lines)
    means, usual, noise = _short_means(block), _lastings(block), _noises(block)
    cpu, memory = means[CPU], level[MEMORY]
    columns = (
        cpu,
        level[CPU],
        slope[CPU],
        _closing(slope[CPU], 1.0 - level[CPU], 0.05),
        middle[CPU],
        moving[CPU],
        _closing(moving[CPU], 1.0 - middle[CPU], 0.05),
        cpu - usual[CPU],
        noise[CPU],
        _season(bank, rows, 3600.0 / bank.unit_s),
        means[MEMORY],
        slope[MEMORY],
        _closing(slope[MEMORY], 1.0 - memory, 0.01),
        memory + bank.taus.long * np.maximum(slope[MEMORY], 0.0),
        means[MEMORY] - usual[MEMORY],
        means[BACKLOG],
        middle[CPU] + SOON * moving[CPU],
        brief[CPU] + SOON * quickly[CPU],
        np.minimum(np.minimum(cpu, middle[CPU]), level[CPU]),
        middle[CPU] - noise[CPU],
        memory + SOON * np.maximum(slope[MEMORY], 0.0),
        middle[BACKLOG],
        level[BACKLOG],
    )
    return _pack(narrow, Mode.DEVICE_OVERLOAD, columns)
