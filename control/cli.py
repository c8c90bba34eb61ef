"""The command ``shadowplane``. Heavy imports happen inside the commands, so that ``--help`` is quick.

Exit codes: 0 done, 1 failed (a gate, a switch, a service that is not there), 2 usage or input error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="shadowplane",
    help="Moves traffic on to precomputed shadow paths before the network fails.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
DEFAULT_API = "http://127.0.0.1:8080"


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


class StrategyName(StrEnum):
    NONE = "none"
    REACTIVE = "reactive"
    DATAPLANE = "dataplane"
    PREDICTIVE = "predictive"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]
ApiOption = Annotated[str, typer.Option("--api", envvar="SHADOWPLANE_API", help="where the service listens")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")]
TopologyOption = Annotated[str, typer.Option("--topology", "-t", help="diamond, abilene, fattree4, or a file")]


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  shadowplane {line}" for line in lines)


@app.command(epilog=_examples("serve --topology abilene", "serve -t my.yaml --strategy dataplane --state build/state"))
def serve(
    topology: TopologyOption = "diamond",
    strategy: Annotated[StrategyName, typer.Option(help="who answers a failure")] = StrategyName.PREDICTIVE,
    state: Annotated[Path | None, typer.Option(help="folder for the state database; none: in memory")] = None,
    notices: Annotated[Path | None, typer.Option(help="folder of maintenance notices to watch")] = None,
    api: Annotated[str, typer.Option(help="address of the HTTP API")] = "127.0.0.1:8080",
    heartbeat_ms: Annotated[float, typer.Option(min=0.1, help="heartbeat interval of the switches")] = 10.0,
    sample_ms: Annotated[float, typer.Option(min=10, help="telemetry sampling interval")] = 50.0,
    stable_s: Annotated[float, typer.Option(min=0, help="quiet time before traffic is moved back")] = 5.0,
    host: Annotated[str, typer.Option(help="where the switches' P4Runtime servers listen")] = "127.0.0.1",
    base_port: Annotated[int, typer.Option(help="P4Runtime port of a switch minus its device id")] = 9558,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the control plane until Ctrl-C."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core prints every lost connection; the log has them
    from control import serve as server
    from control.errors import ControlError
    from control.settings import Settings, Strategy, parse_address

    settings = Settings(
        topology=topology,
        strategy=Strategy(strategy.value),
        state_dir=None if dry_run else state,
        notices_dir=notices,
        heartbeat_ms=heartbeat_ms,
        sample_ms=sample_ms,
        stable_s=stable_s,
        host=host,
        base_port=base_port,
    )
    try:
        server.configure_logs(log_level, stream_json=not sys.stderr.isatty())
        parse_address(api)
        if dry_run:
            service = server.prepare(settings)
            rows = [
                {"switch": name, "address": session.address, "entries": len(service.fleet.desired[name])}
                for name, session in service.fleet.sessions.items()
            ]
            service.ledger.close()
            _show(rows, output, title=f"{topology}: what would be installed")
            return
    except ControlError as error:
        _fail(error)
    raise typer.Exit(server.run(settings, api))


@app.command(epilog=_examples("lab --topology diamond", "lab -t abilene --serve", "lab -t net.graphml --dry-run"))
def lab(
    topology: TopologyOption = "diamond",
    target: Annotated[str, typer.Option(help="engine or bmv2")] = "engine",
    run_dir: Annotated[Path, typer.Option(help="where logs and captures go")] = Path("build/run/lab"),
    heartbeat_ms: Annotated[
        float | None, typer.Option(min=0, help="heartbeat interval (default: 10; bmv2: 20); 0: no packet generator")
    ] = None,
    pcap: Annotated[bool, typer.Option("--pcap", help="capture every port")] = False,
    with_service: Annotated[bool, typer.Option("--serve", help="run the control plane too")] = False,
    strategy: Annotated[StrategyName, typer.Option(help="for --serve")] = StrategyName.PREDICTIVE,
    api: Annotated[str, typer.Option(help="for --serve: address of the HTTP API")] = "127.0.0.1:8080",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Build the network and open Mininet's command line on it. Leaving it ends the lab."""
    from control import serve as server
    from control.errors import ControlError
    from control.settings import HEARTBEAT_MS, parse_address

    usual_ms = HEARTBEAT_MS.get(target, 10.0)
    if heartbeat_ms is None:
        heartbeat_ms = usual_ms
    try:
        found = server.open_topology(topology)
        address = parse_address(api)
    except ControlError as error:
        _fail(error)
    if dry_run:
        rows = [
            {"switch": s.name, "device_id": s.device_id, "ports": len(found.ports(s.name)), "place": s.label}
            for s in found.switches
        ]
        _show(rows, output, title=f"{found.name}: {len(found.hosts)} hosts, {len(found.links)} links")
        return
    from control.labs import run_lab

    extra = ["--strategy", strategy.value, "--api", api, "--heartbeat-ms", str(heartbeat_ms or usual_ms)]
    code = run_lab(
        found, topology, target=target, run_dir=run_dir, heartbeat_ms=heartbeat_ms, pcap=pcap, api=address,
        serve_flags=extra if with_service else None,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def switch(context: typer.Context) -> None:
    """One embedded switch; takes simple_switch_grpc's flags (see `shadowplane switch --help`)."""
    command = [sys.executable, "-m", "engine", *context.args]
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


@app.command(epilog=_examples("paths", "paths --topology abilene", "paths -t abilene --switch s1 -o json"))
def paths(
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="compute offline for this one")] = None,
    from_switch: Annotated[str | None, typer.Option("--switch", help="only groups of this switch")] = None,
    destination: Annotated[str | None, typer.Option(help="only groups towards this host")] = None,
    api: ApiOption = DEFAULT_API,
    output: OutputOption = Output.TABLE,
) -> None:
    """Primary and shadow of every steering group: of the running service, or computed for a topology."""
    rows = _offline_paths(topology) if topology is not None else _get(api, "/paths")
    rows = [
        row
        for row in rows
        if from_switch in (None, row["switch"])
        and destination in (None, row["destination"])
        and (output is Output.JSON or row["primary"] != "local")
    ]
    keys = ("switch", "destination", "group_id", "side", "primary", "shadow", "label", "disjoint")
    _show(rows, output, title="steering groups", keys=keys)


