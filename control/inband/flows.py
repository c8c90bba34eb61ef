"""The flows that sinks tell about: their numbers, ways and rates, in arrays. Pure.

A report counts once: what comes twice or late by its number is left out, what is missing is counted. A rate is that of
the packets with telemetry between two reports, times how many packets share one of these; reports that follow each
other within ``window_s`` are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.inband.columns import PLACES, Flags, Floats, FlowColumns

EARLIER = 1 << 31  # numbers count modulo 2^32: a step of more than half of it is one back
ANEW_US = 1_000_000  # no report is this late: a sink's clock so far back is one that began again
LEAST_FRAME, LARGEST_FRAME = 14, 65_535  # bytes: counts that do not fit together are not believed ...
DOUBT = 3  # ... unless so many reports in a row say the like: then the memory began anew
FASTER = 1.5  # than the slowest line on its way no flow is: what says so is not believed


@dataclass(slots=True)
class FlowCounts:
    """Reports: taken in, dropped for lack of room, missing by their numbers, stale (twice or late), malformed, absurd
    (:mod:`control.inband.domain`)."""

    reports: int = 0
    dropped: int = 0
    missing: int = 0
    stale: int = 0
    malformed: int = 0
    absurd: int = 0


class FlowTable:
    """Up to ``size`` flows; when it is full, the quarter that was silent for longest makes room.

    ``shares``: packets that share one with telemetry, by flow id (0: not known, so no rate).
    """

    def __init__(self, size: int, shares: NDArray[np.float64], window_s: float) -> None:
        self.counts = FlowCounts()
        self.size = size
        self.keys: dict[tuple[int, bytes], int] = {}
        self.latest: list[Any] = [None] * size  # the newest digest of each
        self.labels: list[str | None] = [None] * size
        self.sink = np.zeros(size, dtype=np.intp)
        self.seen_s = np.full(size, -np.inf)
        self.bps = np.zeros(size)
        self.pps = np.zeros(size)
        self.ports: NDArray[np.intp] = np.full((size, PLACES), -1, dtype=np.intp)
        self.switches: NDArray[np.intp] = np.full((size, PLACES), -1, dtype=np.intp)
        self._shares = shares
        self._window_us = window_s * 1e6
        self._sequence = np.zeros(size, dtype=np.int64)
        self._time_us = np.zeros(size, dtype=np.int64)
        self._since_us = np.full(size, -1, dtype=np.int64)  # where the present window began; -1: nowhere yet
        self._packets = np.zeros(size, dtype=np.int64)  # ... and the counts then
        self._bytes = np.zeros(size, dtype=np.int64)
        self._doubts = np.zeros(size, dtype=np.int64)
        self._free = list(range(size - 1, -1, -1))

    def rows(self, sender: Sequence[int], keys: Sequence[bytes]) -> NDArray[np.intp]:
        """The row of each report's flow; new ones are entered."""
        if len(self._free) < len(keys):
            self._make_room(len(keys))
        found = np.empty(len(keys), dtype=np.intp)
        for place, key in enumerate(zip(sender, keys, strict=True)):
            row = self.keys.get(key)
            if row is None:
                row = self.keys[key] = self._free.pop() if self._free else self._evict()
                self.sink[row] = key[0]
            found[place] = row
        return found

    def _evict(self) -> int:
        """More new flows at once than there are rows: the first of them goes."""
        key = next(iter(self.keys))
        row = self.keys.pop(key)
        self._clear(row)
        return row

    def _make_room(self, wanted: int) -> None:
        gone = max(self.size // 4, min(wanted, self.size)) - len(self._free)
        silent = sorted(self.keys.items(), key=lambda item: self.seen_s[item[1]])[:gone]
        for key, row in silent:
            del self.keys[key]
            self._clear(row)
            self._free.append(row)

    def _clear(self, row: int) -> None:
        self.latest[row] = self.labels[row] = None
        self.seen_s[row], self.bps[row], self.pps[row], self._since_us[row] = -np.inf, 0.0, 0.0, -1
        self.ports[row], self.switches[row] = -1, -1

    def learn(
        self,
        rows: NDArray[np.intp],
        columns: FlowColumns,
        switches: NDArray[np.intp],
        ports: NDArray[np.intp],
        slowest_bps: Floats,
        now_s: float,
    ) -> Flags:
        """Take in at most one report per flow; which of them are news. ``slowest_bps``: of the lines on the way, nan
        where none is known."""
        sequence, time_us = columns.number["seq"], columns.number["time_us"]
        known = self.seen_s[rows] > -np.inf
        step = (sequence - self._sequence[rows]) & 0xFFFFFFFF
        anew = known & (time_us < self._time_us[rows] - ANEW_US)
        stale = known & ~anew & ((step == 0) | (step >= EARLIER))
        self.counts.missing += int(np.where(known & ~anew & ~stale, step - 1, 0).sum())
        self.counts.stale += int(stale.sum())
        news = ~stale
        again = anew | ~known
        rows, sequence, time_us = rows[news], sequence[news], time_us[news]
        packets, volume, again = columns.packets[news], columns.bytes_[news], again[news]
        self._sequence[rows], self._time_us[rows], self.seen_s[rows] = sequence, time_us, now_s
        self.ports[rows] = np.where(columns.node[news] >= 0, ports[news], -1)
        self.switches[rows] = np.where(columns.node[news] >= 0, switches[news], -1)
        share = self._shares[columns.number["flow_id"][news]]
        began = self._since_us[rows]
        again |= (began < 0) | (time_us < began)
        count, grown = (packets - self._packets[rows]) & 0xFFFFFFFF, volume - self._bytes[rows]
        odd = (volume < 0) | (~again & ((grown < LEAST_FRAME * count) | (grown > LARGEST_FRAME * count)))
        self.counts.absurd += int(odd.sum())
        self._doubts[rows] = np.where(odd, self._doubts[rows] + 1, 0)
        again = (again & ~odd) | (odd & (volume >= 0) & (self._doubts[rows] >= DOUBT))
        full = ~again & ~odd & (time_us - began >= self._window_us)
        elapsed_s = np.where(full, (time_us - began) / 1e6, 1.0)
        bps, pps = 8.0 * share * grown / elapsed_s, share * count / elapsed_s
        with np.errstate(invalid="ignore"):
            wild = full & (bps > FASTER * slowest_bps[news])
        self.counts.absurd += int(wild.sum())
        sure = full & ~wild
        self.bps[rows] = np.where(sure, bps, self.bps[rows])
        self.pps[rows] = np.where(sure, pps, self.pps[rows])
        moved = full | again
        self._since_us[rows] = np.where(moved, time_us, began)
        self._packets[rows] = np.where(moved, packets, self._packets[rows])
        self._bytes[rows] = np.where(moved, volume, self._bytes[rows])
        return np.asarray(news)

    def through(self, now_s: float, silent_s: float, ports: int, switches: int) -> tuple[Floats, Floats, Floats]:
        """(bits/s by port, packets/s by port, packets/s by switch) of the flows heard of within ``silent_s``; nan where
        there is none."""
        active = np.flatnonzero((now_s - self.seen_s <= silent_s) & (self.seen_s <= now_s))
        by_port, by_switch = self.ports[active], self.switches[active]
        port, switch = by_port >= 0, by_switch >= 0
        bps = np.broadcast_to(self.bps[active, None], by_port.shape)
        pps = np.broadcast_to(self.pps[active, None], by_port.shape)
        return (
            _sums(by_port[port], bps[port], ports),
            _sums(by_port[port], pps[port], ports),
            _sums(by_switch[switch], pps[switch], switches),
        )

    def forget(self) -> None:
        """All flows; counts stay."""
        for row in self.keys.values():
            self._clear(row)
        self.keys.clear()
        self._free = list(range(self.size - 1, -1, -1))


def _sums(rows: NDArray[np.intp], values: Floats, count: int) -> Floats:
    sums = np.bincount(rows, weights=values, minlength=count)
    return np.where(np.bincount(rows, minlength=count) > 0, sums, np.nan)
