"""Planned work: notices in, forecasts out that are certain. Pure; times are seconds of the caller's epoch.

What is announced needs no model: from a lead time before its start until its end, the element is forecast to be away.
"""

from __future__ import annotations

from dataclasses import dataclass

from ml.schema import Forecast, Mode, Reason
from topo.spec import Topology


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


class PlannedWork:
    """The notices that stand for one topology, by their ids. Work is drained from ``lead_s`` before its start."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._notices: dict[str, tuple[MaintenanceNotice, str]] = {}  # with the element's name in forecasts

    def enter(self, notice: MaintenanceNotice) -> None:
        """Take in a notice; one with a known id replaces it. Raises :class:`NoticeError`."""
        if not notice.end_s > notice.start_s:
            raise NoticeError(f"notice {notice.id!r}: its end is not after its start")
        self._notices[notice.id] = (notice, self._resolve(notice))

    def withdraw(self, notice_id: str) -> bool:
        """Forget a notice; False if there was none."""
        return self._notices.pop(notice_id, None) is not None

    def standing(self, now_s: float, lead_s: float) -> list[tuple[MaintenanceNotice, str, bool]]:
        """Work that is not over yet, the soonest first: the notice, the element's name, whether it is drained now."""
        known = [item for item in self._notices.values() if now_s < item[0].end_s]
        known.sort(key=lambda item: (item[0].start_s, item[0].id))
        return [(notice, element, _drains(notice, now_s, lead_s)) for notice, element in known]

    def forecasts(self, now_s: float, lead_s: float) -> list[Forecast]:
        """One for each notice whose element is to be left now."""
        found = []
        for notice, element in self._notices.values():
            if _drains(notice, now_s, lead_s) and now_s < notice.end_s:
                wait_s = max(0.0, notice.start_s - now_s)
                text = f"maintenance {notice.id} of {notice.element} starts in {wait_s:.1f} s: {notice.summary}"
                reason = Reason("maintenance", wait_s, text, float("inf"))
                found.append(Forecast(element, Mode.MAINTENANCE, 1.0, wait_s, now_s, (reason,)))
        return found

    def _resolve(self, notice: MaintenanceNotice) -> str:
        if any(switch.name == notice.element for switch in self._topology.switches):
            return notice.element
        for link in self._topology.links:
            names = (link.name, f"{link.b.switch}-{link.a.switch}", str(link.a), str(link.b))
            if notice.element in names:
                return str(link.a)
        raise NoticeError(f"notice {notice.id!r}: no link or switch {notice.element!r} in {self._topology.name}")


def _drains(notice: MaintenanceNotice, now_s: float, lead_s: float) -> bool:
    return now_s >= notice.start_s - lead_s
