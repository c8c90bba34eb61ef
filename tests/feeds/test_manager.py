"""Feeds together: health, ageing with an injected clock, lies told once, configuration, command line."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.feeds.cli import app
from control.feeds.config import FeedsConfig, load_config
from control.feeds.errors import FeedError
from control.feeds.manager import FeedManager, State
from control.feeds.sources import Delta
from topo.builtin import BUILTIN

NOW = 1_772_000_000.0  # 2026-02-25T06:13:20Z
DIAMOND = BUILTIN["diamond"]()
EVENT = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:{id}\nDTSTART:20260225T070000Z\n"
    "DTEND:20260225T080000Z\nDTSTAMP:20260201T000000Z\nX-MAINTNOTE-PROVIDER:p.example\n"
    "X-MAINTNOTE-MAINTENANCE-ID:{id}\nX-MAINTNOTE-OBJECT-ID:{circuit}\nX-MAINTNOTE-STATUS:CONFIRMED\n"
    "END:VEVENT\nEND:VCALENDAR\n"
)


def manager(tmp_path: Path, **more: object) -> FeedManager:
    config = FeedsConfig.model_validate(
        {"feeds": [{"name": "f", "folder": "in", "max_age_s": 1000, **more}], "circuits": {"IC-1": "s1-s2"},
         "base": tmp_path}
    )  # fmt: skip
    (tmp_path / "in").mkdir(exist_ok=True)
    return FeedManager(DIAMOND, config, rng=random.Random(1))


def drop(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "in" / name).write_text(text)


def test_a_notice_comes_and_goes_with_its_file(tmp_path: Path) -> None:
    feeds = manager(tmp_path)
    assert not feeds.poll("f", NOW) and feeds.state("f", NOW) is State.OK
    drop(tmp_path, "a.ics", EVENT.format(id="W1", circuit="IC-1"))
    assert feeds.poll("f", NOW)
    (notice,) = feeds.notices(NOW)
    assert (notice.key, notice.drains, notice.source, notice.received) == ("p.example/W1@s1-s2", True, "a.ics", NOW)
    assert feeds.element_notices("s2-s1", NOW) == [notice] and feeds.element_notices("s3", NOW) == []
    (tmp_path / "in" / "a.ics").unlink()
    assert feeds.poll("f", NOW) and feeds.notices(NOW) == []


def test_the_operators_own_form_works_too(tmp_path: Path) -> None:
    feeds = manager(tmp_path)
    drop(tmp_path, "own.yaml", f"id: CHG-1\nelement: s2\nstart: {NOW + 5}\nend: {NOW + 9}\nimpact: NO-IMPACT\n")
    drop(tmp_path, "bad.yaml", f"id: CHG-2\nelement: s99\nstart: {NOW}\nend: {NOW + 9}\n")
    feeds.poll("f", NOW)
    assert [(item.key, item.drains) for item in feeds.notices(NOW)] == [("CHG-1", False)]
    assert "s99" in feeds.feeds["f"].errors["bad.yaml"]


def test_a_silent_feed_fails_then_is_stale_and_believed_no_more(tmp_path: Path) -> None:
    feeds = manager(tmp_path, poll_s=10)
    drop(tmp_path, "a.ics", EVENT.format(id="W1", circuit="IC-1"))
    feeds.poll("f", NOW)
    (tmp_path / "in").rename(tmp_path / "away")
    pauses, now = [], NOW
    for _ in range(6):
        now = feeds.feeds["f"].due
        feeds.poll_due(now)
        pauses.append(feeds.feeds["f"].due - now)
    assert pauses == sorted(pauses) and pauses[0] >= 10 and pauses[-1] <= 640
    assert feeds.state("f", NOW + 500) is State.FAILING and feeds.notices(NOW + 500)
    assert feeds.state("f", NOW + 1001) is State.STALE and not feeds.notices(NOW + 1001)
    assert len([text for _, text in feeds.reports() if "No such file" in text]) == 1  # told once
    (tmp_path / "away").rename(tmp_path / "in")
    feeds.poll("f", NOW + 1100)
    assert feeds.state("f", NOW + 1100) is State.OK and feeds.notices(NOW + 1100)


def test_lies_and_unknown_circuits_are_told_once_and_stand_in_the_status(tmp_path: Path) -> None:
    feeds = manager(tmp_path)
    drop(tmp_path, "a.ics", EVENT.format(id="W1", circuit="IC-9"))
    drop(tmp_path, "b.ics", EVENT.format(id="W2", circuit="IC-1").replace("20260225T080000Z", "20290225T080000Z"))
    for _ in range(3):
        feeds.poll("f", NOW)
        feeds.notices(NOW)
    texts = [text for _, text in feeds.reports()]
    assert len(texts) == 2 and any("longer than 45" in text for text in texts)
    status = feeds.status(NOW)
    assert status["feeds"][0]["state"] == "lying" and status["unknown_circuits"] == {"IC-9": "p.example/W1"}
    assert json.dumps(status)
    values = {(name, labels.get("state")): value for name, labels, value in feeds.metrics(NOW)}
    assert values["shadowplane_feed_state", "lying"] == 1.0 and values["shadowplane_feed_state", "ok"] == 0.0
    (tmp_path / "in" / "b.ics").unlink()
    feeds.poll("f", NOW)
    assert feeds.state("f", NOW) is State.OK


class Portal:
    """A URL that answers something else once, and from then on that nothing has changed since."""

    lasting = True

    def __init__(self) -> None:
        self.tag = False

    def poll(self) -> Delta:
        if self.tag:
            return Delta()
        self.tag = True
        return Delta(fresh={"http://x.example/a.ics": b"<html>please log in</html>"})

    def forget(self) -> None:
        self.tag = False


def test_not_modified_is_no_success_after_nonsense(tmp_path: Path) -> None:
    feeds = manager(tmp_path)
    feeds.feeds["f"].source = Portal()
    for at in (NOW, NOW + 100, NOW + 200):
        feeds.poll("f", at)
        assert feeds.state("f", at) is State.FAILING
    assert feeds.feeds["f"].last_success is None and feeds.state("f", NOW + 1001) is State.STALE
    assert len(feeds.reports()) == 1


def test_a_file_that_says_it_is_a_calendar_and_is_none(tmp_path: Path) -> None:
    feeds = manager(tmp_path)
    drop(tmp_path, "a.ics", "\0\0not a calendar")
    feeds.poll("f", NOW)
    assert "no iCalendar" in feeds.feeds["f"].errors["a.ics"]
    assert [text for _, text in feeds.reports()] == list(feeds.feeds["f"].errors.values())


def test_weather_of_a_feed_that_went_silent_is_unknown(tmp_path: Path) -> None:
    feeds = manager(tmp_path, kind="weather")
    drop(tmp_path, "alerts.json", '{"type": "FeatureCollection", "features": []}')
    feeds.poll("f", NOW)
    link = BUILTIN["abilene"]().links[0]
    feeds = FeedManager(BUILTIN["abilene"](), feeds.config)
    feeds.poll("f", NOW)
    assert feeds.weather_on(link, NOW).alert_severity == 0.0
    assert feeds.weather_on(link, NOW + 1001).alert_severity != feeds.weather_on(link, NOW + 1001).alert_severity


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("feeds: [{name: a, folder: x, pol_s: 3}]", "unknown key 'feeds.0.pol_s'"),
        ("feds: []", "unknown key 'feds'"),
        ("feeds: [{folder: x}]", "missing key 'feeds.0.name'"),
        ("feeds: [{name: a}]", "exactly one of folder, mailbox and url"),
        ("feeds: [{name: a, url: 'ftp://x'}]", "no http or https URL"),
        ("feeds: [{name: a, folder: x, provider: nobody}]", "unknown provider 'nobody'"),
        ("feeds: [{name: a, folder: x}, {name: a, folder: y}]", "two feeds have the same name"),
        ("limits: {drain_share: 7}", "limits.drain_share"),
        ("feeds: [\n", ":2: not YAML"),
        ("- 1", "a mapping with the key 'feeds'"),
    ],
)
def test_configuration_errors_name_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text(text)
    with pytest.raises(FeedError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path)) and words in str(caught.value)


def test_the_command_line_shows_what_was_understood(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    drop(tmp_path, "a.ics", EVENT.format(id="W1", circuit="IC-1"))
    (tmp_path / "feeds.yaml").write_text("feeds: [{name: f, folder: in}]\ncircuits: {IC-1: s1-s2}\n")
    file, config = str(tmp_path / "in" / "a.ics"), str(tmp_path / "feeds.yaml")
    runner = CliRunner()
    result = runner.invoke(app, ["check", file, "--circuits", config, "-o", "json"])
    (row,) = json.loads(result.stdout)
    assert result.exit_code == 0 and row["id"] == "W1" and row["elements"] == ["s1-s2"]
    assert row["start"] == "2026-02-25T07:00:00Z"
    result = runner.invoke(app, ["check", file, "--circuits", config])
    assert "2026-02-25T07:00:00Z" in result.stdout and "IC-1 OUTAGE" in result.stdout
    result = runner.invoke(app, ["show", config, "-o", "json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["feeds"][0]["state"] == "ok"
    drop(tmp_path, "b.ics", "BEGIN:VCALENDAR\n")
    result = runner.invoke(app, ["check", str(tmp_path / "in"), "-o", "json"])
    assert result.exit_code == 2 and "b.ics" in result.stderr
    assert runner.invoke(app, ["check", str(tmp_path / "none")]).exit_code == 2
    assert runner.invoke(app, ["show", file]).exit_code == 2
