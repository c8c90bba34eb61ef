"""Who serves packets and controllers is urgent, and the compilers that it starts are not."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from engine.priority import NICE

CHILDREN = """
import os, subprocess
from engine.priority import ordinarily, raise_priority
def nice_of_a_child():
    return subprocess.run(["nice"], capture_output=True, text=True, check=True).stdout.strip()
permitted = raise_priority()
before = nice_of_a_child()
meanwhile = ordinarily(nice_of_a_child)
print(permitted, os.getpriority(os.PRIO_PROCESS, 0), before, meanwhile, nice_of_a_child())
"""
POLICY = """
import os
from engine.priority import raise_priority
before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
told = raise_priority()
print(told, before == (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))
"""


def run(code: str, *prefix: str) -> list[str]:
    done = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("nice") is None, reason="needs coreutils")
def test_children_that_compile_are_ordinary() -> None:
    permitted, own, before, meanwhile, after = run(CHILDREN)
    assert before == after == own, "what ordinarily() is there for"
    if permitted == "True":
        assert int(own) <= NICE and meanwhile == "0"
    else:
        assert meanwhile == str(max(0, int(own)))


@pytest.mark.skipif(shutil.which("chrt") is None, reason="needs util-linux")
@pytest.mark.parametrize(("policy", "urgent"), [("--batch", False), ("--idle", False), ("--rr", True)])
def test_a_policy_that_somebody_chose_stays(policy: str, urgent: bool) -> None:
    prefix = ["chrt", policy, str(int(urgent))]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"chrt {policy} is not permitted here")
    assert run(POLICY, *prefix) == [str(urgent), "True"]


def test_a_nice_process_becomes_urgent_only_if_that_is_permitted() -> None:
    told, same = run(POLICY, "nice", "-n", "5")
    assert (told == "True") != (same == "True")
