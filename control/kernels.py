"""Gives the analyzer its compiled code (:mod:`ml.kernels`): built by the C compiler once, then kept in the cache."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from engine.api import EngineError
from engine.build import build_shared
from ml import kernels

LOG = structlog.get_logger("shadowplane.kernels")
CPU = Path("/proc/cpuinfo")
_asked: list[bool] = []
_lock = threading.Lock()


def install() -> bool:
    """Compile (about a second, the first time) and use the analyzer's code; False, said once: there is no compiler, and
    numpy does the same in several times the time. Asked again it answers as before. Thread-safe."""
    with _lock:
        if not _asked:
            try:
                kernels.use(build())
                _asked.append(True)
            except (EngineError, OSError) as error:
                LOG.warning("the analyzer works without compiled code, several times slower", why=str(error))
                _asked.append(False)
        return _asked[0]


def build() -> Path:
    """The library for this machine's processor; raises :class:`~engine.api.EngineError`."""
    # Vectors of four numbers, where there are such; the cache tells files by their flags, should machines share it.
    wide = ("-mavx2",) if "avx2" in _processor() else ()
    sources = sorted(kernels.SOURCES.glob("*.c"))
    flags = (*kernels.FLAGS, *wide)
    return build_shared(sources, name="analyzer", flags=flags, include=[kernels.SOURCES], libraries=["-lm"])


def _processor() -> set[str]:
    """What the processor can do; empty where the kernel does not say so in this form."""
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
