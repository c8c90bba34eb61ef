"""Aqua Comms: a label per line, days first; the project number in the subject is the account."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in


@provider("aquacomms", "aquacomms.com")
def aquacomms(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    service = page.value("Service ID")
    yield Announcement(
        "aquacomms",
        maintenance_id=page.value("Ticket Number") or first(r"ISSUE=(\S+)", mail.title),
        account=first(r"PROJ=(\S+)", mail.title),
        summary=first(r"-\s*Update\s*-\s*(.+)", page.text) or mail.title or None,
        status=status_in(mail.title),
        start=moment(page.value("Scheduled Start Date & Time"), day_first=True),
        end=moment(page.value("Scheduled End Date & Time"), day_first=True),
        circuits=circuits(service.split(",") if service else []),
    )
