"""Verizon: labels in cells; circuits in a table whose columns vary, save the first two."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Status, circuits
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import dear, first, span, status_in


@provider("verizon", "verizon.com", "verizonbusiness.com")
def verizon(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    start, end = span(page.value("Maintenance Date/Time (GMT)"))
    attention = first(r"^Attention:\s*(.+)$", page.text, re.MULTILINE) or ""
    yield Announcement(
        "verizon",
        maintenance_id=page.value("Verizon MASTARS Request number"),
        account=dear(page),
        summary=page.value("Description of Maintenance"),
        status=status_in(f"{attention} {mail.title}", also={"not completed": Status.CANCELLED}),
        start=start,
        end=end,
        circuits=circuits([column(item, "Circuit ID") for item in page.records("Company Name", "Circuit ID")]),
    )
