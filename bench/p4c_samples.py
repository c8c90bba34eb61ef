"""p4c's own v1model samples on the embedded switch: compiled, loaded, and their packet tests carried out.

``P4C_TESTDATA`` names p4c's ``testdata`` folder, or the first argument does; without either the measurement is skipped.
Every sample that includes ``v1model.p4`` is compiled with p4c-bm2-ss. Those with an ``.stf`` file run it in memory,
with ``--bmv2`` on simple_switch_grpc, too; the others are loaded. The table of all samples goes to
``bench/results/p4c_samples.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bench import _stf_bmv2
from bench._common import RESULTS, Result, write
from bench._stf import Runner, StfError, read
from engine.api import DatapathError, EngineError, ProgramInfo
from engine.library import Switch, compile_program

COMPILER = "p4c-bm2-ss"
FOLDERS = (
    "p4_16_samples/*.p4",
    "p4_16_samples/omec/*.p4",
    "p4_16_samples/pins/*.p4",
    "p4_16_samples/dash/*-bmv2.p4",
    "p4_16_samples/fabric_*/fabric.p4",
    "p4_16_samples/parser-inline/*.p4",
)
COMPILE_S = 120
FLAGS = ("-O1",)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``verdict``: pass, wrong, refused, loaded (no packet test), uncompiled (p4c gives no BMv2 JSON), unreadable, or
    broken (the engine neither loads nor refuses it).

    ``bmv2``: pass, wrong, or unreadable (the test cannot be carried out there); empty when it was not asked.
    """

    sample: str
    stf: bool
    verdict: str
    reason: str = ""
    bmv2: str = ""
    bmv2_reason: str = ""


def samples(testdata: Path) -> list[Path]:
    """Programs for v1model, in alphabetical order."""
    found = {path for pattern in FOLDERS for path in testdata.glob(pattern)}
    nested = {p for p in found if p.parent.name not in ("p4_16_samples", "parser-inline")}
    return sorted(
        nested | {p for p in found - nested if re.search(r"v1model(_\w+)?\.p4", p.read_text(errors="replace"))}
    )


