"""Faults on a live lab under traffic: each test is a case of ``cases.py``, all on one lab (see ``live.py``)."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import cases
from tests.integration.support import NAMESPACE, ROOT, environment, needs_lab

pytestmark = needs_lab
START_S, CASE_S = 120.0, 90.0  # the first start compiles the switch


class Agent:
    """The process that has the lab."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._log = (directory / "agent.log").open("ab")
        self._answers: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [*NAMESPACE, sys.executable, "-m", "tests.integration.live", str(directory / "run")],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._answer(START_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, seconds: float) -> dict[str, Any]:
        line = self._answers.get(timeout=seconds)
        assert line, (self.directory / "agent.log").read_text(errors="replace")[-4000:]
        return dict(json.loads(line))

    def play(self, case: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        problem = self._answer(CASE_S)["problem"]
        assert not problem, problem

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(30)
        finally:
            self._log.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    made = Agent(tmp_path_factory.mktemp("live"))
    yield made
    made.stop()


@pytest.mark.parametrize("case", cases.ALL)
def test_live(agent: Agent, case: str) -> None:
    agent.play(case)
