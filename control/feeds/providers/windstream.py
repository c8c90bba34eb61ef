"""Windstream: labels in cells, impact and circuits in tables; times are Eastern unless they say otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from control.feeds.announcement import Announcement, Impact, circuits
from control.feeds.mail import Mail
from control.feeds.page import Page, column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, impact_in, moment, status_in

_EASTERN = "America/New_York"


@provider("windstream", "windstream.com", "windstreamenterprise.com")
def windstream(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    customers = page.records("Name", "Account", "Circuit ID")
    heading = " ".join([mail.title, *page.lines[:1]])
    yield Announcement(
        "windstream",
        maintenance_id=page.value("WMT") or first(r"WMT#?:?\s*(\d+)", mail.title),
        account=next((column(item, "Name") for item in customers), None),
        summary=page.lines[1] if len(page.lines) > 1 else None,
        status=status_in(heading),
        start=moment(page.value("Event Start Date & Time"), zone=_EASTERN),
        end=moment(page.value("Event End Date & Time"), zone=_EASTERN),
        circuits=circuits([column(item, "Circuit ID") for item in customers], _impact(page)),
    )


def _impact(page: Page) -> Impact:
    if (page.value("Service Affecting") or "").upper().startswith("NO"):
        return Impact.NO_IMPACT
    kinds = [row[0] for table in page.tables for head, row in pairwise(table)
             if head and head[0].startswith("Impact Type") and row]  # fmt: skip
    return impact_in(kinds[0]) if kinds else Impact.OUTAGE
