"""Apple (AS714): plain text about a peering; the peer's AS is the circuit."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import moment, status_in


@provider("apple", "group.apple.com", "apple.com")
def apple(mail: Mail) -> Iterator[Announcement]:
    page = mail.plain
    peer = page.value("Peer AS")
    yield Announcement(
        "apple",
        maintenance_id=page.value("Reference Internal Ticket", "Internal Ticket"),
        account="Customer info unavailable",
        summary=mail.title or None,
        status=status_in(mail.title),
        start=moment(page.value("Start Time")),
        end=moment(page.value("End Time")),
        circuits=circuits([f"AS{peer.removeprefix('AS')}"] if peer else []),
        organizer="peering-noc@group.apple.com",
    )
