"""Signals while a lab lives: SIGTERM ends it in order, Ctrl-C does not interrupt its end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Termination:
    """SIGTERM as :class:`SystemExit`, so that context managers are left; the program's own plans come first."""

    def __init__(self) -> None:
        self._before: Any = None

    def install(self) -> None:
        """Take effect, in the main thread and unless the program handles SIGTERM itself."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._before = signal.signal(signal.SIGTERM, _exit_on_signal)

    def restore(self) -> None:
        """As it was before; safe to call without :meth:`install`."""
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """Ignore SIGINT meanwhile (main thread only: others get none)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
