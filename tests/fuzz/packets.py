"""The packet path: generated pipelines with the core linked in, fed packets and commands, whole and damaged."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import tempfile
from pathlib import Path

from engine.build import NATIVE, build_executable
from engine.codegen import generate
from engine.ir import Program
from engine.ir_load import load
from engine.program import program_info
from tests.engine.test_sanitized import PROGRAM_FILES, records
from tests.fuzz.common import SANITIZER_ENVIRONMENT, SANITIZER_FLAGS, Budget, Finding, Report

DRIVER = Path(__file__).resolve().parents[1] / "engine" / "fuzz_main.c"
ROUNDS = 200_000  # mutations by one process, before it starts anew with another seed


def build(program: Program) -> Path:
    """The driver with a program, under the sanitizers."""
    return build_executable(
        [*sorted((NATIVE / "core").glob("*.c")), DRIVER],
        name="fuzz",
        generated={"pipeline.c": generate(program, program_info(program))},
        flags=SANITIZER_FLAGS,
    )


def feed(tool: Path, program: Program, seed: int, rounds: int, report: Report, name: str) -> None:
    """Run a built driver; :class:`Finding` when a sanitizer, or the driver itself, ends it."""
    with tempfile.TemporaryDirectory(prefix="shadowplane-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        with corpus.open("wb") as file:
            for kind, number, data in records(program_info(program), random.Random(seed)):
                file.write(struct.pack("<III", kind, number, len(data)) + data)
        done = subprocess.run(
            [tool, corpus, str(rounds), str(seed)],
            capture_output=True,
            text=True,
            check=False,
            errors="replace",
            timeout=3600,
            env=os.environ | SANITIZER_ENVIRONMENT,
        )
        if done.returncode != 0:
            what = f"{name}, seed {seed}, {rounds} rounds: exit {done.returncode}\n{done.stderr[-6000:]}"
            raise Finding(what, corpus=corpus.read_bytes())
    report.inputs += rounds
    report.outcomes[name] += rounds


def run(budget: Budget, seed: int, report: Report, rounds: int = ROUNDS) -> None:
    """All programs in turn until the budget is spent."""
    programs = {name: load(path) for name, path in sorted(PROGRAM_FILES.items())}
    tools = {name: build(program) for name, program in programs.items()}
    while budget.left(report):
        for name, program in programs.items():
            feed(tools[name], program, seed, rounds, report, name)
            if not budget.left(report):
                return
        seed += 1
