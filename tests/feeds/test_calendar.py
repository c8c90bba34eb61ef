"""The Maint-Note form of iCalendar: what is read, what is refused and with which words."""

from __future__ import annotations

import pytest

from control.feeds.announcement import Circuit, Impact, Status
from control.feeds.calendar import read_calendar
from control.feeds.errors import FeedError, NotUnderstood

EVENT = """BEGIN:VEVENT
SUMMARY:Amplifier swap
DTSTART:20260301T010000Z
DTEND:20260301T030000Z
DTSTAMP:20260201T120000Z
UID:a-1
SEQUENCE:2
X-MAINTNOTE-PROVIDER:fibres.example
X-MAINTNOTE-ACCOUNT:77
X-MAINTNOTE-MAINTENANCE-ID:W-1
X-MAINTNOTE-OBJECT-ID:loop-a
X-MAINTNOTE-OBJECT-ID;X-MAINTNOTE-OBJECT-IMPACT=NO-IMPACT:loop-b
X-MAINTNOTE-IMPACT:REDUCED-REDUNDANCY
X-MAINTNOTE-STATUS:CONFIRMED
ORGANIZER;CN=NOC:mailto:noc@fibres.example
END:VEVENT
"""


def calendar(*events: str, before: str = "") -> bytes:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//\n{before}{''.join(events)}END:VCALENDAR\n".encode()


def test_an_event_with_objects_of_their_own_impact() -> None:
    (found,) = read_calendar(calendar(EVENT), "a.ics")
    assert (found.provider, found.maintenance_id, found.account, found.sequence) == ("fibres.example", "W-1", "77", 2)
    assert found.status is Status.CONFIRMED and found.summary == "Amplifier swap"
    assert found.end is not None and found.start is not None and found.end - found.start == 7200
    assert found.circuits == (Circuit("loop-a", Impact.REDUCED_REDUNDANCY), Circuit("loop-b", Impact.NO_IMPACT))


def test_time_zones_dates_and_durations() -> None:
    zoned = EVENT.replace("DTSTART:20260301T010000Z", "DTSTART;TZID=Europe/Berlin:20260301T020000")
    assert read_calendar(calendar(zoned), "z.ics")[0].start == read_calendar(calendar(EVENT), "a.ics")[0].start
    own = """BEGIN:VTIMEZONE
TZID:Ours
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0300
TZOFFSETTO:+0300
END:STANDARD
END:VTIMEZONE
"""
    named = EVENT.replace("DTSTART:20260301T010000Z", "DTSTART;TZID=Ours:20260301T040000")
    assert read_calendar(calendar(named, before=own), "o.ics")[0].start == 1772326800.0
    lasting = EVENT.replace("DTEND:20260301T030000Z", "DURATION:PT90M")
    (found,) = read_calendar(calendar(lasting), "d.ics")
    assert found.start is not None and found.end == found.start + 5400
    day = EVENT.replace("DTSTART:20260301T010000Z", "DTSTART;VALUE=DATE:20260301")
    assert read_calendar(calendar(day), "d.ics")[0].start == 1772323200.0


def test_several_events_and_calendars() -> None:
    two = calendar(EVENT, EVENT.replace("W-1", "W-2")) + calendar(EVENT.replace("W-1", "W-3"))
    assert [item.maintenance_id for item in read_calendar(two, "b.ics")] == ["W-1", "W-2", "W-3"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("UID:a-1", "RRULE:FREQ=WEEKLY", "RRULE: recurring maintenance is not supported"),
        ("UID:a-1", "RDATE:20260401T010000Z", "RDATE"),
        ("X-MAINTNOTE-PROVIDER:fibres.example\n", "", "X-MAINTNOTE-PROVIDER is missing"),
        ("X-MAINTNOTE-MAINTENANCE-ID:W-1\n", "", "X-MAINTNOTE-MAINTENANCE-ID is missing"),
        ("DTSTART:20260301T010000Z\n", "", "DTSTART is missing"),
        ("DTEND:20260301T030000Z\n", "", "DTEND is missing"),
        ("DTSTAMP:20260201T120000Z\n", "", "DTSTAMP is missing"),
        ("20260301T010000Z", "yesterday", "DTSTART: 'yesterday' is not a date"),
        ("STATUS:CONFIRMED", "STATUS:PERHAPS", "unknown value 'PERHAPS'"),
        ("IMPACT=NO-IMPACT", "IMPACT=BAD", "object loop-b: unknown value 'BAD'"),
        ("SEQUENCE:2", "SEQUENCE:two", "SEQUENCE: 'two' is not a number"),
    ],
)
def test_what_is_refused_names_file_event_and_property(old: str, new: str, words: str) -> None:
    assert old in EVENT
    with pytest.raises(FeedError) as caught:
        read_calendar(calendar(EVENT.replace(old, new, 1)), "bad.ics")
    assert str(caught.value).startswith("bad.ics: event 1") and words in str(caught.value)


def test_a_cancellation_needs_no_window() -> None:
    short = EVENT.replace("CONFIRMED", "CANCELLED").replace("DTSTART:20260301T010000Z\nDTEND:20260301T030000Z\n", "")
    (found,) = read_calendar(calendar(short), "c.ics")
    assert found.status is Status.CANCELLED and found.start is None


def test_other_calendars_and_no_calendars() -> None:
    with pytest.raises(NotUnderstood, match="X-MAINTNOTE"):
        read_calendar(calendar("BEGIN:VEVENT\nUID:1\nSUMMARY:Lunch\nEND:VEVENT\n"), "lunch.ics")
    for data in (b"BEGIN:VCALENDAR\nBEGIN:VEVENT\n", b"", b"BEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\n" * 50):
        with pytest.raises(FeedError, match=r"broken\.ics"):
            read_calendar(data, "broken.ics")
