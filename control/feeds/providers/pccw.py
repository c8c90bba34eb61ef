"""PCCW Global (Console Connect): planned work comes as Maint-Note calendars, its completion as a mail."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, impact_in, span, status_in


@provider("pccw", "pccwglobal.com", "consoleconnect.com")
def pccw(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    status = status_in(mail.title) if mail.title else None
    start, end = span(first(r"^Date Time\s*:\s*(.+?)(?:\(dd/mm/yyyy\))?$", page.text, re.MULTILINE), day_first=True)
    listed = re.findall(r"^\s*SR\w+ / (.{1,120}?) /", page.text, re.MULTILINE)
    impact = impact_in(page.value("Impact") or "")
    # Once the work is over the list says nothing any more.
    affected = () if status is None or status.over else circuits(listed, impact)
    yield Announcement(
        "PCCW Global",
        maintenance_id=first(r"\b(INC\w+)\s*$", mail.title),
        account=page.value("Customer Name"),
        summary=mail.title or None,
        status=status,
        start=start,
        end=end,
        circuits=affected,
    )
