"""The thread that decides runs in real time where it may, and hands that back before it starves others."""

from __future__ import annotations

import subprocess
import sys

from control.realtime import BACK_OFF_S, HOT, Guard

SCRIPT = """
import asyncio, os, subprocess, sys, threading, time
from control import realtime

realtime.LONGEST_S, realtime.PERIOD_S = 0.05, 0.01
policy = lambda: os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
NAMES = {os.SCHED_OTHER: "ordinary", os.SCHED_RR: "real time"}

async def main():
    mine = realtime.RealTime()
    task = asyncio.create_task(mine.run())
    await asyncio.sleep(0.02)
    told = [NAMES[policy()], mine.active]
    ask = "import os; print(os.sched_getscheduler(0))"
    grandchild = subprocess.run([sys.executable, "-c", ask], capture_output=True)
    seen, go = [], threading.Event()
    def work():
        seen.append(NAMES[policy()])
        go.wait(5)
        seen.append(NAMES[policy()])
    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.sleep(0.05)
    go.set()
    thread.join()
    child = [NAMES[int(grandchild.stdout)], *seen]
    stop = time.monotonic() + 2.0
    while policy() == os.SCHED_RR and time.monotonic() < stop:
        pass  # without ever sleeping
    told += [*child, NAMES[policy()], mine.active]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    print(*told, NAMES[policy()], sep=";")

asyncio.run(main())
"""


def test_real_time_is_taken_where_permitted_and_given_up_by_who_never_sleeps() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    first, active, process, fresh, thread, later, still, last = done.stdout.strip().split(";")
    assert first == thread == ("real time" if active == "True" else "ordinary")
    assert (process, fresh, later, still, last) == ("ordinary", "ordinary", "ordinary", "False", "ordinary")


def test_a_thread_that_fills_its_core_is_ordinary_for_a_while() -> None:
    guard = Guard(0.0, 0.0)
    now = cpu = 0.0
    for _ in range(100):
        now, cpu = now + 0.1, cpu + 0.1 * (HOT - 0.05)
        assert guard.turn(now, cpu), "busy, and yet it leaves something"
    while guard.turn(now, cpu):
        now, cpu = now + 0.1, cpu + 0.1
        assert now < 15.0
    until = now + BACK_OFF_S
    while not guard.turn(now, cpu):
        now, cpu = now + 0.1, cpu + 0.01
    assert abs(now - until) < 0.15
