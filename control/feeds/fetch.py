"""One poll of one feed, with all that takes long: reading and parsing. Runs in a worker thread and touches no state
but the source's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from control.errors import NoticeError
from control.feeds.announcement import Announcement, Circuit
from control.feeds.config import FeedConfig, Kind
from control.feeds.errors import FeedError, NotUnderstood
from control.feeds.mapping import canonical
from control.feeds.reading import read
from control.feeds.sources import Source
from control.feeds.weather.state import Report, read_weather
from control.notices import SUFFIXES, Notice, parse
from topo.spec import Topology


@dataclass(slots=True)
class Fetched:
    """What a poll brought, by file, message or URL. ``fresh``: those that are new or changed; ``gone``: those that are
    there no more (or are changed); ``other``: messages about something else; ``notes``: what was passed over."""

    fresh: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    other: set[str] = field(default_factory=set)
    announced: dict[str, list[Announcement]] = field(default_factory=dict)
    weather: dict[str, Report] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fetch(source: Source, config: FeedConfig, topology: Topology) -> Fetched | FeedError:
    """Poll and parse; an error that concerns the whole source is returned, not raised: it crosses threads."""
    try:
        delta = source.poll()
    except FeedError as error:
        return error
    found = Fetched(set(delta.fresh), set(delta.gone), dict(delta.errors))
    for name, data in delta.fresh.items():
        try:
            if config.kind is Kind.WEATHER:
                found.weather[name] = read_weather(data, name)
            else:
                found.announced[name] = list(_announced(data, name, config, topology, found.notes))
        except NotUnderstood as error:
            found.other.add(name)
            if source.lasting:
                found.errors[name] = str(error)  # a URL has one thing to say
        except FeedError as error:
            found.errors[name] = str(error)
    if found.fresh & found.errors.keys():
        source.forget()
    return found


def _announced(
    data: bytes, source: str, config: FeedConfig, topology: Topology, notes: list[str]
) -> Iterator[Announcement]:
    if not source.endswith(SUFFIXES):
        reading = read(data, source, config.provider)
        notes += reading.errors
        yield from reading.announcements
        return
    try:  # the operator's own form
        for notice in parse(data.decode("utf-8"), source):
            yield _own(notice, source, topology)
    except UnicodeDecodeError as error:
        raise FeedError(f"{source}: not UTF-8: {error}") from error
    except FeedError:
        raise
    except NoticeError as error:
        raise FeedError(str(error)) from error


def _own(notice: Notice, source: str, topology: Topology) -> Announcement:
    try:
        canonical(topology, notice.element)
    except FeedError as error:
        raise FeedError(f"{source}: element: {error}") from error
    return Announcement(
        notice.provider,
        maintenance_id=notice.id,
        summary=notice.summary,
        status=notice.status,
        start=notice.start,
        end=notice.end,
        circuits=(Circuit(notice.element, notice.impact),),
        stamp=notice.stamp or None,
        sequence=notice.sequence,
    )
