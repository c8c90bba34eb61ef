"""BSO: a heading that names the status, labels, and per time slot a list of services with their impact.

Several slots (and backup slots) are one window here, from the first start to the last end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit, Impact, Status
from control.feeds.mail import Mail
from control.feeds.page import Page
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in

_STATUS = {"update_": Status.RE_SCHEDULED, "end_": Status.COMPLETED}
_IMPACT = {"hard down": Impact.OUTAGE, "switch hit": Impact.REDUCED_REDUNDANCY, "at risk": Impact.NO_IMPACT,
           "latency": Impact.DEGRADED}  # fmt: skip


@provider("bso", "bso.co", "bsonetwork.net")
def bso(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    heading = first(r"^(Maintenance[^\n]{0,40}_)$", page.text, re.MULTILINE) or mail.title
    starts = page.all_values("Timeslot start time (Backup)", "Timeslot start time")
    ends = page.all_values("Timeslot end time (Backup)", "Timeslot end time")
    yield Announcement(
        "bso",
        maintenance_id=page.value("Maintenance ID"),
        account="Customer info unavailable",
        summary=page.value("Maintenance Reason"),
        status=status_in(heading, also=_STATUS),
        start=min(filter(None, map(moment, starts)), default=None),
        end=max(filter(None, map(moment, ends)), default=None),
        circuits=tuple(_services(page)),
    )


def _services(page: Page) -> Iterator[Circuit]:
    """Pairs of lines, service and impact, after each ``Expected impact level``; the first of a service counts."""
    seen, start = set(), 0
    while (hit := page.find("Expected impact level (Backup)", "Expected impact level", start=start)) is not None:
        start = hit[0] + 1
        for place in range(start, len(page.lines) - 1, 2):
            name, level = page.lines[place], page.lines[place + 1]
            impact = next((found for word, found in _IMPACT.items() if word in level.lower()), None)
            if impact is None:
                break
            if name not in seen:
                seen.add(name)
                yield Circuit(name, impact)
