"""Port reports by the thousand: digest lists become samples, events and history in batches.

Lists are collected as they come from the switches and worked off once per round of steering, all switches together,
as columns: member values are read from the messages, everything after that is numpy. What a single report means is
told by :class:`control.telemetry.Reports`'s rules, which hold here as well:

- the digest's clock is the data plane's own, so the time of a sample is that of its arrival, unless it tells traffic
  (bytes over time), whose reading time is translated;
- a port that was dead brings no loss with it when it returns: heartbeats that went missing meanwhile are excused;
- every report says whether its port lives, so a lost one does no harm. Life is no news: it is passed on when it
  changes, and once in a while.

Reports carry sequence numbers per port: what is missing, came twice or late is counted, and stale ones are left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any, cast

import numpy as np
import structlog
from finsy import P4Schema
from finsy.p4schema import P4StructType
from numpy.typing import NDArray

from control.entries import PORT_REPORT
from control.telemetry import EVENT_DEAD, Item, PortEvent, RemoteClock, line_rates, port_ends
from ml.schema import PortSample
from topo.spec import Topology

LOG = structlog.get_logger("shadowplane.intake")
MOST_REPORTS = 65_536  # waiting for the next round
MOST_OF_A_PORT = 64  # in one batch
ALIVE_AGAIN_S = 1.0  # a living port is reported on at least this often
TOO_LARGE = 1 << 64  # no member is wider
ANEW_S = 1.0  # a report is never this late: a clock that far back is one that began again
EARLIER = 1 << 31  # sequence numbers count modulo 2^32: a step of more than half of it is one back
Floats = NDArray[np.float64]


@dataclass(slots=True)
class IntakeCounts:
    """Reports: taken in, dropped for lack of room, missing by their numbers, stale (twice or late), malformed, of ports
    that the topology does not have."""

    reports: int = 0
    dropped: int = 0
    missing: int = 0
    stale: int = 0
    malformed: int = 0
    unknown: int = 0


def in_turn(rows: NDArray[np.int64], most: int) -> tuple[list[NDArray[np.intp]], int]:
    """Places of reports such that no turn names a row twice, and each row's come in order; of a row that floods, the
    newest ``most`` count. Beside it how many were left out."""
    if not len(rows):
        return [], 0
    order = np.argsort(rows, kind="stable")
    new = np.flatnonzero(np.diff(rows[order], prepend=-1))
    sizes = np.diff(new, append=len(rows))
    turn = np.arange(len(rows)) - np.repeat(new + np.maximum(sizes - most, 0), sizes)
    turns = min(int(sizes.max()), most)
    return [np.sort(order[turn == number]) for number in range(turns)], int((turn < 0).sum())


@dataclass(frozen=True, slots=True)
class Columns:
    """Port reports of one batch: ``rows`` numbers ports as :attr:`Intake.elements` does."""

    rows: NDArray[np.int64]
    time_s: Floats
    values: Mapping[str, Floats]


@dataclass(slots=True)
class Taken:
    """What one round gets: events, all reports as columns (for models and history), and those of which others than
    the models want to know as samples: losses, traffic, and each port once in a while."""

    events: list[PortEvent] = field(default_factory=list)
    samples: list[Item] = field(default_factory=list)
    columns: list[Columns] = field(default_factory=list)


class Intake:
    """Port reports of all switches of a topology."""

    def __init__(self, topology: Topology, schema: P4Schema) -> None:
        digest = schema.digests[PORT_REPORT]
        self._members = tuple(cast("P4StructType", digest.type_spec).members)
        self._place = {name: number for number, name in enumerate(self._members)}
        ends = port_ends(topology)
        self.elements = [f"{switch}:{port}" for switch, port in ends]
        self._row = {end: row for row, end in enumerate(ends)}
        self._switch_rows = {
            switch.name: np.array([row for (name, _), row in self._row.items() if name == switch.name], dtype=np.int64)
            for switch in topology.switches
        }
        rates = {
            (switch.name, port): rate
            for switch in topology.switches
            for port, rate in line_rates(topology, switch).items()
        }
        self._rate = np.array([rates.get(end, nan) for end in ends])
        self._clocks = {switch.name: RemoteClock() for switch in topology.switches}
        count = len(ends)
        self._seen = np.zeros(count, dtype=bool)
        self._sequence = np.zeros(count, dtype=np.int64)
        self._raw_lost = np.zeros(count)
        self._excused = np.zeros(count)
        self._counted = np.full(count, np.nan)
        self._dead = np.zeros(count, dtype=bool)
        self._clock_s = np.full(count, -np.inf)  # the data plane's, at the newest report
        self._told_s = np.full(count, -np.inf)  # when life was last passed on
        self.counts = IntakeCounts()
        self._waiting: list[tuple[str, Sequence[Any]]] = []
        self._held = 0
        self.since = 0.0  # when the oldest waiting report arrived (time.perf_counter)
        self._noted: set[str] = set()

    def put(self, switch: str, data: Sequence[Any]) -> None:
        """Take the ``data`` of a P4Runtime ``DigestList``; whole lists are dropped, the oldest first, when there are
        too many."""
        if not self._waiting:
            self.since = time.perf_counter()
        self._waiting.append((switch, data))
        self._held += len(data)
        while self._held > MOST_REPORTS and len(self._waiting) > 1:
            _, gone = self._waiting.pop(0)
            self._held -= len(gone)
            self.counts.dropped += len(gone)
            self._note("more port reports than can be judged; the oldest are dropped and counted")

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def forget(self, switch: str) -> None:
        """The switch went away: its ports' states are told anew when it is back."""
        rows = self._switch_rows.get(switch)
        if rows is not None:
            self._seen[rows] = False
            self._dead[rows] = False
            self._told_s[rows] = -np.inf
            self._clock_s[rows] = -np.inf

    def take(self, now_s: float, traffic: frozenset[str] = frozenset()) -> Taken:
        """Work off everything that waits. ``traffic``: switches whose reports tell what their ports send, because
        nothing else does."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        taken = Taken()
        if not waiting:
            return taken
        rows, table, told = self._table(waiting)
        self.counts.reports += len(rows)
        if not len(rows):
            return taken
        times = np.full(len(rows), now_s)
        tells = np.zeros(len(rows), dtype=bool)
        for switch, first, last in told:
            if switch in traffic:
                clock = self._clocks[switch]
                stamps = (table[first:last, self._place["time"]] / 1e6).tolist()
                times[first:last] = [clock.translate(stamp, now_s) for stamp in stamps]
                tells[first:last] = True
        picks, flood = in_turn(rows, MOST_OF_A_PORT)
        if flood:
            self.counts.dropped += flood
            self._note("a port sends more reports than can be judged; its oldest are dropped and counted")
        for pick in picks:
            self._step(rows[pick], table[pick], times[pick], tells[pick], now_s, taken)
        return taken

    def _table(
        self, waiting: Sequence[tuple[str, Sequence[Any]]]
    ) -> tuple[NDArray[np.int64], Floats, list[tuple[str, int, int]]]:
        """Rows, member values (reports, members) and which of them came from which switch."""
        read = int.from_bytes
        width = len(self._members)
        port = self._place["port"]
        rows: list[int] = []
        values: list[list[int]] = []
        told: list[tuple[str, int, int]] = []
        for switch, data in waiting:
            first = len(rows)
            for item in data:
                members = [read(member.bitstring, "big") for member in item.struct.members]
                if len(members) != width or max(members) >= TOO_LARGE:
                    self.counts.malformed += 1
                    self._note(f"{switch} sends port reports that do not fit the program")
                    continue
                row = self._row.get((switch, members[port]))
                if row is None:
                    self.counts.unknown += 1
                    continue
                rows.append(row)
                values.append(members)
            told.append((switch, first, len(rows)))
        return np.array(rows, dtype=np.int64), np.array(values, dtype=np.float64).reshape(-1, width), told

    def _step(
        self,
        rows: NDArray[np.int64],
        table: Floats,
        times: Floats,
        tells: NDArray[np.bool_],
        now_s: float,
        taken: Taken,
    ) -> None:
        """At most one report per port."""
        place = self._place
        sequence = table[:, place["seq"]].astype(np.int64)
        lost = table[:, place["lost"]]
        seen = self._seen[rows]
        step = (sequence - self._sequence[rows]) & 0xFFFFFFFF
        clock_s = table[:, place["time"]] / 1e6
        anew = seen & (clock_s < self._clock_s[rows] - ANEW_S)  # its clock began again, and so do its numbers
        numbered = sequence > 0  # a program that does not count sends 0
        stale = seen & ~anew & numbered & ((step == 0) | (step >= EARLIER))
        self.counts.missing += int(np.where(seen & ~anew & ~stale & numbered, step - 1, 0).sum())
        if stale.any():
            self.counts.stale += int(stale.sum())
            keep = ~stale
            rows, table, times, tells, sequence, lost, seen = (
                part[keep] for part in (rows, table, times, tells, sequence, lost, seen)
            )
        if not len(rows):
            return
        self._sequence[rows] = sequence
        dead = table[:, place["event"]] == EVENT_DEAD
        was_dead = self._dead[rows]
        clock_s = table[:, place["time"]] / 1e6
        self._clock_s[rows] = clock_s
        since = now_s - self._told_s[rows]  # below 0: the clock was set back
        news = dead | was_dead | ~seen | (since >= ALIVE_AGAIN_S) | (since < 0.0)
        for index in np.flatnonzero(news).tolist():
            element = self.elements[rows[index]]
            taken.events.append(PortEvent(element, now_s, not dead[index], "heartbeat", float(clock_s[index])))
        self._told_s[rows[news & ~dead]] = now_s
        self._seen[rows] = True
        before = np.where(seen, self._raw_lost[rows], lost)
        lives = ~dead
        excused = self._excused[rows]
        excused = np.where(lives & was_dead, excused + np.maximum(lost - before, 0.0), excused)
        excused = np.where(lives & ~was_dead & (lost < before), 0.0, excused)
        self._excused[rows] = excused
        self._raw_lost[rows] = np.where(lives, lost, before)
        self._dead[rows] = dead
        if lives.any():
            counted = np.maximum(lost - excused, 0.0)
            shown = tells | news | (counted != self._counted[rows])
            self._counted[rows] = np.where(lives, counted, self._counted[rows])
            self._samples(rows[lives], table[lives], times[lives], tells[lives], counted[lives], shown[lives], taken)

    def _samples(
        self,
        rows: NDArray[np.int64],
        table: Floats,
        times: Floats,
        tells: NDArray[np.bool_],
        lost: Floats,
        shown: NDArray[np.bool_],
        taken: Taken,
    ) -> None:
        rtt = table[:, self._place["rtt"]]
        columns: dict[str, Floats] = {
            "heartbeat_rtt_us": np.where(rtt > 0, rtt, nan),
            "heartbeat_lost_total": lost,
        }
        if tells.any():
            for name, member in (
                ("tx_bytes_total", "tx_bytes"),
                ("tx_packets_total", "tx_packets"),
                ("queue_max_packets", "queue_max"),
            ):
                columns[name] = np.where(tells, table[:, self._place[member]], nan)
            columns["rate_bps"] = np.where(tells, self._rate[rows], nan)
        taken.columns.append(Columns(rows, times, columns))
        names = tuple(columns)
        picked = zip(
            rows[shown].tolist(),
            times[shown].tolist(),
            *(column[shown].tolist() for column in columns.values()),
            strict=True,
        )
        taken.samples += [
            PortSample(self.elements[row], time_s, **dict(zip(names, values, strict=True)))
            for row, time_s, *values in picked
        ]

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            LOG.warning(text)
