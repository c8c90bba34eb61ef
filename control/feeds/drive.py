"""From feeds to the analyzer: notices that drain become maintenance, the rest and the weather become conditions.

driver = FeedDriver(manager, analyzer)
await driver.run(clock.time, wake, report)     # polls, applies, and ages out, until cancelled
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from control.feeds.announcement import Impact
from control.feeds.manager import FeedManager
from control.feeds.mapping import element_of
from control.notices import Notice
from control.planned import MaintenanceNotice
from ml.schema import Conditions

AGE_S = 30.0  # so often is looked for what has become too old, even if no feed says anything


class Analyzer(Protocol):
    """The part of :class:`control.pha.HealthAnalyzer` that feeds reach."""

    def notice(self, notice: MaintenanceNotice) -> None: ...

    def withdraw(self, notice_id: str) -> bool: ...

    def conditions(self, item: Conditions) -> None: ...


@dataclass(slots=True)
class FeedDriver:
    """``standing``: what the analyzer was told of, by :attr:`Notice.key`."""

    manager: FeedManager
    analyzer: Analyzer
    standing: dict[str, Notice] = field(default_factory=dict)

    def apply(self, now_s: float) -> bool:
        """Bring the analyzer up to date; returns whether its maintenance changed."""
        notices = self.manager.notices(now_s)
        drains = {item.key: item for item in notices if item.drains}
        changed = False
        for key in self.standing.keys() - drains.keys():
            changed = self.analyzer.withdraw(key) or changed
        for key, item in drains.items():
            if self.standing.get(key) != item:
                where = self._address(item.element)
                self.analyzer.notice(MaintenanceNotice(key, where, item.start, item.end, item.summary))
                changed = True
        self.standing = drains
        self._conditions(notices, now_s)
        return changed

    async def run(
        self, clock: Callable[[], float], wake: Callable[[], None], report: Callable[[str, str], None]
    ) -> None:
        """Poll all feeds and apply what they bring. ``wake`` is called when maintenance changed, ``report`` with
        (feed, text) for what is wrong, each text once."""

        def on_change() -> None:
            if self.apply(clock()):
                wake()

        async with asyncio.TaskGroup() as group:
            group.create_task(self.manager.run(clock, on_change, report), name="feeds:poll")
            while True:
                await asyncio.sleep(AGE_S)
                on_change()

    def _address(self, element: str) -> str:
        """What the analyzer calls it: a link by one of its ports, which is unique even between the same switches."""
        found = element_of(self.manager.topology, element)
        return found if isinstance(found, str) else str(found.a)

    def _conditions(self, notices: list[Notice], now_s: float) -> None:
        reduced = {
            item.element
            for item in notices
            if item.impact is Impact.REDUCED_REDUNDANCY and item.start <= now_s < item.end and not item.status.over
        }
        topology = self.manager.topology
        for switch in topology.switches:
            self.analyzer.conditions(
                Conditions(switch.name, now_s, maintenance_reduced_redundancy=float(switch.name in reduced))
            )
        for link in topology.links:
            told = self.manager.weather_on(link, now_s)
            names = {topology.link_name(link), link.a.switch, link.b.switch}
            for end in (link.a, link.b):
                self.analyzer.conditions(
                    Conditions(
                        str(end),
                        now_s,
                        rain_mm_per_h=told.rain_mm_per_h,
                        rain_fade_db=told.rain_fade_db,
                        gust_m_per_s=told.gust_m_per_s,
                        alert_severity=told.alert_severity,
                        maintenance_reduced_redundancy=float(bool(names & reduced)),
                    )
                )
