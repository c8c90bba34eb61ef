"""Commands about the health models' versions: train a candidate, compare, promote, list, use, go back."""

from __future__ import annotations

import json
import time
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control.commands._common import DryRun, Output, OutputOption, examples, fail, show

if TYPE_CHECKING:
    from ml.retrain import Verdict
    from ml.store import ModelSet, Store

app = typer.Typer()
models = typer.Typer(help="Versions of the health models: which there are, which is in use.")

ProfileOption = Annotated[str, typer.Option("--profile", "-p", help="operations, or lab (compressed time)")]
StoreOption = Annotated[Path, typer.Option("--models", envvar="SHADOWPLANE_MODELS", help="folder of your own versions")]
DEFAULT_STORE = Path("models")


@app.command(
    epilog=examples(
        "train --elements 6000",
        "train --recording history/2026-11 --dry-run",
        "train --rollback",
    )
)
def train(
    profile: ProfileOption = "operations",
    store: StoreOption = DEFAULT_STORE,
    elements: Annotated[int, typer.Option(min=60, help="simulated ports; half as many devices")] = 4500,
    seed: Annotated[int, typer.Option(min=1, max=7000, help="of the simulated training data")] = 1,
    recording: Annotated[
        list[Path] | None, typer.Option(help="folder that `serve --history` filled, or tables of your own; repeatable")
    ] = None,
    compare_elements: Annotated[int, typer.Option(min=60, help="simulated ports to compare on")] = 900,
    rollback: Annotated[bool, typer.Option("--rollback", help="go back to the version that was in use before")] = False,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Train a candidate, compare it with the models in use, promote it or keep it back. Exit 1: kept back."""
    from ml import recorded, retrain
    from ml.hazard import ModelError
    from ml.recording import RecordingError
    from ml.store import Store

    shelf = Store(store)
    try:
        chosen = retrain.profile_named(profile)
        if rollback:
            _switch(shelf, profile, shelf.former(profile), dry_run, output)
            return
        say = _say if output is Output.TABLE else _silent
        version = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        parts = [recorded.load(chosen, folder) for folder in recording or ()]
        new = retrain.candidate(chosen, seed=seed, elements=elements, version=version, recordings=parts, say=say)
        present = _present(shelf, profile)
        verdict = retrain.compare(new, present, 10_000 + seed, compare_elements, recordings=parts, say=say)
        new = retrain.with_metrics(new, verdict)
        folder = None
        if not dry_run:
            folder = shelf.add(new)
            (folder / "verdict.json").write_text(json.dumps(verdict.document(), indent=1) + "\n")
            if verdict.promoted:
                shelf.use(profile, version)
    except (ModelError, RecordingError) as error:
        fail(error, 2)
    except OSError as error:
        fail(error, 1)
    if output is Output.JSON:
        place = {"version": version, "folder": str(folder) if folder else None, "dry_run": dry_run}
        show(place | verdict.document(), output)
    else:
        _table(verdict, version, dry_run)
    if not verdict.promoted:
        raise typer.Exit(1)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _silent(_text: str) -> None:
    """JSON goes to programs: no progress."""


def _present(shelf: Store, profile: str) -> ModelSet | None:
    """The models in use; where these cannot be used any more, which is said, the packaged ones."""
    from ml.hazard import ModelError
    from ml.store import PACKAGED

    for version in (shelf.current(profile), PACKAGED):
        try:
            return shelf.open(profile, version)
        except ModelError as error:
            _say(f"no measure: {version}: {error}")
    return None


def _table(verdict: Verdict, version: str, dry_run: bool) -> None:
    rows = []
    for world, mode, new, old in verdict.rows:
        row: dict[str, object] = {"world": world, "mode": mode}
        for name in ("average_precision", "precision", "recall", "worth", "calibration_error"):
            before = f" (now {getattr(old, name):.3f})" if old else ""
            row[name] = "" if isnan(getattr(new, name)) else f"{getattr(new, name):.3f}{before}"
        row["lead, median"] = "" if isnan(new.lead_median_s) else f"{new.lead_median_s:,.1f} s"
        rows.append(row)
    show(rows, Output.TABLE, title=f"candidate {version}")
    what = "promoted" if verdict.promoted else "kept back"
    print(f"{'would be ' if dry_run else ''}{what}: {'; '.join(verdict.reasons)}")


def _switch(shelf: Store, profile: str, version: str, dry_run: bool, output: Output) -> None:
    before = shelf.current(profile)
    shelf.open(profile, version)
    if not dry_run:
        shelf.use(profile, version)
    show({"profile": profile, "in_use": version, "before": before, "dry_run": dry_run}, output)


@models.command("list", epilog=examples("models list --profile operations"))
def list_(
    profile: ProfileOption = "operations", store: StoreOption = DEFAULT_STORE, output: OutputOption = Output.TABLE
) -> None:
    """All versions, with what they were trained on and whether they can still be used."""
    from ml import retrain
    from ml.hazard import ModelError
    from ml.store import PACKAGED, Store

    shelf = Store(store)
    rows = []
    try:
        retrain.profile_named(profile)
        current = shelf.current(profile)
        for name in (PACKAGED, *shelf.versions(profile)):
            try:
                found = shelf.open(profile, name)
                source, fault = found.training.get("source", "ml.simulate"), ""
            except ModelError as error:
                source, fault = "", str(error)
            rows.append({"version": name, "in_use": name == current, "trained_on": source, "fault": fault})
    except ModelError as error:
        fail(error, 2)
    show(rows, output, title=f"models of the {profile} profile")


@models.command(epilog=examples("models use packaged", "models use 20261121-120000"))
def use(
    version: Annotated[str, typer.Argument(help="name of a version, or packaged")],
    profile: ProfileOption = "operations",
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a version in use, from the service's next start on."""
    from ml import retrain
    from ml.hazard import ModelError
    from ml.store import Store

    try:
        retrain.profile_named(profile)
        _switch(Store(store), profile, version, dry_run, output)
    except ModelError as error:
        fail(error, 2)
