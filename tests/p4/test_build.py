"""p4/build belongs to the sources, and the control plane's interface is the reviewed one."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.p4.program import BUILD, JSON_PATH, ROOT, by_name, load_p4info
from tests.p4.snapshot import SNAPSHOT, lines

P4 = ROOT / "p4"

# Prefixes of the P4Runtime specification 1.4, section "ID Allocation for P4Info Objects".
ID_PREFIXES = {
    "actions": 0x01,
    "tables": 0x02,
    "controller_packet_metadata": 0x04,
    "action_profiles": 0x11,
    "counters": 0x12,
    "direct_counters": 0x13,
    "registers": 0x16,
    "digests": 0x17,
}


@pytest.fixture(scope="module")
def compiler() -> ModuleType:
    spec = importlib.util.spec_from_file_location("p4_compile", P4 / "compile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_build_is_fresh(compiler: ModuleType) -> None:
    assert compiler.stale() == [], "run: make p4"


def copy(folder: Path) -> Path:
    """The P4 program in a folder where a test may change it."""
    return Path(shutil.copytree(P4, folder / "p4", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda p4: (p4 / "blocks/steer.p4").open("a").write("// x\n"), "blocks/steer.p4 has changed", id="edit"
        ),
        pytest.param(lambda p4: (p4 / "blocks/new.p4").write_text("// x\n"), "blocks/new.p4 is new", id="new"),
        pytest.param(lambda p4: (p4 / "blocks/acl.p4").unlink(), "blocks/acl.p4 is gone", id="gone"),
        pytest.param(
            lambda p4: (p4 / "build/shadowplane.json").open("a").write(" "),
            "build/shadowplane.json was edited by hand",
            id="result",
        ),
        pytest.param(
            lambda p4: (p4 / "build/shadowplane.p4info.txtpb").unlink(),
            "build/shadowplane.p4info.txtpb is missing",
            id="missing",
        ),
    ],
)
def test_stale_build_is_noticed(compiler: ModuleType, tmp_path: Path, change: Any, reason: str) -> None:
    p4 = copy(tmp_path)
    assert compiler.stale(p4) == []
    change(p4)
    assert compiler.stale(p4) == [reason]


def test_missing_manifest_is_stale(compiler: ModuleType, tmp_path: Path) -> None:
    p4 = copy(tmp_path)
    (p4 / "build/manifest.json").unlink()
    assert len(compiler.stale(p4)) == 1


def test_missing_compiler_is_told(
    compiler: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("P4C", "no-such-p4c")
    assert compiler.main([]) == 2
    assert "no-such-p4c is not on the PATH" in capsys.readouterr().err


def p4c(compiler: ModuleType) -> Any:
    """The installed compiler, if it is the one that made p4/build: another version numbers things differently."""
    try:
        found = compiler.find_compiler()
    except compiler.CompilerMissing as error:
        pytest.skip(str(error))
    made_by = json.loads((BUILD / "manifest.json").read_text())["compiler"]
    if made_by != f"p4c {found.version}":
        pytest.skip(f"p4/build was made by {made_by}, here is p4c {found.version}")
    return found


def test_recompiling_gives_the_same_bytes(compiler: ModuleType) -> None:
    results = compiler.compile_program(p4c(compiler))
    for name, data in results.items():
        assert data == (BUILD / name).read_bytes(), f"{name} differs: run make p4"


def test_result_does_not_depend_on_the_place(compiler: ModuleType, tmp_path: Path) -> None:
    found = p4c(compiler)
    assert compiler.compile_program(found, copy(tmp_path)) == compiler.compile_program(found)


def test_broken_program_is_refused(compiler: ModuleType, tmp_path: Path) -> None:
    found = p4c(compiler)
    p4 = copy(tmp_path)
    block = p4 / "blocks/steer.p4"
    block.write_text(block.read_text().replace("primary_nexthop.apply();", "no_such_table.apply();"))
    with pytest.raises(compiler.CompileError, match=r"steer\.p4"):
        compiler.compile_program(found, p4)


def test_nothing_of_the_machine_in_the_result() -> None:
    program = json.loads(JSON_PATH.read_text())
    assert program["program"] == "arch/v1model/shadowplane.p4"
    names = set(re.findall(r'"filename": "([^"]*)"', JSON_PATH.read_text())) - {""}
    assert names
    for name in names:
        assert name.startswith("p4include/") or (P4 / name).is_file(), name
        assert ".." not in name


def test_interface_is_the_reviewed_one() -> None:
    """If the change is meant: python -m tests.p4.snapshot, and tell whoever talks to the switch."""
    assert lines(load_p4info()) == SNAPSHOT.read_text().splitlines()


def test_ids_have_the_prefix_of_their_kind_and_are_unique() -> None:
    info = load_p4info()
    seen: set[int] = set()
    for kind, prefix in ID_PREFIXES.items():
        for item in getattr(info, kind):
            if item.preamble.name == "NoAction":
                continue
            assert item.preamble.id >> 24 == prefix, item.preamble.name
            assert item.preamble.id not in seen, item.preamble.name
            seen.add(item.preamble.id)


def test_ids_are_fixed_in_the_sources() -> None:
    """Everything but the digest (see include/ids.p4) has a number that p4c did not choose."""
    fixed = {int(value, 16) for value in re.findall(r"#define ID_\w+\s+(0x\w+)", (P4 / "include/ids.p4").read_text())}
    info = load_p4info()
    for kind in ID_PREFIXES.keys() - {"digests"}:
        for item in getattr(info, kind):
            if item.preamble.name != "NoAction":
                assert item.preamble.id in fixed, item.preamble.name
                fixed.discard(item.preamble.id)
    assert fixed == set(), "ids that nothing has"


def test_names_carry_no_control_prefix() -> None:
    info = load_p4info()
    for kind in ID_PREFIXES:
        for name in by_name(getattr(info, kind)):
            assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[a-z0-9]+)*", name), name
            assert not re.search(r"_\d+$", name), f"{name} is named by number"


def test_bmv2_json_has_the_names_of_p4info() -> None:
    program = json.loads(JSON_PATH.read_text())
    info = load_p4info()
    tables = {table["name"] for pipeline in program["pipelines"] for table in pipeline["tables"]}
    assert set(by_name(info.tables)) <= tables
    assert set(by_name(info.registers)) == {register["name"] for register in program["register_arrays"]}
    assert set(by_name(info.counters)) <= {counter["name"] for counter in program["counter_arrays"]}
    assert set(by_name(info.actions)) <= {action["name"] for action in program["actions"]}


def test_no_target_conditionals_in_the_logic() -> None:
    """Architectures differ in p4/arch only; blocks know no preprocessor conditional but their include guard."""
    for path in (P4 / "blocks").glob("*.p4"):
        directives = re.findall(r"^#\s*(if\w*|else|elif|undef)\b", path.read_text(), re.M)
        assert directives == ["ifndef"], path.name


def test_blocks_take_headers_and_metadata_only() -> None:
    for path in (P4 / "blocks").glob("*.p4"):
        assert not re.search(r"standard_metadata|\bregister\b<|v1model", path.read_text()), path.name


def test_every_block_tells_its_purpose() -> None:
    for path in (P4 / "blocks").glob("*.p4"):
        head = path.read_text().split("#ifndef", 1)[0]
        assert head.startswith("// "), path.name
        assert "Deliberately not here" in head, path.name


def test_the_stubs_keep_the_import_name() -> None:
    assert not list(P4.rglob("__init__.py"))
