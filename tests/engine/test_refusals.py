"""What is not executed is refused when it is loaded, with construct and source line; malformed JSON is an error."""

from __future__ import annotations

import json
import re
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


def test_long_keys_are_refused_with_their_line() -> None:
    lines = (PROGRAMS / "refused.p4").read_text().splitlines()
    line = next(i for i, text in enumerate(lines, 1) if "table pick" in text)
    with pytest.raises(Unsupported) as caught:
        translate(source("refused"))
    assert f"refused.p4:{line}: " in str(caught.value)
    assert "a key of more than 256 bytes" in str(caught.value)


def test_what_is_picked_at_run_time_is_refused_with_its_line() -> None:
    """p4c gives such a key and such a validity no place of their own: that of the table and of the condition counts."""
    picked = {"op": "dereference_header_stack", "left": {"type": "header_stack", "value": "s"}}
    data = source("tables")
    table = next(t for p in data["pipelines"] for t in p["tables"] if t["key"])
    table["key"][0]["target"] = {"type": "expression", "value": picked}
    place = table["source_info"]
    with pytest.raises(
        Unsupported, match=rf"{place['filename']}:{place['line']}: .*a field that is picked at run time"
    ):
        translate(data)
    data = source("tables")
    pipeline = data["pipelines"][0]
    body = {"op": "d2b", "left": None, "right": {"type": "field", "value": [picked, "$valid$"]}}
    info = {"filename": "x.p4", "line": 17, "source_fragment": "h.s[i].isValid()"}
    pipeline["conditionals"].append(
        {"name": "c", "id": 99, "source_info": info, "expression": {"type": "expression", "value": body}}
    )
    with pytest.raises(Unsupported, match=r"x\.p4:17: .*a header that is picked at run time"):
        translate(data)


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


def select_over_an_expression(data: Json) -> None:
    """p4c writes so for ``lastIndex`` in a select; BMv2 does not load it."""
    state = next(s for s in data["parsers"][0]["parse_states"] if s["name"] == "labels")
    last = {"op": "last_stack_index", "left": None, "right": {"type": "header_stack", "value": "labels"}}
    state["transition_key"] = [{"type": "expression", "value": last}]


def loop_controls(data: Json) -> None:
    tables = data["pipelines"][0]["tables"]
    for table in tables:
        table["base_default_next"] = data["pipelines"][0]["init_table"]
        table["next_tables"] = {}
    data["pipelines"][0]["init_table"] = tables[0]["name"]
    tables[0]["base_default_next"] = tables[0]["name"]


def sign_shift_amount(data: Json) -> None:
    """p4c takes no such amount ("must be an unsigned number"), and BMv2 aborts at a negative one."""
    fields = next(t["fields"] for t in data["header_types"] if t["name"] == "in_t")
    for field in fields:
        if field[0] in ("n", "k"):
            field[2] = True


def empty_field(data: Json) -> None:
    """``bit<0>``, which P4 allows."""
    data["header_types"][-1]["fields"].append(["nothing", 0, False])


def unmarked(data: Json) -> None:
    """A drop of a header that is no standard metadata."""
    action = next(a for a in data["actions"] if any(p["op"] == "mark_to_drop" for p in a["primitives"]))
    drop = next(p for p in action["primitives"] if p["op"] == "mark_to_drop")
    drop["parameters"] = [{"type": "header", "value": "op"}]


