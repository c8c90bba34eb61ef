"""The Prometheus text format, read strictly and with bounds. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format: ``name{label="value",...} value
[timestamp]``, comments begin with ``#``. A line that does not follow it is counted and skipped, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan

MOST_LINES = 100_000
LONGEST_LINE = 8192
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+(-?\d+))?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(,|$)')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN", re.IGNORECASE)


@dataclass(slots=True)
class Exposition:
    """``values``: by metric name, the labels and the value of each sample; ``skipped``: lines that are none."""

    values: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)
    skipped: int = 0

    def single(self, name: str) -> float | None:
        """The value of a metric without labels."""
        found = self.values.get(name, ())
        return found[0][1] if len(found) == 1 else None

    def of(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        yield from self.values.get(name, ())


def parse(text: str, wanted: frozenset[str]) -> Exposition:
    """The ``wanted`` metrics of a page.

    >>> page = 'up 1\\nbytes{device="eth0"} 2e3 1700000000000\\nbytes{device=eth1} 4\\n'
    >>> found = parse(page, frozenset({"bytes"}))
    >>> found.values, found.skipped
    ({'bytes': [({'device': 'eth0'}, 2000.0)]}, 1)
    """
    found = Exposition()
    for number, line in enumerate(text.split("\n")):
        if number >= MOST_LINES:
            found.skipped += 1
            break
        line = line.strip("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name = re.split(r"[{ \t]", line.lstrip(), maxsplit=1)[0]
        if name not in wanted:
            continue
        sample = _SAMPLE.fullmatch(line.strip()) if len(line) <= LONGEST_LINE else None
        labels = _labels(sample[2]) if sample is not None else None
        if sample is None or labels is None or not _NUMBER.fullmatch(sample[3]):
            found.skipped += 1
            continue
        value = float(sample[3])
        if isnan(value):
            continue  # not measured
        found.values.setdefault(name, []).append((labels, value))
    return found


def _labels(text: str | None) -> dict[str, str] | None:
    """None for what are no labels."""
    labels: dict[str, str] = {}
    place = 0
    text = text or ""
    while text[place:].strip():
        match = _LABEL.match(text, place)
        if match is None or match[1] in labels:
            return None
        labels[match[1]] = re.sub(r"\\.", lambda found: _ESCAPES.get(found[0], found[0]), match[2])
        place = match.end()
    return labels
