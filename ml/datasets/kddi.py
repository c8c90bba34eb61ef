"""Router faults of the ITU AI/ML in 5G challenge (team repository KDDI naist-lsm, MIT): which fault is this minute in?

A folder of tables ``*.tsv[.gz]``, one row a minute with a ``timestamp`` (``20200629105300``), a column per interface
or router, and ``label.tsv[.gz]`` with the ``status`` of each minute: six classes (the codes for loss and for delay
are one). The last quarter of the time is held out. Features compare with the minutes before and never know the
clock: faults were injected on a timetable. Tables that are missing are done without; minutes a table lacks are gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from ml.datasets.errors import DataError
from ml.datasets.reading import columns, number, opened, rows
from ml.estimators.base import Floats
from ml.evaluate_rows import Events, Rows
from ml.metrics import Interval, by_event

CLASSES = ("normal", "bgp 1", "bgp 2", "node down", "interface down", "loss or delay")
CODES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 5}
TABLES = {
    "in": ("network-incoming-packets-rate",),
    "out": ("network-outgoing-packets-rate",),
    "rx": ("rx-pps",),
    "tx": ("tx-pps",),
    "up": ("admin-status",),
    "prefixes": ("prefix-activity-received-current-prefixes",),
    "cpu": ("cpu_util", "cpu-util"),
}
WINDOW = 30  # minutes before, whose median is "usual", and minutes between training and test
HELD_OUT = 0.25  # of the time
SEEDS = (1, 2)
GAP_S = 180.0  # minutes of one class further apart are two events
TARGET = 0.92  # macro-F1
TREES: dict[str, Any] = {
    "objective": "multiclass",
    "num_class": len(CLASSES),
    "learning_rate": 0.06,
    "num_leaves": 15,
    "min_data_in_leaf": 10,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 3.0,
    "num_threads": 1,  # threads that wait for a busy core cost minutes
    "verbosity": -1,
}
ROUNDS, FOREST = 200, 400


@dataclass(frozen=True, slots=True)
class Minutes:
    """``tables``: name to (minutes, columns), nan where not measured; ``columns``: their names; ``label``: index
    into :data:`CLASSES`; ``time_s``: epoch, ascending."""

    tables: dict[str, Floats]
    columns: dict[str, list[str]]
    label: NDArray[np.intp]
    time_s: Floats


def _stamp(path: Path, line: int, cell: str) -> float:
    text = cell.strip().split(".")[0]
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise DataError(f"{path}:{line}: timestamp is none: {cell[:40]!r}") from None


def _read(path: Path) -> tuple[list[str], list[float], list[list[float]], list[int]]:
    """(columns, epochs, rows, line of each row); the index and the timestamp are no columns."""
    with opened(path) as text:
        lines = rows(path, text, delimiter="\t")
        _, head = next(lines, (1, []))
        at = columns(path, head, ("timestamp",))[0]
        keep = [i for i, name in enumerate(head) if name not in ("", "timestamp")]
        times, body, places = [], [], []
        for line, row in lines:
            if len(row) != len(head):
                raise DataError(f"{path}:{line}: {len(row)} cells where the header has {len(head)}")
            times.append(_stamp(path, line, row[at]))
            body.append([number(path, line, row[i], head[i]) for i in keep])
            places.append(line)
    if not body:
        raise DataError(f"{path}: empty")
    return [head[i] for i in keep], times, body, places


def _file(folder: Path, stems: tuple[str, ...]) -> Path | None:
    names = [f"{stem}.tsv{suffix}" for stem in stems for suffix in (".gz", "")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def load(folder: Path) -> Minutes:
    """Read the tables of a folder. Raises :class:`DataError` without labels or without any table."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    path = _file(folder, ("label",))
    if path is None:
        raise DataError(f"{folder}: no label.tsv (or .gz)")
    names, times, body, lines = _read(path)
    if "status" not in names:
        raise DataError(f"{path}:1: no column status")
    codes = [row[names.index("status")] for row in body]
    for line, code in zip(lines, codes, strict=True):
        if code not in CODES:
            raise DataError(f"{path}:{line}: status {code:g} is none of {', '.join(map(str, CODES))}")
    order = np.argsort(times, kind="stable")
    time_s = np.array(times)[order]
    label = np.array([CODES[int(code)] for code in codes], dtype=np.intp)[order]
    tables: dict[str, Floats] = {}
    found: dict[str, list[str]] = {}
    for name, stems in TABLES.items():
        if (place := _file(folder, stems)) is None:
            continue
        found[name], stamps, body, _ = _read(place)
        at = dict(zip(stamps, body, strict=True))
        gap = [float("nan")] * len(found[name])
        tables[name] = np.array([at.get(t, gap) for t in time_s.tolist()], dtype=np.float64)
    if not tables:
        raise DataError(f"{folder}: none of the tables {', '.join(stems[0] for stems in TABLES.values())}")
    return Minutes(tables, found, label, time_s)


