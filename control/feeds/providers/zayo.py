"""Zayo: labels, one line of window per night with its GMT reading last, circuits with their impact in a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit, Impact, Status
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, impact_in, status_in

_STAMP = r"\d{1,2}-[A-Za-z]{3}-\d{4} \d\d:\d\d"
_WINDOW = re.compile(rf"({_STAMP}) to ({_STAMP}) \(\s*GMT\s*\)")
_STATUS = {"window for this event has opened": Status.IN_PROCESS, "has been closed": Status.COMPLETED}
_IMPACT = {"no expected impact": Impact.NO_IMPACT, "no impact": Impact.NO_IMPACT,
           "switch hit": Impact.REDUCED_REDUNDANCY, "at risk": Impact.REDUCED_REDUNDANCY}  # fmt: skip


@provider("zayo", "zayo.com")
def zayo(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    # Nights may be split over lines; the backup window counts as a night.
    windows = _WINDOW.findall(" ".join(page.lines))
    opening = " ".join(page.lines[:6])
    yield Announcement(
        "zayo",
        maintenance_id=page.value("Maintenance Ticket #") or first(r"(TTN-\d+)", mail.title),
        account=page.value("Customer"),
        summary=page.value("Reason for Maintenance"),
        status=status_in(f"{mail.title} {opening}", also=_STATUS),
        start=min((when(f"{begin} GMT") for begin, _ in windows), default=None),
        end=max((when(f"{finish} GMT") for _, finish in windows), default=None),
        circuits=tuple(
            Circuit(column(item, "Circuit Id"), impact_in(column(item, "Expected Impact"), _IMPACT))
            for item in page.records("Circuit Id", "Expected Impact")
        ),
    )
