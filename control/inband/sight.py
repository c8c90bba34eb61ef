"""What packets met, by port and device and interval: flow reports become the samples of :mod:`ml.schema`. Pure.

::

    reports ─ columns ─ domain: can it be? ─ flows: is it news? ─┬─ rates of the flows through a port ─┐
                                                                 ├─ deepest, mean queue; hop latency  ─┼─ per interval
                                                                 └─ link delay above its own least    ─┘

A packet that saw 40 packets before it proves that the deepest queue was at least 40: maxima and rates are lower bounds
of what a port carries.

A switch's own delay is the hop latency without the queue's share; where the port's line rate is not known, a queue's
share is not either, and such hops say nothing. What a switch takes at its best (a pipeline's length, for instance) is
subtracted. What is left, times the rate of packets, is by Little's law how many packets more than at its best are in it
(the median packet's delay), and by the utilization law how much busier it is (the least delay: of packets that found
nothing before them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from control.inband.columns import Floats, FlowColumns, select
from control.inband.domain import Domain
from control.inband.flows import FlowTable

LARGEST_FRAME_BITS = 1518 * 8
SHORT = 4  # packets: a queue so short is taken to hold packets of the usual size, a longer one the largest there are
JUMP_US = 1e6  # a delay this far from what it was: one of both clocks was set
OLD_US = 1e6  # what a sink noted longer ago says nothing of now
LEAST_S = 10.0  # the least delay of a link is that of this long to twice as long


@dataclass(slots=True)
class _Interval:
    """Sums of one interval; arrays by port row, lists by hop."""

    deepest: Floats
    depths: Floats
    counted: Floats
    latency: Floats
    delay: Floats
    switch: list[NDArray[np.intp]] = field(default_factory=list)
    wait_us: list[Floats] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seen:
    """One interval; nan where no packet told. By port row, the last four by switch row."""

    queue_max_packets: Floats
    queue_mean_packets: Floats
    hop_latency_us: Floats  # largest
    link_delay_us: Floats  # largest, above the link's own least
    watched_bps: Floats
    watched_pps: Floats
    passing_pps: Floats  # by switch, as what follows
    wait_us: Floats  # in the switch, above its best: of the median packet ...
    least_wait_us: Floats  # ... and of the one that waited least


class Sight:
    """Collects reports, and tells what was seen since it was asked last."""

    def __init__(self, domain: Domain, flows: FlowTable) -> None:
        self.domain = domain
        self.flows = flows
        self.rate_bps = domain.rate_bps.copy()  # corrected by what ports say of themselves
        ports = len(domain.elements)
        self._least = np.full((2, ports), np.inf)  # of the present span, and the one before
        self._span_s = -np.inf
        self._best_us = np.full((2, len(domain.switches)), np.inf)  # likewise, of a switch's own delay
        self._frame_bits = np.full(ports, LARGEST_FRAME_BITS)  # usual ones, by port
        self._now = self._fresh()

    def _fresh(self) -> _Interval:
        ports = len(self.domain.elements)
        low = (np.full(ports, -np.inf) for _ in range(3))
        deepest, latency, delay = low
        return _Interval(deepest, np.zeros(ports), np.zeros(ports), latency, delay)

    def learn(
        self,
        rows: NDArray[np.intp],
        columns: FlowColumns,
        switches: NDArray[np.intp],
        ports: NDArray[np.intp],
        now_s: float,
    ) -> NDArray[np.bool_]:
        """Take in at most one report per flow, all of them possible ones; which of them are news."""
        rate = np.where(ports >= 0, self.rate_bps[np.maximum(ports, 0)], np.nan)
        news = self.flows.learn(rows, columns, switches, ports, _slowest(rate), now_s)
        pick = np.flatnonzero(news)
        if len(pick):
            self._hops(select(columns, pick), switches[pick], ports[pick], rate[pick], now_s)
        return news

    def _hops(
        self,
        columns: FlowColumns,
        switches: NDArray[np.intp],
        ports: NDArray[np.intp],
        rate: Floats,
        now_s: float,
    ) -> None:
        now = self._now
        told = (ports >= 0) & (columns.node >= 0)
        # The sink's own hop is that of the flow's packet before: it may be of long ago.
        age_us = columns.number["time_us"] - columns.sink_time_us
        old = np.zeros(told.shape, dtype=bool)
        old[:, 0] = (age_us < 0) | (age_us > OLD_US)
        queue, latency = (np.where(old, np.nan, one) for one in (columns.queue_packets, columns.latency_us))
        known = told & ~np.isnan(queue)
        np.maximum.at(now.deepest, ports[known], queue[known])
        now.depths += np.bincount(ports[known], weights=queue[known], minlength=len(now.depths))
        now.counted += np.bincount(ports[known], minlength=len(now.counted))
        known = told & ~np.isnan(latency)
        np.maximum.at(now.latency, ports[known], latency[known])
        bits = np.where(queue <= SHORT, self._frame_bits[np.maximum(ports, 0)], LARGEST_FRAME_BITS)
        share = np.where(queue == 0, 0.0, queue * bits / rate * 1e6)
        wait = np.maximum(latency - share, 0.0)
        sure = told & ~np.isnan(wait)
        alone = sure & (queue == 0)  # what a queue's share may have taken too much from is nobody's best
        np.minimum.at(self._best_us[0], switches[alone], wait[alone])
        now.switch.append(switches[sure])
        now.wait_us.append(wait[sure])
        self._delays(columns, ports, told, now_s)

    def _delays(self, columns: FlowColumns, ports: NDArray[np.intp], told: NDArray[np.bool_], now_s: float) -> None:
        arrived = columns.arrived_us[:, :-1]
        delay = arrived - columns.left_us[:, 1:]  # from a place to the one nearer to the sink
        linked = told[:, 1:] & told[:, :-1] & ~np.isnan(delay)
        peer = self.domain.peer[np.maximum(ports[:, 1:], 0)]
        linked &= peer >= 0  # a host's port has none
        linked &= self.domain.switch_of[peer] == np.where(
            ports[:, :-1] >= 0, self.domain.switch_of[np.maximum(ports[:, :-1], 0)], -1
        )
        if not linked.any():
            return
        row, delay = ports[:, 1:][linked], delay[linked]
        usual = self._least.min(axis=0)
        jumped = np.abs(delay - usual[row]) > JUMP_US
        if jumped.any():
            self._least[:, row[jumped]] = np.inf  # including "never seen"
        np.minimum.at(self._least[0], row, delay)
        least = self._least.min(axis=0)
        above = np.where(jumped, np.nan, delay - least[row])
        np.fmax.at(self._now.delay, row[~jumped], above[~jumped])

    def take(self, now_s: float, silent_s: float) -> Seen:
        """What was seen since the last call; flows silent for longer than ``silent_s`` have ended."""
        now, self._now = self._now, self._fresh()
        ports, switches = len(self.domain.elements), len(self.domain.switches)
        if now_s - self._span_s > LEAST_S or now_s < self._span_s:
            for least in (self._least, self._best_us):
                least[1], least[0] = least[0], np.inf
            self._span_s = now_s
        bps, pps, passing = self.flows.through(now_s, silent_s, ports, switches)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = now.depths / now.counted
            usual = bps / pps
        self._frame_bits = np.where(usual > 0.0, np.minimum(usual, LARGEST_FRAME_BITS), self._frame_bits)
        median, smallest = _waits(now, switches)
        best = self._best_us.min(axis=0)
        return Seen(
            _told(now.deepest),
            mean,
            _told(now.latency),
            _told(now.delay),
            bps,
            pps,
            passing,
            np.maximum(median - best, 0.0),
            np.maximum(smallest - best, 0.0),
        )

    def forget(self) -> None:
        self.flows.forget()
        self._least[:] = self._best_us[:] = np.inf
        self._now = self._fresh()


def _slowest(rate: Floats) -> Floats:
    found = np.where(np.isnan(rate), np.inf, rate).min(axis=1)
    return np.where(np.isinf(found), np.nan, found)


def _told(values: Floats) -> Floats:
    return np.where(np.isinf(values), np.nan, values)


def _waits(now: _Interval, switches: int) -> tuple[Floats, Floats]:
    """Median and least delay of the hops in each switch, us; one wild report among others moves neither up much."""
    median, least = np.full(switches, np.nan), np.full(switches, np.nan)
    if now.switch:
        switch, wait = np.concatenate(now.switch), np.concatenate(now.wait_us)
        order = np.lexsort((wait, switch))
        switch, wait = switch[order], wait[order]
        names, first, count = np.unique(switch, return_index=True, return_counts=True)
        median[names] = (wait[first + (count - 1) // 2] + wait[first + count // 2]) / 2.0
        least[names] = wait[first]
    return median, least
