"""Ports that send on threads of their own: nothing lost or overtaken, no data race, no use of a port that is gone."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from engine.process import executable
from tests.engine.switchd_support import (
    Rig,
    burst,
    eventually,
    frame,
    hello_port,
    missing,
    needs_interfaces,
    number_of,
    numbered,
    rig,
)

pytestmark = needs_interfaces()


@cache
def builds(check: str) -> bool:
    compiler = shutil.which("cc") or "cc"
    command = [compiler, f"-fsanitize={check}", "-x", "c", "-o", "/dev/null", "-"]
    return (
        subprocess.run(command, input=b"int main(void) { return 0; }", capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(params=["plain", "thread", "address,undefined"])
def switch(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    check = request.param
    if missing():
        pytest.skip(missing())
    if check != "plain" and not builds(check):
        pytest.skip(f"the compiler has no -fsanitize={check}")
    monkeypatch.setenv("TSAN_OPTIONS", "exitcode=99:halt_on_error=1")
    monkeypatch.setenv("ASAN_OPTIONS", "exitcode=99:detect_leaks=1")
    monkeypatch.setenv("UBSAN_OPTIONS", "halt_on_error=1:exitcode=99")
    binary = executable(sanitize=check == "address,undefined", threads=check == "thread")
    with rig(tmp_path) as built:
        built.start(binary=binary, extra=("--cores", "3"))
        yield built
    # The rig's end asserts exit code 0: a finding is a failure.


def test_both_directions_keep_order_and_lose_nothing(switch: Rig) -> None:
    senders = [
        threading.Thread(target=burst, args=(switch.host[n], 600), kwargs={"size": 60 + 600 * n}) for n in (1, 2)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    for n in (1, 2):
        assert [number_of(data) for data, _ in switch.host[n].receive(600)] == list(range(600))
        assert switch.host[n].silent()
    state = switch.client().hello()["senders"]
    assert state["on"] and state["running"] == 2 and sum(state["busy_ns"]) > 0


def test_frames_of_all_sizes_arrive_unchanged(switch: Rig) -> None:
    sent = [frame(bytes(range(256)) * 6, size=size)[:size] for size in range(14, 1515, 25)]
    for data in sent:
        switch.host[1].send(data)
    assert [data for data, _ in switch.host[2].receive(len(sent))] == sent
    assert switch.host[2].silent()


def test_ports_go_and_come_while_frames_are_on_their_way(switch: Rig) -> None:
    client = switch.client()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            for number in range(50):
                switch.host[1].send(numbered(number))

    sender = threading.Thread(target=flood)
    sender.start()
    try:
        for _ in range(8):
            client.remove_port(2)
            client.add_port(2, switch.port[2])
            client.impair(2, {"rate_mbps": [(0, 50)]})
            client.impair(2, clear=True)
    finally:
        stop.set()
        sender.join()
    switch.host[2].receive(100_000, quiet=0.3, seconds=3)

    def crosses() -> bool:
        switch.host[1].send(numbered(4242))
        return any(number_of(data) == 4242 for data, _ in switch.host[2].receive(64, seconds=0.3))

    eventually(crosses, "a frame through the port that came back")
    assert hello_port(client, 2)["up"]


def test_a_shaped_port_and_one_that_is_not(switch: Rig) -> None:
    """What a slow line holds back leaves through the same sender, in order."""
    switch.client().impair(2, {"rate_mbps": [(0, 20)], "queue_packets": [(0, 1000)]})
    burst(switch.host[1], 200, size=500)
    switch.client().impair(2, clear=True)
    burst(switch.host[1], 200, size=500, first=200)
    assert [number_of(data) for data, _ in switch.host[2].receive(400)] == list(range(400))
    assert switch.host[2].silent()
