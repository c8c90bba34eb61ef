"""The steering program, compiled for the embedded switch."""

from __future__ import annotations

from pathlib import Path

from bench._wire import PROGRAM
from engine.library import compile_program


def shared_object() -> Path:
    """Path of the compiled program (from the cache when it is there)."""
    return compile_program(PROGRAM, packet_out_bytes=2, packet_in_bytes=2).path
