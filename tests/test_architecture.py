"""Who may import whom (design: folders), and what the decision logic must not touch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("control", "engine", "ml", "topo", "twin", "bench")
MAY: dict[str, set[str]] = {
    "engine": {"engine"},
    "ml": {"ml"},
    "topo": {"topo", "engine"},
    "twin": {"twin", "engine", "topo"},
    "control": {"control", "engine", "ml", "topo", "twin"},
}
PURE = (
    "bookkeeping", "capacity", "degradation", "paths", "pha", "plan", "planned", "reactive", "selection", "spm",
    "threats", "tse",
)  # fmt: skip
EFFECTS = {"asyncio", "grpc", "finsy", "sqlalchemy", "socket", "time", "datetime", "subprocess", "threading", "random",
           "requests", "httpx", "os"}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, those inside functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}: relative import; write the full name")
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", [name for name in MAY if (ROOT / name).is_dir()])
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imports(path)
        if name.split(".")[0] in set(OURS) - MAY[package]
    ]
    assert files(package), package
    assert wrong == []


def test_the_topology_as_data_imports_nothing_of_ours() -> None:
    assert not {name for name in imports(ROOT / "topo" / "spec.py") if name.split(".")[0] in OURS}


@pytest.mark.parametrize("module", PURE)
def test_decision_logic_performs_no_io_and_reads_no_clock(module: str) -> None:
    path = ROOT / "control" / f"{module}.py"
    assert not {name.split(".")[0] for name in imports(path)} & EFFECTS


def test_the_analyzer_cannot_see_the_fault_plan() -> None:
    """Only the lab's player and the scoreboard know the faults; whoever decides must not."""
    for path in files("control") + files("ml"):
        if "scoreboard" in path.parts:
            continue
        forbidden = {name for name in imports(path) if name.startswith(("topo.faults", "control.scoreboard"))}
        assert not forbidden, f"{path}: {forbidden}"
    for module in PURE:
        found = imports(ROOT / "control" / f"{module}.py")
        assert not {name for name in found if name.startswith("topo.") and not name.startswith("topo.spec")}, module


def test_p4_is_no_python_package() -> None:
    assert not list((ROOT / "p4").rglob("__init__.py")), "the P4Runtime stubs own the import name p4"
