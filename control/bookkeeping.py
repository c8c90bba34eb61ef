"""Ledger lines for decisions and their outcomes. Pure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from control.errors import ControlError, PathError
from control.flip import FlipResult
from control.paths import Network
from control.plan import Group, Plan
from control.spm import ShadowManager
from control.store import FlipRecord
from control.threats import Cause
from control.tse import Decision, Kind

_OUTCOMES = {Kind.REFUSE: "refused", Kind.WITHHOLD: "withheld"}


@dataclass(frozen=True, slots=True)
class News:
    """Where a round's time went, all in ``time.perf_counter`` seconds.

    ``arrived``: the oldest sample that was judged for the first time in this round was handed to the process;
    ``woken``: the round began; ``learned``: its samples are in the models' state; ``scored``: probabilities are known;
    ``decided``: so are the flips. ``since``: the news was here by then, but no shadow to flip to; None where there was.
    """

    arrived: float
    woken: float
    learned: float
    scored: float
    decided: float
    since: float | None = None

    @property
    def began(self) -> float:
        """From when a flip counts: what it waited for a shadow included."""
        return self.arrived if self.since is None else self.since

    def timings_ms(self, result: FlipResult, stop: float) -> dict[str, float]:
        """The parts of the time from the arrival to ``stop``, in ms; they add up to all of it. Under ``shadow`` what a
        flip waited for one to be planned and installed, until the round that then flipped; 0 where it was ready."""
        sent = self.decided + result.queued_s
        parts = {
            "shadow": 0.0 if self.since is None else self.woken - self.since,
            "wait": self.woken - self.arrived if self.since is None else 0.0,
            "decode": self.learned - self.woken,
            "score": self.scored - self.learned,
            "decide": self.decided - self.scored,
            "write": sent - self.decided,
            "ack": stop - sent,
        }
        return {name: round(seconds * 1000, 3) for name, seconds in parts.items()}


def of_decision(decision: Decision, plan: Plan, spm: ShadowManager, time_s: float) -> FlipRecord:
    """The line of a decision of a time (since the epoch) that has not been carried out yet; refusals are complete."""
    group = plan.groups.get(decision.group)
    cost, path = 0.0, ""
    if decision.kind in (Kind.FLIP, Kind.WITHHOLD) and group is not None and group.shadow is not None:
        path = str(group.shadow.path)
        with suppress(PathError):
            cost = group.shadow.path.delay_ms - spm.primary_path(plan, group).delay_ms
    return FlipRecord(
        time_s=time_s,
        kind=decision.kind.value,
        switch=decision.group.switch,
        destination=decision.group.destination,
        group_id=group.id if group is not None else 0,
        element=decision.element,
        cause=decision.cause.value,
        mode=decision.mode,
        probability=round(decision.probability, 6),
        reasons=list(decision.reasons),
        explanation=decision.explanation,
        path=path,
        cost_ms=round(cost, 3),
        outcome=_OUTCOMES.get(decision.kind, "done"),
        horizon_s=round(decision.horizon_s, 3),
    )


def of_reset(now: float, group: Group) -> FlipRecord:
    """The line of a group that a reset brought back to its primary."""
    return FlipRecord(
        time_s=now,
        kind=Kind.REVERT.value,
        switch=group.key.switch,
        destination=group.key.destination,
        group_id=group.id,
        element=str(group.key),
        cause=Cause.RESET.value,
        mode="reset",
        probability=0.0,
        reasons=[],
        explanation=f"{group.key} back to its primary by a reset",
    )


def enter_result(record: FlipRecord, result: FlipResult | ControlError, news: News | None, stop: float) -> None:
    """Enter what the switch answered by ``stop`` (``time.perf_counter``). ``news``: the samples that brought it about;
    None where none did (a period that ended, an operator's wish)."""
    if not isinstance(result, FlipResult):
        record.outcome = f"failed: {result}"
        return
    record.duration_ms = round(result.seconds * 1000, 4)
    record.transport = result.transport
    if news is not None:
        stop = result.confirmed or stop
        record.telemetry_ms = round((stop - news.began) * 1000, 4)
        record.timings_ms = news.timings_ms(result, stop)


def ports_of(network: Network, element: str) -> set[str]:
    """The ports (or the device) whose loss counters speak for an element; empty for an unknown one."""
    try:
        found = network.resolve(element)
    except PathError:
        return set()
    if isinstance(found, str):
        return {found}
    return {str(end) for link in found for end in (link.a, link.b)}
