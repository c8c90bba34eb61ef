"""Momentum: a label per line; the ticket stands between bars in the subject."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in


@provider("momentum", "momentumtelecom.com")
def momentum(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    ids = page.value("Circuit ID(s) impacted")
    yield Announcement(
        "momentum",
        maintenance_id=first(r"\|\s*(\d{5,})\s*\|", mail.title),
        account=page.value("Account"),
        summary=_bare(page.value("Reason for Maintenance")),
        status=status_in(mail.title),
        start=moment(page.value("Maintenance start date/time")),
        end=moment(page.value("Maintenance finish date/time", "Maintenance end date/time")),
        circuits=circuits(ids.split(",") if ids else []),
        organizer="maintenance@momentumtelecom.com",
    )


def _bare(text: str | None) -> str | None:
    """Without the rest of a broken end tag, which their template leaves in the text."""
    return re.sub(r"\s*</?\w*>?$|\s*/\w+>$", "", text) if text else None
