#!/usr/bin/env python3
"""Compile the P4 program with p4c and keep the result in ``p4/build``.

``make p4`` runs this file. p4c is needed only when the program changes: the result is in git, together
with a manifest of what it was made from.

    python3 p4/compile.py            compile, write JSON, P4Info and manifest
    python3 p4/compile.py --check    exit 1 if sources or results differ from the manifest (needs no p4c)

The result depends on sources and compiler only: paths are relative to ``p4/``, and nothing of the machine
or the day gets in. Exit codes: 0 done or fresh, 1 stale or does not compile, 2 no compiler.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import posixpath
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build"
PROGRAM = "arch/v1model/shadowplane.p4"
SOURCE_FOLDERS = ("include", "blocks", "arch/v1model")
JSON_NAME = "shadowplane.json"
P4INFO_NAME = "shadowplane.p4info.txtpb"
MANIFEST_NAME = "manifest.json"

# p4c remarks that BMv2's JSON has no default action for tables with a selector. The program expects none, and
# --Wdisable does not silence this one.
EXPECTED_REMARK = "Target does not support default_action for .balance (due to action profiles)"


class CompileError(Exception):
    """The program was not compiled; the text says why."""


class CompilerMissing(CompileError):
    """No p4c on the PATH."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A p4c for BMv2: its command and the version it reports."""

    command: str
    version: str
    driver: bool  # the `p4c` front end, which takes an output folder and names the back end


def sources(root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of every source of the v1model program, by path relative to ``root``."""
    found = {}
    for folder in SOURCE_FOLDERS:
        for path in sorted((root / folder).rglob("*.p4")):
            found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def find_compiler() -> Compiler:
    """The compiler named by ``$P4C``, else ``p4c-bm2-ss``, else ``p4c``.

    Raises:
        CompilerMissing: none of them is installed.
    """
    wanted = os.environ.get("P4C")
    for name in (wanted,) if wanted else ("p4c-bm2-ss", "p4c"):
        command = shutil.which(name)
        if command is None:
            continue
        answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
        # p4c-bm2-ss 1.2.5 writes its version to standard error.
        lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        version = next(
            (line for line in lines if line.lower().startswith("version")), lines[-1] if lines else "unknown"
        )
        number = version.split(None, 1)[-1]
        return Compiler(command, number, driver=Path(command).name == "p4c")
    raise CompilerMissing(
        f"{wanted or 'p4c-bm2-ss (or p4c)'} is not on the PATH; it is needed only to change the P4 program"
    )


def compile_program(compiler: Compiler, root: Path = ROOT) -> dict[str, bytes]:
    """Compile ``root / PROGRAM``; returns the contents of the JSON and P4Info files by name.

    Raises:
        CompileError: p4c refused the program; the text is its output.
    """
    with tempfile.TemporaryDirectory(prefix="shadowplane-p4-") as folder:
        p4info = Path(folder, P4INFO_NAME)
        program_json = Path(folder, JSON_NAME)
        command = [compiler.command]
        if compiler.driver:
            command += ["--target", "bmv2", "--arch", "v1model", "-o", folder]
        else:
            command += ["-o", str(program_json)]
        command += ["--p4runtime-files", str(p4info), PROGRAM]
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise CompileError(run.stderr.strip() or run.stdout.strip() or f"p4c ended with {run.returncode}")
        if run.stderr.count("warning:") != run.stderr.count(EXPECTED_REMARK):
            print(run.stderr.strip(), file=sys.stderr)
        program = json.loads(program_json.read_text())
        program["program"] = PROGRAM
        relative_file_names(program, root)
        return {
            JSON_NAME: (json.dumps(program, indent=1) + "\n").encode(),
            P4INFO_NAME: p4info.read_bytes(),
        }


def relative_file_names(node: Any, root: Path) -> None:
    """Rewrite every ``source_info.filename`` below ``node``: no ``..``, nothing of the machine.

    Files of the program become relative to ``root``, p4c's own ones ``p4include/<name>``.
    """
    if isinstance(node, dict):
        name = node.get("filename")
        if isinstance(name, str) and name:
            tidy = posixpath.normpath(name)
            node["filename"] = (
                tidy
                if (root / tidy).is_file() and not posixpath.isabs(tidy)
                else ("p4include/" + posixpath.basename(tidy))
            )
        for value in node.values():
            relative_file_names(value, root)
    elif isinstance(node, list):
        for value in node:
            relative_file_names(value, root)


def manifest(compiler_version: str, results: dict[str, bytes], root: Path = ROOT) -> dict[str, Any]:
    """What the results were made from, and their hashes."""
    return {
        "program": PROGRAM,
        "compiler": f"p4c {compiler_version}",
        "sources": sources(root),
        "results": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(results.items())},
    }


def stale(root: Path = ROOT, build: Path | None = None) -> list[str]:
    """Reasons why the build folder doesn't belong to the sources; empty when it does."""
    build = build or root / "build"
    path = build / MANIFEST_NAME
    if not path.is_file():
        return [f"{path} is missing"]
    known = json.loads(path.read_text())
    reasons = []
    now = sources(root)
    for name in sorted(now.keys() | known["sources"].keys()):
        if name not in now:
            reasons.append(f"{name} is gone")
        elif name not in known["sources"]:
            reasons.append(f"{name} is new")
        elif now[name] != known["sources"][name]:
            reasons.append(f"{name} has changed")
    for name, digest in known["results"].items():
        result = build / name
        if not result.is_file():
            reasons.append(f"build/{name} is missing")
        elif hashlib.sha256(result.read_bytes()).hexdigest() != digest:
            reasons.append(f"build/{name} was edited by hand")
    return reasons


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compile the P4 program into p4/build.")
    parser.add_argument("--check", action="store_true", help="only tell whether p4/build belongs to the sources")
    options = parser.parse_args(arguments)
    if options.check:
        reasons = stale()
        for reason in reasons:
            print(f"stale: {reason}", file=sys.stderr)
        if reasons:
            print("run: make p4", file=sys.stderr)
        return 1 if reasons else 0
    try:
        compiler = find_compiler()
        results = compile_program(compiler)
    except CompilerMissing as error:
        print(f"p4: {error}", file=sys.stderr)
        return 2
    except CompileError as error:
        print(f"p4: {error}", file=sys.stderr)
        return 1
    BUILD.mkdir(exist_ok=True)
    for name, data in results.items():
        (BUILD / name).write_bytes(data)
    text = json.dumps(manifest(compiler.version, results), indent=2) + "\n"
    (BUILD / MANIFEST_NAME).write_text(text)
    print(f"p4: {PROGRAM} compiled by p4c {compiler.version} into {BUILD.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
