"""Session, fleet, flips and service against a fake switch that keeps state: restore, reconcile, never fight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_switch import FakeSwitch

from control.errors import FlipUnavailable, InputError, WriteRejected
from control.plan import Entry, GroupKey, Table
from control.program import Program
from control.service import Service
from control.session import State
from control.settings import Settings, Strategy
from control.store import Store
from control.tse import Kind, Side
from ml.schema import DeviceSample, PortSample
from topo.builtin import diamond
from topo.spec import Endpoint

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "p4" / "build"
KEY = GroupKey("s1", "h4")


def settings_for(fakes: dict[str, FakeSwitch], **more: object) -> Settings:
    port = int(fakes["s1"].address.rpartition(":")[2])
    return replace(Settings(base_port=port - 1, sample_ms=20.0, rates_ms=50.0, stable_s=0.5), **more)


@asynccontextmanager
async def running(
    fakes: dict[str, FakeSwitch], program: Program, *, store: Store | None = None, ready: bool = True, **more: object
) -> AsyncIterator[Service]:
    service = Service(diamond(), settings_for(fakes, **more), store=store or Store(None), program=program)
    task = asyncio.create_task(service.run())
    try:
        if ready:
            assert await service.wait_ready(60), [s.last_error for s in service.fleet.sessions.values()]
        yield service
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait for a condition, bounded."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


async def errors_seen(service: Service, fakes: dict[str, FakeSwitch], end: Endpoint, count: int) -> None:
    """Have a port count so many receive errors, and wait until the service has been told: steps are what it judges."""
    source, told = service.sources[end.switch], asyncio.Event()
    real = source._on_samples

    def listen(samples: Sequence[PortSample | DeviceSample]) -> None:
        real(samples)
        if any(isinstance(item, PortSample) and item.rx_errors_total == count for item in samples):
            told.set()

    source._on_samples = listen
    fakes[end.switch].sense(f"interfaces/interface[name={end.port}]/state/counters/in-errors", count)
    async with asyncio.timeout(60):
        await told.wait()
    source._on_samples = real


def bits(fakes: dict[str, FakeSwitch]) -> set[tuple[str, int]]:
    return {(name, index) for name, fake in fakes.items() for index, bit in fake.bits.items() if bit}


def test_restore_installs_and_verifies_everything(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            for name, fake in fakes.items():
                assert len(fake.tables) == len(service.fleet.desired[name]) > 10
                assert fake.cookie == program.schema.p4cookie and fake.digests
                assert service.fleet.sessions[name].transport == "register"
            assert await service.fleet.verify() == {}
            fakes["s2"].remove(list(fakes["s2"].tables)[:1])
            wrong = await service.fleet.verify()
            assert set(wrong) == {"s2"} and "found nothing" in wrong["s2"]

    asyncio.run(scenario())


def test_a_manual_flip_goes_out_in_one_write_and_is_in_the_ledger(
    fakes: dict[str, FakeSwitch], program: Program
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            groups = service.select(switch="s1", destination=None, element=None)
            before = len(fakes["s1"].writes)
            decisions = await service.move(Side.SHADOW, groups, force=False, dry_run=True)
            assert bits(fakes) == set() and {d.kind for d in decisions} == {Kind.FLIP}
            await service.move(Side.SHADOW, groups, force=False, dry_run=False)
            assert bits(fakes) == {("s1", service.plan.groups[key].id) for key in groups}
            (write,) = fakes["s1"].writes[before:]
            assert len(write.updates) == len(groups)
            await service.settled()
            lines = service.ledger.lines(kind="flip")
            assert len(lines) == len(groups)
            assert all(line.verified and line.duration_ms is not None and line.cause == "manual" for line in lines)
            await service.move(Side.PRIMARY, groups, force=False, dry_run=False)
            assert bits(fakes) == set()
            with pytest.raises(InputError, match="no switch 's9'"):
                service.select(switch="s9", destination=None, element=None)

    asyncio.run(scenario())


def test_reset_clears_bits_that_nobody_knows_of(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fakes["s2"].set_bit(service.plan.groups[GroupKey("s2", "h4")].id, 1)
            outcome = await service.reset(clear_history=True)
            assert bits(fakes) == set() and outcome.failed == {}
            assert [line.cause for line in service.ledger.lines(kind="revert")] == ["reset"]

    asyncio.run(scenario())


def test_strategies_change_liveness_and_reactive_reroutes(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            for strategy, action in ((Strategy.NONE, "observe"), (Strategy.DATAPLANE, "monitor")):
                await service.set_strategy(strategy)
                found = await service.fleet.sessions["s1"].read_entries([Table.LIVENESS])
                assert {entry.action for entry in found.values()} == {action}
            await service.set_strategy(Strategy.REACTIVE)
            primary = service.plan.groups[KEY].primary
            assert primary is not None
            port = primary.out.port
            fakes["s1"].report(port=port, event=3, rtt=900)
            fakes["s1"].report(port=port, event=2)
            await until(lambda: service.plan.groups[KEY].primary != primary)
            await until(lambda: service.fleet.sessions["s1"].installed == service.fleet.desired["s1"])
            assert not fakes["s1"].acks  # numbered reports need none
            await service.reset()
            assert service.plan.groups[KEY].primary == primary
            assert await service.fleet.verify() == {}
            fakes["s1"].set_port(port, up=False)  # carrier this time
            await until(lambda: service.plan.groups[KEY].primary != primary)

    asyncio.run(scenario())


def test_observed_loss_is_answered_and_reverted_after_quiet(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            primary = service.plan.groups[KEY].primary
            assert primary is not None
            await errors_seen(service, fakes, primary.into, 5)
            await errors_seen(service, fakes, primary.into, 25)
            await until(lambda: service.tse.side(KEY) is Side.SHADOW)
            assert ("s1", service.plan.groups[KEY].id) in bits(fakes)
            await service.settled()
            line = next(line for line in service.ledger.lines(kind="flip") if line.switch == "s1")
            assert line.cause == "degradation" and line.element == primary.link.name and line.lost == 20
            await until(lambda: service.tse.side(KEY) is Side.PRIMARY)
            assert bits(fakes) == set()

    asyncio.run(scenario())


def test_a_restarted_switch_gets_pipeline_entries_and_bits_back(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            groups = service.select(switch="s1", destination="h4", element=None)
            await service.move(Side.SHADOW, groups, force=False, dry_run=False)
            fake = fakes["s1"]
            fake.stop()
            await until(lambda: service.fleet.sessions["s1"].state is State.DOWN)
            fake.wipe()
            fake.start()
            await until(lambda: service.fleet.sessions["s1"].ready)
            assert fake.cookie == program.schema.p4cookie
            assert len(fake.tables) == len(service.fleet.desired["s1"])
            assert bits(fakes) == {("s1", service.plan.groups[KEY].id)}

    asyncio.run(scenario())


def test_a_restarted_controller_adopts_what_it_finds(
    fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path
) -> None:
    async def first() -> None:
        store = Store(tmp_path / "control.db")
        async with running(fakes, program, store=store) as service:
            groups = service.select(switch=None, destination=None, element="s1-s2")
            await service.move(Side.SHADOW, groups, force=False, dry_run=False)
            await service.settled()

    async def second() -> None:
        held = bits(fakes)
        assert held
        counts = {name: len(fake.writes) for name, fake in fakes.items()}
        store = Store(tmp_path / "control.db")
        async with running(fakes, program, store=store) as service:
            assert bits(fakes) == held
            assert {(key.switch, service.plan.groups[key].id) for key in service.tse.flipped()} == held
            for name, fake in fakes.items():
                touched = [
                    update
                    for write in fake.writes[counts[name] :]
                    for update in write.updates
                    if update.entity.WhichOneof("entity") == "table_entry"
                ]
                assert touched == [], f"{name} was rewritten without need"
            assert service.ledger.lines(kind="flip")

    asyncio.run(first())
    asyncio.run(second())


def test_foreign_and_missing_entries_are_reconciled(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program):
            pass
        gone = sorted(fakes["s3"].tables)[:3]
        fakes["s3"].remove(gone)
        async with running(fakes, program) as service:
            assert set(gone) <= set(fakes["s3"].tables)
            assert await service.fleet.verify() == {}

    asyncio.run(scenario())


def test_a_second_controller_stands_by_and_takes_over(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as first:
            second = Service(diamond(), settings_for(fakes), store=Store(None), program=program)
            task = asyncio.create_task(second.run())
            await until(lambda: all(s.state is State.BACKUP for s in second.fleet.sessions.values()))
            counts = {name: len(fake.writes) for name, fake in fakes.items()}
            assert second.fleet.backup and not second.fleet.ready
            await asyncio.sleep(0.2)
            assert first.fleet.ready
            assert {name: len(fake.writes) for name, fake in fakes.items()} == counts
        assert await second.wait_ready(60), "the backup takes over when the primary leaves"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_without_registers_bits_go_by_packet_out(fakes: dict[str, FakeSwitch], program: Program) -> None:
    for fake in fakes.values():
        fake.registers = False

    async def scenario() -> None:
        async with running(fakes, program) as service:
            assert {s.transport for s in service.fleet.sessions.values()} == {"packet-out"}
            groups = service.select(switch="s1", destination="h4", element=None)
            await service.move(Side.SHADOW, groups, force=False, dry_run=False)
            assert bits(fakes) == {("s1", service.plan.groups[KEY].id)}
            await service.settled()
            assert service.ledger.lines(kind="flip")[-1].verified

    asyncio.run(scenario())


def test_heartbeats_are_ordered_only_where_nothing_else_does(fakes: dict[str, FakeSwitch], program: Program) -> None:
    fakes["s1"].generator = False

    async def scenario() -> None:
        async with running(fakes, program) as service:
            sessions = service.fleet.sessions
            await until(lambda: len(fakes["s1"].ordered) > 20)
            assert sorted(set(fakes["s1"].ordered)) == list(service.plan.monitored["s1"])
            await until(lambda: all(session.heartbeats for session in sessions.values()))
            assert sessions["s1"].heartbeats == "controller every 10 ms"
            assert {sessions[name].heartbeats for name in ("s2", "s3", "s4")} == {"packet generator"}
            assert not any(fakes[name].ordered for name in ("s2", "s3", "s4"))
            fakes["s1"].generator = True  # was only held up
            await until(lambda: sessions["s1"].heartbeats == "packet generator")

    asyncio.run(scenario())


def test_a_refused_flip_names_the_group_and_the_reason(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fakes["s1"].registers = False
            group = service.plan.groups[KEY]
            with pytest.raises(WriteRejected, match=rf"failover\[{group.id}\]: UNIMPLEMENTED Register writes"):
                await service.fleet.sessions["s1"].flip({group.id: 1})

    asyncio.run(scenario())


def test_a_switch_with_no_transport_is_not_ready_and_says_why(fakes: dict[str, FakeSwitch], program: Program) -> None:
    fakes["s1"].registers = fakes["s1"].opcodes = False

    async def scenario() -> None:
        async with running(fakes, program, ready=False) as service:
            await until(lambda: "neither register writes" in service.fleet.sessions["s1"].last_error)
            assert not service.fleet.ready
            with pytest.raises(Exception, match="no flip transport"):
                await service.fleet.sessions["s1"].flip({1: 1})

    asyncio.run(scenario())
    assert issubclass(FlipUnavailable, Exception)


def test_a_refused_entry_names_itself_and_the_reason(fakes: dict[str, FakeSwitch], program: Program) -> None:
    fakes["s2"].refuse = "label"

    async def scenario() -> None:
        async with running(fakes, program, ready=False) as service:
            await until(lambda: "RESOURCE_EXHAUSTED" in service.fleet.sessions["s2"].last_error)
            assert "INSERT label" in service.fleet.sessions["s2"].last_error
            assert "RESOURCE_EXHAUSTED Full" in service.fleet.sessions["s2"].last_error
            fakes["s2"].refuse = ""
            assert await service.wait_ready(60)

    asyncio.run(scenario())


def test_a_notice_drains_its_element_before_the_start(
    fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with running(fakes, program, notices_dir=tmp_path) as service:
            service.analyzer.settings = replace(service.analyzer.settings, drain_lead_s=600.0)
            now = time.time()
            text = f"id: CHG-1\nelement: s1-s2\nstart: {now + 500}\nend: {now + 900}\nsummary: splice\n"
            (tmp_path / "chg.yaml").write_text(text)
            await until(lambda: service.tse.flipped())
            await service.settled()
            line = service.ledger.lines(kind="flip")[0]
            assert now <= line.time_s < now + 500, "within the lead"
            assert line.cause == "maintenance" and line.element == "s1-s2" and "CHG-1" in line.explanation
            (tmp_path / "chg.yaml").unlink()
            await until(lambda: not service.tse.flipped())

    asyncio.run(scenario())


def test_a_change_that_is_refused_in_part_is_taken_back(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fleet = service.fleet
            before = {name: dict(session.installed) for name, session in fleet.sessions.items()}
            wanted = {name: dict(entries) for name, entries in fleet.desired.items()}
            for name in ("s2", "s3"):
                label = Entry(Table.LABEL, 999, "label_pop")
                wanted[name][label.key] = label
            key = next(key for key, entry in wanted["s1"].items() if dict(entry.params).get("label"))
            shadow = wanted["s1"][key]
            params = tuple((name, 999 if name == "label" else value) for name, value in shadow.params)
            wanted["s1"][key] = replace(shadow, params=params)
            fakes["s2"].refuse = "label"
            asked = len(fakes["s1"].writes)
            outcome = await fleet.apply(wanted)
            assert outcome.undone and "RESOURCE_EXHAUSTED" in outcome.failed["s2"]
            assert len(fakes["s1"].writes) == asked, "a label was pushed that nobody knows"
            assert fleet.desired == before
            await until(lambda: all(s.installed == before[name] for name, s in fleet.sessions.items()))
            fakes["s2"].refuse = ""
            assert not (await fleet.apply(wanted)).undone
            assert fleet.sessions["s1"].installed[key].params == params

    asyncio.run(scenario())
