"""What is not executed is refused when it is loaded, with construct and source line; malformed JSON is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api import EngineError, ProgramError, Unsupported
from engine.codegen import generate
from engine.ir_load import load
from engine.program import program_info
from tests.engine.engine_support import PROGRAMS, STEERING, source

Json = dict[str, Any]


def translate(data: Json) -> str:
    program = load(data)
    return generate(program, program_info(program))


def first_primitive(data: Json, op: str) -> Json:
    return next(p for a in data["actions"] for p in a["primitives"] if p["op"] == op)


def test_wide_arithmetic_is_refused_with_its_line() -> None:
    lines = (PROGRAMS / "refused.p4").read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "hdr.huge.a + hdr.huge.b" in text)
    with pytest.raises(Unsupported) as caught:
        translate(source("refused"))
    assert f"refused.p4:{line}: " in str(caught.value)
    assert "more than 128 bits" in str(caught.value)


def rename_primitive(data: Json) -> None:
    first_primitive(data, "assign")["op"] = "teleport"


def rename_operator(data: Json) -> None:
    for action in data["actions"]:
        for primitive in action["primitives"]:
            text = json.dumps(primitive)
            if '"op": "+"' in text:
                primitive.clear()
                primitive.update(json.loads(text.replace('"op": "+"', '"op": "plus"', 1)))
                return


def rename_match(data: Json) -> None:
    next(t for t in data["pipelines"][0]["tables"] if t["key"])["key"][0]["match_type"] = "fuzzy"


def rename_algorithm(data: Json) -> None:
    profile = next(p for p in data["pipelines"][0]["action_profiles"] if "selector" in p)
    profile["selector"]["algo"] = "md5"


def add_extern(data: Json) -> None:
    where = {"filename": "x.p4", "line": 17, "source_fragment": "magic"}
    data["extern_instances"] = [{"name": "m", "id": 0, "type": "magic", "source_info": where}]


def add_parser_op(data: Json) -> None:
    where = {"filename": "x.p4", "line": 17, "source_fragment": "magic"}
    state = data["parsers"][0]["parse_states"][0]
    state["parser_ops"].append({"op": "rewind", "parameters": [], "source_info": where})


def loop_controls(data: Json) -> None:
    tables = data["pipelines"][0]["tables"]
    for table in tables:
        table["base_default_next"] = data["pipelines"][0]["init_table"]
        table["next_tables"] = {}
    data["pipelines"][0]["init_table"] = tables[0]["name"]
    tables[0]["base_default_next"] = tables[0]["name"]


@pytest.mark.parametrize(
    ("program", "damage", "named"),
    [
        ("fate", rename_primitive, ["teleport", "fate.p4:"]),
        ("arith", rename_operator, ["'plus'", "arith.p4:"]),
        ("tables", rename_match, ["fuzzy", "tables.p4:"]),
        ("tables", rename_algorithm, ["md5", "tables.p4:"]),
        ("tables", add_extern, ["magic", "x.p4:17"]),
        ("parsing", add_parser_op, ["rewind", "x.p4:17"]),
        ("tables", loop_controls, ["loop"]),
    ],
)
def test_unknown_constructs_are_named(program: str, damage: Callable[[Json], None], named: list[str]) -> None:
    data = source(program)
    damage(data)
    with pytest.raises(Unsupported) as caught:
        translate(data)
    for text in named:
        assert text in str(caught.value)


def set_version(data: Json) -> None:
    data["__meta__"]["version"] = [3, 0]


def drop_headers(data: Json) -> None:
    data["headers"] = []


def break_width(data: Json) -> None:
    data["header_types"][-1]["fields"][0][1] = "many"


def break_next(data: Json) -> None:
    data["pipelines"][0]["init_table"] = "nowhere"


def break_action(data: Json) -> None:
    next(t for t in data["pipelines"][0]["tables"] if t["key"])["action_ids"] = [999]


def break_hex(data: Json) -> None:
    next(t for t in data["pipelines"][0]["tables"] if t.get("entries"))["entries"][0]["match_key"][0]["key"] = "0xzz"


@pytest.mark.parametrize("damage", [set_version, drop_headers, break_width, break_next, break_action, break_hex])
def test_malformed_programs(damage: Callable[[Json], None]) -> None:
    data = source("tables")
    damage(data)
    with pytest.raises(ProgramError):
        translate(data)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"headers": 1}', "\x00"])
def test_files_that_are_no_programs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    path.write_text(text)
    with pytest.raises(ProgramError):
        load(path)
    with pytest.raises(ProgramError):
        load(tmp_path / "missing.json")


def paths(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    found = [prefix] if prefix else []
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, child in children:
        found += paths(child, (*prefix, key))
    return found


ALL_PATHS = {name: paths(source(name)) for name in ("tables", "parsing", "fate")}
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 1 << 40), st.text(max_size=5), st.just([]), st.just({}), st.just("0x-1")
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(ALL_PATHS)), st.data())
def test_damage_anywhere_is_an_error_or_harmless(name: str, data: st.DataObject) -> None:
    """Whatever is put anywhere: a program comes out, or an error of ours; never another exception."""
    document: Any = source(name)
    path = data.draw(st.sampled_from(ALL_PATHS[name]))
    place = document
    for step in path[:-1]:
        place = place[step]
    if data.draw(st.booleans()) and isinstance(place, dict):
        del place[path[-1]]
    else:
        place[path[-1]] = data.draw(JUNK)
    try:
        translate(document)
    except EngineError:
        return


def test_the_steering_program_is_executed_completely() -> None:
    assert "sp_ingress" in translate(json.loads(STEERING.read_text()))
