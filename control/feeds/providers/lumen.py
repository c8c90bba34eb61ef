"""Lumen (CenturyLink, Level 3): tables for window and services, the state of the work in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, Circuit, Status
from control.feeds.mail import Mail
from control.feeds.page import column
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, impact_in, moment, status_in

_STATUS = {"work has begun": Status.IN_PROCESS, "has begun": Status.IN_PROCESS}


@provider("lumen", "lumen.com", "centurylink.com", "level3.com")
def lumen(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    window = next(iter(page.records("Start", "End")), {})
    services = page.records("Customer Name", "Circuit ID")
    updates = page.value("Updates", "Status") or ""
    yield Announcement(
        "lumen",
        maintenance_id=page.value("Scheduled Maintenance #") or first(r"Maintenance #:?\s*([\w-]+)", mail.title),
        account=next((column(item, "Customer Name") for item in services), None),
        summary=page.value("Summary", "Maintenance Summary"),
        status=status_in(f"{updates} {mail.title}", also=_STATUS),
        start=moment(column(window, "Start") or None),
        end=moment(column(window, "End") or None),
        circuits=tuple(
            Circuit(column(item, "Circuit ID"), impact_in(column(item, "Impact Type", "Impact"))) for item in services
        ),
    )
