"""The cascade: a cheap score for every element at every tick, the real model for the suspicious ones only.

The screen is one logistic score over a few numbers per element (:data:`ml.wide.SCREEN`), fitted so that hardly
anything that the second stage would call probable stays below its ``gate``; what does is given the share of
failures that training saw there. A mode without a screen (the lab's small models) is judged as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import wide
from ml.boosted import BoostedModel
from ml.estimators.base import Floats
from ml.features import DeviceBank, Lines, PortBank
from ml.hazard import HazardModel, ModelError
from ml.schema import Mode

Model = HazardModel | BoostedModel
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Screen:
    """Rows whose ``weights @ columns + offset`` is below 0 are not suspicious: their probability is ``floor``."""

    mode: Mode
    weights: tuple[float, ...]
    offset: float
    floor: float

    def __post_init__(self) -> None:
        if len(self.weights) != len(wide.SCREEN[self.mode]):
            raise ModelError(f"{self.mode} screen: {len(self.weights)} weights, not {len(wide.SCREEN[self.mode])}")
        if not all(0 <= w < np.inf for w in self.weights) or not np.isfinite(self.offset) or not 0 <= self.floor < 1:
            raise ModelError(f"{self.mode} screen: weights that are negative or not finite")

    def score(self, columns: Sequence[Floats]) -> Floats:
        """Above 0: suspicious."""
        total = np.full(len(columns[0]), self.offset)
        for weight, column in zip(self.weights, columns, strict=True):
            if weight:
                total += weight * column
        if np.isnan(total).any():  # rare: what is not known counts as 0
            return self.score([np.nan_to_num(column) for column in columns])
        return total

    def document(self) -> dict[str, Any]:
        names = wide.SCREEN[self.mode]
        return {
            "weights": dict(zip(names, self.weights, strict=True)),
            "offset": self.offset,
            "floor": self.floor,
        }

    @classmethod
    def from_document(cls, mode: Mode, content: Mapping[str, Any]) -> Screen:
        weights = tuple(float(content["weights"][name]) for name in wide.SCREEN[mode])
        return cls(mode, weights, float(content["offset"]), float(content["floor"]))


@dataclass(frozen=True, slots=True)
class Judgement:
    """One mode, one moment. ``probability``: all rows; ``rows`` had the second stage, ``x`` are their features."""

    probability: Floats
    rows: Rows
    x: Floats

    def features_of(self, row: int) -> Floats | None:
        """Features of one row; None when it never was suspicious."""
        place = int(np.searchsorted(self.rows, row))
        return self.x[place] if place < len(self.rows) and self.rows[place] == row else None


@dataclass
class Cascade:
    """Models of all modes with their screens; holds nothing of the network but who shares a risk with whom."""

    models: Mapping[Mode, Model]
    screens: Mapping[Mode, Screen] = field(default_factory=dict)
    neighbours: wide.Neighbours | None = None

    def ports(self, bank: PortBank) -> tuple[Judgement, Judgement]:
        """(link failure, congestion) of all ports."""
        screened = bool(self.screens)
        link, congestion = wide.screen_ports(bank) if screened else ([], [])
        suspects = [
            self._suspects(mode, columns, len(bank.newest))
            for mode, columns in ((Mode.LINK_FAILURE, link), (Mode.CONGESTION, congestion))
        ]
        lines = None if screened else bank._lines(4)  # all rows of both modes: fitted once
        found = []
        for mode, rows in zip((Mode.LINK_FAILURE, Mode.CONGESTION), suspects, strict=True):
            found.append(self._judge(mode, rows, len(bank.newest), self._x(mode, bank, rows, lines)))
        return found[0], found[1]

    def devices(self, bank: DeviceBank) -> Judgement:
        mode = Mode.DEVICE_OVERLOAD
        rows = self._suspects(mode, wide.screen_devices(bank) if self.screens else [], len(bank.newest))
        x = np.empty((0, 0))
        if len(rows):
            boosted = isinstance(self.models[mode], BoostedModel)
            x = wide.devices(bank, rows) if boosted else bank.features(rows)
        return self._judge(mode, rows, len(bank.newest), x)

    def _x(self, mode: Mode, bank: PortBank, rows: Rows, lines: Lines | None) -> Floats:
        """Features of the suspicious ports; a view of the whole state is cheaper than picking all rows of it."""
        if not len(rows):
            return np.empty((0, 0))
        link = mode is Mode.LINK_FAILURE
        if isinstance(self.models[mode], BoostedModel):
            return (wide.link_ports if link else wide.congestion_ports)(bank, rows, self.neighbours)
        pick = slice(None) if len(rows) == len(bank.newest) else rows
        own = lines if isinstance(pick, slice) else None
        return bank.link_features(pick, own) if link else bank.congestion_features(pick, own)

    def _suspects(self, mode: Mode, columns: Sequence[Floats], count: int) -> Rows:
        screen = self.screens.get(mode)
        return np.arange(count) if screen is None else np.flatnonzero(screen.score(columns) >= 0.0)

    def _judge(self, mode: Mode, rows: Rows, count: int, x: Floats) -> Judgement:
        if len(rows) == count and count:
            return Judgement(self.models[mode].probability(x), rows, x)
        probability = np.full(count, self.screens[mode].floor)
        if len(rows):
            probability[rows] = self.models[mode].probability(x)
        return Judgement(probability, rows, x)
