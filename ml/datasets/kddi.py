"""Router faults of the ITU AI/ML in 5G challenge (team repository KDDI naist-lsm, MIT): which fault is this minute in?

Five routers, 22 interfaces, one sample a minute, six classes (the codes for loss and for delay are one). The last
quarter of the time is held out. Features compare with the minutes before and never know the clock: faults were
injected on a timetable.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from ml.datasets.errors import DataError
from ml.estimators.base import Floats

CLASSES = ("normal", "bgp 1", "bgp 2", "node down", "interface down", "loss or delay")
CODES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 5}
TABLES = {
    "in": "network-incoming-packets-rate",
    "out": "network-outgoing-packets-rate",
    "rx": "rx-pps",
    "tx": "tx-pps",
    "up": "admin-status",
    "prefixes": "prefix-activity-received-current-prefixes",
    "cpu": "cpu_util",
}
WINDOW = 30  # minutes before, whose median is "usual"
HELD_OUT = 0.25  # of the time


@dataclass(frozen=True, slots=True)
class Minutes:
    """``tables``: name to (minutes, columns); ``columns``: their names; ``label``: index into :data:`CLASSES`."""

    tables: dict[str, Floats]
    columns: dict[str, list[str]]
    label: NDArray[np.intp]


def _read(path: Path) -> tuple[list[str], Floats]:
    try:
        with gzip.open(path, "rt", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            head = next(rows)
            keep = [i for i, name in enumerate(head) if name not in ("", "timestamp")]
            body = [[float(row[i] or "nan") for i in keep] for row in rows]
    except (OSError, EOFError, ValueError, IndexError, StopIteration) as error:
        raise DataError(f"{path}: not the expected table ({type(error).__name__}: {error})") from error
    return [head[i] for i in keep], np.array(body, dtype=np.float64)


def load(folder: Path) -> Minutes:
    """Read all tables of the folder; they have one row per minute each. Raises :class:`DataError`."""
    tables: dict[str, Floats] = {}
    columns: dict[str, list[str]] = {}
    for name, stem in TABLES.items():
        columns[name], tables[name] = _read(folder / f"{stem}.tsv.gz")
    _, status = _read(folder / "label.tsv.gz")
    lengths = {len(table) for table in tables.values()} | {len(status)}
    if len(lengths) != 1:
        raise DataError(f"{folder}: tables of different lengths {sorted(lengths)}")
    label = np.array([CODES[int(code)] for code in status[:, 0]], dtype=np.intp)
    return Minutes(tables, columns, label)


def _usual(table: Floats) -> Floats:
    """Median of the :data:`WINDOW` minutes before each minute."""
    result = np.full(table.shape, np.nan)
    for i in range(1, len(table)):
        result[i] = np.median(np.nan_to_num(table[max(0, i - WINDOW) : i]), axis=0)
    result[0] = table[0]
    return result


def features(data: Minutes) -> Floats:
    """(minutes, features): changes against the usual, and losses between the two ends of each link."""
    parts: list[Floats] = []
    for name in ("in", "out", "rx", "tx"):
        table = np.nan_to_num(data.tables[name])
        change = (table - _usual(table)) / (_usual(table) + 10.0)
        parts += [change, np.sort(change, axis=1)[:, [0, 1, 2, -3, -2, -1]]]
    for name in ("prefixes", "cpu"):
        table = np.nan_to_num(data.tables[name])
        usual = _usual(table)
        change = (table - usual) / (usual + 1.0)
        parts += [table, change, np.sort(change, axis=1)[:, [0, -1]], np.diff(table, axis=0, prepend=table[:1])]
    up = np.nan_to_num(data.tables["up"])
    parts += [up, up.sum(axis=1, keepdims=True)]
    by_link: dict[str, list[int]] = {}
    for k, column in enumerate(data.columns["in"]):
        by_link.setdefault(column.partition("+")[2], []).append(k)
    received, sent = np.nan_to_num(data.tables["in"]), np.nan_to_num(data.tables["out"])
    losses = []
    for ends in by_link.values():
        if len(ends) == 2:
            for a, b in (ends, ends[::-1]):
                losses.append((sent[:, a] - received[:, b]) / (sent[:, a] + 10.0))
    if losses:
        lost = np.stack(losses, axis=1)
        parts += [lost, np.sort(lost, axis=1)[:, [0, 1, -2, -1]]]
    now = np.concatenate(parts, axis=1)
    return np.concatenate((now, np.vstack((now[:1], now[:-1]))), axis=1)  # and the minute before


@dataclass(frozen=True, slots=True)
class Report:
    rows: int
    accuracy: float
    macro_f1: float
    f1: dict[str, float]
    persistence_f1: float  # macro-F1 of "as a minute ago", which knows the last label
    majority_accuracy: float
    confusion: list[list[int]]  # rows: true class


def evaluate(folder: Path, *, seed: int = 1) -> Report:
    """Train on the first three quarters of the time, judge on the last."""
    data = load(folder)
    x, y = features(data), data.label
    cut = int(len(y) * (1.0 - HELD_OUT))
    model = ExtraTreesClassifier(
        n_estimators=200, min_samples_leaf=1, max_features=0.3, class_weight="balanced", random_state=seed, n_jobs=2
    )
    model.fit(x[: cut - WINDOW], y[: cut - WINDOW])
    said, true = model.predict(x[cut:]), y[cut:]
    count = len(CLASSES)
    confusion = np.zeros((count, count), dtype=int)
    np.add.at(confusion, (true, said), 1)
    f1 = per_class_f1(confusion)
    before = np.zeros((count, count), dtype=int)
    np.add.at(before, (true, y[cut - 1 : -1]), 1)
    return Report(
        len(true),
        float((said == true).mean()),
        float(f1.mean()),
        dict(zip(CLASSES, f1.tolist(), strict=True)),
        float(per_class_f1(before).mean()),
        float((true == 0).mean()),
        confusion.tolist(),
    )


def per_class_f1(confusion: NDArray[np.int_]) -> Floats:
    """F1 of each class from a confusion matrix (rows: true); 0 for a class that is neither there nor said.

    >>> per_class_f1(np.array([[8, 2], [0, 10]])).round(3).tolist()
    [0.889, 0.909]
    """
    hits = np.diag(confusion).astype(np.float64)
    result: Floats = 2.0 * hits / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    return result


def text(report: Report) -> str:
    """For people."""
    each = ", ".join(f"{name} {value:.2f}" for name, value in report.f1.items())
    return (
        f"KDDI router faults, last quarter of the time: {report.rows:,} minutes, macro-F1 {report.macro_f1:.3f} "
        f"({each}); accuracy {report.accuracy:.3f}, always normal {report.majority_accuracy:.3f}, "
        f"published 0.89 to 0.91"
    )