@pytest.mark.parametrize(
    ("program", "damage", "named"),
    [
        ("arith", sign_shift_amount, ["shift by a signed value", "arith.p4:"]),
        ("wide", sign_shift_amount, ["shift by a signed value", "wide.p4:"]),
        ("fate", rename_primitive, ["teleport", "fate.p4:"]),
        ("arith", rename_operator, ["'plus'", "arith.p4:"]),
        ("tables", rename_match, ["fuzzy", "tables.p4:"]),
        ("tables", rename_algorithm, ["md5", "tables.p4:"]),
        ("tables", add_extern, ["magic", "x.p4:17"]),
        ("parsing", add_parser_op, ["rewind", "x.p4:17"]),
        ("parsing", select_over_an_expression, ["a select over an expression in state labels"]),
        ("tables", loop_controls, ["loop"]),
        ("tables", empty_field, ["field", "of 0 bits"]),
        ("fate", unmarked, ["mark_to_drop", "egress_spec", "fate.p4:"]),
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


def foreign_default(data: Json) -> None:
    table = next(t for t in data["pipelines"][0]["tables"] if t["default_entry"]["action_id"] in t["action_ids"])
    kept = [i for i in table["action_ids"] if i != table["default_entry"]["action_id"]]
    table["action_ids"] = kept or [next(a["id"] for a in data["actions"] if a["id"] not in table["action_ids"])]


def repeat_action(data: Json) -> None:
    table = next(t for t in data["pipelines"][0]["tables"] if t["key"])
    table["action_ids"].append(table["action_ids"][0])
    table["actions"].append(table["actions"][0])


@pytest.mark.parametrize(
    "damage",
    [foreign_default, repeat_action, set_version, drop_headers, break_width, break_next, break_action, break_hex],
)
def test_malformed_programs(damage: Callable[[Json], None]) -> None:
    data = source("tables")
    damage(data)
    with pytest.raises(ProgramError):
        translate(data)


def test_unions_of_a_stack_are_of_one_type() -> None:
    data = source("unions")
    first = data["header_union_stacks"][0]["header_union_ids"][0]
    next(union for union in data["header_unions"] if union["id"] == first)["header_ids"].pop()
    with pytest.raises(ProgramError, match="of different types"):
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


LOOKAHEAD = {"type": "lookahead", "value": [4000, 32]}


def test_a_lookahead_anywhere_in_the_parser_is_checked_against_the_packets_end() -> None:
    data = source("parsing")
    condition = {"op": "==", "left": LOOKAHEAD, "right": {"type": "hexstr", "value": "0x1"}}
    parameters = [
        {"type": "expression", "value": {"type": "expression", "value": condition}},
        {"type": "hexstr", "value": "0x3"},
    ]
    data["parsers"][0]["parse_states"][0]["parser_ops"] = [{"op": "verify", "parameters": parameters}]
    lines = translate(data).splitlines()
    use = next(i for i, line in enumerate(lines) if "sp_get_bits(pkt, off * 8u + 4000u, 32u)" in line)
    assert "if (len - off < 504u)" in lines[use - 1]


def test_a_lookahead_outside_the_parser_is_refused() -> None:
    data = source("fate")
    first_primitive(data, "assign")["parameters"][1] = LOOKAHEAD
    with pytest.raises(Unsupported, match=r"fate\.p4:.*lookahead outside the parser"):
        translate(data)


def test_names_cannot_leave_their_comments_and_strings() -> None:
    """Programs come over the network: no name in them may become code."""
    evil = '*/ int x = system("id"); /* \\" ??/\n\u00e9'
    data = source("tables")
    text = json.dumps(data).replace('"reply"', json.dumps(evil)).replace('"probe_t"', json.dumps(evil))
    data = json.loads(text)
    data["program"] = evil
    out = re.sub(r'"(?:[^"\\]|\\.)*"', "", translate(data))  # without string literals
    assert "int x = system" not in out
    for line in out.splitlines():
        assert line.count("*/") == line.count("/*"), line


def const_entries(data: Json) -> list[Json]:
    return next(t for t in data["pipelines"][0]["tables"] if t.get("entries"))["entries"]  # type: ignore[no-any-return]


def too_wide(data: Json) -> None:
    const_entries(data)[0]["match_key"][0]["key"] = "0x1ffffffff"


def empty_range(data: Json) -> None:
    const_entries(data)[0]["match_key"][1].update(start="0x0009", end="0x0003")


def twice(data: Json) -> None:
    const_entries(data).append(const_entries(data)[0])


@pytest.mark.parametrize("damage", [too_wide, empty_range, twice])
def test_impossible_const_entries(damage: Callable[[Json], None]) -> None:
    data = source("tables")
    damage(data)
    with pytest.raises(ProgramError):
        translate(data)


def test_a_parser_of_thousands_of_states_is_no_problem() -> None:
    data = source("tables")
    states = data["parsers"][0]["parse_states"]
    last = states[0]["name"]
    for n in range(3000):
        step = {"type": "default", "value": None, "mask": None, "next_state": last}
        states.append({"name": f"s{n}", "id": 100 + n, "parser_ops": [], "transitions": [step], "transition_key": []})
        last = f"s{n}"
    data["parsers"][0]["init_state"] = last
    assert "s2999" in translate(data)


def test_the_steering_program_is_executed_completely() -> None:
    assert "sp_ingress" in translate(json.loads(STEERING.read_text()))
