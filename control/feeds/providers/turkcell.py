"""Turkcell Superonline: labels in cells; circuits in a table within, or as a router's interface descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit
from control.feeds.mail import Mail, body_mail
from control.feeds.page import Page
from control.feeds.providers.registry import provider
from control.feeds.providers.words import impact_in, moment, status_in

_INTERFACE = re.compile(r"\bup\s+up\s+([^\s|]+)\|([^|\n]+)\|")


@provider("turkcell", "superonline.net", "turkcell.com.tr")
def turkcell(mail: Mail) -> Iterator[Announcement]:
    # A dotted capital I has crept into the English labels.
    page = body_mail((mail.html or mail.text).replace("İ", "I"), mail.source, html=bool(mail.html)).page
    owner, found = _circuits(page)
    yield Announcement(
        "turkcell",
        maintenance_id=page.value("Maintenance Number"),
        account=owner,
        summary=page.value("Impact of the maintenance"),
        status=status_in(" ".join([mail.title, *page.lines[:1]])),
        start=moment(page.value("Start Time"), day_first=True),
        end=moment(page.value("End Time"), day_first=True),
        circuits=tuple(dict.fromkeys(found)),
    )


def _circuits(page: Page) -> tuple[str | None, list[Circuit]]:
    rows = [row for row in page.rows() if len(row) == 3 and all(row)]
    if rows:
        return rows[0][1], [Circuit(row[0], impact_in(row[2])) for row in rows]
    named = _INTERFACE.findall(page.text)
    return (named[0][1].strip() if named else None), [Circuit(name) for name, _ in named]
