"""Sparkle: several tickets in one mail, each with the window of its day; the last may be a backup."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.page import Page
from control.feeds.providers.registry import provider
from control.feeds.providers.words import status_in


@provider("sparkle", "tisparkle.com")
def sparkle(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    tickets = [item.strip() for item in (page.value("Sparkle Ticket Number") or "").split("/") if item.strip()]
    windows = list(zip(_stamps(page, "Start"), _stamps(page, "End"), strict=False))
    if len(tickets) == 1:
        tickets = [tickets[0] if number == 0 else f"{tickets[0]}-{number + 1}" for number in range(len(windows))]
    for ticket, (start, end) in zip(tickets, windows, strict=False):
        yield Announcement(
            "sparkle",
            maintenance_id=ticket,
            account="Not Available",
            summary=page.value("Description of Work"),
            status=status_in(mail.title),
            start=start,
            end=end,
            circuits=circuits(_involved(page)),
        )


def _stamps(page: Page, which: str) -> list[float]:
    pattern = rf"^{which} Date/Time[^\n]*\n?\s*(\d\d?/\d\d?/\d{{4}} [^\n]+)"
    return [when(text) for text in re.findall(pattern, page.text, re.MULTILINE)]


def _involved(page: Page) -> list[str]:
    """The lines between two labels, one circuit each."""
    hit = page.find("Circuits Involved in the Activity", "Circuits Involved")
    end = page.find("Description of Work", start=hit[0]) if hit is not None else None
    if hit is None or end is None:
        return []
    return [name for line in [hit[1], *page.lines[hit[0] + 1 : end[0]]] for name in re.split(r"[,;]\s*", line)]
