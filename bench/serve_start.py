"""How long ``shadowplane serve`` takes from its start to ``/readyz`` on a running lab: with empty switches, with
switches that hold everything already, and the same with the larger models of the operations profile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from bench._common import Result, quantile, write
from control.kernels import install
from control.settings import Strategy
from ml.profiles import LAB, OPERATIONS
from topo import userns
from topo.lab import Lab
from topo.load import load

TOPOLOGIES = ("diamond", "abilene")
REPETITIONS = int(os.environ.get("SHADOWPLANE_BENCH_REPETITIONS", "5"))
API = "127.0.0.1:8080"
PATIENCE_S = 60.0
TARGET = "<= 3"
CASES = {"empty switches": LAB.name, "switches that hold everything": LAB.name, "the same, operations": OPERATIONS.name}


def start(name: str, profile: str, folder: Path) -> tuple[float, float]:
    """Seconds until ready, and seconds of processor time used for it; the process is ended afterwards."""
    command = [sys.executable, "-m", "control", "serve", "--topology", name, "--api", API, "--state", str(folder)]
    command += ["--strategy", Strategy.PREDICTIVE.value, "--profile", profile]
    # As after any earlier start: Python's bytecode is kept, and the analyzer's code is compiled.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "serve.log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    try:
        with httpx.Client(base_url=f"http://{API}", trust_env=False) as client:
            while True:
                try:
                    if client.get("/readyz").status_code == 200:
                        return time.monotonic() - began, _used(process.pid)
                except httpx.HTTPError:
                    pass  # not listening yet
                if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                    raise RuntimeError(f"serve did not become ready: {(folder / 'serve.log').read_text()[-2000:]}")
                time.sleep(0.01)  # fine enough for the figure, too seldom to slow the start
    finally:
        process.terminate()
        process.wait(20)


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and write the record."""
    userns.ensure()
    figures = []
    install()
    for name in TOPOLOGIES:
        took: dict[str, list[float]] = {what: [] for what in CASES}
        used: list[float] = []
        for number in range(REPETITIONS):
            with TemporaryDirectory(prefix="shadowplane-bench-") as directory:
                folder = Path(directory)
                with Lab(load(name), run_dir=folder / "lab"):
                    for case, (what, profile) in enumerate(CASES.items()):
                        place = folder / f"{number}-{case}"
                        place.mkdir()
                        seconds, busy = start(name, profile, place)
                        took[what].append(seconds)
                        used.append(busy)
        load_text = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        for what, values in took.items():
            figures.append(
                Result(f"{name}, {what}: to /readyz, worst", "s", max(values), TARGET, "", len(values), load_text)
            )
            figures.append(Result(f"{name}, {what}: median", "s", quantile(values, 0.5), TARGET, "", len(values)))
        note = "of the control plane alone, up to /readyz"
        figures.append(Result(f"{name}: processor time, median", "s", quantile(used, 0.5), "", "", len(used), note))
    write("serve_start", figures)


if __name__ == "__main__":
    main()
