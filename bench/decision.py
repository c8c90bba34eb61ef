"""Telemetry to flip: a live lab, its real switches and control plane, and many fading links, one after the other.

Each repetition lets the receiver of a link fade until the analyzer flips away from it, then heals the network. The
interval begins when the sample that carried the news (the oldest that was judged for the first time in that round) is
handed to the process, and ends when the switch has confirmed the write; the ledger has its parts. What the sample's own
way took comes before it and is bounded by the sampling interval.

``SHADOWPLANE_BENCH_REPETITIONS`` changes the number of repetitions, ``SHADOWPLANE_BENCH_TOPOLOGY`` the network.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench._common import Result, write
from bench._flips import predicted_flips, timings
from control.scoreboard.experiment import Experiment, session
from control.settings import Strategy
from topo import userns
from topo.load import load

REPETITIONS = int(os.environ.get("SHADOWPLANE_BENCH_REPETITIONS", "60"))
TOPOLOGY = os.environ.get("SHADOWPLANE_BENCH_TOPOLOGY", "diamond")
FADE_DB = 9.0  # 8 dB are the limit of error correction; nothing is lost before
FADE_S = 2.5
PATIENCE_S = 4.0
WARM_UP_S = 0.8  # of samples, before the fade begins
BEFORE = "13 / 49.7 ms with a judgement each 8 ms"


def fade(experiment: Experiment, number: int) -> list[dict[str, Any]]:
    """One fading link; the flips that it caused."""
    links = experiment.lab.topology.links
    link = links[number % len(links)]
    experiment.service.post("/reset", {"history": "clear", "strategy": Strategy.PREDICTIVE.value})
    time.sleep(WARM_UP_S)  # the analyzer has to know the healthy link, in real time
    since = experiment.service.get("/ledger", limit=1)
    last = since[-1]["id"] if since else 0
    for end in (link.a, link.b):
        experiment.lab.impair(end, {"attenuation_db": [(0.0, 0.0), (FADE_S, FADE_DB)]})
    deadline = time.monotonic() + PATIENCE_S
    found: list[dict[str, Any]] = []
    while time.monotonic() < deadline and not found:
        time.sleep(0.1)  # seldom: asking costs the service time, too
        found = predicted_flips(experiment.service.get("/ledger", since_id=last, kind="flip"))
    for end in (link.a, link.b):
        experiment.lab.impair(end, {"attenuation_db": [(0.0, 0.0)]})
    return found


def spent(pid: int | None) -> tuple[float, int]:
    """(processor seconds, changes of threads) of a process so far; those of threads that have ended are missing."""
    seconds, switches = 0.0, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that ends meanwhile
            seconds += int((task / "schedstat").read_text().split()[0]) / 1e9
            lines = (task / "status").read_text().splitlines()
            switches += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return seconds, switches


def main() -> None:
    """Measure and write the record."""
    userns.ensure()
    flips: list[dict[str, Any]] = []
    missed = 0
    with (
        TemporaryDirectory(prefix="shadowplane-bench-") as directory,
        session(load(TOPOLOGY), Path(directory)) as experiment,
    ):
        began, before = time.monotonic(), spent(experiment.service.pid)
        for number in range(REPETITIONS):
            found = fade(experiment, number)
            missed += not found
            flips += found
        took, after = time.monotonic() - began, spent(experiment.service.pid)
        lag = experiment.service.text("/metrics")
    figures = [Result("fades without a flip", "runs", missed, "== 0", "", REPETITIONS, TOPOLOGY)]
    figures += timings("", flips, BEFORE)
    cores = (after[0] - before[0]) / took
    figures.append(Result("control plane's processor time", "cores", cores, "", "", 1, "resets between fades included"))
    figures.append(Result("control plane's changes of threads", "1/s", (after[1] - before[1]) / took))
    worst = next((line.split()[1] for line in lag.splitlines() if line.startswith("shadowplane_loop_lag_worst")), "0")
    figures.append(Result("event loop, longest stall", "ms", float(worst) * 1000, "", "", 1, "over the whole run"))
    write("decision", figures)


if __name__ == "__main__":
    main()
