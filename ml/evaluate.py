"""How good the forecasts are, on data the models have not seen: ``shadowplane evaluate``, ``python -m ml.evaluate``.

Every data set and mode is judged by the same code (:mod:`ml.evaluate_rows`) against the same plain forecasts: the
current level, persistence, the base rate, the clock. A data set that is missing or broken is named, the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ml.datasets.errors import DataError
from ml.evaluate_rows import Rows, Verdict, judge
from ml.report import Evaluation, document, duration, held, interval, number, write

SETS = ("simulator", "kddi", "cml", "nab", "telemetry")
PUBLIC = SETS[1:]
DEFAULT_DATA = Path("../shared/data")
JUDGED_SEED = 150_000  # not 20,000 to 29,999: the worlds of those seeds guided choices of design
EXAMPLES = """examples:
  shadowplane evaluate                                                  the simulator, and what is in ../shared/data
  shadowplane evaluate simulator --profile operations --world further   stranger devices
  shadowplane evaluate cml --cml my/links.csv.gz                        any path: file or folder
  shadowplane evaluate nab telemetry -o json --gate                     for programs; exit 1 when a target is missed
"""
Say = Callable[[str], None]


class Progress:
    """What is being done, on one line of a terminal, on lines of its own in a log."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.live, self.start = quiet, sys.stderr.isatty(), time.monotonic()

    def __call__(self, text: str) -> None:
        if not self.quiet:
            line = f"[{time.monotonic() - self.start:5.0f} s] {text}"
            print(f"\r\x1b[K{line[:110]}" if self.live else line, end="" if self.live else "\n", file=sys.stderr)
            sys.stderr.flush()

    def done(self) -> None:
        if not self.quiet and self.live:
            print("\r\x1b[K", end="", file=sys.stderr)


def run(
    places: dict[str, Path | None],
    say: Say = lambda _: None,
    *,
    repeats: int = 100,
    profiles: Sequence[str] = ("lab", "operations"),
    seed: int = JUDGED_SEED,
    elements: int = 2000,
    link_days: int = 2000,
    world: str = "unseen",
) -> Evaluation:
    """Judge the data sets named in ``places`` (the simulator has no path)."""
    found = Evaluation()
    for name, path in places.items():
        say(f"{name}: loading")
        try:
            for rows in _judged(name, path, found, say, profiles, seed, elements, link_days, world):
                say(f"{rows.data}, {rows.mode}: judging {len(rows.outcome):,} rows")
                found.verdicts.append(judge(rows, repeats=repeats))
                _targets(found, found.verdicts[-1])
        except DataError as error:
            found.errors.append(f"{name}: {error}")
        except OSError as error:
            found.errors.append(f"{name}: {error.filename or path}: {error.strerror or error}")
    return found


def _judged(
    name: str, path: Path | None, found: Evaluation, say: Say, profiles: Sequence[str], seed: int, elements: int,
    link_days: int, world: str,
) -> list[Rows]:  # fmt: skip
    """Rows of one data set; what is no row goes into ``found``. Heavy libraries are loaded here."""
    if name == "simulator":
        from ml import evaluate_simulator
        from ml.hazard import ModelError

        made: list[Rows] = []
        for profile in profiles:
            try:
                rows, figures = evaluate_simulator.evaluate(profile, seed, elements, link_days, say, world)
            except ModelError as error:
                found.errors.append(f"simulator, {profile}: {error}")
                continue
            made += rows
            found.figures += figures
        return made
    if path is None:
        raise DataError("no path given")
    if name == "kddi":
        from ml.datasets import kddi

        found.faults, rows = kddi.evaluate(path, lambda text: say(f"router faults: {text}"))
        report = found.faults
        found.figures.append(
            held("router faults, six classes: macro-F1", "", report.macro_f1, f">= {report.target:g}",
                 anchor="published accuracy 0.89 to 0.91", samples=report.rows,
                 notes=f"last quarter of the time; accuracy {interval(report.accuracy)}")
        )  # fmt: skip
        return rows
    if name == "cml":
        from ml.datasets import cml

        return cml.evaluate(path, lambda text: say(f"microwave links: {text}"))
    from ml import evaluate_anomaly
    from ml.nab_score import PROFILES

    if name == "nab":
        found.nab, rows = evaluate_anomaly.evaluate_nab(path, lambda text: say(f"NAB: {text}"))
        for ours, plain in zip(found.nab.ours, found.nab.gaussian, strict=True):
            place = [profile.name for profile in PROFILES].index(ours.profile)
            others = ", ".join(
                f"{key} {found.nab.published[key][place]:.1f}" for key in ("Numenta HTM", "Windowed Gaussian")
            )
            found.figures.append(
                held(f"NAB score, {ours.profile}", "", ours.score, anchor=f"published on all 58: {others}",
                     samples=ours.windows, notes=f"{found.nab.series} of 58 series; Windowed Gaussian on these "
                     f"{plain.score:.1f}")
            )  # fmt: skip
        return rows
    found.routers = evaluate_anomaly.evaluate_routers(path, lambda text: say(f"telemetry: {text}"))
    for archive in found.routers:
        for fault in archive.faults:
            found.figures.append(
                held(f"router telemetry: {fault.name} {fault.device} noticed after", "s", fault.delay_s,
                     samples=archive.series, notes=f"{archive.name}; {archive.false} false alarms in "
                     f"{archive.device_hours:.2f} device-hours")
            )  # fmt: skip
    return []


