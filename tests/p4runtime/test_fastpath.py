"""The short way of single writes: taken where it can be, and never different from the usual way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from engine.api import Code, DatapathError
from engine.gnmi import MAX_SUBSCRIPTIONS
from engine.p4rt import fastpath
from engine.p4rt.budget import MAX_READS
from engine.p4rt.streams import MAX_STREAMS
from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    INSERT,
    MODIFY,
    SAMPLE,
    TIMEOUT_S,
    RawClient,
    config_of,
    errors_of,
    exact,
    register,
    served,
    until,
)


def test_gRPC_has_what_the_short_way_needs() -> None:
    assert fastpath.available(), "another grpcio? check engine/p4rt/fastpath.py against its grpc/_server.py"


@pytest.fixture
def counted(backend: FakeBackend) -> Any:
    """(client, function that tells how many writes took the short way)"""
    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        yield raw, lambda: serving.short_way.short_ways
        raw.close()


def test_who_takes_it(counted: Any) -> None:
    raw, short_ways = counted
    raw.write((MODIFY, register(1, b"\1")))
    raw.insert(exact(1))
    assert short_ways() == 2
    raw.insert(exact(2), exact(3))
    raw.insert(exact(4, metadata=b"m"))
    raw.write((MODIFY, register(1, b"\0")), atomicity=1)
    assert short_ways() == 2


def test_refusals_read_the_same(counted: Any) -> None:
    raw, short_ways = counted
    raw.insert(exact(1))
    for update, code, word in (
        ((INSERT, {"table_entry": exact(1)}), 6, "exists already"),
        ((MODIFY, register(99999, b"\1")), 11, "index 99999"),
        ((INSERT, register(0, b"\1")), 3, "MODIFY"),
        ((INSERT, {"table_entry": p4r.TableEntry(table_id=1)}), 5, "unknown table"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            raw.write(update)
        (error,) = errors_of(caught.value)
        assert error.canonical_code == code and word in error.message
    raw.election = 9
    with pytest.raises(grpc.RpcError) as caught:
        raw.write((MODIFY, register(1, b"\1")))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    call = raw.channel.unary_unary("/p4.v1.P4Runtime/Write", None, None)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert short_ways() == 1


def test_bytes_that_are_no_message_never_end_the_serving_thread(counted: Any) -> None:
    raw, _short_ways = counted
    call = raw.channel.unary_unary("/p4.v1.P4Runtime/Write", None, None)
    for _ in range(50):
        pending = [call.future(b"\xff\xff\xff", timeout=TIMEOUT_S) for _ in range(20)]
        assert {one.code() for one in pending} == {grpc.StatusCode.INVALID_ARGUMENT}
    raw.write((MODIFY, register(1, b"\1")))


def test_a_failing_data_plane_does_not_stop_the_server(counted: Any, backend: FakeBackend) -> None:
    raw, _short_ways = counted
    working = backend.switch.command

    def broken(op: int, payload: bytes) -> bytes:
        raise DatapathError(Code.UNAVAILABLE, "gone")

    def absurd(op: int, payload: bytes) -> bytes:
        raise ZeroDivisionError("a mistake of ours")

    for fault, code in ((broken, 14), (absurd, None)):
        backend.switch.command = fault  # type: ignore[method-assign]
        with pytest.raises(grpc.RpcError) as caught:
            raw.write((MODIFY, register(1, b"\1")))
        if code is None:
            assert caught.value.code() is grpc.StatusCode.INTERNAL
        else:
            assert errors_of(caught.value)[0].canonical_code == code
    backend.switch.command = working  # type: ignore[method-assign]
    raw.write((MODIFY, register(1, b"\1")))


def test_many_clients_at_once_and_cancelled_calls(counted: Any, backend: FakeBackend) -> None:
    raw, short_ways = counted
    failures: list[Exception] = []

    def hammer(number: int) -> None:
        try:
            for value in range(100):
                raw.write((MODIFY, register(number, bytes([value & 1]))), (MODIFY, register(number, b"\1")))
                raw.write((MODIFY, register(number, bytes([value & 1]))))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    method = raw.call("Write", "unary_unary", p4r.WriteResponse)
    request = p4r.WriteRequest(device_id=1, election_id=p4r.Uint128(low=1))
    request.updates.add(type=MODIFY, entity=p4r.Entity(**register(100, b"\1")))
    for _ in range(100):
        method.future(request).cancel()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not failures
    assert short_ways() >= 800
    assert [int.from_bytes(backend.switch.registers[0][n], "big") for n in range(8)] == [1] * 8
    raw.write((MODIFY, register(1, b"\0")))
    assert backend.switch.registers[0][1] == b"\0"


def half_open(raw: RawClient, count: int) -> tuple[list[Any], threading.Event]:
    """Calls of Write that send no message until the event is set."""
    go_on = threading.Event()

    def nothing() -> Iterator[bytes]:
        go_on.wait(60)
        yield from ()

    call = raw.channel.stream_unary("/p4.v1.P4Runtime/Write", None, None)
    return [call.future(nothing(), timeout=60) for _ in range(count)], go_on


def test_calls_without_a_message_are_counted_and_limited(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        state = serving.grpc._state  # type: ignore[attr-defined]
        before = 1  # the stream
        until(lambda: state.active_rpc_count == before)
        state.maximum_concurrent_rpcs = before + 5
        calls, go_on = half_open(raw, 5)
        until(lambda: state.active_rpc_count == before + 5)
        with pytest.raises(grpc.RpcError) as caught:
            raw.write((MODIFY, register(1, b"\1")))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls[:3]:
            call.cancel()
        until(lambda: state.active_rpc_count == before + 2)
        raw.write((MODIFY, register(1, b"\1")))
        go_on.set()
        assert [call.code() for call in calls[3:]] == [grpc.StatusCode.UNIMPLEMENTED] * 2
        until(lambda: state.active_rpc_count == before)
        # What stands for a call goes just after it is counted off.
        until(lambda: not any(type(item).__module__ == fastpath.__name__ for item in list(state.rpc_states)))
        raw.close()


def test_the_server_stops_while_calls_wait_for_their_message(backend: FakeBackend) -> None:
    with served(backend) as (serving, address):
        raw = RawClient(address)
        state = serving.grpc._state  # type: ignore[attr-defined]
        calls, go_on = half_open(raw, 3)
        until(lambda: state.active_rpc_count == 3)
        serving.stop(0)
        assert serving.grpc.wait_for_termination(10) is False  # False: terminated, no time-out
        assert all(call.code() is not grpc.StatusCode.OK for call in calls)
        go_on.set()
        raw.close()


class Breaking:
    """A gRPC call, one kind of whose steps cannot be started."""

    def __init__(self, call: Any, step: str, refuse: Callable[[], Any]) -> None:
        self._call, self._step, self._refuse = call, step, refuse

    def start_server_batch(self, operations: Any, tag: Any) -> Any:
        if type(operations[0]).__name__ == self._step:
            return self._refuse()
        return self._call.start_server_batch(operations, tag)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Event:
    def __init__(self, event: Any, step: str, refuse: Callable[[], Any]) -> None:
        self._event = event
        self.call = Breaking(event.call, step, refuse)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event, name)


def raises() -> Any:
    raise ValueError("invalid call object cannot be used from Python")


@pytest.mark.parametrize("refuse", [raises, lambda: 8])
@pytest.mark.parametrize(
    ("step", "updates", "writes"),
    [
        ("ReceiveMessageOperation", 1, 0),
        ("SendInitialMetadataOperation", 1, 1),  # the answer of a quick write, which is not done once more
        ("ReceiveCloseOnServerOperation", 2, 0),  # the usual way
        ("full", 1, 0),
    ],
)
def test_a_step_that_cannot_be_started_ends_the_call_and_nothing_else(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch, step: str, updates: int, writes: int, refuse: Any
) -> None:
    with served(backend) as (serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE))
        state = serving.grpc._state  # type: ignore[attr-defined]
        until(lambda: state.active_rpc_count == 1)  # the stream
        limit = state.maximum_concurrent_rpcs
        whole = fastpath._Call
        with monkeypatch.context() as patch:
            if step == "full":
                state.maximum_concurrent_rpcs = 1
            broken = "SendInitialMetadataOperation" if step == "full" else step
            patch.setattr(fastpath, "_Call", lambda way, event: whole(way, Event(event, broken, refuse)))
            commands: list[int] = []
            working = backend.switch.command
            patch.setattr(backend.switch, "command", lambda op, data: (commands.append(op), working(op, data))[1])
            with pytest.raises(grpc.RpcError) as caught:
                raw.write(*[(MODIFY, register(1, b"\1"))] * updates)
            assert caught.value.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            until(lambda: state.active_rpc_count == 1)
            assert len(commands) == writes
        state.maximum_concurrent_rpcs = limit
        until(lambda: not any(isinstance(item, whole) for item in list(state.rpc_states)))
        raw.write((MODIFY, register(1, b"\1")))
        raw.write((MODIFY, register(1, b"\1")), (MODIFY, register(2, b"\1")))
        raw.close()


def test_whoever_may_hold_a_thread_for_long_leaves_some_to_others(backend: FakeBackend) -> None:
    with served(backend) as (serving, _address):
        state = serving.grpc._state  # type: ignore[attr-defined]
        held = MAX_STREAMS + MAX_SUBSCRIPTIONS + MAX_READS
        assert min(state.maximum_concurrent_rpcs, state.thread_pool._max_workers) >= held + 32
