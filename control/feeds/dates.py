"""Dates and times as people write them in notices; strict enough that garbage is refused, not guessed.

``when("12-Feb-2024 09:00 (GMT)")`` gives seconds since the epoch. A text holds one date, at most one time and at most
one zone; words around them are ignored. 24:00 is the midnight that ends the day.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from control.feeds.errors import FeedError

LONGEST = 300
MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10,
          "nov": 11, "dec": 12}  # fmt: skip
#: Beginnings of other languages' months, without accents, where English has no such beginning: Dutch, French, German,
#: Italian, Portuguese, Spanish, Turkish.
MONTHS |= {"ene": 1, "gen": 1, "oca": 1, "fev": 2, "sub": 2, "maa": 3, "mrt": 3, "abr": 4, "avr": 4, "nis": 4,
           "mai": 5, "mag": 5, "mei": 5, "juin": 6, "giu": 6, "haz": 6, "juil": 7, "lug": 7, "tem": 7, "ago": 8,
           "aou": 8, "agu": 8, "set": 9, "eyl": 9, "okt": 10, "out": 10, "ott": 10, "eki": 10, "kas": 11, "dez": 12,
           "dic": 12, "ara": 12}  # fmt: skip
#: Abbreviations that mean one offset only. Ambiguous ones are read as most notices use them: IST is India.
OFFSETS_H = {"utc": 0.0, "gmt": 0.0, "z": 0.0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6,
             "pst": -8, "pdt": -7, "bst": 1, "wet": 0, "west": 1, "cet": 1, "cest": 2, "eet": 2, "eest": 3, "msk": 3,
             "trt": 3, "ist": 5.5, "sgt": 8, "hkt": 8, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "brt": -3,
             "art": -3, "clt": -4, "cot": -5, "hst": -10, "akst": -9, "akdt": -8, "mez": 1, "mesz": 2, "sast": 2,
             "gst": 4, "pkt": 5, "wib": 7, "myt": 8, "pht": 8, "awst": 8, "acst": 9.5, "acdt": 10.5, "nzst": 12,
             "nzdt": 13}  # fmt: skip
REGIONS = {"et": "America/New_York", "eastern": "America/New_York", "ct": "America/Chicago",
           "central": "America/Chicago", "mt": "America/Denver", "mountain": "America/Denver",
           "pt": "America/Los_Angeles", "pacific": "America/Los_Angeles"}  # fmt: skip

_MONTH = rf"(?P<month>{'|'.join(sorted(MONTHS, key=len, reverse=True))})[a-z]{{0,7}}\.?"
_GAP = r"(?:\.?\sde\s|[-\s/.,]{0,3})"  # "12 de marzo de 2026"
_DATES = (
    re.compile(r"(?<!\d)(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})(?!\d)"),
    re.compile(rf"(?<!\d)(?P<d>\d{{1,2}})(?:st|nd|rd|th|er)?{_GAP}{_MONTH}{_GAP}(?P<y>\d{{4}}|\d\d)(?!\d)"),
    re.compile(rf"\b{_MONTH}\s{{0,3}}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s{{1,3}}(?P<y>\d{{4}})(?!\d)"),
    re.compile(r"(?<!\d)(?P<a>\d{1,2})[/.-](?P<b>\d{1,2})[/.-](?P<y>\d{4}|\d\d)(?!\d)"),
)
_TIME = re.compile(
    r"(?<![\d:.])(?P<h>\d{1,2})(?::\s?|h)(?P<m>\d\d)(?::(?P<s>\d\d)(?:\.\d{1,9})?)?\s?(?P<half>[ap]\.?m\b)?"
)
_ZONE = re.compile(r"(?P<name>utc|gmt)\s?(?P<sign>[+-])\s?(?P<h>\d{1,2})(?::?(?P<m>\d\d))?(?!\d)|"
                   r"(?<=\d)\s?(?P<sign2>[+-])(?P<h2>\d\d):?(?P<m2>\d\d)(?!\d)")  # fmt: skip
_PLACE = re.compile(r"(?<![a-z/])[a-z]{3,10}/[a-z_]{2,20}(?:/[a-z_]{2,20})?(?![a-z/])")  # "europe/berlin"
_WORD = re.compile(r"(?<![a-z])[a-z]{1,8}(?![a-z])")


def when(text: str, *, zone: str | tzinfo = UTC, day_first: bool = False, near: float | None = None) -> float:
    """Seconds since the epoch.

    ``zone`` holds where the text names none. ``07/08/2021`` is July 8, unless ``day_first`` or only one reading is a
    date; ``near`` (epoch seconds, when the message was sent) decides instead where it is known: the reading that lies
    closest to it. Raises :class:`FeedError`.
    """
    lower = _plain(text)
    if len(lower) > LONGEST:
        raise FeedError(f"no date: {text[:40]!r}... is too long")
    days, rest = _days(lower, day_first)
    place = zone_of(rest, zone)
    time = _TIME.search(rest)
    found = [_stamp(day, time, place, text) for day in days]
    if near is not None and len(found) > 1:
        return min(found, key=lambda item: abs(item - near))
    return found[0]


def _plain(text: str) -> str:
    """Small letters without accents, spaces of one kind."""
    parts = unicodedata.normalize("NFKD", text.replace("İ", "i").replace("ı", "i").lower())
    return "".join(c for c in parts if not unicodedata.combining(c))


def _days(lower: str, day_first: bool) -> tuple[list[datetime], str]:
    """The date's possible readings, likelier one first, and the text without it."""
    for pattern in _DATES:
        match = pattern.search(lower)
        if match is None:
            continue
        parts = match.groupdict()
        year = int(parts["y"]) + (2000 if len(parts["y"]) == 2 else 0)
        if "a" in parts:
            a, b = int(parts["a"]), int(parts["b"])
            options = [(b, a), (a, b)] if day_first or "." in match[0] else [(a, b), (b, a)]
        else:
            options = [(MONTHS[parts["month"]] if "month" in parts else int(parts["m"]), int(parts["d"]))]
        days = []
        for month, day in dict.fromkeys(options):
            try:
                days.append(datetime(year, month, day))
            except ValueError:
                continue
        if days:
            return days, lower[: match.start()] + " \n " + lower[match.end() :]
    raise FeedError(f"no date in {lower[:60]!r}")


