"""What a service wrote down of its own doings, as failures that models can learn from.

A service's history names a ``kind`` for each of its events. ``port_down`` to ``port_up`` is a failure of the link;
``failure`` is loss that it saw (with the mode that the loss speaks for), once a second while it lasts. A ``flip``
moves load away: whether congestion or an overload would have come is then known to nobody, so the outcome is *hidden*
from there on. A link's failure shows after a flip all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan, nan
from typing import Any, NamedTuple

from ml.schema import Mode

COLUMNS = ("element", "time_s", "kind", "mode", "end_s", "detail")
QUIET_S = 10.0  # without loss for this long: the failure is over
PREVENTED = (Mode.CONGESTION, Mode.DEVICE_OVERLOAD)  # by a flip


class Failure(NamedTuple):
    """Fields as :class:`ml.recording.Event` has them."""

    element: str
    mode: Mode
    time_s: float
    end_s: float = nan
    cause: str = ""


class Hidden(NamedTuple):
    """From ``time_s`` on nobody can tell whether ``mode`` would have struck."""

    element: str
    mode: Mode
    time_s: float


def understood(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Failure], list[Hidden]]:
    """(failures, hidden outcomes) of events in the order of time; other kinds and modes say nothing here.

    >>> down = {"element": "s1:2", "time_s": 5.0, "kind": "port_down", "detail": "carrier"}
    >>> understood([down, {**down, "time_s": 9.0, "kind": "port_up"}])[0]
    [Failure(element='s1:2', mode=<Mode.LINK_FAILURE: 'link_failure'>, time_s=5.0, end_s=9.0, cause='carrier')]
    """
    found: dict[tuple[str, Mode], list[Failure]] = {}
    down: dict[str, float] = {}
    hidden = []
    for row in rows:
        element, time_s, mode = row["element"], row["time_s"], row.get("mode", "")
        match row["kind"]:
            case "port_down":
                _enter(found, Failure(element, Mode.LINK_FAILURE, time_s, cause=row.get("detail", "")))
                down.setdefault(element, time_s)
            case "port_up" if element in down:
                del down[element]
                _enter(found, Failure(element, Mode.LINK_FAILURE, time_s, time_s))
            case "failure" if mode in tuple(Mode):
                _enter(found, Failure(element, Mode(mode), time_s, row.get("end_s", time_s), row.get("detail", "")))
            case "flip" if mode in PREVENTED:
                hidden.append(Hidden(element, Mode(mode), time_s))
    return sorted((item for several in found.values() for item in several), key=lambda item: item.time_s), hidden


def _enter(found: dict[tuple[str, Mode], list[Failure]], new: Failure) -> None:
    """Continue the last failure of that element and mode, or begin another one."""
    several = found.setdefault((new.element, new.mode), [])
    if several:
        last = several[-1]
        if isnan(last.end_s) or new.time_s - last.end_s <= QUIET_S:
            several[-1] = last._replace(end_s=new.end_s)
            return
    several.append(new)
