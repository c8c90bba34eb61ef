"""Room on links: what flows now, what a diversion would add, and whether that still fits.

Rates are bits per second. Loads come from telemetry (transmitted bytes per port), so cross traffic that no
steering group of ours explains is counted too; rates of groups come from the data plane's group counters.
A rate that was never measured counts as zero: a diversion is not refused on a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan, nan

from control.paths import Network, Path
from control.plan import Group, GroupKey
from ml.schema import PortSample
from topo.spec import Endpoint


@dataclass(frozen=True, slots=True)
class Room:
    """Verdict on one diversion. ``text`` names the tightest hop."""

    fits: bool
    text: str


FITS = Room(True, "fits")
LATE_S = 5.0  # a reading is never this late (control.telemetry): a clock that far back was set


@dataclass(slots=True)
class Rate:
    """Bits per second from a cumulative byte counter, and how fast they grow.

    The rate is that of the last ``window_s`` seconds or a little more; the growth compares it with the window before.
    Reading times are not exact (10 ms late is 5 % of a 0.2 s window), so growth that was seen counts for ``hold_s``.
    """

    window_s: float = 0.2
    hold_s: float = 1.0
    bps: float = 0.0
    growth: float = 0.0  # bits per second, per second
    _seen: deque[tuple[float, float, float]] = field(default_factory=lambda: deque(maxlen=64))  # time, rate, growth
    _readings: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=64))

    def update(self, total_bytes: float, time_s: float) -> None:
        """Take in a reading; a counter that went backwards (restart) starts anew, and so does a clock."""
        readings = self._readings
        if readings and (total_bytes < readings[-1][1] or time_s < readings[-1][0] - LATE_S):
            readings.clear()
            self._seen.clear()
        if readings and time_s <= readings[-1][0]:
            return
        readings.append((time_s, total_bytes))
        middle = self._before(time_s - self.window_s)
        if middle is None:
            self.bps = self.growth = 0.0
            return
        self.bps = (total_bytes - middle[1]) * 8 / (time_s - middle[0])
        oldest = self._before(middle[0] - self.window_s)
        if oldest is None:
            self.growth = 0.0
            return
        past = (middle[1] - oldest[1]) * 8 / (middle[0] - oldest[0])
        self.growth = (self.bps - past) / ((time_s - oldest[0]) / 2)
        self._seen.append((time_s, self.bps, self.growth))

    def ahead(self, seconds: float) -> float:
        """The rate to reckon with so many seconds from now: growth is carried on, decline is not trusted."""
        if not self._readings:
            return 0.0
        since = self._readings[-1][0] - self.hold_s
        held = [bps + max(0.0, growth) * seconds for time_s, bps, growth in self._seen if time_s >= since]
        return max([self.bps, *held])

    def forget_growth(self) -> None:
        """What grew was moved: only what comes from now on tells anything."""
        self._seen.clear()

    @property
    def trend_known(self) -> bool:
        """Whether growth could be told within the last ``hold_s``."""
        return bool(self._readings and self._seen) and self._readings[-1][0] - self._seen[-1][0] < self.hold_s

    def _before(self, time_s: float) -> tuple[float, float] | None:
        """The newest reading that is at least as old as ``time_s``."""
        for reading in reversed(self._readings):
            if reading[0] <= time_s + 1e-9:
                return reading
        return None


@dataclass(slots=True)
class Loads:
    """What is known of loads and capacities.

    ``limit`` is the highest share of a link that a diversion may fill; ``ahead_s``: how far growth is carried on,
    so that traffic that swells is not moved to where it will not fit a moment later.
    """

    network: Network
    limit: float = 0.9
    ahead_s: float = 1.5
    line_rate: dict[Endpoint, float] = field(default_factory=dict)  # bps, from telemetry; 0: unlimited
    _ports: dict[Endpoint, Rate] = field(default_factory=dict)
    _groups: dict[GroupKey, Rate] = field(default_factory=dict)
    # Bytes, packets, mean size of what was sent lately, by a port and of a group.
    _sent: dict[Endpoint | GroupKey, tuple[float, float, float]] = field(default_factory=dict)

    def observe(self, end: Endpoint, sample: PortSample) -> None:
        """What a sample of a port tells about its load."""
        if isnan(sample.tx_bytes_total):
            return
        self.observe_port(end, sample.tx_bytes_total, sample.time_s)
        if not isnan(sample.tx_packets_total):
            self.observe_packets(end, sample.tx_bytes_total, sample.tx_packets_total)
        if not isnan(sample.rate_bps):
            self.line_rate[end] = sample.rate_bps

    def observe_port(self, end: Endpoint, tx_bytes: float, time_s: float) -> None:
        self._ports.setdefault(end, Rate()).update(tx_bytes, time_s)

    def observe_packets(self, what: Endpoint | GroupKey, tx_bytes: float, tx_packets: float) -> None:
        """Both counters of a port or group, for the mean size of its packets."""
        last = self._sent.get(what)
        size = last[2] if last is not None else 0.0
        if last is not None and tx_packets > last[1] and tx_bytes > last[0]:
            size = (tx_bytes - last[0]) / (tx_packets - last[1])
        self._sent[what] = (tx_bytes, tx_packets, size)

    def packet_size(self, what: Endpoint | GroupKey) -> float | None:
        """Bytes per packet that a port or group sent lately; None where that is not known."""
        last = self._sent.get(what)
        return last[2] if last is not None and last[2] > 0 else None

    def observe_group(self, key: GroupKey, tx_bytes: float, time_s: float, tx_packets: float = nan) -> None:
        """Counters of a group; without packets, their size stays unknown."""
        self._groups.setdefault(key, Rate(window_s=0.4)).update(tx_bytes, time_s)
        if not isnan(tx_packets):
            self.observe_packets(key, tx_bytes, tx_packets)

    def forget(self) -> None:
        self._ports.clear()
        self._groups.clear()
        self._sent.clear()

    def load(self, end: Endpoint) -> float:
        """Bits per second leaving by a port now."""
        rate = self._ports.get(end)
        return rate.bps if rate is not None else 0.0

    def group_rate(self, key: GroupKey) -> float:
        rate = self._groups.get(key)
        return rate.bps if rate is not None else 0.0

    def load_ahead(self, end: Endpoint) -> float:
        """The load to reckon with ``ahead_s`` from now."""
        rate = self._ports.get(end)
        return rate.ahead(self.ahead_s) if rate is not None else 0.0

    def group_ahead(self, key: GroupKey) -> float:
        rate = self._groups.get(key)
        return rate.ahead(self.ahead_s) if rate is not None else 0.0

    def relieved(self, end: Endpoint) -> None:
        """Groups were moved off a port: the growth seen before says nothing about what is left."""
        rate = self._ports.get(end)
        if rate is not None:
            rate.forget_growth()

    def explained(self, end: Endpoint, groups: Iterable[GroupKey]) -> bool:
        """Whether what is known of these groups explains the load of a port, trends included."""
        rates = [rate for key in groups if (rate := self._groups.get(key)) is not None]
        busy = [rate for rate in rates if rate.bps > 0]
        return all(rate.trend_known for rate in busy) and sum(rate.bps for rate in busy) >= 0.6 * self.load(end)

    def capacity(self, end: Endpoint) -> float:
        """Bits per second that a port can send: the smaller of topology and telemetry; 0: unlimited."""
        hop = self.network.hop_at(end)
        planned = hop.link.rate_mbps * 1e6 if hop is not None else 0.0
        told = self.line_rate.get(end, 0.0)
        known = [rate for rate in (planned, told) if rate > 0]
        return min(known) if known else 0.0

    def utilization(self, end: Endpoint) -> float:
        """Share of the capacity in use; 0 where the capacity is unlimited."""
        capacity = self.capacity(end)
        return self.load(end) / capacity if capacity > 0 else 0.0

    def room(
        self, group: Group, onto: Path, current: Iterable[Endpoint], extra: Mapping[Endpoint, float] | None = None
    ) -> Room:
        """Would ``group``'s traffic fit on ``onto``?

        ``current``: ports that its packets already leave by (they carry the load now, so it is not counted twice);
        ``extra``: load that other diversions decided in the same breath will add.
        """
        need = self.group_ahead(group.key)
        carried = set(current)
        for hop in onto.hops:
            capacity = self.capacity(hop.out)
            if capacity <= 0:
                continue
            load = self.load(hop.out) + (extra or {}).get(hop.out, 0.0)
            added = 0.0 if hop.out in carried else need
            if added > 0 and load + added > self.limit * capacity:
                return Room(
                    False,
                    f"{hop.link.name} carries {load / 1e6:.1f} of {capacity / 1e6:.1f} Mbit/s; "
                    f"{added / 1e6:.1f} Mbit/s more (growth included) would exceed {self.limit:.0%}",
                )
        return FITS

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Load and capacity per switch-to-switch port, for people."""
        return {
            str(end): {"load_bps": round(rate.bps, 1), "capacity_bps": self.capacity(end)}
            for end, rate in sorted(self._ports.items())
        }
