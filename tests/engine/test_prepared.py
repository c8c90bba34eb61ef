"""Tables that grow while a thread prepares their memory: no data race, no leak, nothing lost."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.api import Code, Op, ProgramInfo, TableUpdate
from engine.build import NATIVE, build_executable
from engine.codec import Codec, Command
from engine.codegen import generate
from engine.ir_load import load
from engine.library import Switch, compile_program
from engine.program import program_info
from tests.engine.engine_support import action_of, ask, key_of, no_sanitizers, source, table_index

SIZES = {"exact_wide": 20_000, "lpm32": 20_000, "mixed": 20_000}
ENTRIES = 9_000  # in each of them: several growths of every structure
MESSAGE = 3_000
EVERYTHING = MISSED = (1 << 32) - 1


def large() -> dict[str, Any]:
    """The program of tables with room for growth."""
    data = source("tables")
    for table in data["pipelines"][0]["tables"]:
        table["max_size"] = SIZES.get(table["name"], table["max_size"])
    return data


def updates(info: ProgramInfo, op: Op) -> list[TableUpdate]:
    """Exact entries, prefixes of which half are longer than 24 bits, ternary entries of two masks."""
    out = []
    for number in range(ENTRIES):
        mask = EVERYTHING if number % 3 else EVERYTHING - 1
        keys: dict[str, dict[str, Any]] = {
            "exact_wide": {"wide": number * 7919, "odd": 5},
            "lpm32": {"a": (number << 16 | 0x4200, 20 + number % 9)},
            "mixed": {"a": (2 * number, mask), "b": (0, 9), "rest": 1},
        }
        for name, key in keys.items():
            table = table_index(info, name)
            call = None if op is Op.DELETE else action_of(info, table, "reply", number)
            out.append(TableUpdate(op, table, key_of(info, table, key), call, 1 if name == "mixed" else 0))
    return out


def test_all_of_it_is_accepted_and_found() -> None:
    with Switch(compile_program(large(), flags=("-O1",))) as switch:
        for op, found in ((Op.INSERT, True), (Op.DELETE, False), (Op.INSERT, True)):
            assert set(switch.table_write(updates(switch.codec.program, op))) == {Code.OK}
            for number in range(0, ENTRIES, 97):
                wanted = number if found else MISSED
                assert ask(switch, op=1, wide=number * 7919, odd=5) == wanted
                assert ask(switch, op=2, a=number << 16 | 0x4200) == wanted
                assert ask(switch, op=5, a=2 * number, b=3, rest=1) == wanted


@pytest.mark.skipif(bool(no_sanitizers()), reason=no_sanitizers())
@pytest.mark.parametrize("atomic", [False, True], ids=["one by one", "atomic"])
@pytest.mark.parametrize("check", ["thread", "address,undefined"])
def test_growing_shrinking_and_clearing(check: str, atomic: bool, tmp_path: Path) -> None:
    """With packets in between, by ``breathe()`` of ``fuzz_main.c``."""
    program = load(large())
    info = program_info(program)
    codec = Codec(info)
    tool = build_executable(
        [*sorted((NATIVE / "core").glob("*.c")), Path(__file__).with_name("fuzz_main.c")],
        name="prepared",
        generated={"pipeline.c": generate(program, info)},
        flags=("-O1", "-g", f"-fsanitize={check}", "-fno-omit-frame-pointer"),
        libraries=("-lpthread",),
    )
    corpus = tmp_path / "corpus"
    encoded = {op: [codec.update(u) for u in updates(info, op)] for op in (Op.INSERT, Op.DELETE)}
    with corpus.open("wb") as file:
        for op in (Op.INSERT, Op.DELETE, Op.INSERT, None, Op.INSERT):
            if op is None:
                file.write(struct.pack("<III", 1, Command.RESET, 0))
                continue
            for at in range(0, len(encoded[op]), MESSAGE):
                data = codec.table_write(encoded[op][at : at + MESSAGE], atomic=atomic)
                file.write(struct.pack("<III", 1, Command.TABLE_WRITE, len(data)) + data)
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=1"}
    done = subprocess.run([tool, corpus, "0", "1"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    between = 4 * len(SIZES) * ENTRIES  # updates; in batches, a packet may pass when one stands for good, too
    assert (
        int(done.stdout.split()[0]) == between // 16 if not atomic else int(done.stdout.split()[0]) > 2 * between // 16
    )
