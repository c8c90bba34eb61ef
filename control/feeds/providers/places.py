"""Time zones of places, for providers that write "local time". United States by state, elsewhere by larger city."""

from __future__ import annotations

import re

_EASTERN, _CENTRAL, _MOUNTAIN, _PACIFIC = (
    "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles",
)  # fmt: skip
#: States with two zones are given the one in which most of their people live.
_STATES = {
    state: zone
    for zone, states in {
        _EASTERN: "CT DC DE FL GA IN KY MA MD ME MI NC NH NJ NY OH PA RI SC VA VT WV ON QC",
        _CENTRAL: "AL AR IA IL KS LA MN MO MS ND NE OK SD TN TX WI MB",
        _MOUNTAIN: "CO ID MT NM UT WY AB",
        _PACIFIC: "CA NV OR WA BC",
        "America/Phoenix": "AZ",
        "Pacific/Honolulu": "HI",
        "America/Anchorage": "AK",
    }.items()
    for state in states.split()
}
_CITIES = {
    "london": "Europe/London", "manchester": "Europe/London", "dublin": "Europe/Dublin", "paris": "Europe/Paris",
    "marseille": "Europe/Paris", "madrid": "Europe/Madrid", "barcelona": "Europe/Madrid", "lisbon": "Europe/Lisbon",
    "frankfurt": "Europe/Berlin", "berlin": "Europe/Berlin", "munich": "Europe/Berlin", "hamburg": "Europe/Berlin",
    "amsterdam": "Europe/Amsterdam", "brussels": "Europe/Brussels", "zurich": "Europe/Zurich", "milan": "Europe/Rome",
    "geneva": "Europe/Zurich", "rome": "Europe/Rome", "vienna": "Europe/Vienna", "prague": "Europe/Prague",
    "warsaw": "Europe/Warsaw", "budapest": "Europe/Budapest", "stockholm": "Europe/Stockholm", "oslo": "Europe/Oslo",
    "copenhagen": "Europe/Copenhagen", "helsinki": "Europe/Helsinki", "bucharest": "Europe/Bucharest",
    "sofia": "Europe/Sofia", "athens": "Europe/Athens", "istanbul": "Europe/Istanbul", "tokyo": "Asia/Tokyo",
    "singapore": "Asia/Singapore", "hong kong": "Asia/Hong_Kong", "sydney": "Australia/Sydney",
    "mexico city": "America/Mexico_City", "toronto": "America/Toronto", "montreal": "America/Toronto",
    "vancouver": "America/Vancouver", "sao paulo": "America/Sao_Paulo",
}  # fmt: skip


def zone_of_place(text: str) -> str:
    """The zone of ``"San Jose, CA"`` or ``"Frankfurt, Germany"``; UTC for a place that is not known."""
    for state in re.findall(r",\s*([A-Z]{2})\b", text):
        if state in _STATES:
            return _STATES[state]
    lower = text.lower()
    return next((zone for city, zone in _CITIES.items() if city in lower), "UTC")
