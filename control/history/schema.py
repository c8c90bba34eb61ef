"""The tables of the history: names, columns with units in their names, and their types. Pure.

``ports`` and ``devices`` hold the fields of :mod:`ml.schema`'s samples, so a new signal becomes a column by itself;
NULL means that it was not measured. ``gaps`` tells from when until when an element was silent. ``events`` holds what
happened: ports going down and up, flips, failures. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ml.schema import DeviceSample, PortSample

DOUBLE, TEXT, BOOLEAN = "DOUBLE", "VARCHAR", "BOOLEAN"
_SAMPLES: dict[str, Any] = {"ports": PortSample, "devices": DeviceSample}


def _signals(sample: Any) -> dict[str, str]:
    names = [item.name for item in fields(sample) if item.name not in ("element", "time_s")]
    return {name: BOOLEAN if name == "up" else DOUBLE for name in names}


SIGNALS: dict[str, dict[str, str]] = {table: _signals(sample) for table, sample in _SAMPLES.items()}
"""Measured columns of a table of samples, with their types."""

TABLES: dict[str, dict[str, str]] = {
    **{table: {"time_s": DOUBLE, "element": TEXT, "source": TEXT, **SIGNALS[table]} for table in SIGNALS},
    "gaps": {"time_s": DOUBLE, "element": TEXT, "source": TEXT, "end_s": DOUBLE, "reason": TEXT},
    "events": {"time_s": DOUBLE, "element": TEXT, "kind": TEXT, "mode": TEXT, "end_s": DOUBLE, "detail": TEXT},
    "flows": {
        "time_s": DOUBLE,
        "flow": TEXT,
        "hop": DOUBLE,
        "element": TEXT,
        "latency_us": DOUBLE,
        "queue_packets": DOUBLE,
        "sequence": DOUBLE,
    },
}
"""Every table with its columns in order; the first is the time of the row (of a gap: of its start)."""

COUNTERS = frozenset(name for columns in SIGNALS.values() for name in columns if name.endswith("_total"))
"""Columns that only grow: their rate per second is what one looks at."""