def _stamp(day: datetime, time: re.Match[str] | None, place: tzinfo, text: str) -> float:
    hour = minute = second = 0
    if time is not None:
        hour, minute, second = int(time["h"]), int(time["m"]), int(time["s"] or 0)
        if time["half"]:
            if not 1 <= hour <= 12:
                raise FeedError(f"no such time: {text[:60]!r}")
            hour = hour % 12 + (12 if time["half"][0] == "p" else 0)
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and minute):
        raise FeedError(f"no such time: {text[:60]!r}")
    try:
        midnight = day.replace(tzinfo=place)
        return (midnight + timedelta(hours=hour, minutes=minute, seconds=second)).timestamp()
    except (OverflowError, ValueError, OSError):
        raise FeedError(f"no such date: {text[:60]!r}") from None


@cache
def _places() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def zone_of(text: str, default: str | tzinfo = UTC) -> tzinfo:
    """The zone that a text names: ``GMT+3``, ``+0000``, ``CEST``, ``Eastern``, ``Europe/Berlin``; else the default."""
    lower = text.lower()
    match = _PLACE.search(lower)
    if match is not None and match[0] in _places():
        return ZoneInfo(_places()[match[0]])
    match = _ZONE.search(lower)
    if match is not None:
        sign, hours, minutes = (match["sign"] or match["sign2"], match["h"] or match["h2"], match["m"] or match["m2"])
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if offset < timedelta(hours=24):
            return timezone(-offset if sign == "-" else offset)
    for word in _WORD.findall(lower):
        if word in OFFSETS_H:
            return timezone(timedelta(hours=OFFSETS_H[word]))
        if word in REGIONS:
            return ZoneInfo(REGIONS[word])
    return ZoneInfo(default) if isinstance(default, str) else default


def duration_s(text: str) -> float | None:
    """``"60 minutes"``, ``"2 hours"``, ``"1 day 2 hours 30 min"`` in seconds; None where there is none."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    found = re.findall(r"(\d{1,6})\s{0,2}(day|hour|hr|min|sec)", text[:LONGEST].lower())
    return float(sum(int(number) * units[unit[0]] for number, unit in found)) if found else None
