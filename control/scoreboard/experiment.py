"""One run: one scenario under one strategy with one seed, on a live lab, counted packet by packet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.scoreboard import flows as protected
from control.scoreboard.rows import Flip, Row, judge_flips
from control.scoreboard.service import ServiceError, ServiceProcess
from control.settings import Strategy
from topo.agents import PORT_OFFSET
from topo.faults import FaultPlan, load_scenario, plan
from topo.impairments import constant
from topo.lab import Lab
from topo.load import dumps
from topo.play import play
from topo.spec import Topology
from topo.traffic import FlowReport, FlowSpec, Traffic, total

LEAD_S = 0.5  # from the reset to the first packet: the analyzer needs some samples of every element
CALM_S = 0.4  # no dead port for so long: longer than a silent port waits before it reports
SETTLE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave: the line of the scoreboard and what stands behind it."""

    row: Row
    plan: FaultPlan
    flows: dict[str, FlowReport]
    flips: tuple[Flip, ...]
    ledger: tuple[dict[str, Any], ...]
    began_s: float  # epoch time of the first packet
    receiver_overflow: int  # packets that a receiving socket had no room for: the machine's loss, not the network's
    sender_late_ms: float  # the longest that a sender was behind its schedule
    traffic: Traffic  # ended; its records answer finer questions


@dataclass(slots=True)
class Experiment:
    """A lab and a control plane that many runs share.

    ``flows`` are the protected ones; their primary paths, asked of the control plane once, tell where a fault hurts.
    """

    lab: Lab
    service: ServiceProcess
    run_dir: Path
    flows: Sequence[FlowSpec]
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    primaries: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)  # (switch, host) to switches

    def prepare(self) -> None:
        """Wait for the control plane and learn the flows' paths."""
        self.service.wait_ready()
        lines = self.service.get("/paths")
        self.primaries = {(line["switch"], line["destination"]): tuple(line["primary"].split("-")) for line in lines}
        hosts = self.lab.hosts
        for flow in self.flows:
            self.paths[flow.name] = self.primaries[hosts[flow.src].switch, flow.dst]

    def play(self, scenario: str, strategy: Strategy, seed: int, *, control_lost: int = 0) -> Run:
        """Reset the network, send traffic, let the fault strike and count."""
        drawn = plan(
            load_scenario(scenario),
            self.lab.topology,
            seed,
            self.paths,
            self.flows,
            heartbeat_interval_us=self.lab.heartbeat_interval_us,
            primaries=self.primaries,
        )
        self._arm(drawn)
        self._heal(strategy)
        traffic = Traffic(self.lab, self.flows, self.run_dir / "traffic", duration_s=drawn.duration_s)
        start_s = traffic.start(lead_s=LEAD_S) / 1e9
        began_s = time.time() + start_s - time.monotonic()
        player = None
        try:
            player = play(
                drawn, self.lab, start_s, notices_dir=self.service.notices_dir, run_dir=self.run_dir / "faults"
            )
            traffic.wait()
        except BaseException:
            traffic.stop(0.0)
            raise
        finally:
            ledger = self._ledger(began_s - LEAD_S)
            if player is not None:
                player.stop()
        return self._result(drawn, strategy, traffic, began_s, ledger, control_lost)

    def _result(
        self,
        drawn: FaultPlan,
        strategy: Strategy,
        traffic: Traffic,
        began_s: float,
        ledger: list[dict[str, Any]],
        control_lost: int,
    ) -> Run:
        reports = traffic.report()
        sums = total(list(reports.values()))
        flips = tuple(
            Flip(line["time_s"], line["element"], line["duration_ms"])
            for line in ledger
            if line["kind"] == "flip" and line["outcome"] == "done"
        )
        onset_s, first_loss_s = (None if at is None else began_s + at for at in (drawn.onset_s, drawn.first_loss_s))
        false, lead_ms, flip_ms = judge_flips(flips, drawn.elements, onset_s, first_loss_s)
        row = Row(
            scenario=drawn.scenario,
            strategy=strategy.value,
            sent=int(sums["sent"]),
            lost=int(sums["lost"]),
            reordered=int(sums["reordered"]),
            duplicated=int(sums["duplicated"]),
            outage_ms=round(sums["outage_ms"], 3),
            flips=len(flips),
            false_flips=false,
            lead_ms=lead_ms,
            flip_ms=None if flip_ms is None else round(flip_ms, 3),
            control_lost=control_lost,
            seed=drawn.seed,
            foreseeable=drawn.foreseeable,
        )
        return Run(row, drawn, reports, flips, tuple(ledger), began_s, traffic.overflow, traffic.late_ms, traffic)

    def _arm(self, drawn: FaultPlan) -> None:
        """Give every port and device of the plan its first values before the analyzer's memory is cleared.

        A device's capacity or a receiver's noise is how the network is, not something that happens: it must not look
        like a sudden change at the start.
        """
        for item in drawn.impairments:
            self.lab.impair(item.target, {name: constant(points[0][1]) for name, points in item.schedule})

    def _ledger(self, since_s: float) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = self.service.get("/ledger", since_s=since_s, limit=10_000)
        return lines

    def _heal(self, strategy: Strategy) -> None:
        """Bring the network back to rest, and only then let the strategy begin, without any memory of the last run.

        What the last fault left behind (dead ports, reports on their way) would else be taken for a sign of the next.
        """
        self.service.post("/reset", {"history": "clear", "strategy": Strategy.DATAPLANE.value})
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        calm_since = None
        while calm_since is None or time.monotonic() - calm_since < CALM_S:
            status = self.service.get("/status")
            if not status["ready"] or status["dead_ports"] or status["flipped"]:
                calm_since = None
            elif calm_since is None:
                calm_since = time.monotonic()
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"the network did not heal within {SETTLE_TIMEOUT_S:g} s: dead ports {status['dead_ports']}, "
                    f"flipped groups {status['flipped']}, switches {status['waiting'] or 'ready'}"
                )
            time.sleep(0.05)
        self.service.post("/reset", {"history": "clear", "strategy": strategy.value})


