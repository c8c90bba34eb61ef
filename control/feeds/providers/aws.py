"""AWS Direct Connect: a sentence with the window, then one connection a line.

AWS gives no reference, so the id is a digest of window and connections: a cancellation of the same window has it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.dates import when
from control.feeds.mail import Mail
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, status_in

_STAMP = r"\w{3}, \d{1,2} \w{3} \d{4} [\d:]{5,8} \w{3,4}"
_WINDOW = re.compile(rf"from ({_STAMP}) to ({_STAMP})")
_CONNECTION = re.compile(r"[a-z]{4,6}-[a-z0-9]{8,17}")


@provider("aws", "amazon.com", "amazonaws.com", "aws.com")
def aws(mail: Mail) -> Iterator[Announcement]:
    lines = mail.plain.lines
    account = first(r"AWS Account(?: ID)?:\s*(\d+)", mail.subject)
    for number, line in enumerate(lines):
        sentence = line
        while not _WINDOW.search(sentence) and "maintenance" in line.lower() and len(sentence) < 600:
            number += 1  # plain text may have been wrapped
            if number >= len(lines) or _CONNECTION.fullmatch(lines[number]):
                break
            sentence += " " + lines[number]
        window = _WINDOW.search(sentence)
        if window is None:
            continue
        start, end = when(window[1]), when(window[2])
        found = [item for item in lines if _CONNECTION.fullmatch(item)]
        yield Announcement(
            "aws",
            maintenance_id=hashlib.sha256(f"{int(start)}{int(end)}{''.join(found)}".encode()).hexdigest(),
            account=account,
            summary=sentence,
            status=status_in(sentence),
            start=start,
            end=end,
            circuits=circuits(found),
            organizer="aws-account-notifications@amazon.com",
        )
        return
    if account is not None:
        yield Announcement("aws", account=account)
