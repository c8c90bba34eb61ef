"""The Predictive Health Analyzer: telemetry and maintenance notices in, probabilities with reasons out.

A thin, pure wrapper over :mod:`ml`: it maps elements to the links and devices of a topology, joins both ends
of a link, turns notices into certain forecasts, and applies thresholds with hysteresis. It performs no I/O and
reads no clock: every time is the caller's, in seconds of one epoch (samples, notices and ``now_s`` alike).

Use::

    analyzer = HealthAnalyzer(topology)
    analyzer.observe(PortSample("s1:2", time_s, rx_power_dbm=-8.1, ...))   # per sample, from gNMI or digests
    for forecast in analyzer.alarms(now_s):                               # every few ms to tens of ms
        ...                                                               # flip away from forecast.element
    analyzer.forecasts(now_s)                                             # all probabilities, for people and APIs

Elements in forecasts: ``LINK_FAILURE`` names a link by its end ``a`` (``str(link.a)``, whichever end saw it);
``CONGESTION`` names the transmitting port that fills up; ``DEVICE_OVERLOAD`` names the switch; ``MAINTENANCE``
names a link by its end ``a`` or a switch. Ports to hosts are accepted and ignored: nothing can be steered
around them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ml.schema import DeviceSample, Forecast, Mode, PortSample, Reason
from topo.spec import Endpoint, Link, Topology


@dataclass(frozen=True, slots=True)
class Threshold:
    """Hysteresis of one mode: an alarm is raised once the probability has been at least ``raise_at`` over
    ``confirm_s`` seconds of *samples* (so one odd sample never raises it), and cleared once it has been
    below ``clear_at`` for ``clear_s``."""

    raise_at: float = 0.8
    clear_at: float = 0.3
    confirm_s: float = 0.04
    clear_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """``stale_s``: an element silent for longer is unjudged. ``drain_lead_s``: a maintenance window is forecast
    (with certainty) from this long before its start until its end."""

    thresholds: dict[Mode, Threshold] = field(
        default_factory=lambda: {mode: Threshold() for mode in Mode if mode is not Mode.MAINTENANCE}
    )
    stale_s: float = 1.0
    drain_lead_s: float = 2.0
    report_floor: float = 0.02


@dataclass(frozen=True, slots=True)
class MaintenanceNotice:
    """A planned outage. ``element`` is a link (``"s1-s2"`` or ``"s1:2"``) or a switch (``"s2"``)."""

    id: str
    element: str
    start_s: float
    end_s: float
    summary: str = ""


class NoticeError(ValueError):
    """A notice that names nothing in the topology, or whose window is not one."""


class HealthAnalyzer:
    """Probabilities per link, port and device of one topology."""

    def __init__(self, topology: Topology, settings: Settings | None = None) -> None:
        self.topology = topology
        self.settings = settings or Settings()
        self._notices: dict[str, tuple[MaintenanceNotice, str]] = {}

    def observe(self, sample: PortSample | DeviceSample) -> None:
        """Take in one sample; never raises on bad values (see :meth:`notes`). Fields that are nan are skipped,
        so gNMI readings and digests of the same port may come as separate samples."""

    def notice(self, notice: MaintenanceNotice) -> None:
        """Take in a notice; one with a known id replaces it. Raises :class:`NoticeError`."""
        if not notice.end_s > notice.start_s:
            raise NoticeError(f"notice {notice.id!r}: its end is not after its start")
        self._notices[notice.id] = (notice, self._resolve(notice))

    def withdraw(self, notice_id: str) -> bool:
        """Forget a notice; False if there was none."""
        return self._notices.pop(notice_id, None) is not None

    def forecasts(self, now_s: float) -> list[Forecast]:
        """Every probability of at least ``report_floor``, most probable first."""
        return self._planned(now_s)

    def alarms(self, now_s: float) -> list[Forecast]:
        """The forecasts that stand above their threshold, hysteresis applied: what steering acts on."""
        return self._planned(now_s)

    def unjudged(self, now_s: float) -> dict[str, str]:
        """Elements without a judgement, each with the reason ("no sample yet", "silent for 3.2 s", ...)."""
        return {}

    def notes(self) -> list[str]:
        """What was wrong with the input since the last call; each kind of fault once per element."""
        return []

    def link_of(self, element: str) -> Link | None:
        """The link that a port element of a forecast belongs to; None for a device or host port."""
        switch, _, port = element.partition(":")
        return self.topology.link_at(Endpoint(switch, int(port))) if port.isdecimal() else None

    def reset(self) -> None:
        """Forget what was learned and every alarm; notices stay."""

    def _resolve(self, notice: MaintenanceNotice) -> str:
        if any(switch.name == notice.element for switch in self.topology.switches):
            return notice.element
        for link in self.topology.links:
            names = (link.name, f"{link.b.switch}-{link.a.switch}", str(link.a), str(link.b))
            if notice.element in names:
                return str(link.a)
        raise NoticeError(f"notice {notice.id!r}: no link or switch {notice.element!r} in {self.topology.name}")

    def _planned(self, now_s: float) -> list[Forecast]:
        found = []
        for notice, element in self._notices.values():
            if notice.start_s - self.settings.drain_lead_s <= now_s < notice.end_s:
                wait_s = max(0.0, notice.start_s - now_s)
                text = f"maintenance {notice.id} of {notice.element} starts in {wait_s:.1f} s: {notice.summary}"
                reason = Reason("maintenance", wait_s, text, float("inf"))
                found.append(Forecast(element, Mode.MAINTENANCE, 1.0, max(wait_s, 0.0), now_s, (reason,)))
        return found
