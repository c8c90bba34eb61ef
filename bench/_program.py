"""The steering program, compiled for the embedded switch."""

from __future__ import annotations

from pathlib import Path

from bench._wire import P4INFO, PROGRAM


def shared_object() -> Path:
    """Path of the compiled program (from the cache when it is there)."""
    from engine.library import Program

    return Program.load(PROGRAM, P4INFO).path