def _usual(table: Floats) -> Floats:
    """Median of the :data:`WINDOW` minutes before each minute."""
    result = np.full(table.shape, np.nan)
    for i in range(1, len(table)):
        result[i] = np.median(np.nan_to_num(table[max(0, i - WINDOW) : i]), axis=0)
    result[0] = table[0]
    return result


def _ends(change: Floats, count: int) -> Floats:
    """The ``count`` lowest and highest of each row: what the element's name does not matter for."""
    ordered = np.sort(change, axis=1)
    count = min(count, change.shape[1])
    return np.concatenate((ordered[:, :count], ordered[:, -count:]), axis=1)


def features(data: Minutes) -> Floats:
    """(minutes, features): changes against the usual, and losses between the two ends of each link."""
    parts: list[Floats] = []
    for name in ("in", "out", "rx", "tx"):
        if name in data.tables:
            table = np.nan_to_num(data.tables[name])
            usual = _usual(table)
            change = (table - usual) / (usual + 10.0)
            parts += [change, _ends(change, 3)]
    for name in ("prefixes", "cpu"):
        if name in data.tables:
            table = np.nan_to_num(data.tables[name])
            usual = _usual(table)
            change = (table - usual) / (usual + 1.0)
            parts += [table, change, _ends(change, 1), np.diff(table, axis=0, prepend=table[:1])]
    if "up" in data.tables:
        up = np.nan_to_num(data.tables["up"])
        parts += [up, up.sum(axis=1, keepdims=True)]
    if losses := _losses(data):
        lost = np.stack(losses, axis=1)
        parts += [lost, _ends(lost, 2)]
    now = np.concatenate(parts, axis=1)
    return np.concatenate((now, np.vstack((now[:1], now[:-1]))), axis=1)  # and the minute before


def _losses(data: Minutes) -> list[Floats]:
    """Share of what one end of a link sent that the other did not receive; names are ``router+link``."""
    if "in" not in data.tables or "out" not in data.tables:
        return []
    received, sent = np.nan_to_num(data.tables["in"]), np.nan_to_num(data.tables["out"])
    by_link: dict[str, dict[str, int]] = {}
    for k, column in enumerate(data.columns["in"]):
        router, _, link = column.partition("+")
        if link:
            by_link.setdefault(link, {})[router] = k
    place = {column: k for k, column in enumerate(data.columns["out"])}
    found = []
    for link, ends in by_link.items():
        for a, b in ((a, b) for a in ends for b in ends if a != b):
            if len(ends) == 2 and f"{a}+{link}" in place:
                out = sent[:, place[f"{a}+{link}"]]
                found.append((out - received[:, ends[b]]) / (out + 10.0))
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """``classes`` are those that are there; F1 of the others is no part of the mean."""

    rows: int
    accuracy: Interval
    macro_f1: Interval
    f1: dict[str, float]
    persistence_f1: float  # macro-F1 of "as a minute ago", which knows the last label
    majority_accuracy: float
    classes: list[str]
    confusion: list[list[int]]  # rows: true class
    target: float = TARGET


def probabilities(x: Floats, y: NDArray[np.intp], train: NDArray[np.intp], test: NDArray[np.intp]) -> Floats:
    """(test rows, classes): mean of randomised and boosted trees, some seeds each."""
    present = np.unique(y[train])
    weight = np.sqrt(1.0 / np.bincount(y[train], minlength=len(CLASSES)).clip(1)[y[train]])
    total = np.zeros((len(test), len(CLASSES)))
    for seed in SEEDS:
        extra = ExtraTreesClassifier(
            n_estimators=FOREST, max_features=0.3, class_weight="balanced", random_state=seed, n_jobs=2
        )
        total[:, present] += extra.fit(x[train], y[train]).predict_proba(x[test])
        data = lightgbm.Dataset(x[train], y[train], weight=weight / weight.mean())
        boosted = lightgbm.train({**TREES, "seed": seed}, data, ROUNDS)
        total += np.asarray(boosted.predict(x[test], num_threads=1), dtype=np.float64)
    return total / (2 * len(SEEDS))


