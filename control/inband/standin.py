"""In-band reports and polled telemetry as one: reports stand in where polling is missing or slow. Pure.

=============  ====================================================================================================
queue          the larger maximum counts: a packet that met 40 packets proves that there were 40
load           where a port's byte counter was not read for :data:`SLOW` intervals: rate of the watched flows, plus what
               else flowed between the two newest readings; its readings do not reach the models meanwhile
backlog        of a device: the larger one counts
processor      where it was not read for as long: what was read last and how much busier the switch is since, or the
               share of time for which a queue of such a length is busy, L / (1 + L) (M/M/1, number in the system)
=============  ====================================================================================================

The models read a byte counter. It goes on from where the readings ended, and the readings go on from where it ended:
a change of source is neither a jump nor a reset.
"""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

from control.inband.columns import Floats
from control.inband.domain import Domain
from control.inband.sight import Seen, Sight
from ml.schema import DeviceSample, PortSample

SLOW = 3.0  # intervals
STEADY = 4  # intervals: a processor is as much busier as in the least of these ...
SMOOTH = 6  # ... and its share is the mean of these
SETTLED = 8  # intervals: only then is a switch's best delay known; until it is, each better one looks like load
LITTLE = 0.25  # packets, and
BUSIER = 0.1  # share of the time, that are no news
LONGEST = 20.0  # intervals between two calls that count: more is a clock that jumped
REPORTED_S = 10.0  # port reports that tell a port's traffic come far more often, also on a busy machine
HELD = 2.5  # a reading is held for so many of the time between the two newest


