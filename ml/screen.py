"""The screen: a few numbers per element, cheap enough for all of them at every tick, say who is suspicious.

Columns are 0 where all is well or nothing is known, and bounded, as features are. What they weigh is fitted
(:class:`ml.cascade.Screen`).
"""

from __future__ import annotations

import numpy as np

from ml.estimators.base import Floats, Rows, pick_rows
from ml.features import DeviceBank, PortBank
from ml.schema import Mode
from ml.wide import BIAS, LOAD, MARGIN, POWER, QUEUE

LINK_MOST = np.array([[8.0], [8.0], [20.0], [1.0], [1.0], [1.0], [20.0]])  # bounds of the screen's columns
CONGESTION_MOST = np.array([[1.0], [1.0], [2.0], [1.0]])
QUEUE_CALM, BACKLOG_CALM = 0.6, 3.0  # log of the queue over the log of its room; log of the backlog
DEVICE_CALM = np.array([[0.5], [0.5], [BACKLOG_CALM]])

SCREEN: dict[Mode, tuple[str, ...]] = {
    Mode.LINK_FAILURE: ("margin_gone", "margin_eaten", "power_lost", "trouble", "down", "bias_risen", "rain_fade"),
    Mode.CONGESTION: ("load_over_half", "load_risen", "queue_over", "dropped"),
    Mode.DEVICE_OVERLOAD: ("cpu_over_half", "memory_over_half", "backlog_over", "dropped", "cpu_risen", "memory_risen"),
}


def screen_ports(bank: PortBank, rows: Rows = slice(None)) -> tuple[Floats, Floats]:
    """Columns of the screen for link failure and congestion, each (columns, rows), 0 where unknown."""
    if bank.screening is not None:
        columns = bank.screening.columns(rows)
        return columns[: len(LINK_MOST)], columns[len(LINK_MOST) :]
    # Signals as rows; temperature is not among the columns.
    weight, total, origin = (pick_rows(bank.trend.state[k, :, : BIAS + 1], rows).T for k in (0, 3, 6))
    deep, recent = pick_rows(bank.deep.state[1], rows).T, pick_rows(bank.counters.state[3], rows).T
    limit = bank.queue_limit[rows]
    mean = np.maximum(weight, 1e-9)
    np.divide(total, mean, out=mean)
    mean += origin
    known = weight > 0.0
    mean *= known
    link, congestion = np.empty((len(LINK_MOST), len(limit))), np.empty((len(CONGESTION_MOST), len(limit)))
    np.subtract(7.0, mean[MARGIN], out=link[0])
    np.subtract(deep[MARGIN], mean[MARGIN], out=link[1])
    link[:2] *= known[MARGIN]
    np.subtract(deep[POWER], mean[POWER], out=link[2])
    np.add(recent[0], recent[1], out=link[3])
    link[3] += recent[4]
    np.subtract(1.0, bank.up[rows], out=link[4])
    np.subtract(mean[BIAS], deep[BIAS], out=link[5])
    link[6] = bank.context[rows, 1]
    np.subtract(mean[LOAD], 0.5, out=congestion[0])
    np.subtract(mean[LOAD], deep[LOAD], out=congestion[1])
    room = np.log1p(limit)
    np.fmax(room, 1.0, out=room)
    room[np.isnan(limit)] = 6.0
    np.divide(mean[QUEUE], room, out=congestion[2])
    congestion[2] -= QUEUE_CALM
    congestion[3] = recent[3]
    for columns, most in ((link, LINK_MOST), (congestion, CONGESTION_MOST)):
        np.maximum(columns, 0.0, out=columns)
        np.minimum(columns, most, out=columns)
    return link, congestion


def screen_devices(bank: DeviceBank, rows: Rows = slice(None)) -> list[Floats]:
    """Columns of the screen for overload."""
    weight, total, origin = (pick_rows(bank.trend.state[k, :, :3], rows).T for k in (0, 3, 6))
    mean = total / np.maximum(weight, 1e-9)
    mean += origin
    mean *= weight > 0.0
    dropped = np.minimum(bank.counters.state[3, rows, 0], 1.0)
    high = np.minimum(np.maximum(mean - DEVICE_CALM, 0.0), 12.0)
    risen = np.minimum(np.maximum(mean - pick_rows(bank.deep.state[1], rows).T, 0.0), 1.0)
    return [high[0], high[1], high[2], dropped, risen[0], risen[1]]