@app.command(epilog=_examples("flip --switch s1 --destination h4", "flip --element s1-s2 --dry-run"))
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


@app.command(epilog=_examples("revert --switch s1 --destination h4", "revert --element s1-s2"))
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


@app.command(epilog=_examples("status", "status -o json"))
def status(api: ApiOption = DEFAULT_API, output: OutputOption = Output.TABLE) -> None:
    """Switches, threats and diverted groups of the running service. Exit code 1 while it is not ready."""
    found = _get(api, "/status")
    if output is Output.JSON:
        _show(found, output)
    else:
        flipped = ", ".join(found["flipped"]) or "none"
        print(f"{found['topology']}: strategy {found['strategy']}, {found['role']}, on their shadow: {flipped}")
        _show(
            found["switches"], output, keys=("name", "address", "state", "transport", "telemetry", "entries", "error")
        )
        if found["threats"]:
            _show(found["threats"], output, title="threats", keys=("element", "cause", "mode", "probability", "active"))
    if not found["ready"]:
        raise typer.Exit(1)


@app.command(epilog=_examples("ledger", "ledger --kind flip --limit 5", "ledger -o json"))
def ledger(
    kind: Annotated[str | None, typer.Option(help="flip, revert or refuse")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    api: ApiOption = DEFAULT_API,
    output: OutputOption = Output.TABLE,
) -> None:
    """Every flip, revert and refusal with its cause."""
    rows = _get(api, "/ledger", {"limit": limit} | ({"kind": kind} if kind else {}))
    keys = ("id", "kind", "element", "cause", "probability", "cost_ms", "lost", "duration_ms", "outcome", "explanation")
    _show(rows, output, title="ledger", keys=keys)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def train(context: typer.Context) -> None:
    """Train the health models (flags of `python -m ml.train`)."""
    _delegate("ml.train", context.args)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def evaluate(context: typer.Context) -> None:
    """Evaluate the health models (flags of `python -m ml.evaluate`)."""
    _delegate("ml.evaluate", context.args)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="shadowplane")
    except BrokenPipeError:  # the reader of our pipe left; nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _delegate(module: str, arguments: list[str]) -> NoReturn:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        _fail(f"{module} is not part of this version", 2)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _move(
    api: str, path: str, switch_name: str | None, destination: str | None, element: str | None,
    force: bool, dry_run: bool, output: Output,
) -> None:  # fmt: skip
    body: dict[str, Any] = {"switch": switch_name, "destination": destination, "element": element, "dry_run": dry_run}
    if not any((switch_name, destination, element)):
        _fail("name --switch, --destination or --element", 2)
    found = _call(api, "POST", path, json_body=body | {"force": force})
    if output is Output.JSON:
        _show(found, output)
    else:
        title = "would do" if dry_run else "moved by hand"
        _show(found["decisions"], output, title=title, keys=("kind", "switch", "destination", "outcome", "explanation"))
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
        _fail(error)
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


def _get(api: str, path: str, query: dict[str, Any] | None = None) -> Any:
    return _call(api, "GET", path, query=query)


def _call(
    api: str, method: str, path: str, *, query: dict[str, Any] | None = None, json_body: dict[str, Any] | None = None
) -> Any:
    import httpx

    url = api if "://" in api else f"http://{api}"
    try:
        reply = httpx.request(method, url + path, params=query, json=json_body, timeout=10.0, trust_env=False)
    except httpx.InvalidURL as error:
        _fail(f"{api!r} is not an address: {error}", 2)
    except httpx.HTTPError as error:
        _fail(f"no service at {url} ({error}); start one with `shadowplane serve`", 1)
    if reply.status_code == 422:
        _fail(_message(reply), 2)
    if reply.is_error:
        _fail(_message(reply), 1)
    try:
        return reply.json()
    except ValueError:
        _fail(f"{url} answers, but it is no Shadowplane service; name the right one with --api", 1)


def _message(reply: Any) -> str:
    try:
        found = reply.json()
    except ValueError:
        return f"the service answered {reply.status_code}"
    if isinstance(found, dict) and "error" in found:
        return str(found["error"])
    detail = found.get("detail") if isinstance(found, dict) else found
    if isinstance(detail, list) and detail:
        return "; ".join(f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in detail)
    return str(detail)


def _show(data: Any, output: Output, *, title: str = "", keys: Sequence[str] | None = None) -> None:
    """JSON, or a table; colours only on a terminal (rich looks at the stream and at NO_COLOR)."""
    if output is Output.JSON:
        print(json.dumps(data, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    rows = data if isinstance(data, list) else [data]
    names = list(keys or (rows[0].keys() if rows else ()))
    if not rows:
        print(f"{title}: none" if title else "none")
        return
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in names:
        number = isinstance(rows[0].get(name), int | float) and not isinstance(rows[0].get(name), bool)
        table.add_column(name.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in names))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, soft_wrap=False).print(table)


def _fail(error: object, code: int | None = None) -> NoReturn:
    """Print an error for people and leave: 2 for what was given wrong, 1 for what went wrong."""
    if code is None:
        from control.errors import InputError

        code = 2 if isinstance(error, InputError) else 1
    print(f"shadowplane: {error}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