@contextmanager
def session(
    topology: Topology,
    run_dir: Path,
    *,
    source: str = "",
    target: str = "engine",
    heartbeat_us: int = 10_000,
    api: str = "127.0.0.1:8080",
    pcap: bool = False,
    rate_pps: float | None = None,
    extra: tuple[str, ...] = (),
    on_step: Callable[[str], None] = lambda _: None,
) -> Iterator[Experiment]:
    """A running lab with its control plane, both ended on leaving.

    ``source``: the topology's name or file as the control plane shall load it; ``extra``: more options for it.
    ``rate_pps``: of the protected flows together; None: what is usual for the target. Links are as much slower as that
    is less than what is usual for the embedded switch: to fill one, the target has to carry its line rate.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    usual = protected.RATE_PPS[target]
    if usual != protected.RATE_PPS["engine"]:
        topology, source = _slowed(topology, usual / protected.RATE_PPS["engine"], run_dir, on_step)
    lab = Lab(topology, target=target, run_dir=run_dir / "lab", heartbeat_interval_us=heartbeat_us, pcap=pcap)
    if target == "bmv2":
        extra = ("--gnmi-port-offset", str(PORT_OFFSET), *extra)
    service = ServiceProcess(source or topology.name, run_dir, api=api, heartbeat_ms=heartbeat_us / 1000, extra=extra)
    on_step(f"starting {len(topology.switches)} switches and {len(topology.hosts)} hosts")
    service.start()  # first, so that it loads while the lab is built; but it ends before the lab does
    try:
        with lab:
            try:
                on_step("pushing the pipeline, tables and standby paths")
                flows = protected.choose(topology, rate_pps=usual if rate_pps is None else rate_pps)
                experiment = Experiment(lab, service, run_dir, flows)
                experiment.prepare()
                yield experiment
            finally:
                service.stop()
    finally:
        service.stop()


def _slowed(topology: Topology, share: float, run_dir: Path, on_step: Callable[[str], None]) -> tuple[Topology, str]:
    """The topology with a share of its line rates, and the file that tells the control plane of it."""
    slower, path = topology.slowed(share), run_dir / "topology.yaml"
    path.write_text(dumps(slower))
    if any(link.rate_mbps for link in topology.links):
        on_step(f"links have {share:.0%} of their line rate, as much as the target can be expected to fill")
    return slower, str(path)
