"""Telstra: an older form with a table of labels, and a newer one with a label and a value per line."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.page import Page
from control.feeds.providers.registry import provider
from control.feeds.providers.words import moment, span, status_in


@provider("telstra", "telstra.com", "team.telstra.com")
def telstra(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    reference = page.value("Change Reference")
    yield _older(page, reference, mail) if reference is not None else _newer(page, mail)


def _older(page: Page, reference: str, mail: Mail) -> Announcement:
    start, end = span(page.value("Maintenance Window"))
    details = _between(page, "Maintenance Details", "Service(s) Impacted")
    return Announcement(
        "telstra",
        maintenance_id=reference,
        account=page.value("To"),
        summary=f"{details[0]}. {chr(10).join(details[1:])}" if details[1:] else " ".join(details) or None,
        status=status_in(" ".join([mail.title, *page.lines[:3]])),
        start=start,
        end=end,
        circuits=circuits(_between(page, "Service(s) Impacted", "Click here")),
    )


def _newer(page: Page, mail: Mail) -> Announcement:
    details = _between(page, "Maintenance details", "Reference number")
    return Announcement(
        "telstra",
        maintenance_id=page.value("Reference number"),
        account=page.value("Attention"),
        summary=". ".join(details) or None,
        status=status_in(" ".join([mail.title, *page.lines[:2]])),
        start=moment(page.value("Start time")),
        end=moment(page.value("End time")),
        circuits=circuits(_between(page, "Service/s under maintenance", "Expected impact")),
    )


def _between(page: Page, label: str, until: str) -> list[str]:
    """The lines from a label to the next one."""
    hit = page.find(label)
    if hit is None:
        return []
    found = [hit[1]] if hit[1] and page.lines[hit[0]].endswith(hit[1]) else []
    for line in page.lines[hit[0] + 1 :]:
        if line.lower().startswith(until.lower()):
            return found
        found.append(line)
    return []
