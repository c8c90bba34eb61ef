"""Equinix: labels without a year beside a ``SPAN:`` that has it, services in a table; reference and status in the
subject."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Impact, circuits
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.page import Page, column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, status_in

_DAY = re.compile(r"(\d{1,2}) ([A-Z]{3})[A-Z]* (\d\d:\d\d)", re.IGNORECASE)
_IMPACT = {"no impact": Impact.NO_IMPACT, "redundancy": Impact.REDUCED_REDUNDANCY}


@provider("equinix", "equinix.com")
def equinix(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    start, end = _window(page)
    told = (page.value("IMPACT") or "").lower()
    impact = next((found for word, found in _IMPACT.items() if word in told), Impact.OUTAGE)
    services = page.records("Account #", "Service Serial") or page.records("Account #")
    ids = [column(item, "Service Serial") or next(iter(list(item.values())[1:]), "") for item in services]
    yield Announcement(
        "equinix",
        maintenance_id=first(r"\[([^\[\]]+)\]\s*$", mail.title),
        account=next((column(item, "Account") for item in services), None),
        summary=mail.title or page.value("DESCRIPTION"),
        status=status_in(mail.title),
        start=start,
        end=end,
        circuits=circuits(ids, impact),
    )


def _window(page: Page) -> tuple[float | None, float | None]:
    """Day and hour from ``UTC:``, the year from ``SPAN:``, whose two days may be in different years."""
    years = re.findall(r"\d{1,2}-[A-Za-z]{3}-(\d{4})", page.value("SPAN", "DATE") or "")
    days = _DAY.findall(page.value("UTC") or "")
    if not years or len(days) < 2:
        return None, None
    begin, finish = (when(f"{d} {m} {year} {t}") for (d, m, t), year in zip(days, (years[0], years[-1]), strict=False))
    return begin, finish
