"""Commands that run something: the control plane, a lab, a switch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from control.commands._common import DryRun, Output, OutputOption, StrategyName, TopologyOption, examples, fail, show

app = typer.Typer()


@app.command(epilog=examples("serve --topology abilene", "serve -t my.yaml --strategy dataplane --state build/state"))
def serve(
    topology: TopologyOption = "diamond",
    strategy: Annotated[StrategyName, typer.Option(help="who answers a failure")] = StrategyName.PREDICTIVE,
    state: Annotated[Path | None, typer.Option(help="folder for the state database; none: in memory")] = None,
    notices: Annotated[Path | None, typer.Option(help="folder of maintenance notices to watch")] = None,
    feeds: Annotated[Path | None, typer.Option(help="YAML file of maintenance and weather feeds")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file: switches, TLS, sources, history, priorities")] = None,
    history: Annotated[Path | None, typer.Option(help="folder in which telemetry is recorded")] = None,
    api: Annotated[str, typer.Option(help="address of the HTTP API")] = "127.0.0.1:8080",
    heartbeat_ms: Annotated[float, typer.Option(min=0.1, help="heartbeat interval of the switches")] = 10.0,
    profile: Annotated[str, typer.Option("--profile", "-p", help="whose models judge: lab or operations")] = "lab",
    models: Annotated[
        Path, typer.Option(envvar="SHADOWPLANE_MODELS", help="folder of your own versions, as `train` fills it")
    ] = Path("models"),
    sample_ms: Annotated[
        float | None, typer.Option(min=10, help="telemetry sampling interval (default: 50; operations: 5000)")
    ] = None,
    stable_s: Annotated[float, typer.Option(min=0, help="quiet time before traffic is moved back")] = 5.0,
    host: Annotated[str, typer.Option(help="where the switches' P4Runtime servers listen")] = "127.0.0.1",
    base_port: Annotated[int, typer.Option(help="P4Runtime port of a switch minus its device id")] = 9558,
    gnmi_port_offset: Annotated[int, typer.Option(help="gNMI port of a switch minus its P4Runtime port")] = 0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    realtime: Annotated[
        bool, typer.Option("--realtime/--no-realtime", help="priority over other programs, where permitted")
    ] = True,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run the control plane until Ctrl-C."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core prints every lost connection; the log has them
    from control import startup
    from control.priority import raise_priority

    if realtime and not dry_run:
        raise_priority()  # before the libraries are loaded, which takes long enough
    if not dry_run:
        startup.begin()
    from control import serve as server
    from control.errors import ControlError
    from control.settings import SAMPLE_MS, Settings, Strategy, parse_address

    settings = Settings(
        topology=topology,
        strategy=Strategy(strategy.value),
        state_dir=None if dry_run else state,
        notices_dir=notices,
        feeds=feeds,
        config=config,
        history_dir=None if dry_run else history,
        gnmi_port_offset=gnmi_port_offset,
        heartbeat_ms=heartbeat_ms,
        profile=profile,
        models_dir=models,
        sample_ms=SAMPLE_MS.get(profile, SAMPLE_MS["lab"]) if sample_ms is None else sample_ms,
        stable_s=stable_s,
        host=host,
        base_port=base_port,
        realtime=realtime,
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
            show(rows, output, title=f"{topology}: what would be installed")
            return
    except ControlError as error:
        fail(error)
    raise typer.Exit(server.run(settings, api))


@app.command(epilog=examples("lab --topology diamond", "lab -t abilene --serve", "lab -t net.graphml --dry-run"))
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

    if target not in HEARTBEAT_MS:
        fail(f"unknown target {target!r} (known: {', '.join(HEARTBEAT_MS)})", 2)
    usual_ms = HEARTBEAT_MS[target]
    if heartbeat_ms is None:
        heartbeat_ms = usual_ms
    try:
        found = server.open_topology(topology)
        address = parse_address(api)
    except ControlError as error:
        fail(error)
    if dry_run:
        rows = [
            {"switch": s.name, "device_id": s.device_id, "ports": len(found.ports(s.name)), "place": s.label}
            for s in found.switches
        ]
        show(rows, output, title=f"{found.name}: {len(found.hosts)} hosts, {len(found.links)} links")
        return
    from control.labs import run_lab
    from topo.agents import PORT_OFFSET

    extra = ["--strategy", strategy.value, "--api", api, "--heartbeat-ms", str(heartbeat_ms or usual_ms)]
    if target == "bmv2":
        extra += ["--gnmi-port-offset", str(PORT_OFFSET)]
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
    from engine.flags import CALLED
    from engine.tools import TOOLS
    from engine.tools import main as tool

    if context.args and context.args[0] in TOOLS:
        raise typer.Exit(tool(context.args[0], context.args[1:], lab_sockets()))
    command = [sys.executable, "-m", "engine", *context.args]
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    sys.stdout.flush()
    told = {"PYTHONPATH": os.pathsep.join(paths), CALLED: "shadowplane switch"}
    os.execve(sys.executable, command, os.environ | told)


def lab_sockets() -> dict[str, Path]:
    """Control sockets of the running lab's switches, by name and by P4Runtime address; empty without a lab. Of several
    the one in our network namespace, else the newest."""
    from topo import marks

    labs = marks.running()
    if not labs:
        return {}
    lab = max(labs, key=lambda lab: (_shares_network(lab.pid), labs.index(lab)))
    named = dict(zip(lab.grpc, map(Path, lab.sockets), strict=True))
    return named | {address: named[name] for name, address in lab.grpc.items()}


def _shares_network(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net")
    except OSError:  # gone, or not ours to look at
        return False
