"""Ctrl-C, SIGTERM and SIGKILL in the middle of a run: see ``lifecycle.py`` for what is checked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.support import NAMESPACE, needs_lab, run

CASES = ["interrupted_at_start", "interrupted_in_traffic", "terminated", "killed_and_cleaned"]


@needs_lab
@pytest.mark.parametrize("case", CASES)
def test_lifecycle(case: str, tmp_path: Path) -> None:
    done = run([*NAMESPACE, sys.executable, "-m", "tests.integration.lifecycle", case, str(tmp_path)], timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
