"""Colt: reference, window and status in the subject, circuits in an attached CSV table.

The calendar beside it is an invitation without Maint-Note properties; alone, it is read by its summary, which is the
mail's subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from control.feeds.announcement import Announcement, circuits
from control.feeds.calendar import events, is_calendar, moment
from control.feeds.mail import Mail
from control.feeds.page import key
from control.feeds.providers.registry import provider
from control.feeds.providers.words import span, status_in
from control.feeds.sheet import from_csv

_STAMP = r"\d{1,2}/\d{1,2}/\d{4} [\d:]{5,8} \w{3,4}"
_ALERT = re.compile(rf"(MAINTENANCE ALERT):\s*(CRQ\S+)\s+({_STAMP} - {_STAMP})(?:\s*-\s*(.{{1,40}}))?$")
_TITLE = (
    r"(?P<what>{}Maintenance Notification) - (?P<id>CRQ\S+)"
    rf"(?: \[(?P<window>{_STAMP} - {_STAMP})\])?(?: for .{{0,200}}?,\s*(?P<account>\d+))?"
)
_NOTICES = (
    re.compile(r"^(?P<status>[^\n]{0,40}?)\s*" + _TITLE.replace("{}", r"Colt [\w ]{0,60}", 1)),
    re.compile(r"^(?P<status>)" + _TITLE.replace("{}", r"[\w ]{0,60}", 1)),
)


@provider("colt", "colt.net")
def colt(mail: Mail) -> Iterator[Announcement]:
    found = _subject(mail.title) or Announcement("colt")
    for attachment in mail.attachments:
        if is_calendar(attachment.data):
            found = found.filled(**_invitation(attachment.data, attachment.name))
        elif attachment.name.lower().endswith(".csv") or attachment.kind == "text/csv":
            account, ids = _services(from_csv(attachment.data))
            found = replace(found, account=account or found.account, circuits=found.circuits or circuits(ids))
    if any((found.maintenance_id, found.circuits)):
        yield found


def _subject(text: str) -> Announcement | None:
    match = _ALERT.search(text)
    if match is not None:
        start, end = span(match[3], day_first=True)
        status = status_in(match[4] or "")
        return Announcement("colt", match[2], summary=match[1], status=status, start=start, end=end)
    match = next(filter(None, (pattern.search(text) for pattern in _NOTICES)), None)
    if match is None:
        return None
    start, end = span(match["window"], day_first=True)
    # Cancellations and the like repeat the whole title; first notices are shown without the company's name.
    what = match["what"] if match["status"].strip(" :[]") else match["what"].removeprefix("Colt ")
    return Announcement(
        "colt",
        maintenance_id=match["id"],
        account=match["account"],
        summary=what,
        status=status_in(match["status"]),
        start=start,
        end=end,
    )


def _invitation(data: bytes, source: str) -> dict[str, object]:
    """What the first event of an invitation says; its own times are better than those of its summary."""
    for event, where in events(data, source):
        title = re.sub(r"^(\[ EXTERNAL \]\s*)+", "", str(event.get("SUMMARY", "")).replace("\\,", ","))
        told = _subject(title) or Announcement("colt")
        number = str(event.get("SEQUENCE", ""))
        return {
            "maintenance_id": told.maintenance_id,
            "account": told.account,
            "summary": told.summary,
            "status": told.status,
            "start": moment(event, "DTSTART", where, required=False),
            "end": moment(event, "DTEND", where, required=False),
            "stamp": moment(event, "DTSTAMP", where, required=False),
            "sequence": int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None,
        }
    return {}


def _services(rows: list[list[str]]) -> tuple[str | None, list[str]]:
    titles = [key(cell) for cell in rows[0]] if rows else []
    if "circuit id" not in titles:
        return None, []
    place = titles.index("circuit id")
    body = [row for row in rows[1:] if len(row) > place]
    owner = titles.index("ocn") if "ocn" in titles else None
    names = [row[owner].removeprefix("OCN:").strip() for row in body] if owner is not None else []
    return next(iter(names), None), [row[place] for row in body]
