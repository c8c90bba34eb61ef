"""Whatever bytes come, parsers raise nothing but the feeds' own error."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from control.feeds.announcement import Announcement
from control.feeds.dates import when
from control.feeds.errors import FeedError
from control.feeds.mail import Mail
from control.feeds.page import from_html
from control.feeds.providers import PROVIDERS
from control.feeds.reading import apply, read
from control.feeds.sheet import from_csv, from_xlsx
from control.feeds.sources import messages
from control.feeds.weather.alerts import read_cap
from control.feeds.weather.state import read_weather

WORDS = ["Start", "End", "Circuit ID", ":", "\n", "|", "2026-03-01", "1/2/26", "25:61", "GMT", "to", " - ", "<td>",
         "<tr>", "<table>", "</table>", "Maintenance Window", "Notification", "DTSTART", "BEGIN:VEVENT\n",
         "END:VEVENT\n", "X-MAINTNOTE-PROVIDER:p\n", "RRULE:", "=\n", "=3D", "&#0;", "\x00", "é", "٣",
         "(", "TT#", "[", "]"]  # fmt: skip
soup = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=40).map(" ".join)
heads = st.sampled_from(
    [b"", b"BEGIN:VCALENDAR\n", b"From: a@verizon.com\nSubject: b\n\n", b"From x\n", b"PK\x03\x04", b"<alert>",
     b"From: a@colt.net\nContent-Type: multipart/mixed; boundary=a\n\n--a\n", b"\xff\xfe", b'{"hourly": ']
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
keys = st.sampled_from(["latitude", "longitude", "hourly", "time", "rain", "features", "properties", "id", "onset",
                        "geometry", "coordinates", "type", "utc_offset_seconds", "hourly_units"])  # fmt: skip
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)


@settings(max_examples=150, deadline=None)
@given(heads, st.binary(max_size=300) | soup.map(str.encode))
def test_reading(head: bytes, body: bytes) -> None:
    for reader in (read, read_weather):
        with contextlib.suppress(FeedError):
            reader(head + body, "any")
    for name, message in messages(head + body, "any"):
        with contextlib.suppress(FeedError):
            read(message, name)
    with contextlib.suppress(FeedError):
        read(b"BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\n" + body + b"\nEND:VEVENT\nEND:VCALENDAR\n", "any")
    for sheet in (from_csv, from_xlsx):
        with contextlib.suppress(FeedError):
            sheet(head + body)
    with contextlib.suppress(FeedError):
        read_cap(head + body, "any")


@settings(max_examples=60, deadline=None)
@given(soup, soup)
def test_every_providers_parser(subject: str, body: str) -> None:
    for provider in PROVIDERS.values():
        for mail in (Mail("any", subject=subject, text=body), Mail("any", subject=subject, html=body)):
            with contextlib.suppress(FeedError):
                assert all(isinstance(item, Announcement) for item in apply(provider, mail))


@settings(max_examples=150, deadline=None)
@given(documents)
def test_weather_documents(document: object) -> None:
    with contextlib.suppress(FeedError):
        read_weather(json.dumps(document).encode(), "any")


@settings(max_examples=200, deadline=None)
@given(soup)
def test_dates_and_pages(text: str) -> None:
    with contextlib.suppress(FeedError):
        when(text)
    page = from_html(text)
    assert all(line == line.strip() and line for line in page.lines)