def evaluate(folder: Path, say: Callable[[str], None] = lambda _: None) -> tuple[Report, list[Rows]]:
    """Train on the first three quarters of the time, judge on the last: as six classes, and each fault by itself."""
    data = load(folder)
    x, y = features(data), data.label
    cut = int(len(y) * (1.0 - HELD_OUT))
    train, test = np.arange(max(cut - WINDOW, 0)), np.arange(cut, len(y))
    if len(np.unique(y[train])) < 2 or len(np.unique(y[test])) < 2:
        raise DataError(f"{folder}: {len(y)} minutes are too few, or show too few classes, to learn and judge")
    say(f"{len(train):,} minutes learned, {len(test):,} judged")
    chance = probabilities(x, y, train, test)
    said, true, before = chance.argmax(axis=1), y[test], y[test - 1]
    there = np.unique(true)
    event = np.cumsum(np.append(True, np.diff(true) != 0)) - 1

    def macro(weight: Floats | None) -> float:
        return float(per_class_f1(_confusion(true, said, weight))[there].mean())

    def right(weight: Floats | None) -> float:
        return float(np.average(said == true, weights=weight))

    confusion = _confusion(true, said, None)
    f1 = per_class_f1(confusion)
    report = Report(
        len(true),
        Interval(right(None), *by_event(right, event)),
        Interval(macro(None), *by_event(macro, event)),
        {CLASSES[k]: float(f1[k]) for k in there},
        float(per_class_f1(_confusion(true, before, None))[there].mean()),
        float((true == 0).mean()),
        [CLASSES[k] for k in there],
        confusion.astype(int).tolist(),
    )
    change = np.abs(x[test, : max(1, len(data.columns.get("in", [])))]).mean(axis=1)
    return report, [_rows(data, train, test, chance, change, k) for k in there if k]


def _rows(
    data: Minutes, train: NDArray[np.intp], test: NDArray[np.intp], chance: Floats, change: Floats, k: int
) -> Rows:
    """One fault against all other minutes."""
    y, time = data.label, data.time_s[test]
    mine = np.flatnonzero(y[test] == k)
    new = np.append(True, (np.diff(mine) > 1) | (np.diff(time[mine]) > GAP_S))
    starts = np.flatnonzero(new)
    first, last = time[mine[starts]], time[mine[np.append(starts[1:], len(mine)) - 1]]
    minute = (data.time_s // 60 % 60).astype(int)
    came = np.bincount(minute[train], y[train] == k, minlength=60)
    clock = came / np.maximum(np.bincount(minute[train], minlength=60), 1)
    outcome = (y[test] == k).astype(np.float64)
    baselines = {
        "level": change,
        "persistence": (y[test - 1] == k).astype(np.float64),
        "base rate": np.full(len(test), float(outcome.mean())),
        "clock only": clock[minute[test]],
    }
    network = np.zeros(len(test), dtype=np.intp)
    events = Events.detected(np.zeros(len(first), dtype=np.intp), first, last)
    return Rows(
        "router faults",
        CLASSES[k],
        "last quarter of the time",
        time,
        network,
        chance[:, k],
        outcome,
        events,
        60.0 * len(test),
        300.0,
        baselines,
        detects=True,
        notes="Persistence knows the true label of the minute before; level is the mean change of packet rates.",
    )


def _confusion(true: NDArray[np.intp], said: NDArray[np.intp], weight: Floats | None) -> Floats:
    found = np.zeros((len(CLASSES), len(CLASSES)))
    np.add.at(found, (true, said), 1.0 if weight is None else weight)
    return found


def per_class_f1(confusion: Floats) -> Floats:
    """F1 of each class from a confusion matrix (rows: true); 0 for a class that is neither there nor said.

    >>> per_class_f1(np.array([[8.0, 2.0], [0.0, 10.0]])).round(3).tolist()
    [0.889, 0.909]
    """
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    result: Floats = 2.0 * np.diag(confusion) / np.where(both > 0, both, 1.0)
    return result
