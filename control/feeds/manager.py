"""Polls all feeds, believes what may be believed, and says how each of them is.

A feed is ``ok``; ``failing`` when its last poll failed (it is asked again after a growing, jittered pause); ``lying``
while what it brought was refused or held back; ``stale`` when it has been silent for longer than its age limit, from
when on nothing of it is believed. Time is the caller's, in seconds since the epoch; I/O happens in worker threads.

Use::

    manager = FeedManager(topology, load_config(path))
    await manager.run(clock.time, on_change, on_report)     # or, without asyncio: manager.poll(feed, now_s)
    manager.notices(now_s)                                  # what is announced, by element of the topology
    manager.weather_on(link, now_s)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from control.feeds.book import NoticeBook
from control.feeds.config import FeedConfig, FeedsConfig, Kind
from control.feeds.errors import FeedError
from control.feeds.fetch import Fetched, fetch
from control.feeds.mapping import CircuitMap, canonical
from control.feeds.sources import Source
from control.feeds.weather.state import LinkWeather, WeatherState
from control.notices import Notice
from topo.spec import Link, Topology

LONGEST_PAUSE_S = 3600.0
MOST_ERRORS = 200  # kept per feed
MOST_REPORTS = 10_000  # texts remembered, so that each is told once


class State(StrEnum):
    OK = "ok"
    STALE = "stale"
    FAILING = "failing"
    LYING = "lying"


@dataclass(slots=True)
class Feed:
    """One feed and how it has been doing. ``errors``: file or message -> what is wrong with it."""

    config: FeedConfig
    source: Source
    began: float | None = None
    last_success: float | None = None
    due: float = 0.0
    failures: int = 0  # in a row
    polls: int = 0
    problem: str = ""  # of the last poll
    errors: dict[str, str] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)  # messages about something else
    lies: dict[str, str] = field(default_factory=dict)  # source -> values that cannot be true

    def age_s(self, now_s: float) -> float:
        """Seconds since the last success, or since the first attempt."""
        since = self.last_success if self.last_success is not None else self.began
        return max(0.0, now_s - since) if since is not None else 0.0


class FeedManager:
    """All feeds of one network. Raises :class:`FeedError` for circuits that map to nothing."""

    def __init__(self, topology: Topology, config: FeedsConfig, *, rng: random.Random | None = None) -> None:
        self.topology = topology
        self.config = config
        self.book = NoticeBook(
            CircuitMap.build(topology, config.circuits), config.limits, confirmed=frozenset(config.confirmed)
        )
        self.weather = WeatherState(topology)
        self.feeds = {item.name: Feed(item, item.source(config.base)) for item in config.feeds}
        self._rng = rng or random.Random()
        self._told: set[tuple[str, str]] = set()
        self._reports: list[tuple[str, str]] = []

    # -- polling ------------------------------------------------------------------------------------------

    async def run(
        self,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_report: Callable[[str, str], None] = lambda feed, text: None,
    ) -> None:
        """Poll each feed in a task of its own until cancelled. ``on_change`` is called in the loop's thread."""
        async with asyncio.TaskGroup() as group:
            for feed in self.feeds.values():
                group.create_task(self._watch(feed, clock, on_change, on_report), name=f"feed:{feed.config.name}")

    async def _watch(
        self,
        feed: Feed,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_report: Callable[[str, str], None],
    ) -> None:
        while True:
            found = await asyncio.to_thread(self._fetch, feed)
            now = clock()
            if self._take(feed, found, now):
                on_change()
            for name, text in self.reports():
                on_report(name, text)
            await asyncio.sleep(max(0.05, feed.due - now))

    def poll(self, name: str, now_s: float) -> bool:
        """Poll one feed at once, blocking; returns whether anything changed."""
        feed = self.feeds[name]
        return self._take(feed, self._fetch(feed), now_s)

    def poll_due(self, now_s: float) -> bool:
        """Poll whatever is due, blocking."""
        due = [name for name, feed in self.feeds.items() if feed.due <= now_s]
        changed = [self.poll(name, now_s) for name in due]
        return any(changed)

    def _fetch(self, feed: Feed) -> Fetched | FeedError:
        return fetch(feed.source, feed.config, self.topology)

    def _take(self, feed: Feed, found: Fetched | FeedError, now_s: float) -> bool:
        """Enter what a poll brought; returns whether anything changed."""
        feed.polls += 1
        feed.began = now_s if feed.began is None else feed.began
        if isinstance(found, FeedError):
            self._failed(feed, str(found), now_s)
            return False
        for source in found.gone | found.fresh:
            feed.errors.pop(source, None)
            feed.lies.pop(source, None)
            feed.other.discard(source)
        feed.errors.update(list(found.errors.items())[: max(0, MOST_ERRORS - len(feed.errors))])
        feed.other |= found.other
        for text in [*found.errors.values(), *found.notes]:
            self._report(feed.config.name, text)
        changed = self._weather(feed, found) if feed.config.kind is Kind.WEATHER else self._notices(feed, found, now_s)
        if feed.source.lasting and found.fresh and found.fresh <= found.errors.keys():
            # The URL answers, but with nothing that is understood: no success.
            self._failed(feed, next(iter(found.errors.values())), now_s)
        else:
            feed.failures, feed.problem, feed.last_success = 0, "", now_s
            feed.due = now_s + feed.config.poll_s * self._rng.uniform(0.9, 1.1)
        return changed

    def _failed(self, feed: Feed, text: str, now_s: float) -> None:
        feed.failures += 1
        feed.problem = text
        pause = min(LONGEST_PAUSE_S, feed.config.poll_s * 2 ** min(feed.failures, 12))
        feed.due = now_s + pause * self._rng.uniform(0.5, 1.0)
        self._report(feed.config.name, text)

    def _notices(self, feed: Feed, found: Fetched, now_s: float) -> bool:
        name = feed.config.name
        self.book.forgive(name, found.gone | found.fresh)
        changed = False
        if not feed.source.lasting:
            changed = self.book.withdraw(name, found.gone - found.fresh, now_s, self._report)
            changed = self.book.replace(name, found.announced, found.fresh) or changed
        brought = [(source, item) for source, items in found.announced.items() for item in items]
        return self.book.offer(name, brought, now_s, self._report) or changed

    def _weather(self, feed: Feed, found: Fetched) -> bool:
        name = feed.config.name
        for source in found.gone if not feed.source.lasting else ():
            self.weather.drop(name, source)
        for source, report in found.weather.items():
            self.weather.put(name, source, report)
            if report.lies:
                more = f" (and {len(report.lies) - 1} more)" if report.lies[1:] else ""
                feed.lies[source] = report.lies[0] + more
                self._report(name, feed.lies[source])
        return bool(found.weather or found.gone)

    # -- what is known ------------------------------------------------------------------------------------

    def notices(self, now_s: float) -> list[Notice]:
        """Everything announced that is not over yet, one notice per element; see :attr:`Notice.drains`."""
        old = self._too_old(now_s)
        found = self.book.notices(now_s, dict.fromkeys(old, True))
        for circuit, work in self.book.unknown.items():
            self._report("circuits", f"circuit {circuit[:80]!r} of {work} maps to nothing in the topology")
        return found

    def element_notices(self, element: str, now_s: float) -> list[Notice]:
        """The notices of one element, by any of its names; raises :class:`FeedError` for none of the topology's."""
        name = canonical(self.topology, element)
        return [item for item in self.notices(now_s) if item.element == name]

    def weather_on(self, link: Link, now_s: float) -> LinkWeather:
        """The weather on a link, from the feeds that are still believed."""
        return self.weather.for_link(link, now_s, self._too_old(now_s))

    def state(self, name: str, now_s: float) -> State:
        feed = self.feeds[name]
        if feed.age_s(now_s) > feed.config.age_limit_s:
            return State.STALE
        if feed.failures:
            return State.FAILING
        return State.LYING if feed.lies or self.book.complaint(name) else State.OK

    def reports(self) -> list[tuple[str, str]]:
        """What there is to tell since the last call, as (feed, text): each text once."""
        taken, self._reports = self._reports, []
        return taken

    def status(self, now_s: float) -> dict[str, Any]:
        """For people and the API: each feed's state, circuits that map to nothing, notices held back."""
        current = self.notices(now_s)
        return {
            "feeds": [self._feed_status(feed, now_s) for feed in self.feeds.values()],
            "notices": [item.model_dump(mode="json") | {"drains": item.drains} for item in current],
            "unknown_circuits": dict(self.book.unknown),
            "held": self.book.held(),
        }

    def metrics(self, now_s: float) -> list[tuple[str, dict[str, str], float]]:
        """Gauges and counters as (name, labels, value), Prometheus names in base units."""
        found: list[tuple[str, dict[str, str], float]] = []
        for name, feed in self.feeds.items():
            label = {"feed": name}
            state = self.state(name, now_s)
            found += [("shadowplane_feed_state", {**label, "state": one.value}, float(one is state)) for one in State]
            found += [
                ("shadowplane_feed_age_seconds", label, feed.age_s(now_s)),
                ("shadowplane_feed_polls_total", label, float(feed.polls)),
                ("shadowplane_feed_failures", label, float(feed.failures)),
                ("shadowplane_feed_errors", label, float(len(feed.errors))),
            ]
        found.append(("shadowplane_feed_unknown_circuits", {}, float(len(self.book.unknown))))
        found.append(("shadowplane_feed_held_notices", {}, float(len(self.book.held()))))
        return found

    def _feed_status(self, feed: Feed, now_s: float) -> dict[str, Any]:
        name = feed.config.name
        works = {work for work, entry in self.book.named() if entry.feed == name}
        return {
            "name": name,
            "kind": feed.config.kind.value,
            "state": self.state(name, now_s).value,
            "age_s": round(feed.age_s(now_s), 1) if feed.began is not None else None,
            "last_success_s": feed.last_success,
            "failures": feed.failures,
            "problem": feed.problem or self.book.complaint(name) or next(iter(feed.lies.values()), ""),
            "errors": dict(list(feed.errors.items())[:20]),
            "other_messages": len(feed.other),
            "unknown_circuits": {one: work for one, work in self.book.unknown.items() if work in works},
            "held": {work: why for work, why in self.book.held().items() if work in works},
        }

    def _too_old(self, now_s: float) -> set[str]:
        return {name for name, feed in self.feeds.items() if feed.age_s(now_s) > feed.config.age_limit_s}

    def _report(self, feed: str, text: str) -> None:
        if (feed, text) not in self._told:
            if len(self._told) >= MOST_REPORTS:
                self._told.clear()
            self._told.add((feed, text))
            self._reports.append((feed, text))
