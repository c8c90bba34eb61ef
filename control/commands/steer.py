"""Commands that ask and order the running service: paths, flips, status, ledger."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from control.commands._common import (
    DEFAULT_API,
    ApiOption,
    DryRun,
    Output,
    OutputOption,
    call,
    examples,
    fail,
    get,
    show,
)
from control.commands._status import show_status

app = typer.Typer()


@app.command(epilog=examples("paths", "paths --topology abilene", "paths -t abilene --switch s1 -o json"))
def paths(
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="compute offline for this one")] = None,
    from_switch: Annotated[str | None, typer.Option("--switch", help="only groups of this switch")] = None,
    destination: Annotated[str | None, typer.Option(help="only groups towards this host")] = None,
    api: ApiOption = DEFAULT_API,
    output: OutputOption = Output.TABLE,
) -> None:
    """Primary and shadow of every steering group: of the running service, or computed for a topology."""
    rows = _offline_paths(topology) if topology is not None else get(api, "/paths")
    rows = [
        row
        for row in rows
        if from_switch in (None, row["switch"])
        and destination in (None, row["destination"])
        and (output is Output.JSON or row["primary"] != "local")
    ]
    keys = ("switch", "destination", "group_id", "side", "primary", "shadow", "label", "disjoint")
    show(rows, output, title="steering groups", keys=keys)


@app.command(epilog=examples("flip --switch s1 --destination h4", "flip --element s1-s2 --dry-run"))
def flip(
    from_switch: Annotated[str | None, typer.Option("--switch", help="groups of this switch")] = None,
    destination: Annotated[str | None, typer.Option(help="groups towards this host")] = None,
    element: Annotated[str | None, typer.Option(help="groups whose primary leads into this link or switch")] = None,
    force: Annotated[bool, typer.Option("--force", help="even on to a shadow that is full or threatened")] = False,
    api: ApiOption = DEFAULT_API,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move groups to their shadow by hand; they stay there until moved back."""
    _move(api, "/flip", from_switch, destination, element, force, dry_run, output)


@app.command(epilog=examples("revert --switch s1 --destination h4", "revert --element s1-s2"))
def revert(
    from_switch: Annotated[str | None, typer.Option("--switch", help="groups of this switch")] = None,
    destination: Annotated[str | None, typer.Option(help="groups towards this host")] = None,
    element: Annotated[str | None, typer.Option(help="groups whose primary leads into this link or switch")] = None,
    api: ApiOption = DEFAULT_API,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move groups back to their primary by hand."""
    _move(api, "/revert", from_switch, destination, element, False, dry_run, output)


@app.command(epilog=examples("status", "status -o json", "status --watch"))
def status(
    watch: Annotated[bool, typer.Option("--watch", help="print anew every second until Ctrl-C")] = False,
    api: ApiOption = DEFAULT_API,
    output: OutputOption = Output.TABLE,
) -> None:
    """Switches, recommendations, threats and what cannot be judged. Exit code 1 while the service is not ready."""
    while True:
        found = get(api, "/status")
        if watch and output is Output.TABLE and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        show_status(found, output)
        if not watch:
            break
        try:
            time.sleep(1.0)
        except KeyboardInterrupt:
            return
    if not found["ready"]:
        raise typer.Exit(1)


@app.command(epilog=examples("ledger", "ledger --kind flip --limit 5", "ledger -o json"))
def ledger(
    kind: Annotated[str | None, typer.Option(help="flip, revert, refuse or withhold")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    api: ApiOption = DEFAULT_API,
    output: OutputOption = Output.TABLE,
) -> None:
    """Every flip, revert and refusal with its cause."""
    rows = get(api, "/ledger", {"limit": limit} | ({"kind": kind} if kind else {}))
    keys = ("id", "kind", "element", "cause", "probability", "cost_ms", "lost", "duration_ms", "outcome", "explanation")
    show(rows, output, title="ledger", keys=keys)


def _move(
    api: str, path: str, switch_name: str | None, destination: str | None, element: str | None,
    force: bool, dry_run: bool, output: Output,
) -> None:  # fmt: skip
    body: dict[str, Any] = {"switch": switch_name, "destination": destination, "element": element, "dry_run": dry_run}
    if not any((switch_name, destination, element)):
        fail("name --switch, --destination or --element", 2)
    found = call(api, "POST", path, json_body=body | {"force": force})
    if output is Output.JSON:
        show(found, output)
    else:
        title = "would do" if dry_run else "moved by hand"
        show(found["decisions"], output, title=title, keys=("kind", "switch", "destination", "outcome", "explanation"))
    if not found["moved"]:
        raise typer.Exit(1)


def _offline_paths(name: str) -> list[dict[str, Any]]:
    from control.errors import ControlError
    from control.paths import Network
    from control.plan import Monitor
    from control.serve import open_topology
    from control.spm import ShadowManager

    try:
        spm = ShadowManager(Network(open_topology(name)))
        plan = spm.build(Monitor(0, 0, 0))
    except ControlError as error:
        fail(error)
    rows = []
    for group in sorted(plan.groups.values(), key=lambda item: item.key):
        shadow = group.shadow
        rows.append(
            {
                "switch": group.key.switch,
                "destination": group.key.destination,
                "group_id": group.id,
                "side": "primary",
                "primary": "local" if group.local else str(spm.primary_path(plan, group)),
                "shadow": str(shadow.path) if shadow is not None else "",
                "label": shadow.label if shadow is not None else 0,
                "disjoint": shadow.disjoint.value if shadow is not None else "",
            }
        )
    return rows
