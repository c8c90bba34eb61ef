"""Alerts and forecasts laid on links; rain fade against the published coefficients."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.feeds.cli import app
from control.feeds.errors import FeedError
from control.feeds.weather.geo import along, distance_km, inside
from control.feeds.weather.rain import coefficients, specific_attenuation_db_per_km
from control.feeds.weather.state import WeatherState, read_weather
from topo.load import dumps, loads

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
TOPOLOGY = loads(
    "switches:\n"
    "  - {name: s1, latitude: 52.0, longitude: 13.0}\n"
    "  - {name: s2, latitude: 52.0, longitude: 13.3}\n"
    "  - {name: s3}\n"
    "links:\n"
    "  - {a: s1, b: s2, medium: microwave, frequency_ghz: 23, polarization: h}\n"
    "  - {a: s1, b: s2}\n"
    "  - {a: s2, b: s3}\n"
)
RADIO, FIBRE, PLACELESS = TOPOLOGY.links
CAP = """<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
  <identifier>X-1</identifier><sender>met@example.org</sender><sent>2026-03-01T10:00:00+00:00</sent>
  <status>Actual</status><msgType>Alert</msgType><scope>Public</scope>
  <info><event>Storm</event><urgency>Immediate</urgency><severity>Severe</severity><certainty>Observed</certainty>
    <onset>2026-03-01T11:00:00+00:00</onset><expires>2026-03-01T15:00:00+00:00</expires>
    <area><areaDesc>East</areaDesc><polygon>51.9,13.1 52.1,13.1 52.1,13.2 51.9,13.2 51.9,13.1</polygon></area>
  </info>
