"""Words that many providers share."""

from __future__ import annotations

import re
from collections.abc import Mapping

from control.feeds.announcement import Impact, Status
from control.feeds.dates import when
from control.feeds.errors import FeedError
from control.feeds.page import Page

#: Parts of words, in the order in which they decide: a completed amendment is completed.
STATUS_WORDS = {
    "cancel": Status.CANCELLED,
    "withdrawn": Status.CANCELLED,
    "complet": Status.COMPLETED,
    "in progress": Status.IN_PROCESS,
    "has started": Status.IN_PROCESS,
    "reschedul": Status.RE_SCHEDULED,
    "re-schedul": Status.RE_SCHEDULED,
    "postpone": Status.RE_SCHEDULED,
    "amend": Status.RE_SCHEDULED,
    "exten": Status.RE_SCHEDULED,
    "revised": Status.RE_SCHEDULED,
    "correction": Status.RE_SCHEDULED,
    "tentative": Status.TENTATIVE,
}
IMPACT_WORDS = {
    "no impact": Impact.NO_IMPACT,
    "no service impact": Impact.NO_IMPACT,
    "not service affecting": Impact.NO_IMPACT,
    "switch hit": Impact.REDUCED_REDUNDANCY,
    "resilien": Impact.REDUCED_REDUNDANCY,
    "redundan": Impact.REDUCED_REDUNDANCY,
    "at risk": Impact.REDUCED_REDUNDANCY,
    "at-risk": Impact.REDUCED_REDUNDANCY,
    "degrad": Impact.DEGRADED,
    "latency": Impact.DEGRADED,
}


def status_in(
    text: str, usual: Status | None = Status.CONFIRMED, also: Mapping[str, Status] | None = None
) -> Status | None:
    """The status that a heading or subject names; the usual one where none is named."""
    lower = text.lower()
    for word, status in {**(also or {}), **STATUS_WORDS}.items():
        if word in lower:
            return status
    return usual


def impact_in(text: str, words: Mapping[str, Impact] = IMPACT_WORDS) -> Impact:
    """The impact that a cell names; an outage where it names none that is known: the careful reading."""
    lower = text.lower()
    return next((impact for word, impact in words.items() if word in lower), Impact.OUTAGE)


def dear(page: Page) -> str | None:
    """Who is greeted: ``Dear Example Customer,``."""
    match = re.search(r"^Dear\s+([^\n]{1,200}?)\s*[,:]?$", page.text, re.MULTILINE)
    return match[1] if match is not None else None


def first(pattern: str, text: str, flags: int = 0) -> str | None:
    """The first group of the first match."""
    match = re.search(pattern, text, flags)
    return match[1].strip() if match is not None else None


def moment(text: str | None, *, zone: str = "UTC", day_first: bool = False, near: float | None = None) -> float | None:
    """:func:`control.feeds.dates.when`, None for no text; :class:`FeedError` for text that is no date."""
    return None if text is None else when(text[:200], zone=zone, day_first=day_first, near=near)


def span(
    text: str | None, by: str = r"\s+(?:to|-|–|~)\s+", *, zone: str = "UTC", day_first: bool = False
) -> tuple[float | None, float | None]:
    """``"<from> to <until>"``; a zone named at the end holds for both."""
    if text is None:
        return None, None
    parts = re.split(by, text[:300], maxsplit=1)
    if len(parts) != 2:
        raise FeedError(f"no time span: {text[:80]!r}")
    tail = re.search(r"\b(UTC|GMT|[A-Z]{2,4})\b(?:\s*\([^)]*\))?\s*$", parts[1])
    own = re.search(r"\b[A-Z]{2,4}\b", re.sub(r"\b[AP]M\b", "", parts[0]))
    begin = parts[0] if own is not None or tail is None else f"{parts[0]} {tail[1]}"
    return when(begin, zone=zone, day_first=day_first), when(parts[1], zone=zone, day_first=day_first)
