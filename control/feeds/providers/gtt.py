"""GTT and EXA Infrastructure: status after the reference, services in a table. A moved window stands after the old."""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, Status, circuits
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import status_in

_HEADING = re.compile(r"Notification:?\s*(?:TT\s*)?(\d+)\s*[-–]\s*(\w+)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? ?(?:GMT|UTC)?")


@provider("gtt", "gtt.net", "gttcorp.org", "exainfra.net")
def gtt(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    match = _HEADING.search(page.text) or _HEADING.search(mail.title)
    if match is None:
        return
    services = page.records("SLID/CCSD", "Customer PON")
    yield Announcement(
        "gtt",
        maintenance_id=match[1],
        account=next((column(item, "Customer PON") for item in services), None),
        summary=page.value("Planned work Reason"),
        status=status_in(match[2], also={"update": Status.RE_SCHEDULED}),
        start=_latest(page.value("Start")),
        end=_latest(page.value("End")),
        circuits=circuits([column(item, "SLID/CCSD") for item in services]),
    )


def _latest(text: str | None) -> float | None:
    stamps = _STAMP.findall(text or "")
    return when(stamps[-1]) if stamps else None
