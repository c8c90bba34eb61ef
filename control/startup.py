"""How the interpreter runs until the service is ready, and from then on.

A start makes a hundred thousand objects that stay. Python would look through all of them again and again for cycles,
for a fifth of the time that imports take; and with the short switch interval that flips want, two busy threads (the
one with the event loop, the one that loads the API) take the interpreter from each other thousands of times.
"""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.0001  # a flip's thread must not wait the interpreter's default 5 ms for the event loop
THRESHOLDS = 50_000, 20, 50  # fewer collections than by default


def begin() -> None:
    """Collect nothing for now; to be called before anything large is imported."""
    gc.disable()


def settle() -> None:
    """What exists now stays, so collections in the middle of a flip need not walk it. To be called once: garbage stays,
    too, little after a start, and looking for it there would take a tenth of a second."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def end() -> None:
    """As before :func:`begin`. Frozen objects outlive the interpreter, and DuckDB's binding tells every one of them."""
    gc.unfreeze()
    gc.enable()
