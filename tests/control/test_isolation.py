"""A switch that hangs delays nobody else; what a switch refuses is taken back whole and reported."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from unittest.mock import AsyncMock, Mock

import pytest
from fake_switch import FakeSwitch
from test_service import KEY, bits, running, until

from control.entries import encode_entry
from control.errors import WriteRejected
from control.fleet import Outcome
from control.plan import Entry, GroupKey, Op, Stage, Table, Update
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
            async with asyncio.timeout(60):
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
            fakes["s1"].set_port(primary.out.port, up=False)
            await until(lambda: len(fakes["s1"].writes) > writes)
            await until(lambda: service.fleet.desired == service.plan.entries())
            assert service.plan.groups == before
            fakes["s1"].refuse = ""
            await until(lambda: service.plan.groups[KEY].primary != primary)
            await until(lambda: service.fleet.sessions["s1"].installed == service.fleet.desired["s1"])

    asyncio.run(scenario())


def label(number: int) -> Update:
    return Update(Op.INSERT, Entry(Table.LABEL, number, "label_pop"))


@pytest.mark.parametrize("answered", [False, True], ids=["on its way", "answered already"])
def test_a_batch_that_went_the_short_way_and_was_refused_in_part_says_why(
    answered: bool, fakes: dict[str, FakeSwitch], program: Program
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fake, session = fakes["s1"], service.fleet.sessions["s1"]
            shadow = next(entry for entry in session.installed.values() if entry.table is Table.SHADOW)
            fake.refuse = "shadow_nexthop"
            before = len(fake.tables)
            fake.go_on.clear()
            updates = [label(7001), Update(Op.MODIFY, shadow)]
            begun = session.begin_write(updates)
            assert begun is not None and session.begin_write(updates) is None, "one after the other"
            if answered:
                fake.go_on.set()
                await until(lambda: begun.done)
                assert not begun.ok and len(fake.tables) == before + 1, "the label was written"
            del session.installed[shadow.key]  # so that its state tells that it was not written
            fake.remove(key for key in fake.tables if is_shadow(program, key, shadow))
            fake.go_on.set()
            with pytest.raises(WriteRejected, match=r"^s1: .*MODIFY shadow_nexthop.*RESOURCE_EXHAUSTED"):
                await session.write(updates, begun=begun)
            assert (Table.LABEL, 7001) in session.installed and shadow.key not in session.installed
            assert len(fake.tables) == before, "the label came, the shadow went"
            assert await service.fleet.verify(["s1"]) == {}, "the mirror is what the switch holds"
            fake.refuse = ""
            await service.fleet.resync("s1")
            assert session.installed == service.fleet.desired["s1"]

    asyncio.run(scenario())


def is_shadow(program: Program, key: tuple[int, bytes], entry: Entry) -> bool:
    found = encode_entry(program.schema, entry).encode(program.schema).table_entry
    return key == (found.table_id, b"".join(match.SerializeToString() for match in found.match))


def test_a_batch_whose_answer_was_lost_is_not_written_twice(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            session, updates = service.fleet.sessions["s1"], [label(7001), label(7002)]
            before = len(fakes["s1"].tables)
            begun = session.begin_write(updates)
            assert begun is not None
            await until(lambda: len(fakes["s1"].tables) == before + 2)
            begun.way.close()  # whether or not the answer was here already
            begun.done, begun.ok = True, False
            await session.write(updates, begun=begun)
            assert {update.entry.key for update in updates} <= session.installed.keys()
            assert await service.fleet.verify(["s1"]) == {}
            await session.write([label(7003)])
            assert await service.fleet.verify(["s1"]) == {}, "and the next one goes the usual way"

    asyncio.run(scenario())


def test_a_change_that_is_cut_short_leaves_the_switches_to_their_restore(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            monkeypatch.setattr("control.fleet.harvest", Mock(side_effect=RuntimeError("cut short")))
            with pytest.raises(RuntimeError, match="cut short"):
                await service.fleet._stage(Stage("labels", {"s1": (label(7001),)}), Outcome(), urgent=True)
            monkeypatch.undo()
            await until(lambda: service.fleet.ready and service.fleet.sessions["s1"].restores == 2)
            assert await service.fleet.verify() == {}
            assert service.fleet.sessions["s1"].installed == service.fleet.desired["s1"]

    asyncio.run(scenario())


def test_an_urgent_change_goes_the_short_way_and_is_whole(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            sessions = service.fleet.sessions
            group = next(group for group in service.plan.groups.values() if group.shadow and group.shadow.label)
            groups = {**service.plan.groups, group.key: replace(group, shadow=None)}
            without = replace(service.plan, groups=groups, _by_switch={}).entries()
            await service.fleet.apply(without)
            await until(lambda: {name: session.installed for name, session in sessions.items()} == without)  # swept
            usual = AsyncMock(side_effect=AssertionError("the usual way"))
            for session in sessions.values():
                monkeypatch.setattr(session, "_write", usual)
            monkeypatch.setattr("control.fleet.HARVEST_S", 5.0)
            outcome = await service.fleet.apply(service.plan.entries(), strict=True, urgent=True)
            assert outcome.updates and not outcome.failed
            monkeypatch.undo()
            assert not usual.called
            assert {name: session.installed for name, session in sessions.items()} == service.plan.entries()
            assert await service.fleet.verify() == {}

    asyncio.run(scenario())
