"""Predicted failures on live labs: packets lost above the control run, false flips, lead, and telemetry to flip.

Twenty repetitions with different seeds on each of two topologies, the four foreseeable scenarios in turn.
``SHADOWPLANE_BENCH_REPETITIONS`` changes the number. Telemetry to flip is told for each topology and both together; all
in all, and for flips whose shadow was there: the others had to wait until a new one was planned and installed.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench._common import Result, quantile, write
from bench._flips import predicted_flips, timings
from control.scoreboard.__main__ import FORESEEABLE_FIRST
from control.scoreboard.experiment import Run, session
from control.scoreboard.rows import CONTROL_RUN
from control.settings import Strategy
from topo import userns
from topo.load import load

TOPOLOGIES = ("diamond", "abilene")
REPETITIONS = int(os.environ.get("SHADOWPLANE_BENCH_REPETITIONS", "20"))
FRR = "FRRouting 8.4.4, OSPF + BFD 10 ms x 3: 77 lost at a silent cut"


def measure(name: str, directory: Path) -> tuple[list[Run], list[Run]]:
    """(control runs, repetitions) of the predictive strategy on one topology."""
    floor: list[Run] = []
    played: list[Run] = []
    with session(load(name), directory / name) as experiment:
        floor.append(experiment.play(CONTROL_RUN, Strategy.PREDICTIVE, 0))
        lost = floor[0].row.lost
        for seed in range(1, REPETITIONS + 1):
            scenario = FORESEEABLE_FIRST[(seed - 1) % len(FORESEEABLE_FIRST)]
            run = experiment.play(scenario, Strategy.PREDICTIVE, seed, control_lost=lost)
            played.append(run)
            lead = "none" if run.row.lead_ms is None else f"{run.row.lead_ms:.0f} ms"
            print(
                f"  {name} {scenario} seed {seed}: lost {run.row.lost} of {run.row.sent:,}, "
                f"flips {run.row.flips}, false {run.row.false_flips}, lead {lead}",
                flush=True,
            )
            if run.row.excess or run.row.false_flips or run.row.lead_ms is None:
                explain(run)
    return floor, played


def explain(run: Run) -> None:
    """What was planned, and what the controller did and why: for runs that did not go as they should."""
    print(f"    plan: {run.plan.detail}; first loss at {run.plan.first_loss_s} s")
    for line in run.ledger:
        at = line["time_s"] - run.began_s
        print(f"    {at:7.3f} {line['kind']} {line['element']} {line['cause']}: {line['explanation'][:200]}")


def results(name: str, floor: list[Run], played: list[Run]) -> list[Result]:
    """The figures of one topology."""
    count = len(played)
    leads = [run.row.lead_ms for run in played if run.row.lead_ms is not None]
    excess = [run.row.excess for run in played]
    rates = [sum(report.sent for report in run.flows.values()) / run.plan.duration_s for run in played]
    found = [
        Result(
            f"{name}: lost above the control run, all repetitions",
            "packets",
            sum(excess),
            "== 0",
            FRR,
            count,
            f"of {sum(run.row.sent for run in played):,} sent; control run lost {floor[0].row.lost}",
        ),
        Result(f"{name}: packet rate", "packets/s", min(rates), ">= 2000", "", count, "smallest of the repetitions"),
        Result(f"{name}: flows", "flows", len(played[0].flows), ">= 3", "", count),
        Result(f"{name}: duplicates", "packets", sum(run.row.duplicated for run in played), "== 0", "", count),
        Result(f"{name}: reordered", "packets", sum(run.row.reordered for run in played), "", "", count),
        Result(f"{name}: repetitions without a timely flip", "runs", count - sum(lead > 0 for lead in leads), "== 0"),
        Result(f"{name}: worst outage", "ms", max(run.row.outage_ms for run in played), "", "", count),
    ]
    if leads:
        found += [
            Result(f"{name}: lead, median", "ms", quantile(leads, 0.5), "", "", len(leads)),
            Result(f"{name}: lead, shortest", "ms", min(leads), "> 0", "", len(leads)),
        ]
    return found


def main() -> None:
    """Measure both topologies and write one record."""
    userns.ensure()
    figures: list[Result] = []
    false_flips, runs = 0, 0
    flips: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="shadowplane-bench-") as directory:
        for name in TOPOLOGIES:
            floor, played = measure(name, Path(directory))
            figures += results(name, floor, played)
            mine: list[dict[str, Any]] = []
            for run in (*floor, *played):
                runs += 1
                false_flips += run.row.false_flips
                mine += predicted_flips(run.ledger)
            figures += timings(f"{name}: ", mine)
            flips += mine
    figures.append(Result("false flips in all runs", "flips", false_flips, "<= 1", "", runs, "noisy links among them"))
    figures += timings("", flips)
    write("predicted", figures)


if __name__ == "__main__":
    main()
