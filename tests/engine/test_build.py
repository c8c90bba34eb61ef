"""Compiling with a cache: once for all who ask, again when anything that matters changes, and clear errors."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.api import CompilerMissing, EngineError
from engine.build import BuildError, build_executable, build_shared, cache_dir, compiler
from engine.codec import Command
from engine.library import Switch, compile_program, load_engine
from tests.engine.engine_support import PROGRAMS

HELLO = '#include <stdio.h>\n#include "text.h"\nint main(void) { puts(TEXT); return 0; }\n'


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield


def hello(text: str, **more: tuple[str, ...]) -> Path:
    header = f'#define TEXT "{text}"\n'
    return build_executable([], name="hello", generated={"hello.c": HELLO, "text.h": header}, **more)


def run(path: Path) -> str:
    return subprocess.run([path], capture_output=True, text=True, check=True).stdout.strip()


def test_the_cache_finds_what_was_built() -> None:
    first = hello("one")
    stamp = first.stat().st_ino
    assert run(first) == "one"
    assert hello("one") == first
    assert first.stat().st_ino == stamp  # not built again
    assert hello("two") != first
    assert hello("one", flags=("-O0",)) != first
    assert first.parent == cache_dir()


@pytest.mark.parametrize("left", [0, 10, 64, 4_000, -1])
def test_what_was_cut_short_is_built_again(left: int) -> None:
    """Built files, and the objects that they are linked of."""
    first = hello("one")
    for path in first.parent.iterdir():
        if path.is_file() and path.suffix != ".lock":
            data = path.read_bytes()
            path.unlink()  # the system may not write to a program that it runs
            path.write_bytes(data[:left])
    assert run(hello("one")) == "one"
    text = '__attribute__((visibility("default"))) int number(void) { return 7; }\n'
    library = build_shared([], name="number", generated={"number.c": text})
    library.write_bytes(library.read_bytes()[:left])
    again = build_shared([], name="number", generated={"number.c": text})
    assert again == library and ctypes.CDLL(str(again)).number() == 7


def test_headers_and_sources_are_part_of_the_key(tmp_path: Path) -> None:
    source, header = tmp_path / "main.c", tmp_path / "text.h"
    source.write_text(HELLO)
    header.write_text('#define TEXT "a"\n')
    first = build_executable([source], name="hello", include=[tmp_path])
    header.write_text('#define TEXT "b"\n')
    second = build_executable([source], name="hello", include=[tmp_path])
    assert (run(first), run(second)) == ("a", "b")


def test_compiler_errors_are_shown_and_leave_nothing_behind() -> None:
    with pytest.raises(BuildError) as caught:
        build_executable([], name="bad", generated={"bad.c": "int main(void) { return nonsense; }\n"})
    assert "nonsense" in str(caught.value)
    assert [p.name for p in cache_dir().iterdir() if p.suffix != ".lock"] == []
    with pytest.raises(BuildError):  # a missing symbol is noticed when linking, not when loading
        build_shared([], name="bad", generated={"bad.c": "extern int absent(void); int f(void) { return absent(); }\n"})


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompilerMissing, match="apt install gcc"):
        compiler()
    with pytest.raises(CompilerMissing):
        compile_program(PROGRAMS / "fate.json")
    monkeypatch.setenv("CC", "/nowhere/cc -m32")
    with pytest.raises(CompilerMissing, match="CC="):
        compiler()


def test_many_at_once_compile_once(tmp_path: Path) -> None:
    """A wrapper counts the compiler's runs; four processes' worth of threads ask at the same time."""
    log = tmp_path / "runs"
    wrapper = tmp_path / "cc"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {shlex.join(compiler())} "$@"\n')
    wrapper.chmod(0o755)
    program = f"""
import os
from pathlib import Path
os.environ["CC"] = {str(wrapper)!r}
from engine.build import build_executable
print(build_executable([], name="once", generated={{"once.c": "int main(void) {{ return 0; }}"}}))
"""

    def ask() -> str:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(ask) for _ in range(4)]}
    assert len(found) == 1
    compiled = [line for line in log.read_text().splitlines() if "--version" not in line]
    assert len(compiled) == 2  # one object, one link


def test_a_damaged_lock_or_leftover_does_not_matter() -> None:
    path = hello("one")
    path.unlink()
    assert run(hello("one")) == "one"


def test_a_pipeline_says_what_it_is() -> None:
    built = compile_program(PROGRAMS / "fate.json", packet_out_bytes=2, packet_in_bytes=3, flags=("-O0",))
    engine = load_engine(built.path)
    assert engine.name == b"fate"
    with Switch(built) as one, Switch(built) as two:
        assert one.program == built.info and built.info.packet_in_bytes == 3
        one.process(1, bytes(15), 0)
        assert (one.stats()["received"], two.stats()["received"]) == (1, 0)  # no state is shared
        assert one.command(Command.INFO, b"") == engine.info


def test_an_unusable_cache_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(EngineError, match=r"file/shadowplane: Not a directory; set XDG_CACHE_HOME"):
        hello("one")


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = cache_dir()
    kept.chmod(0o777)
    with pytest.raises(EngineError, match=r"written to by everybody; set XDG_CACHE_HOME .* or `chmod o-w"):
        cache_dir()
    kept.chmod(0o700)
    assert cache_dir() == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(cache_dir(), 1234, -1)
    with pytest.raises(EngineError, match="belongs to somebody else"):
        cache_dir()
    monkeypatch.setenv("SUDO_UID", "1234")  # whose program root runs here
    cache_dir()


def test_a_user_without_a_home_learns_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(EngineError, match=r"no home directory.*XDG_CACHE_HOME"):
        cache_dir()


def test_a_compiler_that_is_no_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", 'gcc "')
    with pytest.raises(CompilerMissing, match="No closing quotation"):
        compiler()
