"""HGC Global Communications: labels, either on the value's line or in cells; the ticket is in the subject."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in


@provider("hgc", "hgc.com.hk", "hgc-intl.com")
def hgc(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    circuit = page.value("Circuit ID")
    yield Announcement(
        "hgc",
        maintenance_id=first(r"\b(TIC\w+)", mail.title),
        account=page.value("Customer"),
        summary=page.value("Description"),
        status=status_in(mail.title),
        start=moment(page.value("Maintenance Window start date & time")),
        end=moment(page.value("Maintenance Window end date & time")),
        circuits=circuits(circuit.split(",") if circuit else []),
    )