class StandIn:
    """State of every port (row of the domain) and switch. Times are seconds, given by the caller."""

    def __init__(self, domain: Domain, sight: Sight, interval_s: float) -> None:
        self._domain = domain
        self._sight = sight
        self.interval_s = interval_s
        ports, switches = len(domain.elements), len(domain.switches)
        self.standing = np.zeros(ports, dtype=bool)  # the models get our counter for this port
        self._read_s = np.full(ports, -np.inf)  # newest reading of the byte counter ...
        self._read_bytes = np.full(ports, np.nan)
        self._gap_s = np.full(ports, np.inf)  # ... and how long after the one before
        self._watched_bits = np.zeros(ports)  # of watched flows since that reading
        self._other_bps = np.zeros(ports)  # what else flowed between the two newest readings
        self._read_packets = np.full(ports, np.nan)  # the same in packets
        self._watched_packets = np.zeros(ports)
        self._other_pps = np.zeros(ports)
        self._reported_s = np.full(ports, -np.inf)  # newest port report that told the byte counter
        self._given_bytes = np.full(ports, np.nan)  # the counter as the models know it
        self._offset = np.zeros(ports)  # of the readings, so that they go on from there
        self._queue_s = np.full(ports, -np.inf)
        self._queue = np.zeros(ports)
        self._told_s = np.inf  # end of the interval before
        self._backlog_s, self._backlog = np.full(switches, -np.inf), np.zeros(switches)
        self._cpu_s, self._cpu, self._cpu_gap_s = np.full(switches, -np.inf), np.zeros(switches), np.zeros(switches)
        self._lately = np.full((STEADY, switches), np.inf)  # how much busier, in the newest intervals with reports
        self._shares = np.full((SMOOTH, switches), np.nan)
        self._turn = np.zeros(switches, dtype=np.intp)
        self._heard = np.zeros(switches, dtype=np.intp)  # intervals with reports
        self._busier_then = np.zeros(switches)  # when the processor was read

    def polled(self, sample: PortSample | DeviceSample, now_s: float) -> PortSample | DeviceSample:
        """A polled sample, arrived at ``now_s``, as the models shall have it."""
        if isinstance(sample, DeviceSample):
            self._device(sample, now_s)
            return sample
        row = self._domain.row.get(sample.element)
        if row is None:
            return sample
        if not isnan(sample.queue_max_packets):
            self._queue_s[row], self._queue[row] = now_s, sample.queue_max_packets
        if sample.rate_bps > 0:
            self._sight.rate_bps[row] = sample.rate_bps
        total = sample.tx_bytes_total
        if isnan(total):
            return sample
        gap = max(now_s - self._read_s[row], 1e-6)
        if gap < np.inf:
            grown = 8.0 * (total - self._read_bytes[row]) - self._watched_bits[row]
            self._other_bps[row] = max(0.0, grown / gap)
            more = sample.tx_packets_total - self._read_packets[row] - self._watched_packets[row]
            self._other_pps[row] = max(0.0, more / gap) if more == more else 0.0
        self._read_s[row], self._read_bytes[row], self._gap_s[row] = now_s, total, gap
        self._read_packets[row] = sample.tx_packets_total
        self._watched_bits[row] = self._watched_packets[row] = 0.0
        if self.standing[row]:
            if gap > SLOW * self.interval_s:
                return replace(sample, tx_bytes_total=np.nan, tx_packets_total=np.nan)
            self.standing[row] = False
            self._offset[row] = self._given_bytes[row] - total
        given = total + self._offset[row]
        self._given_bytes[row] = given
        return sample if not self._offset[row] else replace(sample, tx_bytes_total=float(given))

    def _device(self, sample: DeviceSample, now_s: float) -> None:
        row = self._domain.number.get(sample.element)
        if row is None:
            return
        if not isnan(sample.backlog_packets):
            self._backlog_s[row], self._backlog[row] = now_s, sample.backlog_packets
        if not isnan(sample.cpu_utilization):
            self._cpu_gap_s[row] = min(now_s - self._cpu_s[row], 1e9)
            self._cpu_s[row], self._cpu[row] = now_s, sample.cpu_utilization
            self._busier_then[row] = self._busier(row)

    def ports(self, seen: Seen, now_s: float) -> list[PortSample]:
        """Samples of the ports that packets told about in an interval that ends ``now_s``."""
        fresh = now_s - self._queue_s <= SLOW * self.interval_s
        queue = np.where(fresh & ~(seen.queue_max_packets > self._queue), np.nan, seen.queue_max_packets)
        total = self._load(seen, now_s)
        columns = (
            queue, seen.queue_mean_packets, seen.hop_latency_us, seen.link_delay_us, seen.watched_bps, total,
            np.where(np.isnan(total), np.nan, self._sight.rate_bps),
        )  # fmt: skip
        told = np.flatnonzero(~np.isnan(np.stack(columns[:-1])).all(axis=0))
        picked = zip(told.tolist(), *(column[told].tolist() for column in columns), strict=True)
        return [
            PortSample(
                self._domain.elements[row],
                now_s,
                queue_max_packets=deepest,
                queue_mean_packets=mean,
                hop_latency_us=latency,
                link_delay_us=delay,
                watched_bps=watched,
                tx_bytes_total=given,
                rate_bps=rate,
            )
            for row, deepest, mean, latency, delay, watched, given, rate in picked
        ]

    def _load(self, seen: Seen, now_s: float) -> Floats:
        """The byte counter that the models get for ports whose own is not read; nan elsewhere."""
        watched = ~np.isnan(seen.watched_bps)
        elapsed = min(max(now_s - self._told_s, 0.0), LONGEST * self.interval_s)
        self._told_s = now_s
        bits = np.where(watched, seen.watched_bps, 0.0) * elapsed
        self._watched_bits += bits
        self._watched_packets += np.where(watched, seen.watched_pps, 0.0) * elapsed
        slow = (now_s - self._read_s > SLOW * self.interval_s) & (now_s - self._reported_s > REPORTED_S)
        begins = watched & slow & ~self.standing
        self._given_bytes = np.where(begins & np.isnan(self._given_bytes), 0.0, self._given_bytes)
        self.standing |= begins
        held = now_s - self._read_s <= HELD * self._gap_s
        other = np.where(held, self._other_bps, 0.0) * elapsed
        ours = self.standing & watched
        self._given_bytes = np.where(ours & ~begins, self._given_bytes + (bits + other) / 8.0, self._given_bytes)
        return np.where(ours, self._given_bytes, np.nan)

    def reported(self, rows: NDArray[np.intp], now_s: float) -> None:
        """Port reports told the models the byte counters of these ports."""
        self._reported_s[rows] = now_s
        self.standing[rows] = False

    def _busier(self, row: int) -> float:
        least = float(self._lately[:, row].min())
        return least if least < np.inf else 0.0

    def _busy(self, row: int, backlog: float, busier: float, now_s: float) -> float:
        """Share of its time that a switch whose processor is not read is busy."""
        turn = self._turn[row] = (self._turn[row] + 1) % (STEADY * SMOOTH)
        self._lately[turn % STEADY, row] = max(0.0, busier - BUSIER)
        backlog = max(0.0, backlog - LITTLE)
        share = self._busier(row)
        if now_s - self._cpu_s[row] <= HELD * self._cpu_gap_s[row]:
            share = float(self._cpu[row]) + max(0.0, share - float(self._busier_then[row]))
        self._shares[turn % SMOOTH, row] = min(1.0, max(backlog / (1.0 + backlog), share))
        return float(np.nanmean(self._shares[:, row]))

    def devices(self, seen: Seen, now_s: float) -> list[DeviceSample]:
        """Samples of the switches that packets told about."""
        found = []
        held = now_s - self._read_s <= HELD * self._gap_s
        others = np.bincount(
            self._domain.switch_of, weights=np.where(held, self._other_pps, 0.0), minlength=len(self._domain.switches)
        )
        rate = (seen.passing_pps + others) / 1e6
        backlogs, busier = rate * seen.wait_us, rate * seen.least_wait_us
        for row in np.flatnonzero(~np.isnan(backlogs)).tolist():
            self._heard[row] += 1
            if self._heard[row] <= SETTLED:
                continue
            backlog = float(backlogs[row])
            read = now_s - self._backlog_s[row] <= SLOW * self.interval_s
            shown = np.nan if read and backlog <= self._backlog[row] else backlog
            busy = self._busy(row, backlog, float(busier[row]), now_s)
            if now_s - self._cpu_s[row] <= SLOW * self.interval_s:
                busy = np.nan
            if not (isnan(shown) and isnan(busy)):
                found.append(
                    DeviceSample(self._domain.switches[row], now_s, cpu_utilization=busy, backlog_packets=shown)
                )
        return found

    def forget(self) -> None:
        """What reports told; readings stay, and so does the counter: the models' own start anew."""
        self._watched_bits[:] = self._watched_packets[:] = 0.0
        self._lately[:], self._shares[:], self._busier_then[:] = np.inf, np.nan, 0.0
        self._heard[:] = 0
