"""Telemetry to flip, as the ledger tells it: shared by the benchmarks that play live labs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from bench._common import Result, quantile

PARTS = ("shadow", "wait", "decode", "score", "decide", "write", "ack")
MEDIAN, WORST = "<= 5", "<= 20"


def predicted_flips(ledger: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of flips that predictions brought about and switches confirmed."""
    return [
        line
        for line in ledger
        if (line["kind"], line["outcome"], line["cause"]) == ("flip", "done", "prediction")
        and line["telemetry_ms"] is not None
    ]


def timings(prefix: str, flips: Sequence[dict[str, Any]], anchor: str = "") -> list[Result]:
    """From the arrival of the news to the switch's confirmation: all flips, then those whose shadow was there, and
    those that waited for one to be planned and installed (``shadow`` among their parts); then the parts."""
    if not flips:
        return []
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    ready = [line for line in flips if not line["timings_ms"].get("shadow")]
    waited = [line for line in flips if line["timings_ms"].get("shadow")]
    found = []
    for lines, what, targets in (
        (flips, "telemetry to flip", (MEDIAN, WORST)),
        (ready, "of which with their shadow ready", (MEDIAN, WORST)),
        (waited, "of which waited for a new shadow", ("", "")),
    ):
        if not lines:
            continue
        values = [line["telemetry_ms"] for line in lines]
        notes = f"in {len({line['time_s'] for line in lines})} rounds; {load}"
        for name, share, target in (("p50", 0.5, targets[0]), ("p99", 0.99, targets[1])):
            value = quantile(values, share)
            told = anchor if lines is flips else ""
            found.append(Result(f"{prefix}{what}, {name}", "ms", value, target, told, len(values), notes))
    found.append(Result(f"{prefix}flips that waited for a new shadow", "flips", len(waited), "", "", len(flips)))
    for part in PARTS:
        values = [line["timings_ms"].get(part, 0.0) for line in flips]
        note = f"p99 {quantile(values, 0.99):.2f} ms"
        found.append(Result(f"{prefix}part {part}, p50", "ms", quantile(values, 0.5), "", "", len(values), note))
    return found
