"""Global Cloud Xchange: all of the notice in the subject, between bars; services with their impact in a table."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import dear, impact_in, span, status_in


@provider("globalcloudxchange", "globalcloudxchange.com", "gcxworld.com")
def globalcloudxchange(mail: Mail) -> Iterator[Announcement]:
    parts = [part.strip() for part in mail.title.split("|")]
    start, end = span(parts[-1]) if len(parts) >= 4 else (None, None)
    yield Announcement(
        "globalcloudxchange",
        maintenance_id=parts[0] if len(parts) >= 4 else None,
        account=dear(mail.page),
        summary=parts[-2] if len(parts) >= 4 else None,
        status=status_in(mail.title) if len(parts) >= 4 else None,
        start=start,
        end=end,
        circuits=tuple(
            Circuit(column(record, "Service ID"), impact_in(column(record, "Impact")))
            for record in mail.page.records("Service ID", "Impact")
        ),
    )