</alert>"""


def forecast(rain: list[object], unit: str = "mm", **more: object) -> bytes:
    times = ["2026-03-01T11:00", "2026-03-01T12:00", "2026-03-01T13:00"]
    document = {
        "latitude": 52.0, "longitude": 13.15, "utc_offset_seconds": 0, "hourly_units": {"rain": unit},
        "hourly": {"time": times, "rain": rain, "wind_gusts_10m": [36, 72, 36]}, **more,
    }  # fmt: skip
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("ghz", "k_h", "alpha_h", "k_v", "alpha_v"),
    [  # Recommendation ITU-R P.838-3, table 5
        (10, 0.01217, 1.2571, 0.01129, 1.2156),
        (20, 0.09164, 1.0568, 0.09611, 0.9847),
        (40, 0.4431, 0.8673, 0.4274, 0.8421),
        (80, 1.1704, 0.7115, 1.1668, 0.7021),
    ],
)
def test_rain_attenuation_is_that_of_the_recommendation(
    ghz: float, k_h: float, alpha_h: float, k_v: float, alpha_v: float
) -> None:
    assert coefficients(ghz, "h") == pytest.approx((k_h, alpha_h), rel=5e-4)
    assert coefficients(ghz, "v") == pytest.approx((k_v, alpha_v), rel=5e-4)
    assert specific_attenuation_db_per_km(50, ghz, "h") == pytest.approx(k_h * 50**alpha_h, rel=2e-3)
    assert specific_attenuation_db_per_km(0, ghz) == 0 and math.isnan(specific_attenuation_db_per_km(math.nan, ghz))


def test_great_circles_and_polygons() -> None:
    assert distance_km((0, 0), (0, 90)) == pytest.approx(10_007, rel=1e-3)
    way = along((52.0, 13.0), (52.0, 13.3))
    assert len(way) == 5 and all(a[1] < b[1] for a, b in pairwise(way)) and way[2][0] > 52.0
    square = ((0.0, 170.0), (0.0, -170.0), (10.0, -170.0), (10.0, 170.0))
    assert inside((5, 179), square) and inside((5, -179), square) and not inside((5, 165), square)


def test_a_forecast_on_radio_and_on_fibre() -> None:
    state = WeatherState(TOPOLOGY)
    state.put("f", "a", read_weather(forecast([0, 12.0, 40.0]), "a"))
    told = state.for_link(RADIO, NOW)
    k, alpha = coefficients(23, "h")
    length = distance_km((52.0, 13.0), (52.0, 13.3))
    assert told.rain_mm_per_h == 12.0 and told.gust_m_per_s == pytest.approx(20.0)
    assert told.rain_fade_db == pytest.approx(k * 12.0**alpha * length)
    assert state.for_link(FIBRE, NOW).rain_fade_db == 0.0
    assert state.for_link(RADIO, NOW + 1).rain_mm_per_h == 40.0  # sums are of the hour before their time
    assert math.isnan(told.visibility_m) and any(text.startswith("visibility_m") for text in told.gaps)
    late = state.for_link(RADIO, NOW + 7200)
    assert math.isnan(late.rain_mm_per_h) and math.isnan(late.rain_fade_db)
    assert math.isnan(state.for_link(RADIO, NOW, {"f"}).rain_mm_per_h)
    assert "no position" in state.for_link(PLACELESS, NOW).gaps[0]


def test_units_offsets_quarter_hours_and_far_points() -> None:
    state = WeatherState(TOPOLOGY)
    state.put("f", "a", read_weather(forecast([0, 1, 0], "inch"), "a"))
    assert state.for_link(RADIO, NOW).rain_mm_per_h == 25.4
    quarter = {"time": ["2026-03-01T12:45", "2026-03-01T13:00", "2026-03-01T13:15"], "rain": [1, 2, 4]}
    state.put("f", "a", read_weather(forecast([0, 1, 0], utc_offset_seconds=3600, minutely_15=quarter), "a"))
    assert state.for_link(RADIO, NOW).rain_mm_per_h == 8.0
    state.put("f", "a", read_weather(forecast([0, 1, 0], longitude=20.0), "a"))
    assert math.isnan(state.for_link(RADIO, NOW).rain_mm_per_h)


def test_alerts_of_both_forms_with_updates() -> None:
    state = WeatherState(TOPOLOGY)
    assert math.isnan(state.for_link(RADIO, NOW).alert_severity)
    state.put("f", "cap", read_weather(CAP.encode(), "cap"))
    assert state.for_link(RADIO, NOW).alert_severity == 3.0 and state.for_link(RADIO, NOW).alerts == ("Storm",)
    assert state.for_link(RADIO, NOW + 4 * 3600).alert_severity == 0.0
    ended = CAP.replace("X-1", "X-2").replace(">Alert<", ">Cancel<")
    ended = ended.replace("<scope>", "<references>met@example.org,X-1,2026-03-01T10:00:00+00:00</references><scope>")
    state.put("f", "end", read_weather(ended.encode(), "end"))
    assert state.for_link(RADIO, NOW).alert_severity == 0.0
    circle = CAP.replace("X-1", "X-3").replace("Severe", "Extreme")
    start, end = circle.index("<polygon>"), circle.index("</polygon>") + 10
    state.put("f", "c", read_weather((circle[:start] + "<circle>52,13.5 15</circle>" + circle[end:]).encode(), "c"))
    assert state.for_link(RADIO, NOW).alert_severity == 4.0
    ring = [[13.1, 51.9], [13.1, 52.1], [13.2, 52.1], [13.2, 51.9], [13.1, 51.9]]
    told = {"id": "N-1", "event": "Wind", "severity": "Moderate", "status": "Actual", "messageType": "Alert",
            "onset": "2026-03-01T11:00:00+00:00", "ends": "2026-03-01T13:00:00+00:00"}  # fmt: skip
    placed = {"type": "Feature", "properties": told, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    nowhere = {"type": "Feature", "properties": {**told, "id": "N-2"}, "geometry": None}
    other = WeatherState(TOPOLOGY)
    report = read_weather(json.dumps({"features": [placed, nowhere]}).encode(), "nws")
    other.put("f", "nws", report)
    assert other.for_link(FIBRE, NOW).alert_severity == 2.0 and "no polygon or circle" in report.lies[0]


def test_absurd_values_are_left_out_and_told() -> None:
    report = read_weather(forecast([5000, 1, None]), "lies.json")
    assert "5000 mm_per_h cannot be true" in report.lies[0]
    state = WeatherState(TOPOLOGY)
    state.put("f", "a", report)
    assert math.isnan(state.for_link(RADIO, NOW - 3600).rain_mm_per_h) and state.for_link(RADIO, NOW).rain_mm_per_h == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<a><b></a>", ":1: not XML"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "document type or entities, refused"),
        (b"<a>" * 60, "nested deeper than 40"),
        (b"<html></html>", "no CAP alert"),
        (CAP.replace("51.9,13.1 52.1", "951.9,13.1 52.1").encode(), "three corners or more"),
        (CAP.replace("T15:00:00+00:00", "T09:00:00+00:00").encode(), "expires before it begins"),
        (CAP.replace("2026-03-01T15", "2029-03-01T15").encode(), "longer than 30 days"),
        (b"{", ":1: neither XML nor JSON"),
        (b"[]", "0 places"),
        (b"[" * 100_000, "neither XML nor JSON"),
        (b'{"latitude": 91, "longitude": 0}', "not a position"),
        (b'{"latitude": 1, "longitude": 0}', "neither hourly nor minutely_15"),
        (forecast([1, 2]), "hourly.rain: 3 values are expected"),
        (forecast([1, 2, 3], "furlong"), "unknown unit 'furlong'"),
        (b'{"features": [{}]}', "features[0]: properties.id is missing"),
    ],
)
def test_what_is_refused_names_file_and_place(data: bytes, words: str) -> None:
    with pytest.raises(FeedError) as caught:
        read_weather(data, "bad.x")
    assert str(caught.value).startswith("bad.x") and words in str(caught.value)


def test_links_keep_medium_and_circuits_through_a_file() -> None:
    assert loads(dumps(TOPOLOGY)).links == TOPOLOGY.links
    with pytest.raises(ValueError, match="medium"):
        loads("switches: [s1, s2]\nlinks: [{a: s1, b: s2, medium: rope}]\n")


def test_the_command_line_shows_the_weather_on_each_link(tmp_path: Path) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    times = [(hour + timedelta(hours=step)).strftime("%Y-%m-%dT%H:%M") for step in (0, 1, 2)]
    document = json.loads(forecast([8, 8, 8]))
    document["hourly"]["time"] = times
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "forecast.json").write_text(json.dumps(document))
    (tmp_path / "net.yaml").write_text(dumps(TOPOLOGY))
    (tmp_path / "feeds.yaml").write_text("feeds: [{name: sky, kind: weather, folder: in}]\n")
    command = ["show", str(tmp_path / "feeds.yaml"), "-t", str(tmp_path / "net.yaml")]
    result = CliRunner().invoke(app, [*command, "-o", "json"])
    assert result.exit_code == 0, result.stderr
    radio, _, placeless = json.loads(result.stdout)["weather"]
    assert radio["rain_mm_per_h"] == 8.0 and radio["rain_fade_db"] > 10
    assert placeless["rain_mm_per_h"] is None and "no position" in placeless["gaps"][0]
    assert "no position" in CliRunner().invoke(app, command).stdout
