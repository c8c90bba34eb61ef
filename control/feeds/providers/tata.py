"""Tata Communications: labels and values in a table, the window twice (IST, GMT), the status in the subject."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, span, status_in


@provider("tata", "tatacommunications.com")
def tata(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    start, end = span(page.value("Revised Activity Window (GMT)", "Activity Window (GMT)"))
    extended = page.value("Extended Up to Time Window (GMT)")
    services = page.value("Service ID")
    yield Announcement(
        "tata",
        maintenance_id=page.value("Ticket Reference - TCL") or first(r'TCL TT:\s*"([^"]+)"', mail.title),
        account="N/A",
        summary=mail.title or None,
        status=status_in(mail.title) if mail.title else None,
        start=start,
        end=moment(extended) if extended is not None else end,
        circuits=circuits(services.split(",") if services else []),
        organizer="planned.activity@tatacommunications.com",
    )
