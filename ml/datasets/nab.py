"""Metric series with labelled anomaly windows, in the format of the Numenta Anomaly Benchmark (MIT).

``data/<folder>/<name>.csv[.gz]`` with the columns ``timestamp,value`` and ``labels/combined_windows.json[.gz]``:
for each file a list of [first, last] timestamps. A window belongs to the samples between its ends, both included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.datasets.errors import DataError
from ml.datasets.reading import columns, find, number, opened, rows
from ml.estimators.base import Floats

WINDOWS = ("combined_windows.json", "combined_windows.json.gz")
LARGEST = 64 << 20  # bytes of one series


@dataclass(frozen=True, slots=True)
class Series:
    """``time_s``: epoch, ascending; ``windows``: [first, last] indices of each labelled window."""

    name: str  # "realTraffic/speed_7578.csv"
    time_s: Floats
    value: Floats
    windows: tuple[tuple[int, int], ...]


def seconds(text: str) -> float:
    """Epoch of a timestamp without zone, taken as UTC. Raises ValueError."""
    found = datetime.fromisoformat(text.strip())
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def labels(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Windows by name of the file, as epochs; from ``labels/`` of the folder."""
    path = next((p for name in WINDOWS for p in (folder / "labels" / name, folder / name) if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: no labels/{WINDOWS[0]} (or .gz)")
    with opened(path, LARGEST) as text:
        try:
            content: Any = json.load(text)
            return {str(k): [(seconds(a), seconds(b)) for a, b in v] for k, v in content.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(f"{path}{line}: not a table of windows ({error})") from error


def series(path: Path, name: str, windows: list[tuple[float, float]]) -> Series:
    """One file; samples that go back in time are refused, missing values are nan."""
    time: list[float] = []
    value: list[float] = []
    with opened(path, LARGEST) as text:
        lines = rows(path, text)
        _, header = next(lines, (1, []))
        at, which = columns(path, header, ("timestamp", "value"))
        for line, row in lines:
            if len(row) <= max(at, which):
                raise DataError(f"{path}:{line}: {len(row)} cells, fewer than the header's")
            try:
                time.append(seconds(row[at]))
            except (ValueError, OverflowError):
                raise DataError(f"{path}:{line}: timestamp is none: {row[at][:40]!r}") from None
            if len(time) > 1 and time[-1] < time[-2]:
                raise DataError(f"{path}:{line}: timestamp {row[at][:40]!r} is earlier than the one before")
            value.append(number(path, line, row[which], "value"))
    if not time:
        raise DataError(f"{path}: empty")
    epochs = np.array(time)
    found = []
    for first, last in windows:
        a, b = int(np.searchsorted(epochs, first)), int(np.searchsorted(epochs, last, side="right")) - 1
        if a <= b:
            found.append((a, b))
    return Series(name, epochs, np.array(value), tuple(sorted(found)))


def load(folder: Path) -> list[Series]:
    """All series below ``folder/data`` (or the folder itself) that have an entry in the table of windows.

    A part of the benchmark (``data/realTraffic``, or one file) finds the labels in a folder above.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such file or folder")
    above = [folder, *folder.resolve().parents[:3]]
    top = next((p for p in above if any((p / "labels" / name).is_file() for name in WINDOWS)), folder)
    known = labels(top)
    base = top / "data" if (top / "data").is_dir() else top
    found = []
    for path in find(base if top == folder else folder.resolve(), "*.csv", "*.csv.gz"):
        name = path.relative_to(base.resolve() if top != folder else base).as_posix().removesuffix(".gz")
        if name in known:
            found.append(series(path, name, known[name]))
    if not found:
        raise DataError(f"{base}: no series that the labels know")
    return found


def inside(item: Series) -> NDArray[np.bool_]:
    """Which samples are in a window."""
    found = np.zeros(len(item.time_s), dtype=np.bool_)
    for first, last in item.windows:
        found[first : last + 1] = True
    return found
