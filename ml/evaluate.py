"""How good the forecasts are, on data the models have not seen: ``python -m ml.evaluate``.

For each mode: average precision, Brier skill and calibration of the probability to fail within the horizon; and
of alarms (thresholds and confirmation as the health analyzer's): recall of events, of those that can be foreseen
and of all, false alarms, lead time. Beside it what simpler forecasts reach:

* ``base rate``: always the same;
* ``persistence``: as now; a row that is not failing yet says no, so its average precision is the base rate;
* ``level``: how bad the leading signal is now (margin, load, CPU);
* ``line``: that signal one unit of time ahead on its persistent slope.

Intervals are 90 %, drawn by run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml.datasets.errors import DataError
from ml.estimators.base import Floats
from ml.features import FEATURES
from ml.hazard import HazardModel, load_all
from ml.metrics import (
    Bin,
    Interval,
    alarm_times,
    average_precision,
    brier_skill,
    by_event,
    calibration_error,
    reliability,
)
from ml.schema import Mode
from ml.simulate import FORESEEABLE, Runs
from ml.train import WARM_UP, Table, judged, played

RAISE_AT = {Mode.LINK_FAILURE: 0.9, Mode.CONGESTION: 0.85, Mode.DEVICE_OVERLOAD: 0.85}
ACT = 0.3  # units: an alarm later than this before the first loss comes too late
LEVEL = {Mode.LINK_FAILURE: "margin_lost_quick", Mode.CONGESTION: "load_quick", Mode.DEVICE_OVERLOAD: "cpu_quick"}
LINE = {Mode.LINK_FAILURE: "margin_in_one", Mode.CONGESTION: "load_in_one", Mode.DEVICE_OVERLOAD: "cpu_in_one"}


@dataclass(frozen=True, slots=True)
class Alarms:
    """``recall``: share of foreseeable events with an alarm at least :data:`ACT` before; ``recall_all``: of all
    events. ``precision``: share of alarms followed by an event within the run. Leads are in units."""

    raise_at: float
    events: int
    recall: float
    recall_all: float
    precision: float
    false: int
    elements: int
    false_per_1000_runs: float
    lead_median: float
    lead_p10: float
    by_kind: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    mode: Mode
    rows: int
    base_rate: float
    average_precision: Interval  # without runs whose event nothing could foresee
    baselines: dict[str, float]  # average precision of simpler forecasts, on the same rows
    average_precision_all: float  # over all runs, abrupt failures included
    brier_skill: Interval
    calibration_error: float
    reliability: list[Bin]
    alarms: Alarms


def evaluate(model: HazardModel, rows: Table, runs: Runs, probability: Floats, repeats: int = 60) -> Report:
    """Judge one model; ``probability`` is (steps, elements), nan where not judged."""
    known, outcome = judged(rows, model.horizon)
    x, y, run = rows.x[known], outcome[known], rows.run[known]
    p = model.probability(x)
    names = [f.name for f in FEATURES[model.mode]]

    hopeless = np.isfinite(runs.event) & ~np.isin(runs.kind, FORESEEABLE)
    fair = ~hopeless[run]

    def precision(score: Floats, weight: Floats | None = None) -> float:
        return average_precision(score[fair], y[fair], None if weight is None else weight[fair])

    base = float(y[fair].mean())
    baselines = {
        "base rate": base,
        "persistence": base,
        "level": precision(x[:, names.index(LEVEL[model.mode])]),
        "line": precision(x[:, names.index(LINE[model.mode])]),
    }
    return Report(
        model.mode,
        len(y),
        base,
        Interval(precision(p), *by_event(lambda w: precision(p, w), run, repeats=repeats)),
        baselines,
        average_precision(p, y),
        Interval(brier_skill(p, y), *by_event(lambda w: brier_skill(p, y, w), run, repeats=repeats)),
        calibration_error(p, y),
        reliability(p, y),
        alarms(model.mode, runs, probability),
    )


def alarms(mode: Mode, runs: Runs, probability: Floats, raise_at: float | None = None) -> Alarms:
    """Alarms of whole runs. Runs that end within a horizon of an alarm, undecided, count as false too unless their
    element is one that fails (its failure would have come after the end)."""
    limit = RAISE_AT[mode] if raise_at is None else raise_at
    at = alarm_times(runs.time, probability, limit)
    struck = np.isfinite(runs.event)
    raised = np.isfinite(at)
    lead = np.where(struck & raised, runs.event - np.where(raised, at, 0.0), -np.inf)
    foreseeable = np.isin(runs.kind, FORESEEABLE)
    false = raised & ~struck & ~foreseeable
    early = struck & (lead >= ACT)
    seen = early & foreseeable
    leads = lead[seen] if seen.any() else np.array([np.nan])
    by_kind = {}
    for kind in sorted(set(runs.kind.tolist())):
        own = runs.kind == kind
        events, wrong = int((own & struck).sum()), int((own & false).sum())
        if events:
            by_kind[kind] = f"{int((own & early).sum())} of {events} events"
        elif wrong:
            by_kind[kind] = f"{wrong} false alarms in {int(own.sum())} runs"
    return Alarms(
        limit,
        int((struck & foreseeable).sum()),
        float(early[struck & foreseeable].mean()) if (struck & foreseeable).any() else float("nan"),
        float(early[struck].mean()) if struck.any() else float("nan"),
        float(early.sum() / max((early | false).sum(), 1)),
        int(false.sum()),
        len(at),
        1000.0 * float(false.mean()),
        float(np.median(leads)),
        float(np.quantile(leads, 0.1)),
        by_kind,
    )


def simulator(models: Mapping[Mode, HazardModel], seed: int, count: int) -> list[Report]:
    """Judge all models on simulated runs; ``seed`` must be none that training used."""
    used = {int(m.about.get("seed", -1)) for m in models.values()}
    if any(seed in range(s, s + 2) or seed in range(s + 1000, s + 1002) for s in used):
        raise ValueError(f"seed {seed} was used in training or calibration")
    found = []
    for mode, (rows, runs, x) in played(seed, count).items():
        model = models[mode]
        probability = np.stack([model.probability(step) for step in x])
        probability[:WARM_UP] = np.nan
        found.append(evaluate(model, rows, runs, probability))
    return found


def text(report: Report) -> str:
    """A report for people."""
    a, ap, skill = report.alarms, report.average_precision, report.brier_skill
    lines = [
        f"{report.mode}: {report.rows:,} rows, base rate {report.base_rate:.3f}",
        f"  average precision  {ap.value:.3f} [{ap.low:.3f}, {ap.high:.3f}]   "
        + ", ".join(f"{name} {value:.3f}" for name, value in report.baselines.items())
        + f"; with unforeseeable failures {report.average_precision_all:.3f}",
        f"  Brier skill        {skill.value:.3f} [{skill.low:.3f}, {skill.high:.3f}]   "
        f"calibration error {report.calibration_error:.4f}",
        f"  alarms at {a.raise_at:.2f}     recall {a.recall:.3f} of {a.events} foreseeable events, "
        f"{a.recall_all:.3f} of all; precision {a.precision:.3f}; {a.false} false in {a.elements} runs",
        f"  lead               median {a.lead_median:.2f}, p10 {a.lead_p10:.2f} units of time",
    ]
    lines += [f"    {kind:<14} {what}" for kind, what in a.by_kind.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--elements", type=int, default=4000, help="simulated ports; half as many devices")
    parser.add_argument("--data", type=Path, help="folder with kddi/ and cml/: judge models on these as well")
    parser.add_argument("--json", type=Path, help="write the reports here as well")
    options = parser.parse_args(argv)
    reports = simulator(load_all(), options.seed, options.elements)
    print("\n\n".join(text(report) for report in reports))
    content: dict[str, Any] = {"simulator": [asdict(report) for report in reports]}
    if options.data:
        from ml.datasets import cml, kddi  # scikit-learn takes a second to load

        try:
            links = cml.evaluate(options.data / "cml" / "links_even.csv.gz")
            faults = kddi.evaluate(options.data / "kddi")
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(f"\n{cml.text(links)}\n\n{kddi.text(faults)}")
        content |= {"cml": [asdict(report) for report in links], "kddi": asdict(faults)}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
