"""Cogent: labels; times are often "local", of the city that the text names.

Their dates are written as in the United States, but which number is the day can't be told from a body alone: the date
on which the mail was sent decides, and without one days come first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.providers.places import zone_of_place
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, moment, status_in


@provider("cogent", "cogentco.com")
def cogent(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    text = page.text
    place = first(r"receiving service in (?:the )?(?:greater )?(.{2,60}?)(?: metro area)? will be affected", text)
    zone = zone_of_place(place or mail.title)
    begin, finish = page.value("Start time"), page.value("End time")
    greeting = next((number for number, line in enumerate(page.lines) if line.startswith("Dear ")), 0)
    heading = page.lines[greeting - 1] if greeting else None
    orders = page.value("Order ID(s) impacted", "Order IDs impacted") or ""
    headline = f"{mail.title or page.lines[0] if page.lines else mail.title} {heading} {begin} {finish}"
    yield Announcement(
        "cogent",
        maintenance_id=page.value("Work order number"),
        account=first(r"^Dear (.{1,80}?),?$", text, re.MULTILINE),
        summary=heading if mail.html else first(r"^(During this maintenance window.*)$", text, re.MULTILINE) or heading,
        status=status_in(headline),
        start=moment(begin, zone=zone, day_first=True, near=mail.sent),
        end=moment(finish, zone=zone, day_first=True, near=mail.sent),
        circuits=circuits(re.split(r"[,;\s]+", orders)),
    )
