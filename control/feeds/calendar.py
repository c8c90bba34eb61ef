"""Maintenance notices as iCalendar: the Maint-Note form (draft-gunter-calext-maintenance-notifications).

Every VEVENT with an X-MAINTNOTE property is one announcement. Objects may have an impact of their own
(``X-MAINTNOTE-OBJECT-ID;X-MAINTNOTE-OBJECT-IMPACT=OUTAGE:circuit``), else the event's holds, and without any it is an
outage. Recurrence is refused: the draft has none, and a window believed weekly for ever would drain for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import icalendar
from icalendar.error import BrokenCalendarProperty

from control.feeds.announcement import Announcement, Circuit, Impact, Status
from control.feeds.errors import FeedError, NotUnderstood

MOST_BYTES = 2 * 1024 * 1024
MOST_EVENTS = 2000
PREFIX = "X-MAINTNOTE-"
REPEATS = ("RRULE", "RDATE", "EXRULE", "EXDATE", "RECURRENCE-ID")
_Word = TypeVar("_Word", Status, Impact)


def is_calendar(data: bytes) -> bool:
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].upper() == b"BEGIN:VCALENDAR"


def read_calendar(data: bytes, source: str) -> list[Announcement]:
    """The notices of an iCalendar file, in order.

    Raises :class:`NotUnderstood` when it holds no Maint-Note event, and :class:`FeedError` (source, event, property)
    for what is malformed.
    """
    found = [_announcement(event, where) for event, where in events(data, source) if _is_notice(event)]
    if not found:
        raise NotUnderstood(f"{source}: no event of this calendar has X-MAINTNOTE properties")
    return found


def events(data: bytes, source: str) -> Iterator[tuple[Any, str]]:
    """Every VEVENT with its name for messages; raises :class:`FeedError`."""
    if len(data) > MOST_BYTES:
        raise FeedError(f"{source}: a calendar of more than {MOST_BYTES} bytes")
    depth = 0
    for number, line in enumerate(data.splitlines(), 1):
        word = line[:6].upper()
        depth += (word == b"BEGIN:") - (word[:4] == b"END:")
        if depth > 8:
            raise FeedError(f"{source}:{number}: components nested deeper than 8")
    if depth:
        raise FeedError(f"{source}: cut short: {depth} components have no END")
    try:
        calendars = icalendar.Calendar.from_ical(data, multiple=True)
        found = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    except Exception as error:
        # icalendar has no common base for its errors: ValueError, KeyError, IndexError, TypeError ... all occur
        raise FeedError(f"{source}: not an iCalendar file: {type(error).__name__}: {str(error)[:200]}") from error
    if len(found) > MOST_EVENTS:
        raise FeedError(f"{source}: more than {MOST_EVENTS} events")
    for number, event in enumerate(found, 1):
        yield event, f"{source}: event {number}"


def _is_notice(event: Any) -> bool:
    return any(str(name).upper().startswith(PREFIX) for name in event)


def _announcement(event: Any, where: str) -> Announcement:
    for name in REPEATS:
        if name in event:
            raise FeedError(f"{where}: {name}: recurring maintenance is not supported; one event per window is needed")
    provider, maintenance_id = _text(event, f"{PREFIX}PROVIDER"), _text(event, f"{PREFIX}MAINTENANCE-ID")
    for name, value in ((f"{PREFIX}PROVIDER", provider), (f"{PREFIX}MAINTENANCE-ID", maintenance_id)):
        if not value.strip():
            raise FeedError(f"{where}: property {name} is missing")
    status = _word(event, f"{PREFIX}STATUS", Status, where)
    impact = _word(event, f"{PREFIX}IMPACT", Impact, where)
    over = status is not None and status.over
    start = moment(event, "DTSTART", where, required=not over)
    end = moment(event, "DTEND", where, required=False)
    if end is None and start is not None and "DURATION" in event:
        end = start + _duration_s(event, where)
    if end is None and not over:
        raise FeedError(f"{where}: property DTEND is missing")
    return Announcement(
        provider=provider,
        maintenance_id=maintenance_id,
        account=_text(event, f"{PREFIX}ACCOUNT") or None,
        summary=_text(event, "SUMMARY") or None,
        status=status or Status.NO_CHANGE,
        start=start,
        end=end,
        circuits=tuple(_objects(event, impact or Impact.OUTAGE, where)),
        stamp=moment(event, "DTSTAMP", where, required=True),
        sequence=_sequence(event, where),
        organizer=_text(event, "ORGANIZER") or None,
        uid=_text(event, "UID") or None,
    )


def _objects(event: Any, usual: Impact, where: str) -> Iterator[Circuit]:
    for value in _many(event, f"{PREFIX}OBJECT-ID"):
        parameters = {str(name).upper(): item for name, item in getattr(value, "params", {}).items()}
        own = parameters.get(f"{PREFIX}OBJECT-IMPACT")
        yield Circuit(str(value), usual if own is None else _as(str(own), Impact, f"{where}: object {value}"))


def moment(event: Any, name: str, where: str, *, required: bool) -> float | None:
    """A date property in seconds since the epoch; a date alone is its midnight, a floating time is UTC."""
    values = _many(event, name)
    if not values:
        if required:
            raise FeedError(f"{where}: property {name} is missing")
        return None
    value = _plain(values[0])
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise FeedError(f"{where}: {name}: {str(values[0])[:60]!r} is not a date and time")
    try:
        seconds = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError, OSError) as error:
        raise FeedError(f"{where}: {name}: {error}") from error
    return seconds if math.isfinite(seconds) else None


def _plain(value: Any) -> Any:
    """What icalendar made of a property; None for one that it could not read."""
    try:
        return value.dt
    except (BrokenCalendarProperty, AttributeError):
        return None


def _duration_s(event: Any, where: str) -> float:
    value = _plain(_many(event, "DURATION")[0])
    if not isinstance(value, timedelta):
        raise FeedError(f"{where}: DURATION: not a duration")
    return value.total_seconds()


def _sequence(event: Any, where: str) -> int:
    text = _text(event, "SEQUENCE")
    if not text:
        return -1
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 12:
        raise FeedError(f"{where}: SEQUENCE: {text[:40]!r} is not a number")
    return int(text)


def _word(event: Any, name: str, kind: type[_Word], where: str) -> _Word | None:
    text = _text(event, name).strip()
    return _as(text, kind, f"{where}: {name}") if text else None


def _as(text: str, kind: type[_Word], where: str) -> _Word:
    word = text.strip().upper().replace("_", "-").replace(" ", "-")
    word = {"CANCELED": "CANCELLED", "NONE": "NO-IMPACT", "RESCHEDULED": "RE-SCHEDULED"}.get(word, word)
    try:
        return kind(word)
    except ValueError:
        raise FeedError(f"{where}: unknown value {text[:40]!r} (known: {', '.join(kind)})") from None


def _many(event: Any, name: str) -> list[Any]:
    value = event.get(name)
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _text(event: Any, name: str) -> str:
    values = _many(event, name)
    return str(values[0]) if values else ""
