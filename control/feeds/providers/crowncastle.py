"""Crown Castle Fiber: the window in five time zones (the GMT row counts), circuits with their impact in a table."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit, Impact
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.page import Page, column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import dear, status_in


@provider("crowncastle", "crowncastle.com")
def crowncastle(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    heading = " ".join(page.lines[:1])
    if "completed" in " ".join(page.lines[:4]).lower():
        heading += " completed"
    start, end = _window(page)
    yield Announcement(
        "crowncastle",
        maintenance_id=page.value("Ticket Number"),
        account=dear(page),
        summary=_description(page),
        status=status_in(heading),
        start=start,
        end=end,
        circuits=tuple(
            Circuit(column(record, "Circuit ID"), _impact(column(record, "Impact")))
            for record in page.records("Circuit ID", "Impact")
        ),
    )


def _impact(text: str) -> Impact:
    """``None`` is a promise; ``None Expected`` is a hope."""
    return Impact.NO_IMPACT if text.strip().lower() == "none" else Impact.OUTAGE


def _window(page: Page) -> tuple[float | None, float | None]:
    for row in page.rows():
        if len(row) == 5 and row[4].strip().upper() == "GMT":
            return when(f"{row[0]} {row[1]}"), when(f"{row[2]} {row[3]}")
    return None, None


def _description(page: Page) -> str | None:
    """The paragraph under the label; starred lines before it only repeat the status."""
    hit = page.find("Work Description")
    if hit is None:
        return None
    if hit[1] and page.lines[hit[0]].rstrip(" *").endswith(hit[1]) and "*" not in page.lines[hit[0]]:
        return hit[1]
    following = (line for line in page.lines[hit[0] + 1 : hit[0] + 6] if not line.startswith("*"))
    return next(following, None)
