"""The cascade: a cheap score for every element at every tick, the real model for the suspicious ones only.

The screen is one logistic score over a few numbers per element (:data:`ml.screen.SCREEN`), fitted so that hardly
anything that the second stage would call probable stays below its ``gate``; what does is given the share of
failures that training saw there. A mode without a screen (the lab's small models) is judged as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import wide
from ml.bank import Bank
from ml.boosted import BoostedModel
from ml.estimators.base import Floats
from ml.features import DeviceBank, PortBank
from ml.hazard import HazardModel, ModelError, Together
from ml.neighbours import Neighbours
from ml.schema import Mode
from ml.screen import SCREEN, screen_devices, screen_ports

Model = HazardModel | BoostedModel
Rows = NDArray[np.intp]
PORTS = (Mode.LINK_FAILURE, Mode.CONGESTION)


@dataclass(frozen=True, slots=True)
class Screen:
    """Rows whose ``weights @ columns + offset`` is below 0 are not suspicious: their probability is ``floor``."""

    mode: Mode
    weights: tuple[float, ...]
    offset: float
    floor: float

    def __post_init__(self) -> None:
        if len(self.weights) != len(SCREEN[self.mode]):
            raise ModelError(f"{self.mode} screen: {len(self.weights)} weights, not {len(SCREEN[self.mode])}")
        if not all(0 <= w < np.inf for w in self.weights) or not np.isfinite(self.offset) or not 0 <= self.floor < 1:
            raise ModelError(f"{self.mode} screen: weights that are negative or not finite")

    def score(self, columns: Floats | Sequence[Floats]) -> Floats:
        """Above 0: suspicious. ``columns``: (columns, rows)."""
        parts = np.empty((len(self.weights) + 1, len(columns[0])))
        parts[0] = self.offset
        np.multiply(np.asarray(columns), self._column, out=parts[1:])
        total: Floats = np.add.reduce(parts, axis=0)
        if np.isnan(total).any():  # rare: what is not known counts as 0
            return self.score(np.nan_to_num(np.asarray(columns)))
        return total

    @property
    def _column(self) -> Floats:
        return np.array(self.weights)[:, None]

    def document(self) -> dict[str, Any]:
        names = SCREEN[self.mode]
        return {
            "weights": dict(zip(names, self.weights, strict=True)),
            "offset": self.offset,
            "floor": self.floor,
        }

    @classmethod
    def from_document(cls, mode: Mode, content: Mapping[str, Any]) -> Screen:
        weights = tuple(float(content["weights"][name]) for name in SCREEN[mode])
        return cls(mode, weights, float(content["offset"]), float(content["floor"]))


@dataclass(frozen=True, slots=True)
class Judgement:
    """One mode, one moment. ``probability`` within the last horizon and ``flip``, the score that flips are decided on
    (0..1): all rows; ``rows`` had the second stage, ``x`` are their features."""

    probability: Floats
    rows: Rows
    x: Floats
    flip: Floats

    def features_of(self, row: int) -> Floats | None:
        """Features of one row; None when it never was suspicious."""
        place = int(np.searchsorted(self.rows, row))
        return self.x[place] if place < len(self.rows) and self.rows[place] == row else None


@dataclass
class Cascade:
    """Models of all modes with their screens; holds nothing of the network but who shares a risk with whom."""

    models: Mapping[Mode, Model]
    screens: Mapping[Mode, Screen] = field(default_factory=dict)
    neighbours: Neighbours | None = None

    def ports(
        self, bank: PortBank, before: tuple[Judgement, Judgement] | None = None, changed: Rows | None = None
    ) -> tuple[Judgement, Judgement]:
        """(link failure, congestion) of all ports.

        With the judgement ``before`` only what has ``changed`` since then is judged, by the same arithmetic (sums of
        the linear models may differ in the last bit); ``before`` is brought up to date in place where that does.
        """
        count = len(bank.newest)
        rows = self._again(changed, count) if before is not None and changed is not None else slice(None)
        if self.together is not None:
            link, congestion = self._together(self.together, bank, rows, before)
            return link, congestion
        found = []
        for k, (mode, own) in enumerate(zip(PORTS, self._port_suspects(bank, rows), strict=True)):
            x = self._x(mode, bank, own)
            found.append(self._judge(mode, own, rows, count, x, None if before is None else before[k]))
        return found[0], found[1]

    @cached_property
    def together(self) -> Together | None:
        """Both modes of a port in one pass, where all ports are judged by linear models."""
        models = [self.models[mode] for mode in PORTS]
        linear = [model for model in models if isinstance(model, HazardModel)]
        return Together(linear) if not self.screens and len(linear) == 2 else None

    @cached_property
    def alone(self) -> Together | None:
        """Overload of all devices, where a linear model judges them."""
        model = self.models[Mode.DEVICE_OVERLOAD]
        return (
            Together([model]) if Mode.DEVICE_OVERLOAD not in self.screens and isinstance(model, HazardModel) else None
        )

    @staticmethod
    def _together(
        together: Together, bank: Bank, rows: Rows | slice, before: Sequence[Judgement] | None
    ) -> Sequence[Judgement]:
        """Judgements of each of the models."""
        x = bank.narrow(rows)
        probability = together(x)
        parts = [x[part] for part in together.parts]
        if isinstance(rows, slice):
            every = np.arange(len(bank.newest))
            return [Judgement(p, every, own.copy().T, p) for p, own in zip(probability, parts, strict=True)]
        assert before is not None
        for item, p, own in zip(before, probability, parts, strict=True):
            item.probability[rows], item.x[rows] = p, own.T
        return before

    def devices(self, bank: DeviceBank, before: Judgement | None = None, changed: Rows | None = None) -> Judgement:
        """As :meth:`ports`, for overload."""
        mode = Mode.DEVICE_OVERLOAD
        rows: Rows | slice = slice(None)
        if before is not None and changed is not None and 2 * len(changed) < len(bank.newest):
            rows = changed
        if self.alone is not None:
            return self._together(self.alone, bank, rows, None if before is None else (before,))[0]
        own = self._suspects(mode, screen_devices(bank, rows) if self.screens else [], rows, bank)
        x = np.empty((0, 0))
        if len(own):
            boosted = isinstance(self.models[mode], BoostedModel)
            x = wide.devices(bank, own) if boosted else bank.features(rows if mode not in self.screens else own)
        return self._judge(mode, own, rows, len(bank.newest), x, before)

    def _again(self, changed: Rows, count: int) -> Rows | slice:
        """What has to be judged again when some rows have changed: those that share a risk with them, too."""
        if self.neighbours is not None and any(isinstance(self.models[mode], BoostedModel) for mode in PORTS):
            changed = self.neighbours.peers(changed)
        return changed if 2 * len(changed) < count else slice(None)

    def _x(self, mode: Mode, bank: PortBank, own: Rows) -> Floats:
        """Features of the suspicious ports."""
        if not len(own):
            return np.empty((0, 0))
        link = mode is Mode.LINK_FAILURE
        if isinstance(self.models[mode], BoostedModel):
            return (wide.link_ports if link else wide.congestion_ports)(bank, own, self.neighbours)
        return bank.link_features(own) if link else bank.congestion_features(own)

    @cached_property
    def _weights(self) -> Floats | None:
        """Offset and weights of both screens of ports; None where one is missing."""
        both = [self.screens[mode] for mode in PORTS if mode in self.screens]
        if len(both) < len(PORTS):
            return None
        return np.concatenate([(screen.offset, *screen.weights) for screen in both])

    def _port_suspects(self, bank: PortBank, rows: Rows | slice) -> tuple[Rows, Rows]:
        if bank.screening is not None and self._weights is not None:
            return bank.screening.suspects(rows, self._weights)
        screened: tuple[Sequence[Floats] | Floats, ...] = screen_ports(bank, rows) if self.screens else ([], [])
        one, other = (self._suspects(mode, x, rows, bank) for mode, x in zip(PORTS, screened, strict=True))
        return one, other

    def _suspects(self, mode: Mode, columns: Floats | Sequence[Floats], rows: Rows | slice, bank: Bank) -> Rows:
        """Those of ``rows`` that the screen lets pass."""
        screen = self.screens.get(mode)
        if screen is None:
            return np.arange(len(bank.newest)) if isinstance(rows, slice) else rows
        found = np.flatnonzero(screen.score(columns) >= 0.0)
        return found if isinstance(rows, slice) else rows[found]

    def _judge(
        self, mode: Mode, own: Rows, rows: Rows | slice, count: int, x: Floats, before: Judgement | None
    ) -> Judgement:
        fresh, soon = _judged(self.models[mode], x) if len(own) else (np.empty(0), np.empty(0))
        screen = self.screens.get(mode)
        if isinstance(rows, slice):
            if screen is None:
                return Judgement(fresh, own, x, soon)
            probability, flip = np.full(count, screen.floor), np.zeros(count)
            probability[own], flip[own] = fresh, soon
            return Judgement(probability, own, x, flip)
        assert before is not None
        if screen is None:
            if len(own):
                before.probability[own], before.flip[own], before.x[own] = fresh, soon, x
            return before
        before.probability[rows], before.flip[rows] = screen.floor, 0.0
        before.probability[own], before.flip[own] = fresh, soon
        again = np.zeros(count, dtype=bool)
        again[rows] = True
        other = ~again[before.rows]
        if not len(own) and np.count_nonzero(other) == len(other):
            return before  # nothing that was suspicious, and nothing that is
        parts = [part for part in (before.x[other], x) if len(part)]
        together = np.concatenate((before.rows[other], own))
        order = np.argsort(together)
        return Judgement(before.probability, together[order], np.concatenate(parts)[order] if parts else x, before.flip)


def _judged(model: Model, x: Floats) -> tuple[Floats, Floats]:
    """(probability within the last horizon, flip score). Boosted models have an ensemble for the latter; the lab's flip
    on the probability."""
    if isinstance(model, BoostedModel):
        return model.judge(x)
    probability = model.probability(x)
    return probability, probability