def compile_sample(source: Path, folder: Path) -> tuple[Path | None, str]:
    """(BMv2 JSON or None, why not)."""
    target = folder / f"{source.parent.name}-{source.stem}.json"
    if target.exists():
        return target, ""
    command = [COMPILER, "-I", str(source.parent), "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"no answer in {COMPILE_S} s"
    if done.returncode == 0 and target.exists():
        return target, ""
    target.unlink(missing_ok=True)
    lines = done.stderr.splitlines()
    error = next((line for line in lines if "error" in line or "Compiler Bug" in line), "no JSON: no package main")
    return None, re.sub(r"/\S*/", "", error.strip())[:200]


def on_bmv2(source: Path, made: Path, program: ProgramInfo) -> tuple[str, str]:
    """(verdict, reason) of a sample's packet test on simple_switch_grpc."""
    info = made.with_suffix(".p4info.txtpb")
    command = [COMPILER, "-I", str(source.parent), "--p4runtime-files", str(info), "-o", os.devnull, str(source)]
    try:
        subprocess.run(command, capture_output=True, timeout=COMPILE_S, check=True)
        problems = _stf_bmv2.run(program, made.read_bytes(), info.read_text(), read(source.with_suffix(".stf")))
    except (subprocess.SubprocessError, OSError) as error:
        return "unreadable", f"no P4Info: {type(error).__name__}"
    except StfError as error:
        return "unreadable", str(error)[:300]
    return ("wrong" if problems else "pass"), "; ".join(problems)[:600]


def run_sample(source: Path, folder: Path, bmv2: bool = False) -> Outcome:
    """Compile, load and test one sample, on BMv2 too when asked."""
    stf = source.with_suffix(".stf")
    name = f"{source.parent.name}/{source.stem}"
    made, why = compile_sample(source, folder)
    if made is None:
        return Outcome(name, stf.exists(), "uncompiled", why)
    try:
        program = compile_program(made, flags=FLAGS)
    except EngineError as error:
        return Outcome(name, stf.exists(), "refused", re.sub(r"/\S*/", "", str(error))[:300])
    except Exception as error:  # whatever it is, the other samples are to be judged too
        return Outcome(name, stf.exists(), "broken", f"{type(error).__name__}: {error}"[:300])
    if not stf.exists():
        return Outcome(name, False, "loaded")
    try:
        with Switch(program) as switch:
            problems = Runner(switch).run(read(stf))
    except (StfError, DatapathError) as error:
        return Outcome(name, True, "unreadable", str(error)[:300])
    reference = on_bmv2(source, made, program.info) if bmv2 else ("", "")
    return Outcome(name, True, "wrong" if problems else "pass", "; ".join(problems)[:600], *reference)


def report(outcomes: Sequence[Outcome]) -> list[Result]:
    """Shares of what p4c compiles."""
    tested = [o for o in outcomes if o.stf and o.verdict != "uncompiled"]
    compiled = [o for o in outcomes if o.verdict != "uncompiled"]
    counts = Counter(o.verdict for o in tested)
    refused = sum(o.verdict in ("refused", "broken") for o in compiled)
    broken = sum(o.verdict == "broken" for o in compiled)
    passed = 100 * counts["pass"] / max(1, len(tested))
    loads = 100 * (len(compiled) - refused) / max(1, len(compiled))
    beside = Counter(o.bmv2 for o in tested if o.bmv2)
    reference = [
        Result(f"BMv2: packet tests, {verdict}", "samples", beside[verdict], samples=beside.total())
        for verdict in ("pass", "wrong", "unreadable")
        if beside
    ]
    return [
        *reference,
        Result("samples with packet tests that pass", "%", passed, ">= 90", samples=len(tested)),
        Result("samples with packet tests that go wrong", "samples", counts["wrong"], "== 0", samples=len(tested)),
        Result("samples that the engine fails to judge", "samples", broken, "== 0", samples=len(compiled)),
        Result("packet tests that cannot be carried out", "samples", counts["unreadable"], samples=len(tested)),
        Result("samples with packet tests that are refused", "samples", counts["refused"], samples=len(tested)),
        Result("samples that load, of all that p4c compiles", "%", loads, ">= 90", samples=len(compiled)),
        Result("samples that p4c does not compile for BMv2", "samples", len(outcomes) - len(compiled)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and write the results; 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="bench p4c_samples", description=__doc__)
    parser.add_argument("testdata", nargs="?", default=os.environ.get("P4C_TESTDATA"), type=Path)
    parser.add_argument("--only", default="", help="samples whose path contains this")
    parser.add_argument("--bmv2", action="store_true", help="the packet tests on simple_switch_grpc, too")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the compiled JSON, used again by the next run")
    options = parser.parse_args(arguments)
    if options.testdata is None or not Path(options.testdata).is_dir():
        print("p4c_samples: skipped: P4C_TESTDATA names no folder (p4c's testdata)", file=sys.stderr)
        return 0
    if options.bmv2 and shutil.which(_stf_bmv2.EXECUTABLE) is None:
        print(f"p4c_samples: --bmv2 needs {_stf_bmv2.EXECUTABLE} on the PATH", file=sys.stderr)
        return 2
    if shutil.which(COMPILER) is None:
        print(f"p4c_samples: skipped: {COMPILER} is not on the PATH", file=sys.stderr)
        return 0
    chosen = [path for path in samples(Path(options.testdata)) if options.only in str(path)]
    with tempfile.TemporaryDirectory(prefix="p4c-samples-") as scratch, ProcessPoolExecutor(options.jobs) as pool:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = list(pool.map(partial(run_sample, folder=folder, bmv2=options.bmv2), chosen))
    for outcome in outcomes:
        if outcome.verdict not in ("pass", "loaded", "uncompiled"):
            print(f"{outcome.verdict:10} {outcome.sample}: {outcome.reason}")
        if outcome.bmv2 not in ("", "pass"):
            print(f"BMv2 {outcome.bmv2:10} {outcome.sample}: {outcome.bmv2_reason}")
    results = report(outcomes)
    path = write("p4c_samples", results)
    document = json.loads(path.read_text())
    document["samples"] = [asdict(outcome) for outcome in outcomes]
    (RESULTS / "p4c_samples.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
