"""What flips wait for is planned and installed first; the rest, the log and the database follow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from control_helpers import MONITOR

from control.capacity import Loads
from control.fleet import Outcome
from control.paths import Network
from control.plan import GroupKey, NetworkEntries
from control.replanning import AGAIN_S, MOST_OTHERS, MOST_URGENT, REFUSED_S, Replanner
from control.spm import ShadowManager
from control.telemetry import Inbox
from control.threats import ThreatBook
from control.tse import Decision, SteeringEngine
from topo.builtin import abilene, diamond
from topo.spec import Topology


class Rig:
    """A replanner with everything pure around it; ``applied``: the groups that each change concerned."""

    def __init__(self, topology: Topology) -> None:
        network = Network(topology)
        self.spm = ShadowManager(network)
        self.book = ThreatBook(network)
        self.loads = Loads(network)
        self.tse = SteeringEngine(self.book, self.loads, self.spm.carrying)
        self.plan = self.spm.build(MONITOR)
        self.inbox = Inbox()
        self.fleet = SimpleNamespace(apply=self.apply)
        self.applied: list[set[GroupKey]] = []
        self.urgent: list[bool] = []
        self.saved = 0
        self.outcome = Outcome(updates=1)
        service: Any = self
        self.replanner = Replanner(service)

    async def apply(self, wanted: NetworkEntries, *, strict: bool, urgent: bool) -> Outcome:
        self.urgent.append(urgent)
        assert strict and wanted.keys() == self.plan.device_ids.keys()
        self.applied.append(set(self.replanner.changing))
        return self.outcome

    def save(self) -> None:
        self.saved += 1

    async def round(self, now: float, arrived: float) -> list[Decision]:
        """Decide, look for what to plan, and let that be done."""
        decisions = self.tse.decide(now, self.plan, (), self.replanner.changing)
        for decision in decisions:
            if decision.moves:
                self.tse.done(decision, now)
        self.served = self.replanner.served(decisions)
        self.replanner.look(now, arrived)
        if self.replanner.task is not None:
            await self.replanner.task
        self.replanner.settle()
        return decisions

    def threaten(self, now: float, element: str) -> None:
        self.book.degradation(now, element, "link_failure", "12 frames lost")
        self.replanner.changed()


def played(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def on_both_sides(rig: Rig) -> tuple[GroupKey, tuple[str, str]]:
    """A group with a third way, and a link each of its primary and its shadow."""
    for key, group in rig.plan.groups.items():
        if group.primary is not None and group.shadow is not None:
            links = group.primary.link.name, group.shadow.path.hops[0].link.name
            avoid = rig.spm.network.elements(list(links))
            if rig.spm.network.shadow(group.primary, group.tail, avoid) is not None:
                return key, links
    raise AssertionError("the topology has no such group")


def test_who_wants_a_shadow_now_gets_it_before_all_others() -> None:
    async def scenario() -> None:
        rig = Rig(abilene())
        key, links = on_both_sides(rig)
        for link in links:
            rig.threaten(0.0, link)
        await rig.round(0.0, 100.0)
        wanting = set(rig.tse.wanting)
        assert key in wanting and rig.applied == [set(rig.applied[0])] and key in rig.applied[0] <= wanting
        assert rig.replanner.waiting[key] == 100.0 and rig.replanner.stale and not rig.saved
        decisions = await rig.round(0.01, 100.01)
        assert key in {item.group for item in decisions if item.moves}, "its new shadow is there and healthy"
        assert rig.served[key] == 100.0 and key not in rig.replanner.waiting
        step = 2
        while rig.replanner.stale:
            await rig.round(step / 100, 100.0 + step / 100)
            step += 1
        assert rig.saved == 1, "once, when all is done"
        assert rig.urgent[0] and not rig.urgent[-1]
        assert any(not changed <= wanting for changed in rig.applied[1:]), "shadows that nobody waits for, too"
        assert all(len(changed) <= MOST_OTHERS for changed in rig.applied[1:]), "a flip waits for few of them"
        avoid = rig.book.avoid()
        crossing = [group for group in rig.plan.shadowed() if avoid.hits(group.shadow.path)]  # type: ignore[union-attr]
        assert all(rig.spm.network.shadow(g.primary, g.tail, avoid) is None for g in crossing if g.primary)

    played(scenario)


def test_what_was_looked_for_in_vain_waits_for_other_news_and_is_looked_for_again_later() -> None:
    async def scenario() -> None:
        rig = Rig(diamond())
        planned: list[tuple[GroupKey, ...]] = []
        inner = rig.spm.replanning

        def noted(*args: Any, **more: Any) -> Any:
            planned.append(tuple(more["wanted"]))
            return inner(*args, **more)

        rig.spm.replanning = noted  # type: ignore[method-assign]
        for link in rig.spm.network.topology.links:
            rig.threaten(0.0, link.name)  # nowhere to go
        await rig.round(0.0, 50.0)
        assert planned[0] and not rig.replanner.waiting and not rig.applied
        await rig.round(0.01, 50.01)
        while rig.replanner.stale:
            await rig.round(0.02, 50.02)
        everyone = {key for key, group in rig.plan.groups.items() if group.primary is not None}
        assert {key for keys in planned[1:] for key in keys} == everyone, "then all of them"
        assert set(rig.replanner.waiting.values()) == {50.01}, "counted since then"
        del planned[1:]
        await rig.round(0.03, 50.03)
        assert len(planned) == 1
        await rig.round(AGAIN_S + 0.01, 50.11)
        assert planned[1] == planned[0], "loads may be others by now"
        rig.threaten(AGAIN_S + 0.02, "s1")
        await rig.round(AGAIN_S + 0.02, 50.12)
        assert set(planned[2]) >= set(planned[0]), "and threats are: at once"
        assert rig.saved == 0

    played(scenario)


def test_a_change_that_a_switch_refuses_is_not_asked_for_again_at_once() -> None:
    async def scenario() -> None:
        rig = Rig(abilene())
        key, links = on_both_sides(rig)
        for link in links:
            rig.threaten(0.0, link)
        rig.outcome = Outcome(failed={"s1": "full"}, rejected=True, undone=True)
        before = rig.plan
        await rig.round(0.0, 1.0)
        assert rig.plan is before and len(rig.applied) == 1
        await rig.round(REFUSED_S - 0.01, 2.0)
        assert len(rig.applied) == 1 and rig.replanner.waiting[key] == 1.0
        rig.outcome = Outcome(updates=3)
        await rig.round(REFUSED_S + AGAIN_S, 3.0)
        assert rig.plan is not before and len(rig.applied) == 2

    played(scenario)


@pytest.mark.parametrize("count", [MOST_URGENT - 1, MOST_URGENT + 5])
def test_many_at_once_come_in_turns_the_busiest_first(count: int) -> None:
    async def scenario() -> None:
        rig = Rig(abilene())
        keys = [key for key, group in rig.plan.groups.items() if group.primary is not None][:count]
        busy = keys[-1]
        for second in range(10):
            rig.loads.observe_group(busy, second * 1e6, float(second))
        rig.tse.wanting.update(keys)
        rig.replanner.look(0.0, 1.0)
        tried = list(rig.replanner._tried)
        assert tried[0] == busy and len(tried) == min(count, MOST_URGENT)
        await rig.replanner.close()

    played(scenario)


def test_who_can_not_be_helped_keeps_nobody_from_a_turn() -> None:
    async def scenario() -> None:
        rig = Rig(abilene())
        keys = [key for key, group in rig.plan.groups.items() if group.primary is not None][: 3 * MOST_URGENT]
        planned: dict[GroupKey, int] = dict.fromkeys(keys, 0)

        def start(now: float, wanted: list[GroupKey], *, urgent: bool = False) -> None:
            rig.replanner._tried.update(dict.fromkeys(wanted, now))
            for key in wanted:
                planned[key] = planned.get(key, 0) + urgent

        rig.replanner._start = start  # type: ignore[method-assign]
        rig.tse.wanting.update(keys)
        rig.threaten(0.0, rig.spm.network.topology.links[0].name)
        for step in range(200):
            rig.replanner.look(step * 0.05, 0.0)
        assert not rig.replanner.stale, "the others had their turn as well"
        turns = [planned[key] for key in keys]
        assert min(turns) > 10 and max(turns) - min(turns) <= 1

    played(scenario)
