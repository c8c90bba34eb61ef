"""What the three fuzzers share: a deadline, a report, findings on disk."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

FINDINGS = Path("build/fuzz")
SANITIZER_FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
}


class Finding(AssertionError):
    """Something that must not happen, with the input that made it happen."""

    def __init__(self, what: str, **files: bytes) -> None:
        self.what = what
        self.files = files
        super().__init__(what)

    def save(self, name: str) -> Path:
        """Write the input below :data:`FINDINGS`; returns the folder."""
        folder = FINDINGS / f"{name}-{os.getpid()}-{time.time_ns()}"
        folder.mkdir(parents=True)
        (folder / "what.txt").write_text(self.what)
        for file, data in self.files.items():
            (folder / file).write_bytes(data)
        return folder


@dataclass(slots=True)
class Report:
    """What a fuzzer did: numbers by outcome."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.outcomes.most_common(12))
        return f"{self.inputs:,} inputs: {parts}"


@dataclass(frozen=True, slots=True)
class Budget:
    """Ends a fuzzer at a time, or after a number of inputs (tests use the number, so that they repeat)."""

    seconds: float = float("inf")
    inputs: int | None = None
    began: float = field(default_factory=time.monotonic)

    def left(self, report: Report) -> bool:
        if self.inputs is not None and report.inputs >= self.inputs:
            return False
        return time.monotonic() - self.began < self.seconds
