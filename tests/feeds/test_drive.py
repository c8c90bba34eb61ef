"""An iCalendar notice in a folder becomes a drain of the real analyzer, and ends with its window or its file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from control.feeds.config import FeedsConfig
from control.feeds.drive import FeedDriver
from control.feeds.manager import FeedManager
from control.pha import HealthAnalyzer
from ml.schema import Conditions, Mode
from topo.builtin import BUILTIN
from topo.load import loads

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
DIAMOND = BUILTIN["diamond"]()


def notice(start: float, end: float, *, impact: str = "OUTAGE", circuit: str = "IC-1") -> str:
    times = [datetime.fromtimestamp(item, UTC).strftime("%Y%m%dT%H%M%SZ") for item in (start, end)]
    return (
        f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\nDTSTART:{times[0]}\nDTEND:{times[1]}\n"
        "DTSTAMP:20260201T000000Z\nSUMMARY:splice\nX-MAINTNOTE-PROVIDER:p\nX-MAINTNOTE-MAINTENANCE-ID:W1\n"
        f"X-MAINTNOTE-OBJECT-ID:{circuit}\nX-MAINTNOTE-IMPACT:{impact}\nX-MAINTNOTE-STATUS:CONFIRMED\n"
        "END:VEVENT\nEND:VCALENDAR\n"
    )


def manager(folder: Path) -> FeedManager:
    feeds = [{"name": "f", "folder": str(folder), "poll_s": 0.1}]
    return FeedManager(DIAMOND, FeedsConfig.model_validate({"feeds": feeds, "circuits": {"IC-1": "s1-s2"}}))


def planned(analyzer: HealthAnalyzer, now_s: float) -> list[str]:
    return [item.element for item in analyzer.alarms(now_s) if item.mode is Mode.MAINTENANCE]


def test_a_calendar_drains_its_link_from_before_the_start_until_the_end(tmp_path: Path) -> None:
    analyzer = HealthAnalyzer(DIAMOND)
    driver = FeedDriver(manager(tmp_path), analyzer)
    path = tmp_path / "work.ics"
    path.write_text(notice(NOW + 60, NOW + 120))
    driver.manager.poll("f", NOW)
    assert driver.apply(NOW) and planned(analyzer, NOW) == []
    link = str(DIAMOND.link("s1-s2").a)
    assert planned(analyzer, NOW + 59) == [link] and planned(analyzer, NOW + 119) == [link]
    assert planned(analyzer, NOW + 121) == []
    assert not driver.apply(NOW)  # nothing new
    path.unlink()
    driver.manager.poll("f", NOW + 59)
    assert driver.apply(NOW + 59) and planned(analyzer, NOW + 59) == []


def test_parallel_links_are_told_apart(tmp_path: Path) -> None:
    topology = loads("switches: [s1, s2]\nlinks: [{a: s1, b: s2}, {a: s1, b: s2, circuits: [IC-2]}]\n")
    (tmp_path / "w.ics").write_text(notice(NOW, NOW + 60, circuit="IC-2"))
    feeds = FeedManager(topology, FeedsConfig.model_validate({"feeds": [{"name": "f", "folder": str(tmp_path)}]}))
    analyzer = HealthAnalyzer(topology)
    feeds.poll("f", NOW)
    FeedDriver(feeds, analyzer).apply(NOW)
    assert planned(analyzer, NOW) == ["s1:2"]


def test_lost_redundancy_is_a_condition_and_no_drain(tmp_path: Path) -> None:
    class Analyzer(HealthAnalyzer):
        told: dict[str, Conditions]

        def conditions(self, item: Conditions) -> None:
            self.told[item.element] = item
            super().conditions(item)

    analyzer = Analyzer(DIAMOND)
    analyzer.told = {}
    driver = FeedDriver(manager(tmp_path), analyzer)
    (tmp_path / "w.ics").write_text(notice(NOW, NOW + 60, impact="REDUCED-REDUNDANCY"))
    driver.manager.poll("f", NOW)
    assert not driver.apply(NOW) and planned(analyzer, NOW) == []
    link, other = DIAMOND.link("s1-s2"), DIAMOND.link("s1-s3")
    assert [analyzer.told[str(end)].maintenance_reduced_redundancy for end in (link.a, link.b)] == [1.0, 1.0]
    assert analyzer.told[str(other.a)].maintenance_reduced_redundancy == 0.0
    assert analyzer.notes() == []


def test_the_task_polls_and_applies(tmp_path: Path) -> None:
    async def watch() -> None:
        analyzer = HealthAnalyzer(DIAMOND)
        woken, told = asyncio.Event(), asyncio.Event()
        driver = FeedDriver(manager(tmp_path), analyzer)
        task = asyncio.create_task(driver.run(lambda: NOW, woken.set, lambda feed, text: told.set()))
        (tmp_path / "work.ics").write_text(notice(NOW, NOW + 120))
        async with asyncio.timeout(60):
            await woken.wait()
        assert planned(analyzer, NOW) == [str(DIAMOND.link("s1-s2").a)]
        (tmp_path / "bad.ics").write_text("BEGIN:VCALENDAR\n")
        async with asyncio.timeout(60):
            await told.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(watch())
