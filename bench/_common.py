"""What all benchmarks share: the result record, its file and its table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from control.provenance import machine, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

missed: list[str] = []  # "name: metric" of each figure that misses its target, in this process so far

_TARGET = re.compile(r"^\s*(<=|>=|<|>|==)\s*(-?[0-9.]+(?:e-?[0-9]+)?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    """One figure beside what it has to reach.

    ``target`` is a comparison such as ``"<= 5"`` in ``unit`` (empty: reported only); ``holds`` follows from it,
    unless an interval does not show what the value says (``shown``).
    ``anchor`` names the system to beat and its figure. ``samples`` is how many observations stand behind it.
    """

    metric: str
    unit: str
    value: float
    target: str = ""
    anchor: str = ""
    samples: int = 1
    notes: str = ""
    shown: bool = True
    holds: bool | None = field(init=False)

    def __post_init__(self) -> None:
        met = meets(self.value, self.target)
        object.__setattr__(self, "holds", met if self.shown or not met else None)


def meets(value: float, target: str) -> bool | None:
    """Whether ``value`` satisfies ``target``; None without a target.

    >>> meets(4.2, "<= 5"), meets(4.2, ">= 5"), meets(4.2, "")
    (True, False, None)
    """
    if not target:
        return None
    found = _TARGET.match(target)
    if not found:
        raise ValueError(f"target {target!r} is not a comparison such as '<= 5'")
    limit = float(found[2])
    return {
        "<=": value <= limit,
        ">=": value >= limit,
        "<": value < limit,
        ">": value > limit,
        "==": value == limit,
    }[found[1]]


def say(text: str) -> None:
    """A line about what is being measured, for whoever waits; not among the results."""
    print(f"   {text}", file=sys.stderr, flush=True)


def quantile(samples: Sequence[float], q: float) -> float:
    """Nearest-rank quantile, 0 <= q <= 1.

    >>> quantile([3, 1, 2], 0.5)
    2
    """
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def write(name: str, results: Sequence[Result]) -> Path:
    """Print the table, note what missed its target, and write ``bench/results/<name>.json``; returns the file."""
    table = Table(title=name, title_justify="left")
    for column in ("metric", "value", "unit", "target", "holds", "anchor", "n", "notes"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left", overflow="fold")
    marks = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for item in results:
        table.add_row(
            item.metric,
            f"{item.value:,.4g}" if abs(item.value) < 10_000 else f"{item.value:,.0f}",
            item.unit,
            item.target,
            "not shown" if item.holds is None and not item.shown else marks[item.holds],
            item.anchor,
            str(item.samples),
            item.notes,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    missed.extend(f"{name}: {item.metric}" for item in results if item.holds is False)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "name": name,
        "machine": machine(),
        "versions": versions(),
        "results": [asdict(item) for item in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
