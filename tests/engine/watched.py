"""Packets in the middle of commands: a switch that is asked the same wherever it lets packets pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.library import Switch
from tests.engine.engine_support import compiled

Write = tuple[int, bytes]  # a command of a batch


class Watched:
    """A switch that is asked the same at every point where packets pass."""

    def __init__(self, program: str) -> None:
        self.expected: list[Any] | None = None
        self.probes: Callable[[Switch], list[Any]] = lambda switch: []
        self.passed = 0
        self.failure: Exception | None = None
        self.switch = Switch(compiled(program), breathe=self._breathe)

    def _breathe(self) -> None:
        if self.expected is not None:
            self.passed += 1
            try:
                seen = self.probes(self.switch)
            except Exception as error:  # a probe that was lost; during() raises it
                self.failure = self.failure or error
                return
            if seen != self.expected:  # an exception would not leave the callback
                self.differences.append((self.passed, self.expected, seen))

    def during(self, command: Callable[[Switch], Any]) -> Any:
        """Run a command; nothing of it may be seen until all can be seen: then whatever passes sees the end."""
        self.differences: list[tuple[int, list[Any], list[Any]]] = []
        self.failure = None
        self.expected = self.probes(self.switch)
        try:
            result = command(self.switch)
        finally:
            self.expected = None
        if self.failure is not None:
            raise self.failure
        after = self.probes(self.switch)
        for number, before, seen in self.differences:
            assert seen == after, f"pass {number} saw neither the state before nor that after: {before}, {seen}"
        numbers = [number for number, _before, _seen in self.differences]
        assert numbers == list(range(self.passed - len(numbers) + 1, self.passed + 1)), "the new state went away again"
        return result

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.switch.close()
