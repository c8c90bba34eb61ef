"""Google peering: a pair of neighbour addresses per session is the circuit, the peer's AS the account."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in


@provider("google", "google.com")
def google(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    ours = page.all_values("Peer Neighbor Address(es)")
    theirs = page.all_values("Google Neighbor Address(es)")
    yield Announcement(
        "google",
        maintenance_id=first(r"Reference\s+(\S+)", page.text) or first(r"Reference\s+(\S+)", mail.title),
        account=page.value("Peer ASN"),
        summary=first(r"^(?:Google )?(Network Maintenance Notification.*)$", page.text, re.MULTILINE) or mail.title,
        status=status_in(mail.title),
        start=moment(page.value("Start Time")),
        end=moment(page.value("End Time")),
        circuits=circuits([f"{a}-{b}" for a, b in zip(theirs, ours, strict=False)]),
    )
