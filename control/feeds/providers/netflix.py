"""Netflix Open Connect: a sentence with the start, one with the duration, then the peer's addresses.

There is no reference, so the id is a digest of what identifies the work.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.dates import duration_s, when
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, status_in


@provider("netflix", "netflix.com")
def netflix(mail: Mail) -> Iterator[Announcement]:
    page = mail.plain
    sentence = next((line for line in page.lines if "maintenance in" in line), "")
    begin = first(r"\bat (\d{4}-\d\d-\d\d [\d:]+(?:[+-]\d\d:\d\d)?(?: UTC)?)", sentence)
    if begin is None:
        return
    start = when(begin)
    lasting = next((line for line in page.lines if line.startswith("Expected downtime")), "")
    length = duration_s(lasting)
    addresses = [line for line in page.lines if _is_address(line)]
    end = start + length if length is not None else None
    yield Announcement(
        "netflix",
        maintenance_id=hashlib.sha256(f"{int(start)}{int(end or 0)}{''.join(addresses)}".encode()).hexdigest(),
        account=first(r"\((AS\d+)\)", page.lines[0]),
        summary=sentence,
        status=status_in(mail.title),
        start=start,
        end=end,
        circuits=circuits(addresses),
    )


def _is_address(line: str) -> bool:
    try:
        ipaddress.ip_address(line)
    except ValueError:
        return False
    return True
