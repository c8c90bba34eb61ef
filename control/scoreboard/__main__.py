"""``make run``: every failure scenario under every strategy, then the scoreboard.

Exits 0 if the predictive strategy lost nothing above the control run in every foreseeable scenario, 1 if it did,
2 when the lab could not be built or an argument is wrong, 130 on Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner

from control import provenance
from control.errors import ControlError
from control.heartbeats import BY_GENERATOR
from control.scoreboard import render, rows
from control.scoreboard.experiment import Experiment, Run, session
from control.scoreboard.rows import CONTROL_RUN, Row
from control.scoreboard.watch import watch
from control.settings import HEARTBEAT_MS, Strategy, parse_address
from topo import faults, userns
from topo.lab import LabError
from topo.load import load
from topo.network import NetworkError
from topo.spec import Topology, TopologyError
from topo.traffic import TrafficError

BEATS_TIMEOUT_S = 5.0
FORESEEABLE_FIRST = ("gray_link", "congestion", "overload", "maintenance")
EXAMPLES = """examples:
  make run                                      everything on the diamond, about four minutes
  make run SCENARIO=gray_link                   one scenario, all strategies
  make run SCENARIO="gray_link overload" STRATEGY=predictive TOPO=abilene SEED=7
  make run TOPO=my-network.yaml TARGET=bmv2     an own topology, simple_switch_grpc as the switch"""


@dataclass(frozen=True, slots=True)
class Game:
    """What to play, in this order: first the control run of each strategy, which gives the floor of loss."""

    scenarios: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    seed: int

    @property
    def rounds(self) -> list[tuple[str, Strategy]]:
        named = [name for name in self.scenarios if name != CONTROL_RUN]
        return [(scenario, strategy) for scenario in (CONTROL_RUN, *named) for strategy in self.strategies]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, play, print, judge."""
    options = _parser().parse_args(argv)
    if options.heartbeat_ms is None:
        options.heartbeat_ms = HEARTBEAT_MS[options.target]
    console = Console(stderr=False, width=None if sys.stdout.isatty() else 150)
    try:
        topology = load(options.topology)
        game = _game(options)
        userns.ensure([parse_address(options.api)])
        return _run(console, topology, game, options)
    except (LabError, ControlError, NetworkError, TopologyError, TrafficError, faults.FaultError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 2
    except (userns.PrivilegeError, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run: interrupted; the lab is taken down", file=sys.stderr)
        return 130


def _run(console: Console, topology: Topology, game: Game, options: argparse.Namespace) -> int:
    began = time.monotonic()
    out: Path = options.out
    title = f"Shadowplane on {topology.name} ({options.target}), seed {game.seed}"
    with session(
        topology,
        out,
        source=options.topology,
        target=options.target,
        heartbeat_us=round(options.heartbeat_ms * 1000),
        api=options.api,
        pcap=options.pcap,
        rate_pps=options.rate,
        extra=("--config", str(options.config)) if options.config is not None else (),
        on_step=lambda text: console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {text}"),
    ) as experiment:
        setup_s = time.monotonic() - began
        beats = f"heartbeats every {options.heartbeat_ms:g} ms by {_beat_source(experiment)}"
        console.print(f"[dim]{setup_s:6.1f} s[/]  ready; {_flows_text(experiment)}; {beats}")
        results = _play(console, experiment, game, title)
        played = [run.row for run in results]
        rows.write(
            out / "scoreboard.json",
            played,
            topology=topology.name,
            target=options.target,
            heartbeat_ms=options.heartbeat_ms,
            seed=game.seed,
            flows=[{"name": f.name, "rate_pps": f.rate_pps, "family": f.family} for f in experiment.flows],
            setup_s=round(setup_s, 3),
            duration_s=round(time.monotonic() - began, 3),
            machine=provenance.machine(),
            versions=provenance.versions(),
        )
        _write_details(out / "runs.json", results)
        console.print()
        render.show(console, played, title=title)
        console.print(
            f"[dim]{time.monotonic() - began:.0f} s; details: {out / 'scoreboard.json'}, {out / 'runs.json'}[/]"
        )
        if options.svg:
            _picture(options.svg, played, title)
        if sys.stdin.isatty() and sys.stdout.isatty() and not options.exit:
            experiment.service.post("/strategy", {"strategy": Strategy.PREDICTIVE.value})
            watch(console, experiment.service)
    return 0 if rows.verdict(played).passed else 1


def _play(console: Console, experiment: Experiment, game: Game, title: str) -> list[Run]:
    """All rounds, with the growing table on a terminal and a line per run elsewhere."""
    results: list[Run] = []
    floor: dict[Strategy, int] = {}
    rounds = game.rounds
    live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else nullcontext()
    with live as display:
        for number, (scenario, strategy) in enumerate(rounds, 1):
            label = f"[{number}/{len(rounds)}] {scenario} under {strategy.value}"
            if display is not None:
                table = render.table([run.row for run in results], title=title, width=console.width)
                display.update(Group(table, Spinner("dots", text=label)))
            run = experiment.play(scenario, strategy, game.seed, control_lost=floor.get(strategy, 0))
            if scenario == CONTROL_RUN:
                floor[strategy] = run.row.lost
            results.append(run)
            if display is None:
                console.print(_line(label, run.row), highlight=False)
    return results


def _line(label: str, row: Row) -> str:
    lead = "" if row.lead_ms is None else f", lead {row.lead_ms / 1000:+.2f} s"
    counts = f"sent {row.sent:>6,}  lost {row.lost:>6,}  outage {row.outage_ms:>8,.1f} ms  flips {row.flips}"
    return f"{label:<48} {counts}{lead}"


def _flows_text(experiment: Experiment) -> str:
    total = sum(flow.rate_pps for flow in experiment.flows)
    return f"{len(experiment.flows)} protected flows, {total:,.0f} packets/s"


def _beat_source(experiment: Experiment) -> str:
    """Who orders the heartbeats, as the control plane found out."""
    deadline = time.monotonic() + BEATS_TIMEOUT_S
    while True:
        sources = {item["heartbeats"] for item in experiment.service.get("/status")["switches"]}
        if "" not in sources:
            return "the switches' packet generators" if sources == {BY_GENERATOR} else "the controller's packet-outs"
        if time.monotonic() > deadline:
            return "nobody yet"
        time.sleep(0.05)


def _write_details(path: Path, results: Sequence[Run]) -> None:
    """What the fault plan was, what each flow saw and what the ledger says, for every run."""
    document = [
        {
            "scenario": run.row.scenario,
            "strategy": run.row.strategy,
            "plan": run.plan.as_dict(),
            "flows": {name: report.as_dict() for name, report in run.flows.items()},
            "ledger": list(run.ledger),
            "began_s": run.began_s,
            "receiver_overflow": run.receiver_overflow,
            "sender_late_ms": round(run.sender_late_ms, 3),
        }
        for run in results
    ]
    path.write_text(json.dumps(document, indent=1) + "\n")


def _picture(path: Path, played: Sequence[Row], title: str) -> None:
    with Path("/dev/null").open("w") as nowhere:
        recorder = Console(record=True, width=132, file=nowhere, force_terminal=True)
        render.show(recorder, played)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Rich refers to fonts on a foreign server; a picture must not fetch anything.
        path.write_text(re.sub(r"@font-face\s*{.*?}", "", recorder.export_svg(title=title), flags=re.DOTALL))


def _game(options: argparse.Namespace) -> Game:
    known = faults.names()
    chosen = options.scenario or [*FORESEEABLE_FIRST, *(name for name in known if name not in FORESEEABLE_FIRST)]
    for name in chosen:
        faults.load_scenario(name)  # an error now, not after three minutes
    strategies = tuple(Strategy(name) for name in options.strategy) if options.strategy else tuple(Strategy)
    return Game(tuple(chosen), strategies, options.seed)


def _rate(text: str) -> float:
    rate = float(text)
    if not 1 <= rate <= 1e6:
        raise argparse.ArgumentTypeError("between 1 and 1,000,000 packets/s")
    return rate


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make run", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="diamond", help="builtin name or file")
    parser.add_argument("--target", default="engine", choices=["engine", "bmv2"])
    parser.add_argument("--scenario", action="append", help="name or YAML file; repeat for several (default: all)")
    parser.add_argument("--strategy", action="append", choices=[item.value for item in Strategy])
    parser.add_argument("--seed", type=int, default=1, help="draws place, onset and slope of every fault")
    parser.add_argument("--heartbeat-ms", type=float, help="interval (default: 10; bmv2: 20, ordered by packet-out)")
    parser.add_argument("--rate", type=_rate, help="packets/s of the protected flows (default: 3000; bmv2: 800)")
    parser.add_argument("--api", default="127.0.0.1:8080", help="address of the control plane's API")
    parser.add_argument("--out", type=Path, default=Path("build/run"))
    parser.add_argument("--pcap", action="store_true", help="capture every port")
    parser.add_argument("--config", type=Path, help="the control plane's configuration file (see docs/operations.md)")
    parser.add_argument("--svg", type=Path, help="draw the scoreboard into this file as well")
    parser.add_argument("--exit", action="store_true", help="do not stay up on a terminal")
    return parser


if __name__ == "__main__":
    sys.exit(main())
