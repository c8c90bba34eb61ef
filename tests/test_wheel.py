"""The package as it is installed: a wheel, in an environment of its own, far from the source tree."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("control", "engine", "ml", "topo", "p4", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with our wheel; the dependencies are this one's, by their folder only."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for part in PARTS:  # a copy: building writes beside the sources
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    tools = folder / "tools"
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    fetched = run(*pip, "download", "--no-deps", "--retries", "2", "--dest", str(tools), *required, cwd=folder)
    if fetched.returncode != 0:  # only this needs a network; whatever goes wrong from here on is ours
        pytest.skip(f"pip cannot get {required}: {fetched.stderr.strip().splitlines()[-1]}")
    offline = ("--no-deps", "--no-index", "--find-links", str(tools))
    built = run(*pip, "wheel", *offline, "--wheel-dir", str(folder), str(source), cwd=folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("shadowplane-*.whl")
    home = folder / "venv"
    assert run(sys.executable, "-m", "venv", "--without-pip", str(home), cwd=folder).returncode == 0
    done = run(*pip, "--python", str(home), "install", "--no-deps", "--no-index", str(wheel), cwd=folder)
    assert done.returncode == 0, done.stderr
    (packages,) = home.glob("lib/python*/site-packages")
    # Lines of a .pth file add folders, but not what .pth files in these say: an editable shadowplane stays out.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return home


def shadowplane(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return run(str(installed / "bin" / "shadowplane"), *arguments, cwd=installed.parent, env=env)


def test_it_finds_its_program(installed: Path) -> None:
    ask = "import control.settings as s, pathlib; print(s.__file__); print(s.Settings().build_dir)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    module, folder = run(
        str(installed / "bin" / "python"), "-c", ask, cwd=installed.parent, env=env
    ).stdout.splitlines()
    assert installed in Path(module).parents
    assert Path(folder) == installed.resolve() / "share" / "shadowplane" / "p4"
    for file in (ROOT / "p4" / "build").iterdir():
        assert (Path(folder) / file.name).read_bytes() == file.read_bytes()


def test_it_plans_entries_for_a_network(installed: Path) -> None:
    found = shadowplane(installed, "serve", "--topology", "diamond", "--dry-run")
    assert found.returncode == 0, found.stderr
    assert all(name in found.stdout for name in ("s1", "s2", "s3", "s4"))


def test_its_switch_compiles_the_program(installed: Path) -> None:
    program = installed / "share" / "shadowplane" / "p4" / "shadowplane.json"
    found = shadowplane(installed, "switch", "trace", str(program), "--packet", "00" * 64, "--output", "json")
    assert found.returncode == 0, found.stderr
    assert "parse_ethernet" in found.stdout
