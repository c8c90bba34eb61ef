"""A switch that hangs delays nobody else; what a switch refuses is taken back whole and reported."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest
from fake_switch import FakeSwitch
from test_service import KEY, bits, running, until

from control.errors import WriteRejected
from control.plan import GroupKey
from control.program import Program
from control.session import State
from control.settings import Strategy
from control.tse import Side


def test_flips_of_others_go_out_while_a_switch_hangs(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fakes["s1"].go_on.clear()
            slow = asyncio.create_task(service.move(Side.SHADOW, [KEY], force=True, dry_run=False))
            await until(lambda: "s1" in service.fleet.late)
            other = GroupKey("s2", "h1")
            await service.move(Side.SHADOW, [other], force=True, dry_run=False)
            assert service.tse.flipped() == [other] and not slow.done()
            fakes["s1"].go_on.set()
            await slow
            assert set(service.tse.flipped()) == {KEY, other}
            await service.settled()
            assert {line.switch for line in service.ledger.lines(kind="flip") if line.outcome == "done"} == {"s1", "s2"}

    asyncio.run(scenario())


def test_what_a_slow_switch_refuses_meanwhile_is_entered_once(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fakes["s1"].go_on.clear()
            slow = asyncio.create_task(service.move(Side.SHADOW, [KEY], force=True, dry_run=False))
            await until(lambda: "s1" in service.fleet.late)
            groups = service.plan.groups
            other = next(key for key in groups if key.switch == "s1" and key != KEY and groups[key].shadow)
            refusing = AsyncMock(side_effect=WriteRejected("not now"))
            monkeypatch.setattr(service.fleet.sessions["s1"], "flip", refusing)
            quick = asyncio.create_task(service.move(Side.SHADOW, [other], force=True, dry_run=False))
            await until(lambda: service.ledger.lines(kind="flip"))
            assert "s1" in service.fleet.late
            fakes["s1"].go_on.set()
            await asyncio.gather(slow, quick)
            await service.settled()
            lines = service.ledger.lines(kind="flip")
            assert sorted(line.destination for line in lines) == sorted([KEY.destination, other.destination])

    asyncio.run(scenario())


def test_a_switch_that_never_answers_is_left_and_restored(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            session = service.fleet.sessions["s1"]
            fakes["s1"].go_on.clear()
            await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
            assert service.tse.flipped() == [] and session.state is not State.READY
            assert "no answer in time" in session.last_error
            await service.settled()
            assert service.ledger.lines(kind="flip")[-1].outcome.startswith("failed")
            fakes["s1"].go_on.set()
            await until(lambda: session.ready)
            await until(lambda: bits(fakes) == set())  # it may have set the bit after all; the restore corrects that

    asyncio.run(scenario())


def test_a_change_does_not_wait_for_ever_for_a_hanging_switch(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fakes["s3"].go_on.clear()
            async with asyncio.timeout(10):
                outcome = await service.set_strategy(Strategy.NONE)
            assert set(outcome.failed) == {"s3"} and not outcome.undone
            fakes["s3"].go_on.set()
            await until(lambda: service.fleet.ready)
            assert await service.fleet.verify() == {}, "its restore brought it in line"

    asyncio.run(scenario())


def test_a_refused_strategy_is_taken_back_and_reported(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            before = {name: dict(session.installed) for name, session in service.fleet.sessions.items()}
            fakes["s2"].refuse = "liveness_config"
            with pytest.raises(WriteRejected, match=r"strategy is still predictive: s2: .*RESOURCE_EXHAUSTED"):
                await service.set_strategy(Strategy.NONE)
            assert service.strategy is Strategy.PREDICTIVE
            fakes["s2"].refuse = ""
            assert {name: session.installed for name, session in service.fleet.sessions.items()} == before
            assert service.fleet.desired == service.plan.entries()
            await service.set_strategy(Strategy.NONE)
            assert service.strategy is Strategy.NONE and await service.fleet.verify() == {}

    asyncio.run(scenario())


def test_a_refused_reroute_is_taken_back_and_tried_again(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program, strategy=Strategy.REACTIVE) as service:
            primary = service.plan.groups[KEY].primary
            assert primary is not None
            before = dict(service.plan.groups)
            fakes["s1"].refuse = "primary_nexthop"
            writes = len(fakes["s1"].writes)
            fakes["s1"].up[primary.out.port] = False
            await until(lambda: len(fakes["s1"].writes) > writes)
            await until(lambda: service.fleet.desired == service.plan.entries())
            assert service.plan.groups == before
            fakes["s1"].refuse = ""
            await until(lambda: service.plan.groups[KEY].primary != primary)
            await until(lambda: service.fleet.sessions["s1"].installed == service.fleet.desired["s1"])

    asyncio.run(scenario())
