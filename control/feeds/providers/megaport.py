"""Megaport: greeting, reference in brackets, purpose over several lines, services in a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in

_REFERENCE = re.compile(r"\(([^()\s]{1,60})\)")


@provider("megaport", "megaport.com")
def megaport(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    text = page.text
    opening = next((line for line in page.lines if "maintenance" in line.lower() and _REFERENCE.search(line)), "")
    _, _, rest = text.partition("Purpose of Maintenance:")
    purpose, ended, _ = rest.partition("\nImpacted Service(s):")
    yield Announcement(
        "megaport",
        maintenance_id=first(_REFERENCE.pattern, opening),
        account=first(r"^Hi (.{1,120}?),?$", text, re.MULTILINE),
        summary=(purpose.strip() if ended else opening) or None,
        status=status_in(f"{mail.title} {opening}"),
        start=moment(page.value("Start Date and Time")),
        end=moment(page.value("End Date and Time")),
        circuits=circuits([column(item, "Service ID") for item in page.records("Service ID", "Service Type")]),
    )
