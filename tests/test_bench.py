"""What ``python -m bench`` tells of benchmarks that broke and of figures that missed their target."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import _common
from bench._common import Result, write


def broken() -> None:
    raise RuntimeError("no interfaces")


def slow() -> None:
    write("slow", [Result("time", "s", 2, "<= 1"), Result("memory", "MB", 2, "<= 3")])
    sys.exit(1)


def unusable() -> None:
    sys.exit("needs root")


def fast() -> None:
    write("fast", [Result("time", "s", 1, "<= 1")])


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four benchmarks in place of the real ones."""
    made = {f"bench.{each.__name__}": each for each in (broken, slow, unusable, fast)}
    monkeypatch.setattr(bench, "names", lambda: ["broken", "fast", "slow", "unusable"])
    monkeypatch.setattr(runpy, "run_module", lambda name, run_name: made[name]())
    monkeypatch.setattr(_common, "RESULTS", tmp_path)
    monkeypatch.setattr(_common, "missed", [])
    monkeypatch.setattr(sys, "argv", ["bench"])


@pytest.mark.parametrize(
    ("names", "status", "told"),
    [
        (["fast"], 0, ""),
        (["slow", "fast"], 3, "bench: finished, targets missed: slow: time\n"),
        (["broken"], 1, "bench: did not finish: broken\n"),
        (["unusable"], 1, "needs root\nbench: did not finish: unusable\n"),
        ([], 1, "bench: finished, targets missed: slow: time\nbench: did not finish: broken, unusable\n"),
    ],
)
def test_missed_targets_are_not_breakage(
    names: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(names) == status
    assert capsys.readouterr().err.endswith(told)
