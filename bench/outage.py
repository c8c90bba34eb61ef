"""Abrupt failures: how long a flow is silent when a link is cut without warning, or a port loses its carrier.

Silent cuts under ``dataplane`` and ``predictive`` with 10 ms and 1 ms heartbeats; carrier loss with 10 ms ones.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from bench._common import Result, quantile, write
from control.scoreboard.experiment import Run, session
from control.settings import Strategy
from topo import userns
from topo.load import load

REPETITIONS = 5
WINDOW_S = (-0.1, 0.5)  # around the failure
STRATEGIES = (Strategy.DATAPLANE, Strategy.PREDICTIVE)
FRR_SILENT = "FRRouting 8.4.4: 39 ms (BFD 10 ms x 3)"
FRR_PORT = "FRRouting 8.4.4: 12 ms (port down)"


def outage_ms(run: Run) -> float:
    """The worst flow's longest silence around the failure; pauses of the machine at other times do not count."""
    failed_s = run.began_s + (run.plan.first_loss_s or 0.0)
    since, until = (int((failed_s + offset) * 1e9) for offset in WINDOW_S)
    return max(report.outage_ms for report in run.traffic.report(since_ns=since, until_ns=until).values())


def figures(label: str, runs: list[Run], limit_ms: float, anchor: str) -> list[Result]:
    """Worst and median outage of some repetitions."""
    outages = [outage_ms(run) for run in runs]
    whole = max(run.row.outage_ms for run in runs)
    late = max(run.sender_late_ms for run in runs)  # silence without loss: nobody sent
    lost = f"lost {[run.row.lost for run in runs]}; worst silence at any time of the runs {whole:.1f} ms"
    lost += f", a sender at most {late:.1f} ms behind its schedule"
    return [
        Result(f"{label}: outage, worst", "ms", max(outages), f"<= {limit_ms:g}", anchor, len(runs), lost),
        Result(f"{label}: outage, median", "ms", quantile(outages, 0.5), "", anchor, len(runs)),
    ]


def main() -> None:
    """Measure and write the record."""
    userns.ensure()
    found: list[Result] = []
    with TemporaryDirectory(prefix="shadowplane-bench-") as directory:
        for heartbeat_us in (10_000, 1_000):
            interval_ms = heartbeat_us / 1000
            place = Path(directory) / f"hb{heartbeat_us}"
            with session(load("diamond"), place, heartbeat_us=heartbeat_us) as experiment:
                for strategy in STRATEGIES:
                    runs = [experiment.play("abrupt_cut", strategy, seed) for seed in range(1, REPETITIONS + 1)]
                    label = f"silent cut, {interval_ms:g} ms heartbeats, {strategy.value}"
                    found += figures(label, runs, 3 * interval_ms + 2, FRR_SILENT)
                    if heartbeat_us == 10_000:
                        runs = [experiment.play("carrier_loss", strategy, seed) for seed in range(1, REPETITIONS + 1)]
                        found += figures(f"carrier loss, {strategy.value}", runs, 5, FRR_PORT)
    write("outage", found)


if __name__ == "__main__":
    main()
