"""What the integration tests share: whether a lab can run here, and commands in a network of their own.

Every lab of these tests lives in a network namespace that ``python -m topo.userns`` makes, so that a lab which the
user has running, or another test run, is never met.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

from topo import userns

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = [sys.executable, "-m", "topo.userns", "--"]
SCOREBOARD = [sys.executable, "-m", "control.scoreboard"]
T = TypeVar("T")


@cache
def missing() -> str:
    """Why no lab can run here; empty when one can."""
    for tool in ("mnexec", "ip", "cc"):
        if shutil.which(tool) is None:
            return f"the lab needs {tool} on the PATH"
    return "" if userns.privileged() else userns.probe()


needs_lab = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def environment(**more: str) -> dict[str, str]:
    """This environment, with our packages importable from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run(
    command: Sequence[str], *, timeout_s: float = 120.0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command from the repository's folder to its end, output captured."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def eventually(condition: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """Wait for a condition, bounded; returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return found
