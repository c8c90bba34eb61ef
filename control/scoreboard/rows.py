"""One line of the scoreboard, what it takes to compute it, and the verdict over all lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from control.settings import Strategy

CONTROL_RUN = "none"
"""Name of the scenario without any failure: it shows the floor of loss of this machine."""


@dataclass(frozen=True, slots=True)
class Row:
    """Packets are those of the protected flows, all flows of a run together."""

    scenario: str
    strategy: str
    sent: int
    lost: int
    reordered: int
    duplicated: int
    outage_ms: float  # longest silence of a flow beyond its sending interval, worst flow
    flips: int  # steering groups moved by the controller, reverts not counted
    false_flips: int  # those for an element that the fault plan does not touch, or before its first sign
    lead_ms: float | None  # from the first true flip to the first moment at which the fault can cost a packet
    flip_ms: float | None  # median time from decision to verified write
    control_lost: int  # packets lost by the same strategy in the run without failure
    seed: int
    foreseeable: bool

    @property
    def excess(self) -> int:
        """Packets lost above the floor."""
        return max(0, self.lost - self.control_lost)


@dataclass(frozen=True, slots=True)
class Flip:
    """What the ledger says of one flip, as far as the scoreboard needs it."""

    time_s: float  # epoch
    element: str  # threatened link ("s1-s2") or device ("s2")
    duration_ms: float | None


def judge_flips(
    flips: Sequence[Flip], affected: Iterable[str], onset_s: float | None, first_loss_s: float | None
) -> tuple[int, float | None, float | None]:
    """Number of false flips, lead in ms (negative: too late) and median flip time in ms.

    ``affected`` are the elements that the fault plan touches, ``onset_s`` is the epoch time of its first sign and
    ``first_loss_s`` that from which it can cost packets. A flip for another element, or before the first sign, is
    false; without an onset (a control run) every flip is.

    >>> judge_flips([Flip(10.0, "s1-s2", 2.0), Flip(11.0, "s3-s4", 4.0)], ["s1-s2"], 9.5, 11.5)
    (1, 1500.0, 2.0)
    """
    touched = set(affected)
    true = [flip for flip in flips if flip.element in touched and onset_s is not None and flip.time_s >= onset_s]
    lead = None
    if true and first_loss_s is not None:
        lead = round((first_loss_s - min(flip.time_s for flip in true)) * 1000, 3)
    times = sorted(flip.duration_ms for flip in flips if flip.duration_ms is not None)
    return len(flips) - len(true), lead, times[(len(times) - 1) // 2] if times else None


@dataclass(frozen=True, slots=True)
class Verdict:
    passed: bool
    text: str


def verdict(rows: Sequence[Row]) -> Verdict:
    """Pass if the predictive strategy lost nothing above the control run in every foreseeable scenario played."""
    judged = [row for row in rows if row.strategy == Strategy.PREDICTIVE and row.foreseeable]
    if not judged:
        return Verdict(True, "no foreseeable scenario was played under the predictive strategy; nothing to judge")
    failed = [row for row in judged if row.excess > 0 or row.sent == 0]
    if failed:
        parts = ", ".join(
            f"{row.scenario} ({row.excess:,} lost)" if row.sent else f"{row.scenario} (no packet was sent)"
            for row in failed
        )
        return Verdict(False, f"the predictive strategy lost packets that it should have saved: {parts}")
    sent = sum(row.sent for row in judged)
    return Verdict(
        True,
        f"predictive: 0 of {sent:,} packets lost above the control run in {len(judged)} foreseeable "
        f"scenario{'s' if len(judged) > 1 else ''}",
    )


def write(path: Path, rows: Sequence[Row], **context: Any) -> None:
    """Write the scoreboard's JSON: ``results`` (the rows) beside ``context`` (machine, versions, topology, ...).

    The file is replaced in one step, so that a reader never sees half of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**context, "verdict": asdict(verdict(rows)), "results": [asdict(row) for row in rows]}
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.replace(path)
