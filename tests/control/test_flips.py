"""Flips by the short way: the register transport, its turns, and what a flip leaves behind that goes wrong."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, MagicMock

import pytest
from fake_switch import FakeSwitch
from test_service import until

from control.errors import FlipTimeout, NotPrimary, SwitchUnavailable
from control.fleet import Fleet
from control.flip import Begun, PacketOutTransport, RegisterTransport, Turn, choose
from control.program import Program
from control.session import SwitchSession
from control.shortway import Call, ShortWay


def transport_to(fake: FakeSwitch, program: Program, timeout_s: float = 5.0) -> RegisterTransport:
    transport = RegisterTransport(fake.address, 1, program.schema, timeout_s=timeout_s)
    transport.prepare(1, (1, 2))
    return transport


async def opened(fake: FakeSwitch, program: Program) -> RegisterTransport:
    """A transport whose short way is open, to a switch that lets anybody write."""
    fake.anybody = True
    transport = transport_to(fake, program)
    assert await transport.open()
    return transport


def test_flips_take_the_short_way_and_errors_are_worded_as_ever(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        fake = fakes["s1"]
        transport = await opened(fake, program)
        usual: list[object] = []
        real = transport.flip_now
        transport.flip_now = lambda *given: usual.append(given) or real(*given)  # type: ignore[method-assign]
        result = await transport.flip({1: 1, 2: 1})
        assert fake.bits == {1: 1, 2: 1} and not usual and result.confirmed and result.seconds > 0
        fake.anybody = False
        with pytest.raises(NotPrimary):
            await transport.flip({1: 0})
        assert len(usual) == 1 and fake.bits[1] == 1
        fake.anybody = True
        fake.refuse = ""
        assert (await transport.flip({1: 0})).confirmed and len(usual) == 1
        transport.close()

    asyncio.run(scenario())


def test_a_switch_that_hangs_ends_the_flip_in_time_and_flips_keep_their_order(
    fakes: dict[str, FakeSwitch], program: Program
) -> None:
    async def scenario() -> None:
        fake = fakes["s1"]
        transport = await opened(fake, program)
        fake.go_on.clear()
        flips = [asyncio.create_task(transport.flip({1: bit})) for bit in (1, 0, 1)]
        await until(lambda: len(fake.writes) == 1)
        assert transport.begin({2: 1}) is None  # others are before it
        fake.go_on.set()
        await asyncio.gather(*flips)
        assert [write.updates[0].entity.register_entry.data.bitstring for write in fake.writes] == [
            b"\1", b"\0", b"\1",
        ]  # fmt: skip
        transport.timeout_s = 0.1
        fake.go_on.clear()
        with pytest.raises(FlipTimeout):
            await transport.flip({1: 0})
        fake.go_on.set()
        transport.close()

    asyncio.run(scenario())


def test_a_lost_connection_costs_no_flip_and_is_opened_again(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        fake = fakes["s1"]
        transport = await opened(fake, program)
        short = transport._short
        assert short is not None and short._socket is not None
        fake.go_on.clear()
        flip = asyncio.create_task(transport.flip({1: 1}))
        await until(lambda: len(fake.writes) == 1)
        short._end("cut")
        fake.go_on.set()
        assert (await flip).confirmed and fake.bits[1] == 1  # by gRPC's client
        assert (await transport.flip({1: 0})).confirmed
        await until(lambda: short.ready)
        begun = transport.begin({1: 1})
        assert begun is not None and (await begun.rest()).confirmed and fake.bits[1] == 1
        transport.close()
        with pytest.raises(SwitchUnavailable):
            await transport.flip({1: 0})

    asyncio.run(scenario())


def test_a_flip_that_is_cancelled_leaves_the_turn_to_others(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        fake = fakes["s1"]
        transport = await opened(fake, program)
        fake.go_on.clear()
        begun = transport.begin({1: 1})
        assert begun is not None and begun.done() is None
        waiting = asyncio.create_task(begun.rest())
        waiting.cancel()  # before it has begun
        await asyncio.gather(waiting, return_exceptions=True)
        assert transport.begin({1: 0}) is None
        begun.end()
        begun.end()  # no other's turn
        following = transport.begin({1: 0})
        assert following is not None and transport.begin({1: 1}) is None
        fake.go_on.set()
        assert (await following.rest()).confirmed
        transport.close()

    asyncio.run(scenario())


def test_a_flip_that_cannot_be_built_takes_no_turn(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        transport = transport_to(fakes["s1"], program)
        assert await transport.open() and transport._short is not None
        with pytest.raises(ValueError, match="out of range"):  # no index is so large
            transport.begin({2**70: 1})
        assert transport.turn.take()
        transport.turn.release()

        def broken(_body: bytes) -> Call:
            raise MemoryError

        monkeypatch.setattr(transport._short, "send", broken)
        with pytest.raises(MemoryError):
            transport.begin({1: 1})
        assert transport.turn.take()
        transport.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("broken", ["begin", "harvest", "done"])
def test_flips_that_have_begun_end_whatever_goes_wrong(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError

    async def scenario() -> None:
        fleet, transports = Fleet({}, 0.0), []
        for name in ("s1", "s2"):
            transports.append(await opened(fakes[name], program))
            session = SwitchSession(name, fakes[name].address, 1, program, MagicMock())
            session._transport = transports[-1]
            fleet.sessions[name] = session
        if broken == "begin":
            monkeypatch.setattr(transports[1], "begin", fail)
        elif broken == "harvest":
            monkeypatch.setattr("control.fleet.harvest", fail)
        else:
            monkeypatch.setattr(Begun, "done", fail)
        with pytest.raises(ArithmeticError):
            await fleet.flip({"s1": {1: 1}, "s2": {1: 1}})
        assert all(transport.turn.take() for transport in transports)
        for transport in transports:
            transport.close()

    asyncio.run(scenario())


def test_a_way_whose_opening_is_cancelled_leaves_nothing_open(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        heard, ended = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.set()
            await reader.read()  # until its end
            ended.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        way = ShortWay(address, "/m", timeout_s=1.0)
        opening = asyncio.create_task(way.open())
        await heard.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert way.fileno() == -1
        async with asyncio.timeout(60):
            await ended.wait()

        transport = transport_to(fakes["s1"], program)  # its registers are served, but the short way hangs
        transport.probe = lambda: True  # type: ignore[method-assign]
        transport._short = ShortWay(address, "/m", timeout_s=1.0)
        heard.clear()
        choosing = asyncio.create_task(choose(transport, PacketOutTransport(AsyncMock())))
        await heard.wait()
        choosing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await choosing
        with pytest.raises(SwitchUnavailable, match="has ended"):  # channel and thread are closed as well
            await transport.flip({1: 1})
        server.close()

    asyncio.run(scenario())


def test_turns_go_in_order_and_survive_a_cancellation() -> None:
    async def scenario() -> None:
        turn, order = Turn(), []

        async def one(number: int) -> None:
            await turn.wait()
            order.append(number)
            await asyncio.sleep(0)
            turn.release()

        assert turn.take() and not turn.take()
        tasks = [asyncio.create_task(one(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        turn.release()
        tasks[0].cancel()  # in the moment in which it got the turn
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(item) for item in found] == [asyncio.CancelledError] * 2 + [type(None)] * 2
        assert order == [2, 3] and turn.take()

    asyncio.run(scenario())


@pytest.mark.parametrize("cancelled_first", [True, False])
def test_whoever_is_cancelled_as_the_turn_comes_round_is_just_cancelled(cancelled_first: bool) -> None:
    async def scenario() -> None:
        turn = Turn()
        assert turn.take()
        gone, following = (asyncio.create_task(turn.wait()) for _ in range(2))
        await asyncio.sleep(0)
        if cancelled_first:
            gone.cancel()
            turn.release()  # passes over who has not woken up yet
        else:
            turn.release()
            gone.cancel()
        found = await asyncio.gather(gone, following, return_exceptions=True)
        assert [type(item) for item in found] == [asyncio.CancelledError, type(None)]
        assert not turn.take()  # the following one has it
        turn.release()
        assert turn.take()

    asyncio.run(scenario())
