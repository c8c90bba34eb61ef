"""Rates and depths of single queues, as BMv2's set_queue_rate and set_queue_depth give them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from engine.api import Code, DatapathError
from engine.dataplane import Client
from engine.stats import render, snapshot
from tests.engine.switchd_support import (
    Rig,
    burst,
    eventually,
    frame,
    hello_port,
    number_of,
    sent_out,
)

MS = 1_000_000


def with_priority(number: int, priority: int, size: int = 60) -> bytes:
    return frame(number.to_bytes(4, "big"), kind=0x88C0 + priority, size=size)


def priority_of(data: bytes) -> int:
    return data[13] & 7


def queue_of(client: Client, port: int, priority: int) -> dict[str, Any]:
    return next(queue for queue in hello_port(client, port)["queues"] if queue["priority"] == priority)


def test_a_rate_in_packets_and_a_depth(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.queue(2, 0, rate_pps=200, depth=10)
    sent = burst(rig_.host[1], 100)
    received = rig_.host[2].receive(sent_out(client, of=100))
    assert 11 <= len(received) < 100  # those that wait, and the one before; more when the burst took its time
    assert received[-1][1] - sent[0] >= (len(received) - 1) * 5 * MS * 0.9
    queue = queue_of(client, 2, 0)
    assert queue == {
        "priority": 0,
        "packets": 0,
        "dropped": 100 - len(received),
        "rate_pps": 200,
        "rate_mbps": 0,
        "depth": 10,
    }
    assert client.device_state().ports[1].tx_dropped == queue["dropped"]


def test_a_rate_in_bits(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.queue(2, rate_mbps=8)  # 1,000 bytes a millisecond, for each queue
    sent = burst(rig_.host[1], 20, size=1000)
    times = [at for _, at in rig_.host[2].receive(20)]
    assert len(times) == 20
    assert times[-1] - sent[0] >= 19 * MS * 0.9


def test_a_queue_that_waits_for_its_rate_keeps_no_other_waiting(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.queue(2, 5, rate_pps=0.01)
    for number in range(3):
        rig_.host[1].send(with_priority(number, 5))
    eventually(lambda: queue_of(client, 2, 5)["packets"] == 2, "two that wait")
    for number in range(20):
        rig_.host[1].send(with_priority(100 + number, 1))
    received = [data for data, _ in rig_.host[2].receive(21, kind=None)]
    assert [number_of(data) for data in received] == [0, *range(100, 120)]
    client.queue(2, 5, rate_pps=0)
    assert [number_of(data) for data, _ in rig_.host[2].receive(2, kind=None)] == [1, 2]
    assert hello_port(client, 2)["queues"] == []


def test_larger_priorities_go_first_on_a_slow_line(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(2, {"rate_mbps": [(0, 0.01)]})  # 0.4 s for the first frame: all others come before it has left
    rig_.host[1].send(with_priority(0, 0, size=500))
    for number, priority in enumerate((1, 7, 3, 7, 0, 3), 1):
        rig_.host[1].send(with_priority(number, priority))

    def waiting() -> int:
        return client.device_state(keep_maxima=True).ports[1].queue_depth

    eventually(lambda: waiting() == 6, "all in their queues")
    client.impair(2, clear=True)
    received = [data for data, _ in rig_.host[2].receive(7, kind=None)]
    assert [number_of(data) for data in received] == [0, 2, 4, 3, 6, 1, 5]


def test_the_program_sees_the_wait_for_a_rate(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.queue(2, 3, rate_pps=0.01)
    for number in range(4):
        rig_.host[1].send(with_priority(number, 3))
    eventually(lambda: queue_of(client, 2, 3)["packets"] == 3, "three that wait")
    rig_.host[1].send(with_priority(9, 4))  # another queue: nothing waits there, nor does it wait
    (other,) = (data for data, _ in rig_.host[2].receive(2, kind=None, quiet=5) if priority_of(data) == 4)
    assert other[18:26] == bytes(8)
    client.queue(2, 3, rate_pps=0)
    received = [data for data, _ in rig_.host[2].receive(3, kind=None)]
    depths = [int.from_bytes(data[18:22], "big") for data in received]
    waits = [int.from_bytes(data[22:26], "big") for data in received]
    assert depths == [0, 1, 2]
    # A hundred seconds a packet, less what passed between the first frame and the one that asked
    assert all(90e6 * k < wait <= 100e6 * k for k, wait in enumerate(waits, 1))


def test_all_ports_and_priorities(switch: tuple[Rig, Client]) -> None:
    _, client = switch
    client.queue(None, depth=7)
    for port in (1, 2, 3):
        assert [queue["depth"] for queue in hello_port(client, port)["queues"]] == [7] * 8
    client.queue(None, 2, depth=9)
    assert [queue["depth"] for queue in hello_port(client, 3)["queues"]] == [7, 7, 9, 7, 7, 7, 7, 7]
    client.queue(None, depth=0)
    assert all(not hello_port(client, port)["queues"] for port in (1, 2, 3))


BAD = [
    ({"port": 9, "depth": 1}, Code.NOT_FOUND, "no such port"),
    ({"port": 1, "priority": 8, "depth": 1}, Code.INVALID_ARGUMENT, "priority must be 0 to 7"),
    ({"port": 1, "priority": 1.5, "depth": 1}, Code.INVALID_ARGUMENT, "priority must be 0 to 7"),
    ({"port": 1, "rate_pps": -1}, Code.INVALID_ARGUMENT, "rate_pps must be"),
    ({"port": 1, "rate_pps": "many"}, Code.INVALID_ARGUMENT, "rate_pps must be"),
    ({"port": 1, "rate_mbps": 1e7}, Code.INVALID_ARGUMENT, "rate_mbps must be"),
    ({"port": 1, "depth": 2.5}, Code.INVALID_ARGUMENT, "depth must be"),
    ({"port": 1}, Code.INVALID_ARGUMENT, "needs rate_pps, rate_mbps or depth"),
    ({"port": 1, "depth": 3, "speed": 1}, Code.INVALID_ARGUMENT, "unknown key 'speed'"),
]


def test_bad_requests_change_nothing(switch: tuple[Rig, Client]) -> None:
    _, client = switch
    for request, code, text in BAD:
        with pytest.raises(DatapathError, match=text) as caught:
            client.command(0x10D, json.dumps(request).encode())
        assert caught.value.code is code
        assert all(not port["queues"] for port in client.hello()["ports"])


def test_the_command_line(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "engine", "queue", str(rig_.socket_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "no queue has" in tool().stdout
    done = tool("--port", "1", "--priority", "3", "--rate-pps", "100", "--depth", "10", "--output", "json")
    (row,) = json.loads(done.stdout)
    assert (row["port"], row["priority"], row["rate_pps"], row["depth"]) == (1, 3, 100, 10)
    assert row == {"port": 1, **queue_of(client, 1, 3)}
    assert "packets/s" in render(snapshot(client))
    assert tool("--clear").returncode == 0
    assert hello_port(client, 1)["queues"] == []
    for wrong in (("--port", "77", "--depth", "1"), ("--clear", "--depth", "1"), ("--depth", "much")):
        failed = tool(*wrong)
        assert failed.returncode == 2
        assert failed.stderr.startswith("shadowplane switch queue: ")
