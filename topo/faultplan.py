"""A concrete fault as data: what is done to which element, when, and what may come of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypeAlias

from topo.traffic import FlowSpec

#: A schedule: (seconds from the start of the traffic, value), linear between the points.
Points: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Impairment:
    """Schedules for one port (``"s1:2"``) or device (``"s1"``); a first value holds from before its point on."""

    target: str
    schedule: tuple[tuple[str, Points], ...]


@dataclass(frozen=True, slots=True)
class CarrierChange:
    at_s: float
    link: str
    up: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A maintenance notice; start and end count from the start of the traffic, like everything in a plan."""

    id: str
    publish_s: float
    element: str  # link or switch
    start_s: float
    end_s: float
    summary: str


@dataclass(frozen=True, slots=True)
class FaultPlan:
    scenario: str
    kind: str
    topology: str
    seed: int
    foreseeable: bool
    duration_s: float
    elements: tuple[str, ...]  # links and devices struck: ("s1-s2",), ("s2",)
    onset_s: float | None  # when the first sign may show
    first_loss_s: float | None  # the first moment at which a packet may be lost
    end_s: float | None  # when the element works again, if it does within the run
    impairments: tuple[Impairment, ...] = ()
    carrier: tuple[CarrierChange, ...] = ()
    notices: tuple[Notice, ...] = ()
    background: tuple[FlowSpec, ...] = ()
    decoys: tuple[str, ...] = ()  # noisy links that stay healthy
    detail: str = ""  # for people

    def as_dict(self) -> dict[str, object]:
        return asdict(self)
