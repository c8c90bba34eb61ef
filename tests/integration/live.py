"""One live lab with its control plane that many tests share, in a process and network of its own.

``python -m topo.userns -- python -m tests.integration.live DIRECTORY`` builds it, then reads names of cases
(functions in ``cases.py``) from standard input, runs each, brings the network back to its healthy state and answers
with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.scoreboard import flows as protected
from control.scoreboard.experiment import session
from control.scoreboard.service import ServiceProcess
from engine.dataplane import Client
from tests.integration.support import eventually
from topo.lab import Lab
from topo.load import load
from topo.traffic import FlowReport, Traffic

GROUPS = 64  # more than the diamond has steering groups
RATE_PPS = 1000.0
LONGEST_S = 60.0


@dataclass
class Sending:
    """Traffic under way; ``reports`` afterwards."""

    traffic: Traffic
    reports: dict[str, FlowReport] = field(default_factory=dict)

    def since(self, when_ns: int, until_ns: int | None = None) -> dict[str, FlowReport]:
        """The report on packets sent from ``when_ns`` (``time.time_ns()``) on."""
        return self.traffic.report(since_ns=when_ns, until_ns=until_ns)


@dataclass
class Live:
    """A running diamond under the predictive strategy, and what cases ask of it."""

    lab: Lab
    service: ServiceProcess
    directory: Path
    count: int = 0
    without_controller: bool = False

    def kill_controller(self) -> None:
        """SIGKILL, as a crash would."""
        self.service.kill()
        self.without_controller = True

    def start_controller(self) -> None:
        """Start it again with the same flags and state, and wait until every switch is restored."""
        self.service.start()
        self.service.wait_ready()
        self.without_controller = False

    @contextlib.contextmanager
    def traffic(self) -> Iterator[Sending]:
        """Protected flows as long as the block lasts."""
        self.count += 1
        flows = protected.choose(self.lab.topology, rate_pps=RATE_PPS)
        sending = Sending(Traffic(self.lab, flows, self.directory / f"traffic{self.count}", duration_s=LONGEST_S))
        sending.traffic.start()
        try:
            yield sending
        finally:
            sending.traffic.stop()
        assert sending.traffic.overflow == 0, "a receiver's socket was too small: the machine's loss"
        sending.reports = sending.traffic.report()

    @contextlib.contextmanager
    def plane(self, switch: str) -> Iterator[Client]:
        """A client of a switch's data plane, beside its P4Runtime server."""
        with Client(self.lab.control_socket(switch)) as client:
            yield client

    def bits(self, switch: str) -> set[int]:
        """Groups whose failover bit is set, as the data plane has them."""
        with self.plane(switch) as client:
            place = next(n for n, item in enumerate(client.codec.program.registers) if item.name == "failover")
            return {index for index, bit in enumerate(client.register_read(place, 0, GROUPS)) if bit}

    def all_bits(self) -> dict[str, set[int]]:
        return {item.name: self.bits(item.name) for item in self.lab.topology.switches}

    def entries(self, switch: str) -> dict[str, int]:
        """Number of entries by table, as the data plane has them."""
        with self.plane(switch) as client:
            tables = client.codec.program.tables
            return {item.name: len(client.table_read(n)) for n, item in enumerate(tables)}

    def drops(self, switch: str) -> list[int]:
        """Packets dropped, by reason."""
        with self.plane(switch) as client:
            place = next(n for n, item in enumerate(client.codec.program.counters) if item.name == "drops")
            return [packets for packets, _ in client.counter_read(place, 0, 16)]

    def status(self, service: ServiceProcess | None = None) -> dict[str, Any]:
        found: dict[str, Any] = (service or self.service).get("/status")
        return found

    def switch_status(self, name: str, service: ServiceProcess | None = None) -> dict[str, Any]:
        (found,) = [item for item in self.status(service)["switches"] if item["name"] == name]
        return dict(found)

    def restored(self, switch: str, before: int) -> None:
        """Wait until the controller has restored a switch once more."""

        def again() -> bool:
            found = self.switch_status(switch)
            return found["state"] == "ready" and found["restores"] > before

        eventually(again, f"{switch} restored")

    def heal(self) -> None:
        """Everything running, nothing impaired, nothing flipped, no port dead."""
        for switch in self.lab.topology.switches:
            node = self.lab.node(switch.name)
            if node.process is None or node.dataplane_pid() is None:
                self.lab.restart_switch(switch.name)
        for link in self.lab.topology.links:
            self.lab.carrier(link, up=True)
        self.lab.clear_impairments()
        if self.without_controller:
            self.start_controller()
        self.service.post("/reset", {"history": "clear", "strategy": "predictive"})

        def quiet() -> bool:
            status = self.status()
            return bool(status["ready"]) and not status["dead_ports"] and not status["flipped"]

        eventually(quiet, "the network healed")


def lossless(reports: dict[str, FlowReport]) -> None:
    """Every flow sent something and lost nothing."""
    for report in reports.values():
        assert report.sent > 0 and report.lost == 0, report
        assert report.duplicated == 0, report


def pause(seconds: float) -> int:
    """Let traffic flow for a while; returns the wall time after it in ns."""
    time.sleep(seconds)
    return time.time_ns()


def main() -> None:
    directory = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anybody prints goes to the log
    from tests.integration import cases

    with session(load("diamond"), directory, extra=("--strategy", "predictive")) as experiment:
        live = Live(experiment.lab, experiment.service, directory)
        answers.write(json.dumps({"ready": True}) + "\n")
        for line in sys.stdin:
            name = line.strip()
            print(f"--- {name}", file=sys.stderr, flush=True)
            problem = ""
            try:
                try:
                    getattr(cases, name)(live)
                finally:
                    live.heal()
            except Exception:
                problem = traceback.format_exc()
                print(problem, file=sys.stderr, flush=True)
            answers.write(json.dumps({"case": name, "problem": problem}) + "\n")


if __name__ == "__main__":
    main()