def _targets(found: Evaluation, item: Verdict) -> None:
    if item.target is not None:
        found.figures.append(
            held(f"{item.data}, {item.mode}, {item.split}: average precision", "", item.average_precision,
                 f">= {item.target:g}", anchor=f"level {item.baselines['level']:.3f}", samples=item.events,
                 notes=item.notes)
        )  # fmt: skip


def text(found: Evaluation) -> str:
    """For people at a terminal."""
    lines: list[str] = []
    for item in found.verdicts:
        others = ", ".join(f"{name} {value:.3f}" for name, value in item.baselines.items())
        lines += [
            f"{item.data}: {item.mode}, {item.split}",
            f"  average precision   {interval(item.average_precision)}   {others}",
            f"  judged              {item.rows:,} rows, {item.events:,} events, {item.element_days:,.2f} element-days",
        ]
        if item.brier_skill is not None:
            error = number(item.calibration_error, 4)
            lines.append(f"  Brier skill         {interval(item.brier_skill)}   calibration error {error}")
        told, sign = ("delay", -1.0) if item.detects else ("lead", 1.0)
        for at in item.at:
            lines.append(
                f"  recall {interval(at.recall)} at {at.allowed:g} false alarms per element-day (level "
                f"{number(at.level_recall)}); {told} median {duration(sign * at.lead_median_s)}, "
                f"p10 {duration(sign * at.lead_p10_s)}"
            )
        lines.append("")
    if found.figures:
        lines.append("figures and targets")
    for figure in found.figures:
        mark = {True: "holds", False: "MISSED", None: "not shown"}[figure.holds]
        between = f" [{number(figure.low)}, {number(figure.high)}]" if figure.low is not None else ""
        lines.append(
            f"  {figure.metric}: {number(figure.value)}{f' {figure.unit}' if figure.unit else ''}{between}"
            f"{f'   {figure.target} {mark}' if figure.target else ''}{f'   ({figure.anchor})' if figure.anchor else ''}"
        )
    lines += [f"not judged: {error}" for error in found.errors]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What it was made with."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("numpy", "scikit-learn", "lightgbm"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def places(data: Path, chosen: Sequence[str], given: dict[str, Path | None]) -> dict[str, Path | None]:
    """Where each chosen data set is: a path of its own, or the folder of its name below ``data``."""
    return {name: None if name == "simulator" else given.get(name) or data / name for name in chosen}


def main(argv: Sequence[str] | None = None) -> int:
    """0 done, 1 a target missed (with ``--gate``), 2 a data set could not be judged."""
    parser = argparse.ArgumentParser(
        prog="shadowplane evaluate", description=(__doc__ or "").splitlines()[0], epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "sets", nargs="*", metavar="SET", help=f"which of {', '.join(SETS)} (default: all that is there)"
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with a folder for each public data set")
    for name in PUBLIC:
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"path of {name}, instead of DATA/{name}")
    parser.add_argument("--out", type=Path, default=Path("build/evaluate"), help="where page, JSON and plots go")
    parser.add_argument(
        "--output", "-o", choices=("table", "json"), default="table", help="what is printed: for people, for programs"
    )
    parser.add_argument(
        "--profile", choices=("lab", "operations"), action="append", help="of the simulator (default: both)"
    )
    parser.add_argument(
        "--seed", type=int, default=JUDGED_SEED, help="of the simulator; training uses seeds below 10,000"
    )
    parser.add_argument("--elements", type=int, default=2000, help="simulated ports; half as many devices")
    parser.add_argument("--link-days", type=int, default=2000, help="of healthy simulated links; 0: leave out")
    parser.add_argument(
        "--world", choices=("familiar", "unseen", "further"), default="unseen",
        help="devices of the simulator: as in training, unlike them (what targets are for), or more unlike still",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=100, help="draws for the intervals")
    parser.add_argument("--gate", action="store_true", help="exit 1 when a target is missed (not shown: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in PUBLIC}
    chosen = list(dict.fromkeys(options.sets)) or [
        name for name in SETS if name == "simulator" or given[name] or (options.data / name).exists()
    ]
    for name in chosen:
        if name not in SETS:
            parser.error(f"{name!r} is no data set; there are {', '.join(SETS)}")
    if options.repeats < 2 or options.elements < 20 or options.seed < 10_000 or options.link_days < 0:
        parser.error("--repeats from 2, --elements from 20, --seed from 10,000, --link-days from 0")
    # Read when the trees' libraries are loaded, below: threads that spin for a busy core cost minutes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    progress = Progress(options.quiet)
    found = run(
        places(options.data, chosen, given), progress, repeats=options.repeats,
        profiles=tuple(dict.fromkeys(options.profile or ("lab", "operations"))), seed=options.seed,
        elements=options.elements, link_days=options.link_days, world=options.world,
    )  # fmt: skip
    page = options.out / "index.html"
    judged = found.figures or found.verdicts or not page.exists()  # a page that says something is not written over
    progress("writing")
    try:
        if judged:
            write(found, options.out, machine())
    except OSError as error:
        progress.done()
        print(f"shadowplane evaluate: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    progress.done()
    if options.output == "json":
        print(json.dumps(document(found, machine()), indent=1))
    else:
        print(f"{text(found)}\n\npage: {page}{'' if judged else ' (left as it was)'}")
    for message in found.errors:
        print(f"shadowplane evaluate: {message}", file=sys.stderr)
    if found.errors:
        return 2
    return 1 if options.gate and any(item.holds is False for item in found.figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
