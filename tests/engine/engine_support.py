"""What the tests of the engine share: compiled programs and readable entries."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engine.api import ActionCall, Code, GroupRef, Match, MatchKind, MemberRef, Op, ProgramInfo, TableEntry, TableUpdate
from engine.codec import octets
from engine.library import CompiledProgram, Switch, compile_program

PROGRAMS = Path(__file__).parent / "programs"
STEERING = Path(__file__).parents[2] / "p4" / "build" / "shadowplane.json"


@cache
def compiled(name: str) -> CompiledProgram:
    """A program of ``programs/``, compiled without optimization: quick, and stricter about undefined values."""
    return compile_program(PROGRAMS / f"{name}.json", flags=("-O1",))


def source(name: str) -> dict[str, Any]:
    """A fresh copy of a program's JSON, to be damaged."""
    data: dict[str, Any] = json.loads((PROGRAMS / f"{name}.json").read_text())
    return data


def table_index(info: ProgramInfo, name: str) -> int:
    return next(i for i, table in enumerate(info.tables) if table.name == name)


def array_index(arrays: Sequence[Any], name: str) -> int:
    return next(i for i, array in enumerate(arrays) if array.name == name)


def action_of(info: ProgramInfo, table: int, name: str, *values: int) -> ActionCall:
    index = next(a for a in info.tables[table].actions if info.actions[a].name == name)
    widths = [width for _name, width in info.actions[index].params]
    return ActionCall(index, tuple(v.to_bytes(octets(w), "big") for v, w in zip(values, widths, strict=True)))


def match_of(kind: MatchKind, width: int, value: Any) -> Match:
    """``value``: a number; (value, prefix length), (value, mask) or (low, high) by kind; None matches anything."""
    size = octets(width)
    everything = (1 << width) - 1
    if kind is MatchKind.EXACT:
        return Match(int(value).to_bytes(size, "big"))
    if value is None:
        value = (0, everything) if kind is MatchKind.RANGE else (0, 0)
    elif not isinstance(value, tuple):
        value = (value, {MatchKind.LPM: width, MatchKind.RANGE: value}.get(kind, everything))
    first = value[0].to_bytes(size, "big")
    if kind is MatchKind.LPM:
        return Match(first, prefix_len=value[1])
    second = value[1].to_bytes(size, "big")
    return Match(first, high=second) if kind is MatchKind.RANGE else Match(first, mask=second)


def key_of(info: ProgramInfo, table: int, keys: Mapping[str, Any]) -> tuple[Match, ...]:
    fields = info.tables[table].key
    assert set(keys) <= {f.name for f in fields}
    return tuple(match_of(f.kind, f.width, keys.get(f.name)) for f in fields)


def update(
    switch: Switch,
    op: Op,
    table: str,
    keys: Mapping[str, Any],
    action: tuple[Any, ...] | MemberRef | GroupRef | None = None,
    priority: int = 0,
) -> TableUpdate:
    """An update by names; ``action`` is (name, values...)."""
    info = switch.codec.program
    index = table_index(info, table)
    chosen = action_of(info, index, action[0], *action[1:]) if isinstance(action, tuple) else action
    return TableUpdate(op, index, key_of(info, index, keys) if keys else (), chosen, priority)


def write(switch: Switch, op: Op, table: str, keys: Mapping[str, Any], action: Any = None, priority: int = 0) -> Code:
    """Apply one update and return its code."""
    return switch.table_write([update(switch, op, table, keys, action, priority)])[0]


PROBE = (("op", 8), ("a", 32), ("b", 16), ("wide", 128), ("odd", 12), ("rest", 4), ("answer", 32))


def pack(fields: Sequence[tuple[str, int]], values: Mapping[str, int]) -> bytes:
    """A header, big endian, from widths and values (missing: 0)."""
    bits = 0
    for name, width in fields:
        bits = bits << width | (values.get(name, 0) & ((1 << width) - 1))
    return bits.to_bytes(sum(w for _n, w in fields) // 8, "big")


def unpack(fields: Sequence[tuple[str, int]], data: bytes) -> dict[str, int]:
    """Inverse of :func:`pack`."""
    left = sum(w for _n, w in fields)
    bits = int.from_bytes(data[: left // 8], "big")
    out = {}
    for name, width in fields:
        left -= width
        out[name] = bits >> left & ((1 << width) - 1)
    return out


@cache
def no_sanitizers() -> str:
    """Why nothing can be built with sanitizers here; empty when it can."""
    compiler = shutil.which("cc")
    if compiler is None:
        return "no C compiler"
    done = subprocess.run(
        [compiler, "-fsanitize=address,undefined", "-x", "c", "-o", "/dev/null", "-"],
        input=b"int main(void) { return 0; }",
        capture_output=True,
        check=False,
    )
    return "the compiler has no sanitizers" if done.returncode else ""


def ask(switch: Switch, **values: int) -> int:
    """Send a probe through ``tables`` and return its answer."""
    ((port, data),) = switch.process(1, pack(PROBE, values), 0)
    assert port == 1
    return unpack(PROBE, data)["answer"]


def read(switch: Switch, table: str) -> list[TableEntry]:
    """All entries of a table."""
    return switch.table_read(table_index(switch.codec.program, table))
