"""Ledger lines for decisions and their outcomes. Pure."""

from __future__ import annotations

from contextlib import suppress

from control.errors import ControlError, PathError
from control.flip import FlipResult
from control.paths import Network
from control.plan import Group, Plan
from control.spm import ShadowManager
from control.store import FlipRecord
from control.threats import Cause
from control.tse import Decision, Kind


def of_decision(decision: Decision, plan: Plan, spm: ShadowManager) -> FlipRecord:
    """The line of a decision that has not been carried out yet; refusals are complete."""
    group = plan.groups.get(decision.group)
    cost, path = 0.0, ""
    if decision.kind is Kind.FLIP and group is not None and group.shadow is not None:
        path = str(group.shadow.path)
        with suppress(PathError):
            cost = group.shadow.path.delay_ms - spm.primary_path(plan, group).delay_ms
    return FlipRecord(
        time_s=decision.time_s,
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
        outcome="refused" if decision.kind is Kind.REFUSE else "done",
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


def enter_result(record: FlipRecord, result: FlipResult | ControlError, since_sample_ms: float) -> None:
    """Enter what the switch answered."""
    if not isinstance(result, FlipResult):
        record.outcome = f"failed: {result}"
        return
    record.duration_ms = round(result.seconds * 1000, 4)
    record.telemetry_ms = round(since_sample_ms, 4)
    record.transport = result.transport


def ports_of(network: Network, element: str) -> set[str]:
    """The ports (or the device) whose loss counters speak for an element; empty for an unknown one."""
    try:
        found = network.resolve(element)
    except PathError:
        return set()
    if isinstance(found, str):
        return {found}
    return {str(end) for link in found for end in (link.a, link.b)}
