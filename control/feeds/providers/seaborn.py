"""Seaborn Networks: two forms, one with a label per date, one with a schedule on a single line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, span, status_in


@provider("seaborn", "seabornnetworks.com")
def seaborn(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    start, end = moment(page.value("Start date/time")), moment(page.value("Finish date/time"))
    if start is None:
        start, end = span(first(r"SCHEDULE:[^\n]{0,40}\n\s{0,9}(\d.{10,80})", page.text))
    affected = page.value("Circuit impacted", "AFFECTED CIRCUIT")
    opening = first(r"^(Be advised that .*)$", page.text, re.MULTILINE) or mail.title
    yield Announcement(
        "seaborn",
        maintenance_id=page.value("Seaborn Ticket number") or _ticket(mail.title),
        account=first(r"\[## (.+?) ##\]", mail.title) or first(r"\[(Customer[^\]]*|[^\]]+)\] \d+ ", mail.title),
        summary=page.value("Description"),
        status=status_in(opening),
        start=start,
        end=end,
        circuits=circuits(re.findall(r"[A-Z0-9][A-Za-z0-9-]{5,}", affected or "")),
    )


def _ticket(subject: str) -> str | None:
    return first(r"TT#(\w+)", subject) or first(r"\[[^\]]+\] (\d+) ", subject)
