"""A program that was compiled before is found again by its note; whatever has changed since is compiled anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import engine.compiled as module
from engine.api import KeyField, MatchKind, ProgramError, ProgramInfo, TableInfo
from engine.compiled import CompiledProgram, compiled, parse_json

CONFIG = b'{"tables": []}'
INFO = ProgramInfo("p", (TableInfo("t", (KeyField("k", MatchKind.LPM, 32),), (0,), 16),), (), (), (), (), (), (), 2, 2)


class Compiler:
    """Stands for :func:`engine.library.compile_program`; counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configs: list[dict[str, Any]] = []

    def __call__(self, source: dict[str, Any], *, flags: Sequence[str]) -> CompiledProgram:
        self.configs.append(source)
        path = self.folder / f"pipeline-{len(self.configs)}.so"
        path.write_bytes(b"\x7fELF".ljust(64, b"\0"))
        return CompiledProgram(path, INFO)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    made = Compiler(tmp_path)
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr("engine.library.compile_program", made)
    return made


def test_the_second_time_nothing_is_compiled_and_the_answer_is_the_same(compiler: Compiler) -> None:
    first = compiled(CONFIG)
    assert compiled(CONFIG) == first == CompiledProgram(compiler.folder / "pipeline-1.so", INFO)
    assert compiler.configs == [{"tables": []}]


def test_another_config_other_flags_another_compiler_and_other_sources_are_compiled(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled(CONFIG)
    compiled(CONFIG + b" ")
    compiled(CONFIG, flags=("-O1",))
    monkeypatch.setattr(module, "compiler_version", lambda: "another one")
    compiled(CONFIG)
    monkeypatch.setattr(module, "NATIVE", compiler.folder)  # without the core's sources
    compiled(CONFIG)
    assert len(compiler.configs) == 5


def test_a_shared_object_that_was_cleaned_away_is_compiled_again(compiler: Compiler) -> None:
    compiled(CONFIG).path.unlink()
    assert compiled(CONFIG).path.is_file()
    assert len(compiler.configs) == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"library": "pipeline-1.so", "program": "{}"}', '{"library": 1}'])
def test_a_damaged_note_is_told_and_written_anew(
    text: str, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    compiled(CONFIG)
    (note,) = compiler.folder.glob("program-*.json")
    whole = json.loads(note.read_text())
    note.write_text(text)
    with caplog.at_level(logging.WARNING, "engine"):
        compiled(CONFIG)
    assert "is not understood" in caplog.text
    assert json.loads(note.read_text())["program"] == whole["program"]
    assert not list(compiler.folder.glob(".*"))  # nothing half-written is left


def test_what_is_no_json_is_refused_before_it_is_compiled(compiler: Compiler) -> None:
    with pytest.raises(ProgramError, match="not JSON"):
        compiled(b"{")
    with pytest.raises(ProgramError, match="not an object"):
        parse_json(b"[]")
    assert not list(compiler.folder.iterdir())


def test_whoever_may_read_the_shared_object_may_read_its_note(compiler: Compiler) -> None:
    compiled(CONFIG)
    (note,) = compiler.folder.glob("program-*.json")
    assert note.stat().st_mode & 0o777 == 0o644
