"""Dates as notices write them."""

from __future__ import annotations

import pytest

from control.feeds.dates import duration_s, when, zone_of
from control.feeds.errors import FeedError

NEW_YEAR = 1767225600.0  # 2026-01-01T00:00Z
HOUR = 3600.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01 00:00:00 GMT", NEW_YEAR),
        ("2026-01-01 00:00:00 +0000 UTC", NEW_YEAR),
        ("2026-01-01 02:00+02:00", NEW_YEAR),
        ("Thu, 1 Jan 2026 01:00:00 CET", NEW_YEAR),
        ("01-Jan-2026 03:00 (MSK)", NEW_YEAR),
        ("Jan 1, 2026 00:00 UTC", NEW_YEAR),
        ("January 1st, 2026 12:00 AM", NEW_YEAR),
        ("12/31/25 19:00 ET", NEW_YEAR),
        ("01.01.2026 03:00 GMT+3", NEW_YEAR),
        ("31/12/2025 24:00 GMT", NEW_YEAR),
        ("Wednesday, 31 Dec 2025 11:30:00 PM (UTC)", NEW_YEAR - HOUR / 2),
        ("1/1/2026", NEW_YEAR),
        ("10: 00 UTC, 01/01/2026", NEW_YEAR + 10 * HOUR),
        ("1 de enero de 2026, 01:00 CET", NEW_YEAR),
        ("1er janvier 2026 à 01h00 (Europe/Paris)", NEW_YEAR),
        ("Donnerstag, 1. Jänner 2026, 01:00 Uhr MEZ", NEW_YEAR),
        ("31 dicembre 2025 24:00", NEW_YEAR),
        ("31 Aralık 2025 24:00 UTC", NEW_YEAR),
        ("1 de Janeiro de 2026 00h00 GMT", NEW_YEAR),
        ("2026-01-01 09:00 Asia/Tokyo", NEW_YEAR),
        ("2026-01-01 13:00 NZDT", NEW_YEAR),
    ],
)
def test_forms(text: str, expected: float) -> None:
    assert when(text) == expected


def test_which_number_is_the_day() -> None:
    march, april = when("2026-03-04"), when("2026-04-03")
    assert when("03/04/2026") == march and when("03/04/2026", day_first=True) == april
    assert when("03/04/2026", day_first=True, near=march - 86400) == march  # the sending date decides
    assert when("25/04/2026") == when("2026-04-25")  # only one reading is a date


@pytest.mark.parametrize(
    "text",
    ["", "soon", "32 Jan 2026", "2026-02-30", "13:00 PM 1 Jan 2026", "1 Jan 2026 25:00", "9" * 400, "99/99/2026"],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(FeedError):
        when(text)


@pytest.mark.parametrize(
    "months",
    [
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    ],
)
def test_months_of_other_languages(months: str) -> None:
    found = [when(f"14 {name} 2026 06:30 UTC") for name in months.split()]
    assert found == [when(f"2026-{n:02d}-14 06:30") for n in range(1, 13)]


def test_zones_and_durations() -> None:
    assert when("2026-07-01 00:00", zone=zone_of("Pacific")) - when("2026-07-01 00:00") == 7 * HOUR
    assert when("2026-01-01 00:00", zone="America/Los_Angeles") - NEW_YEAR == 8 * HOUR
    assert duration_s("about 2 hours 30 minutes") == 9000.0 and duration_s("a while") is None
