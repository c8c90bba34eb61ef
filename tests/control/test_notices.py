"""Maintenance notices: strict keys, errors that name file and key, files that come and go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.errors import NoticeError
from control.notices import Notice, NoticeFolder, parse

GOOD = "id: CHG-1\nelement: s1-s2\nstart: 100\nend: 200.5\nsummary: splice\n"


class Taker:
    def __init__(self) -> None:
        self.held: dict[str, Notice] = {}

    def accept(self, notice: Notice) -> None:
        if notice.element == "s99":
            raise NoticeError("no element 's99'")
        self.held[notice.id] = notice

    def withdraw(self, notice_id: str) -> bool:
        return self.held.pop(notice_id, None) is not None


def test_yaml_json_lists_and_times() -> None:
    (one,) = parse(GOOD, "a.yaml")
    assert (one.id, one.element, one.start, one.end) == ("CHG-1", "s1-s2", 100.0, 200.5)
    two = parse(json.dumps([{"id": 7, "element": "s2", "start": 1, "end": 2}] * 2), "b.json")
    assert [item.id for item in two] == ["7", "7"]
    (iso,) = parse("id: x\nelement: s2\nstart: 2026-11-21T10:00:00Z\nend: '2026-11-21T12:00:00+01:00'\n", "c.yaml")
    assert iso.end - iso.start == 3600
    assert parse("", "empty.yaml") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "elment: s1\n", "unknown key 'elment'"),
        ("id: x\nelement: s2\nstart: 1\n", "missing key 'end'"),
        ("id: x\nelemnt: s2\nstart: 1\nend: 2\n", "unknown key 'elemnt'"),
        ("id: x\nelement: s2\nstart: 2\nend: 1\n", "its end is not after its start"),
        ("id: x\nelement: s2\nstart: soon\nend: 1\n", "start: "),
        ("id: x\nelement: [s2]\nstart: 0\nend: 1\n", "element: "),
        ("just text", "a mapping"),
        ("{", "not YAML or JSON"),
        (GOOD + "summary: [\n", "line 7"),
        ("id: x\nelement: s2\nstart: 2026-02-30T10:00:00Z\nend: 1\n", "day is out of range"),
        ("[" * 5000, "not YAML or JSON"),
        ("id: x\nelement: s2\nstart: .nan\nend: 1\n", "its end is not after its start"),
    ],
)
def test_errors_name_the_file_and_the_key(text: str, words: str) -> None:
    with pytest.raises(NoticeError) as caught:
        parse(text, "work.yaml")
    assert "work.yaml" in str(caught.value) and words in str(caught.value)


def test_files_come_change_and_go(tmp_path: Path) -> None:
    folder, taker = NoticeFolder(tmp_path), Taker()
    assert not folder.scan(taker.accept, taker.withdraw)
    path = tmp_path / "one.yaml"
    path.write_text(GOOD)
    assert folder.scan(taker.accept, taker.withdraw) and set(taker.held) == {"CHG-1"}
    assert not folder.scan(taker.accept, taker.withdraw)
    path.write_text(GOOD.replace("CHG-1", "CHG-22"))
    os.utime(path, ns=(1, 1))
    assert folder.scan(taker.accept, taker.withdraw) and set(taker.held) == {"CHG-22"}
    path.unlink()
    assert folder.scan(taker.accept, taker.withdraw) and taker.held == {}


def test_a_bad_file_is_reported_and_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD + "oops: 1\n")
    (tmp_path / "far.json").write_text('{"id": "f", "element": "s99", "start": 0, "end": 1}')
    (tmp_path / "good.yml").write_text(GOOD)
    (tmp_path / "big.yaml").write_text("# " + "x" * 300_000)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "readme.txt").write_text("not a notice")
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    folder, taker = NoticeFolder(tmp_path), Taker()
    folder.scan(taker.accept, taker.withdraw)
    assert set(taker.held) == {"CHG-1"}
    assert set(folder.errors) == {"bad.yaml", "far.json", "big.yaml", "binary.json"}
    (tmp_path / "bad.yaml").unlink()
    folder.scan(taker.accept, taker.withdraw)
    assert "bad.yaml" not in folder.errors


def test_a_folder_that_does_not_exist_is_empty_and_told_until_it_comes(tmp_path: Path) -> None:
    taker = Taker()
    folder = NoticeFolder(tmp_path / "none")
    assert not folder.scan(taker.accept, taker.withdraw)
    assert list(folder.errors.values()) == [f"{tmp_path}/none: no such folder"]
    (tmp_path / "none").mkdir()
    folder.scan(taker.accept, taker.withdraw)
    assert not folder.errors


def test_a_folder_that_may_not_be_read_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    folder, taker = NoticeFolder(tmp_path), Taker()
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert not folder.scan(taker.accept, taker.withdraw)
    assert list(folder.errors.values()) == [f"{tmp_path}: Permission denied"]
    monkeypatch.undo()
    folder.scan(taker.accept, taker.withdraw)
    assert not folder.errors


def test_what_providers_say_may_be_said_here_too() -> None:
    (plain,) = parse(GOOD, "a.yaml")
    assert plain.drains and plain.key == "CHG-1"
    for text, drains in (("impact: NO-IMPACT", False), ("status: CANCELLED", False), ("impact: DEGRADED", True)):
        (found,) = parse(GOOD + f"provider: p\n{text}\n", "a.yaml")
        assert found.drains is drains and found.key == "p/CHG-1@s1-s2"
    with pytest.raises(NoticeError, match="impact"):
        parse(GOOD + "impact: SOME\n", "a.yaml")
