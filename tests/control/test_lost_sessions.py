"""A switch that goes away in the middle of a call fails that call, and never ends the task that waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fake_switch import FakeSwitch
from test_service import KEY, running, until

from control.errors import SwitchUnavailable
from control.flip import PacketOutTransport, RegisterTransport
from control.ledger import Ledger
from control.program import Program
from control.session import State
from control.settings import Strategy
from control.store import Store
from control.tse import Side


def test_closing_the_packet_out_transport_fails_those_who_wait() -> None:
    async def scenario() -> None:
        async def send(_packet: object) -> None:
            return None

        transport = PacketOutTransport(send, timeout_s=30.0)
        waiting = asyncio.create_task(transport.flip({1: 1, 2: 1}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        transport.close()
        with pytest.raises(SwitchUnavailable, match="ended"):
            await waiting

    asyncio.run(scenario())


def test_closing_the_register_transport_fails_the_flips_in_its_queue(
    fakes: dict[str, FakeSwitch],
    program: Program,
) -> None:
    async def scenario() -> None:
        transport = RegisterTransport(fakes["s1"].address, 1, program.schema, timeout_s=5.0)
        fakes["s1"].anybody = True
        transport.prepare(1, (1, 2))
        await transport.flip({1: 1})
        fakes["s1"].go_on.clear()
        flips = [asyncio.create_task(transport.flip({number: 1})) for number in (1, 2, 1)]
        await until(lambda: len(fakes["s1"].writes) == 2)
        transport.close()
        for result in await asyncio.gather(*flips, return_exceptions=True):
            assert isinstance(result, SwitchUnavailable), repr(result)
        with pytest.raises(SwitchUnavailable, match="ended"):
            await transport.flip({1: 0})
        fakes["s1"].go_on.set()

    asyncio.run(scenario())


@pytest.mark.parametrize("registers", [True, False])
def test_steering_outlives_a_switch_that_leaves_in_the_middle_of_a_flip(
    registers: bool,
    fakes: dict[str, FakeSwitch],
    program: Program,
) -> None:
    for fake in fakes.values():
        fake.registers = registers

    async def scenario() -> None:
        async with running(fakes, program) as service:
            fake, session = fakes["s1"], service.fleet.sessions["s1"]
            fake.silent = True
            fake.go_on.clear()
            groups = service.select(switch="s1", destination=None, element=None)
            before = len(fake.writes) + fake.asked
            move = asyncio.create_task(service.move(Side.SHADOW, groups, force=True, dry_run=False))
            await until(lambda: len(fake.writes) + fake.asked > before)
            session._drop_transport()  # as when the channel goes down
            async with asyncio.timeout(60):
                await move
            assert service.tse.flipped() == []
            fake.silent = False
            fake.go_on.set()
            fake.stop()
            await until(lambda: session.state is State.DOWN)
            fake.start()
            await until(lambda: session.ready)
            async with asyncio.timeout(60):
                await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
            assert service.tse.flipped() == [KEY]

    asyncio.run(scenario())


def test_steering_outlives_a_switch_that_leaves_in_the_middle_of_a_write(
    fakes: dict[str, FakeSwitch],
    program: Program,
) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            fake, session = fakes["s2"], service.fleet.sessions["s2"]
            before = len(fake.writes)
            fake.go_on.clear()
            change = asyncio.create_task(service.set_strategy(Strategy.REACTIVE))
            await until(lambda: len(fake.writes) > before)
            assert session._switch is not None and session._switch._p4client is not None
            await session._switch._p4client.close()  # cancels its calls
            async with asyncio.timeout(60):
                outcome = await change
            assert "s2" in outcome.failed
            fake.go_on.set()
            async with asyncio.timeout(60):
                await service.set_strategy(Strategy.PREDICTIVE)

    asyncio.run(scenario())


def test_a_cancelled_call_never_ends_the_steering(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            real = service.fleet.flip

            async def cancelled(_bits: object, **_more: object) -> dict[str, object]:
                raise asyncio.CancelledError

            service.fleet.flip = cancelled  # type: ignore[method-assign,assignment]
            with pytest.raises(SwitchUnavailable, match="ask again"):
                await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
            service.fleet.flip = real  # type: ignore[method-assign]
            async with asyncio.timeout(60):
                await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
            assert service.tse.flipped() == [KEY]

    asyncio.run(scenario())


def test_a_telemetry_stream_that_ends_in_order_is_asked_for_again(
    fakes: dict[str, FakeSwitch], program: Program
) -> None:
    fakes["s1"].sense("system/memory/state/used", 1)

    async def scenario() -> None:
        async with running(fakes, program) as service:
            await until(lambda: fakes["s1"].subscribed == 1 and service.sources["s1"].samples > 0)
            fakes["s1"].hang_up = True
            await until(lambda: fakes["s1"].subscribed > 1)
            fakes["s1"].hang_up = False
            seen = service.sources["s1"].samples
            await until(lambda: service.sources["s1"].samples > seen + 3)

    asyncio.run(scenario())


def test_lines_of_a_flip_just_carried_out_survive_the_end(
    fakes: dict[str, FakeSwitch],
    program: Program,
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.db"

    async def scenario() -> None:
        async with running(fakes, program, store=Store(path)) as service:
            groups = service.select(switch="s1", destination=None, element=None)

            async def never(_groups: object) -> dict[str, dict[int, int]]:
                await asyncio.Event().wait()
                return {}

            service.fleet.read_bits = never  # type: ignore[method-assign]
            await service.move(Side.SHADOW, groups, force=True, dry_run=False)
            assert service.steering.execution.tasks

    asyncio.run(scenario())
    ledger = Ledger(Store(path))
    assert [line.kind for line in ledger.lines()].count("flip") >= 2
    ledger.close()
