"""Impairments: schedules as pure functions, and what they do to frames."""

from __future__ import annotations

import ctypes
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import Code, DatapathError
from engine.dataplane import Client
from tests.engine.switchd_support import (
    Rig,
    burst,
    eventually,
    frame,
    functions_of,
    hello_port,
    needs_interfaces,
    number_of,
    numbered,
    sent_out,
)

MS = 1_000_000


class Point(ctypes.Structure):
    _fields_ = [("time", ctypes.c_uint64), ("value", ctypes.c_double)]


class Schedule(ctypes.Structure):
    _fields_ = [
        ("points", ctypes.POINTER(Point)),
        ("count", ctypes.c_uint32),
        ("cursor", ctypes.c_uint32),
        ("before", ctypes.c_double),
    ]


@pytest.fixture(scope="module")
def library() -> Any:
    loaded = functions_of("impair")
    loaded.schedule_value.restype = ctypes.c_double
    loaded.schedule_value.argtypes = [ctypes.POINTER(Schedule), ctypes.c_uint64]
    return loaded


def expected(points: list[tuple[int, float]], before: float, time: int) -> float:
    if time < points[0][0]:
        return before
    last = max(i for i, (at, _) in enumerate(points) if at <= time)
    if last + 1 == len(points):
        return points[last][1]
    (t0, v0), (t1, v1) = points[last], points[last + 1]
    return v0 + (v1 - v0) * (time - t0) / (t1 - t0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(-10, 10)), min_size=1, max_size=12),
    st.lists(st.integers(0, 12 * 10**5), min_size=1, max_size=20),
)
def test_schedule_is_piecewise_linear(library: Any, points: list[tuple[int, float]], times: list[int]) -> None:
    points.sort(key=lambda point: point[0])
    array = (Point * len(points))(*points)
    schedule = Schedule(array, len(points), 0, 3.0)
    for at in times:  # any order: the cursor has to find its way back
        value = library.schedule_value(ctypes.byref(schedule), at)
        assert value == pytest.approx(expected(points, 3.0, at))


