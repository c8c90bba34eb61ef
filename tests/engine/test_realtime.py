"""A server that does little has real-time threads where that is permitted; one that works hands them back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.flags import parse
from engine.realtime import BUSY, CALM_S, LOOK_AGAIN, Guard

SCRIPT = """
import os, threading
from engine import realtime
from engine.priority import NICE, raise_priority

def policies():
    tasks = [int(name) for name in os.listdir("/proc/self/task")]
    return {os.sched_getscheduler(task) & ~os.SCHED_RESET_ON_FORK for task in tasks}, tasks

def turn(calm):
    mine._guard.turn = lambda now, cpu: calm
    mine.turn()
    found, tasks = policies()
    assert len(found) == 1, "all threads alike"
    nice = {os.getpriority(os.PRIO_PROCESS, task) for task in tasks}
    return "rr" if found == {os.SCHED_RR} else "other", str(mine.active), "urgent" if max(nice) <= NICE else "not"

permitted, stop = raise_priority(), threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
mine = realtime.RealTime(WANTED)
first, second = turn(True), turn(False)
third = turn(True)
stop.set()
thread.join()
print(permitted, *first, *second, *third)
"""


LOOKS = """
import os
from engine import realtime

changed, looks = [], []
os.sched_setscheduler = lambda task, *_: changed.append(task)
mine = realtime.RealTime(False)
mine._wanted = True  # whatever is permitted here
take = mine._take
mine._take = lambda: (looks.append(turn), take())
for turn in range(1, 2 * realtime.LOOK_AGAIN):
    mine._guard.turn = lambda now, cpu: True
    mine.turn()
print(*looks, len(changed))
"""


def play(wanted: bool, *prefix: str) -> list[str]:
    script = SCRIPT.replace("WANTED", str(wanted))
    done = subprocess.run([*prefix, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_all_threads_are_real_time_ones_until_the_server_works() -> None:
    permitted, *told = play(True)
    first, second, third = told[:3], told[3:6], told[6:]
    if permitted != "True" or first[0] == "other":  # not permitted, or a single core
        assert {first[1], second[1], third[1]} == {"False"}
        pytest.skip("real-time priority is not permitted here")
    assert first == third == ["rr", "True", "urgent"]
    assert second == ["other", "False", "urgent"]


def test_threads_are_looked_at_rarely_once_all_are_known() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKS], capture_output=True, text=True, check=True)
    assert [int(word) for word in done.stdout.split()] == [1, 2, 2 + LOOK_AGAIN, 1]


def test_it_can_be_refused() -> None:
    assert set(play(False)[1::3]) == {"other"}
    assert parse(["--no-realtime"]).realtime is False
    assert parse([]).realtime is True


def test_a_server_begins_as_an_ordinary_one_and_is_one_again_while_it_works() -> None:
    guard, cpu = Guard(0.0, 0.0), 0.0
    told = []
    for i in range(1, 40):
        cpu += 0.5 * (BUSY + 0.1 if 10 <= i < 12 else BUSY - 0.1)
        told.append(guard.turn(0.5 * i, cpu))
    began = int(CALM_S / 0.5) - 1
    assert told[:began] == [False] * began, "entries and programs come at the start"
    assert all(told[began:9])
    assert not any(told[9 : 11 + began])
    assert all(told[11 + began :])
