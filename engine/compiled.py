"""Compiled programs, and how to find one again without reading its source anew.

Reading a program of a megabyte and writing its C takes a quarter of a second, and several switches are often given
the same program at the same moment. Beside the shared object (:mod:`engine.build`) the cache therefore keeps a *note*:
which shared object belongs to a device config, and what the outside sees of it. The note's name hashes all that the
result depends on: the config, the flags, the compiler of C, and the sources of ours that read programs and write C.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import ProgramError, ProgramInfo
from engine.build import INCLUDE, NATIVE, cache_dir, compiler, compiler_version, replace_file, sources_key, touch, whole
from engine.program_json import program_from_json, program_to_json

RELEASE = ("-O2",)
log = logging.getLogger("engine")


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """A pipeline on disk, ready to be loaded by any process."""

    path: Path
    info: ProgramInfo


def compiled(config: bytes, *, flags: Sequence[str] = RELEASE) -> CompiledProgram:
    """The program of a BMv2 JSON, from the cache where it was compiled before.

    Raises as :func:`engine.library.compile_program`, whose modules are loaded only when something is to be compiled.
    """
    note = _note(config, flags)
    found = _known(note) if note is not None else None
    if found is None:
        from engine.library import compile_program

        found = compile_program(parse_json(config), flags=flags)
        if note is not None:
            _keep(note, found)
    return found


def parse_json(config: bytes) -> dict[str, Any]:
    """The JSON as a dictionary; :class:`ProgramError` with the position of a mistake."""
    try:
        data = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"p4_device_config is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ProgramError("p4_device_config is JSON, but not an object")
    return data


def _note(config: bytes, flags: Sequence[str]) -> Path | None:
    """Where the note of a config is; None where our own sources are not there to be hashed."""
    ours = sorted(Path(__file__).parent.glob("*.py"))
    if not ours:
        return None
    sources = [*ours, *sorted((NATIVE / "core").glob("*.c")), *sorted(INCLUDE.glob("*.h"))]
    about = [*compiler(), compiler_version(), *flags, hashlib.sha256(config).hexdigest()]
    return cache_dir() / f"program-{sources_key(sources, about)}.json"


def _known(note: Path) -> CompiledProgram | None:
    """What a note says, if the shared object that it names is still there."""
    try:
        data = json.loads(note.read_bytes())
        path = note.parent / Path(data["library"]).name
        info = program_from_json(data["program"])
    except FileNotFoundError:
        return None
    except PermissionError as error:
        log.debug("%s cannot be read, the program is compiled again: %s", note, error)
        return None
    except (OSError, ValueError, KeyError, TypeError, ProgramError) as error:
        log.warning("%s is not understood and will be written anew: %s", note, error)
        return None
    if not whole(path):
        return None
    touch(path)
    return CompiledProgram(path, info)


def _keep(note: Path, found: CompiledProgram) -> None:
    data = {"library": found.path.name, "program": program_to_json(found.info)}
    try:
        replace_file(note, json.dumps(data).encode())
    except OSError as error:
        log.debug("%s not written, the next start compiles again: %s", note, error)