@needs_interfaces()
class TestLine:
    def test_loss_rate(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"loss": [(0, 0.3)]}, seed=7)
        count = received = 0
        for _ in range(20):  # small bursts: none may be lost for another reason
            burst(rig_.host[1], 200)
            count += 200
            eventually(lambda: client.device_state().ports[0].rx_packets == count, "all frames")  # noqa: B023
            received += len(rig_.host[2].receive(200, seconds=0.05, quiet=0.05))
        assert hello_port(client, 1)["injected_loss"] == count - received
        assert abs(count - received - 0.3 * count) < 145  # binomial: five standard deviations
        client.impair(1, clear=True)
        burst(rig_.host[1], 200)
        assert len(rig_.host[2].receive(200)) == 200

    def test_a_seed_repeats_the_losses(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        runs = []
        for count in (200, 400):
            client.impair(1, {"loss": [(0, 0.5)]}, seed=42)
            burst(rig_.host[1], 200)
            eventually(lambda count=count: client.device_state().ports[0].rx_packets == count, "all frames")
            left = client.device_state().ports[1].tx_packets - sum(map(len, runs))
            runs.append([number_of(data) for data, _ in rig_.host[2].receive(left)])
        assert rig_.host[2].silent()
        assert runs[0] == runs[1]
        assert 50 < len(runs[0]) < 150

    def test_loss_ends_with_its_schedule(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"loss": [(0, 1.0), (1.0, 1.0), (1.0, 0.0)]})
        rig_.host[1].send(numbered(0))

        def arrives() -> list[tuple[bytes, int]]:
            rig_.host[1].send(numbered(1))
            return rig_.host[2].receive(1, seconds=0.05)

        received = eventually(arrives, "the end of the loss")
        assert number_of(received[0][0]) == 1

    def test_delay(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"delay_ms": [(0, 40)]})

        def on_time() -> bool:
            """Never too early; not much later, if the machine lets it."""
            sent = burst(rig_.host[1], 20)
            delays = sorted(at - sent[number_of(data)] for data, at in rig_.host[2].receive(20))
            assert len(delays) == 20 and delays[0] >= 40 * MS
            return delays[2] < 60 * MS

        eventually(on_time, "frames after no more than their delay")

    def test_delay_is_of_one_direction(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"delay_ms": [(0, 5000)]})
        rig_.host[2].send(frame(b"back"))
        assert len(rig_.host[1].receive(1, seconds=3)) == 1

    def test_jitter_keeps_the_order(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"delay_ms": [(0, 5)], "jitter_ms": [(0, 30)]})
        sent = burst(rig_.host[1], 300)
        received = rig_.host[2].receive(300)
        assert [number_of(data) for data, _ in received] == list(range(300))
        delays = [at - sent[number_of(data)] for data, at in received]
        assert min(delays) >= 5 * MS

    def test_base_outlives_clear(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"delay_ms": [(0, 30)]}, base=True)
        client.impair(1, {"delay_ms": [(0, 40)]})
        for least in (70, 30):
            at = rig_.host[1].send(numbered(1))
            received = rig_.host[2].receive()
            assert received[0][1] - at >= least * MS
            client.impair(1, clear=True)
        client.impair(1, clear=True, base=True)
        rig_.host[1].send(numbered(1))
        assert rig_.host[2].receive()
        with pytest.raises(DatapathError):
            client.impair(9, clear=True)

    def test_frames_on_the_way_arrive_before_later_ones(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"delay_ms": [(0, 100)]})
        burst(rig_.host[1], 10)
        eventually(lambda: hello_port(client, 1)["delayed"] == 10, "frames in the delay line")
        client.impair(1, clear=True)
        burst(rig_.host[1], 10, first=10)
        assert [number_of(data) for data, _ in rig_.host[2].receive(20)] == list(range(20))

    def test_corruption_flips_one_bit(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(1, {"corrupt": [(0, 1.0)]}, seed=3)
        for number in range(20):
            rig_.host[1].send(numbered(number, size=600))
        # The switch tells when it is done and how many left: on a busy machine a pause between two frames is no end.
        eventually(lambda: hello_port(client, 1)["injected_corruption"] == 20, "all frames")
        eventually(lambda: hello_port(client, 1)["delayed"] == 0, "the last frame")
        left = client.device_state().ports[1].tx_packets
        assert left >= 18  # a flipped ether type may take a frame another way
        received = rig_.host[2].receive(left, kind=None, quiet=5)
        assert len(received) == left
        originals = {numbered(number, size=600) for number in range(20)}
        for data, _ in received:
            whole = int.from_bytes(data, "big")
            assert min(bin(whole ^ int.from_bytes(original, "big")).count("1") for original in originals) == 1


@needs_interfaces()
class TestQueue:
    def test_rate_spaces_frames_and_a_full_queue_drops(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(2, {"rate_mbps": [(0, 8)], "queue_packets": [(0, 20)]})  # 1000 bytes a millisecond
        sent = burst(rig_.host[1], 100, size=1000)
        received = rig_.host[2].receive(sent_out(client, of=100))
        state = client.device_state().ports[1]
        assert state.tx_dropped == 100 - len(received)
        assert 21 <= len(received) < 100  # the queue and the one being sent; more when the burst took its time
        assert state.queue_max == 20
        assert state.queue_depth == 0
        assert state.rate_bps == 8_000_000
        assert received[-1][1] - sent[0] >= (len(received) - 1) * MS * 0.9
        assert client.device_state().ports[1].queue_max == 0  # since the last look

    def test_line_is_fast_again_after_clear(self, switch: tuple[Rig, Client]) -> None:
        rig_, client = switch
        client.impair(2, {"rate_mbps": [(0, 1)]})
        burst(rig_.host[1], 30, size=1000)
        eventually(lambda: client.device_state(keep_maxima=True).ports[1].queue_depth > 0, "a queue")
        client.impair(2, clear=True)
        burst(rig_.host[1], 30, first=30, size=1000)
        assert [number_of(data) for data, _ in rig_.host[2].receive(60)] == list(range(60))

    def test_heartbeats_overtake_data(self, switch: tuple[Rig, Client]) -> None:
        """The test pipeline sends heartbeats with priority 7."""
        rig_, client = switch
        client.impair(2, {"rate_mbps": [(0, 0.1)]})  # 80 ms a frame
        burst(rig_.host[1], 100, size=1000)

        def waiting() -> int:
            return client.device_state(keep_maxima=True).ports[1].queue_depth

        eventually(lambda: waiting() >= 90, "a queue")
        client.pktgen(10_000)
        assert rig_.host[2].receive(kind=0x88B5)
        assert waiting() >= 30, "it came before these"

    def test_base_rate_and_fault_rate(self, switch: tuple[Rig, Client]) -> None:
        _, client = switch
        client.impair(2, {"rate_mbps": [(0, 100)]}, base=True)
        client.impair(2, {"rate_mbps": [(0, 10)]})
        assert client.device_state().ports[1].rate_bps == 10_000_000
        client.impair(2, {"rate_mbps": None})
        assert client.device_state().ports[1].rate_bps == 100_000_000


BAD = [
    ({"port": 1, "schedule": {"los": [[0, 1]]}}, Code.INVALID_ARGUMENT, "los is no parameter"),
    ({"port": 1, "schedule": {"loss": [[0, 2]]}}, Code.INVALID_ARGUMENT, "loss is out of range"),
    ({"port": 1, "schedule": {"loss": []}}, Code.INVALID_ARGUMENT, "loss must be a list"),
    ({"port": 1, "schedule": {"loss": [[0]]}}, Code.INVALID_ARGUMENT, "no pair"),
    ({"port": 1, "schedule": {"loss": [[1, 0], [0, 1]]}}, Code.INVALID_ARGUMENT, "not in time order"),
    ({"port": 1, "schedule": {"loss": [[-1, 0]]}}, Code.INVALID_ARGUMENT, "time outside"),
    ({"port": 1, "schedule": {"capacity_pps": [[0, 5]]}}, Code.INVALID_ARGUMENT, "belongs to the device"),
    ({"port": None, "schedule": {"loss": [[0, 0]]}}, Code.INVALID_ARGUMENT, "belongs to a port"),
    ({"port": 77, "clear": True}, Code.NOT_FOUND, "no such port"),
    ({"port": 1.5, "clear": True}, Code.NOT_FOUND, "no such port"),
    ({"port": 1, "clear": True, "loss": 1}, Code.INVALID_ARGUMENT, "unknown key 'loss'"),
    ({"port": 1, "seed": 1e300}, Code.INVALID_ARGUMENT, "needs schedule"),
    ({"port": 1}, Code.INVALID_ARGUMENT, "needs schedule"),
    ([], Code.INVALID_ARGUMENT, "not a JSON object"),
]


@pytest.mark.parametrize(("request_", "code", "text"), BAD)
def test_bad_requests_change_nothing(switch: tuple[Rig, Client], request_: Any, code: Code, text: str) -> None:
    rig_, client = switch
    if isinstance(request_, dict) and request_.get("schedule"):
        request_ = {**request_, "schedule": {"delay_ms": [[0, 60000]], **request_["schedule"]}}
        if request_["port"] is None:
            del request_["schedule"]["delay_ms"]
    with pytest.raises(DatapathError, match=text) as caught:
        client.command(0x104, json.dumps(request_).encode())
    assert caught.value.code is code
    rig_.host[1].send(numbered(1))
    assert rig_.host[2].receive()


def test_ramp_of_delay_grows(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(1, {"delay_ms": [(0, 0), (1, 100)]})
    begun = time.time_ns()  # a little after the schedule did
    delays: list[int] = []

    def grown() -> bool:
        at = rig_.host[1].send(numbered(0))
        delays.append(rig_.host[2].receive()[0][1] - at)
        assert delays[-1] >= min(100 * MS, (at - begun) // 10) - MS, "the line's delay, and whatever the machine adds"
        return delays[-1] >= 100 * MS

    eventually(grown, "the end of the ramp")
    assert min(delays) < 60 * MS
