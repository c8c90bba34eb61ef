"""Who serves packets and controllers is urgent, and the compilers that it starts are not."""

from __future__ import annotations

import subprocess
import sys

from engine.priority import NICE

CODE = """
import os, subprocess
from engine.priority import ordinary, raise_priority
permitted = raise_priority()
child = subprocess.Popen(["sleep", "60"])
inherited = os.getpriority(os.PRIO_PROCESS, child.pid)
ordinary(child.pid)
print(permitted, os.getpriority(os.PRIO_PROCESS, 0), inherited, os.getpriority(os.PRIO_PROCESS, child.pid))
child.kill()
child.wait()
ordinary(child.pid)
"""


def test_children_that_compile_are_ordinary_again() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    permitted, own, inherited, after = done.stdout.split()
    assert inherited == own, "what ordinary() is there for"
    if permitted == "True":
        assert int(own) <= NICE and int(after) == 0
    else:
        assert after == own
