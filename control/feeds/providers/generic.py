"""Anybody's notice that labels its id, its window and its circuits in plain words: for providers without a form here.

Whoever wrote it is not known to write notices. So, unless the feed names ``provider: generic``, what it announces is
shown as tentative and drains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from control.feeds.announcement import Announcement, Circuit, Status
from control.feeds.errors import FeedError
from control.feeds.mail import Mail
from control.feeds.page import Page, column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import impact_in, moment, span, status_in

_ID = ("maintenance id", "maintenance number", "maintenance reference", "maintenance #", "maintenance ticket",
       "ticket number", "ticket id", "ticket #", "ticket", "reference number", "reference id", "reference",
       "change number", "change id", "change request", "work order", "case number", "event id", "event number",
       "wartungsnummer", "ticketnummer", "numéro de ticket", "número de ticket")  # fmt: skip
_BEGIN = ("start date and time", "start date/time", "start date & time", "start date", "start time", "start", "begin",
          "maintenance start", "scheduled start", "planned start", "window start", "beginn", "début", "inicio",
          "início", "inizio")  # fmt: skip
_END = ("end date and time", "end date/time", "end date & time", "end date", "end time", "end", "finish",
        "maintenance end", "scheduled end", "planned end", "window end", "ende", "fin", "fim", "fine")  # fmt: skip
_WINDOW = ("maintenance window", "scheduled window", "planned window", "time window", "window", "wartungsfenster")
_CIRCUITS = ("affected circuit ids", "affected circuits", "affected circuit", "affected services", "affected service",
             "impacted circuits", "impacted services", "circuit ids", "circuit id(s)", "circuit id", "circuits",
             "circuit", "service ids", "service id(s)", "service id")  # fmt: skip
_IMPACT = ("expected impact", "service impact", "customer impact", "impact type", "impact")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,79}")
LONGEST = 10_000


@provider("generic")
def generic(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    numbers = _names(page.value(*_ID))
    start, end = (_moment(page, labels, mail.sent) for labels in (_BEGIN, _END))
    if start is None or end is None:
        start, end = _window(page)
    affected = _circuits(page)
    if not numbers or start is None or end is None or not affected:
        return
    sender = mail.senders[0].rpartition("@")[2].lower() if mail.senders else ""
    yield Announcement(
        sender or "generic",
        maintenance_id=numbers[0],
        summary=page.value("description", "reason", "summary", "subject") or mail.title or None,
        status=status_in(mail.title),
        start=start,
        end=end,
        circuits=affected,
    )


def unproven(found: Announcement) -> Announcement:
    """As one shows what nobody vouches for: an end of work is believed, its coming is not."""
    return found if found.status is not None and found.status.over else replace(found, status=Status.TENTATIVE)


def _moment(page: Page, labels: tuple[str, ...], near: float | None) -> float | None:
    try:
        return moment(page.value(*labels), near=near)
    except FeedError:
        return None  # "Start: see below"


def _window(page: Page) -> tuple[float | None, float | None]:
    try:
        return span(page.value(*_WINDOW))
    except FeedError:
        return None, None


def _circuits(page: Page) -> tuple[Circuit, ...]:
    """Of a table with a column of them, else of a label's line."""
    overall = impact_in(page.value(*_IMPACT) or "")
    for header in ("circuit", "service id"):
        rows = page.records(header)
        if rows and len(rows[0]) > 1:
            own = [(column(row, header), column(row, "expected impact", "impact")) for row in rows]
            found = {name: impact_in(text) if text else overall for name, text in own if name in _names(name)}
            if found:
                return tuple(Circuit(name, impact) for name, impact in found.items())
    return tuple(Circuit(name, overall) for name in _names(page.value(*_CIRCUITS)))


def _names(text: str | None) -> list[str]:
    """The ids in a text, each once: what has a digit in it; the words around them have none."""
    words = (word.rstrip("./:-") for word in _WORD.findall((text or "")[:LONGEST]))
    return list(dict.fromkeys(word for word in words if any(c.isdigit() for c in word)))
