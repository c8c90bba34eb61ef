"""The diamond on ``simple_switch_grpc`` with its control plane: ``python -m tests.integration.bmv2_lab DIRECTORY``.

Meant for a network namespace of its own (``python -m topo.userns -- ...``). Ends with 0 if everything held.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from finsy import P4CounterEntry, P4Schema
from finsy.proto import p4r, p4r_grpc

from control.program import Program
from control.scoreboard import flows as protected
from control.scoreboard.experiment import Experiment, session
from control.settings import HEARTBEAT_MS, Settings, Strategy
from tests.integration.support import eventually
from topo.load import load
from topo.traffic import Traffic

ELEMENT = "s1-s2"
RATE_PPS = 800.0
LONGEST_S = 60.0


def main() -> None:
    program = Program.load(Settings().build_dir)
    interval_us = round(HEARTBEAT_MS["bmv2"] * 1000)
    with session(load("diamond"), Path(sys.argv[1]), target="bmv2", heartbeat_us=interval_us) as experiment:
        said_by_the_switches(experiment)
        experiment.service.post("/reset", {"strategy": Strategy.DATAPLANE.value})
        eventually(lambda: not experiment.service.get("/status")["dead_ports"], "every link heard")
        flip_and_back(experiment, program.schema)
        cut_and_restore(experiment)


def said_by_the_switches(experiment: Experiment) -> None:
    """What BMv2 lacks is found out, and named."""
    status: dict[str, Any] = eventually(lambda: _with_heartbeats(experiment), "known who orders the heartbeats")
    for item in status["switches"]:
        assert item["transport"] == "packet-out", item
        assert item["heartbeats"] == f"controller every {HEARTBEAT_MS['bmv2']:g} ms", item
    eventually(lambda: _telemetry(experiment) == {"up"}, "the agents beside the switches answer")


def _telemetry(experiment: Experiment) -> set[str]:
    return {item["telemetry"] for item in experiment.service.get("/status")["switches"]}


def _with_heartbeats(experiment: Experiment) -> dict[str, Any] | None:
    status: dict[str, Any] = experiment.service.get("/status")
    return status if all(item["heartbeats"] for item in status["switches"]) else None


def flip_and_back(experiment: Experiment, schema: P4Schema) -> None:
    """A flip by packet-out is acknowledged and read back; all packets go the other way then, and none is lost."""
    lab, service = experiment.lab, experiment.service
    flows = protected.choose(lab.topology, rate_pps=RATE_PPS)
    leaving = {flow.dst for flow in flows if lab.hosts[flow.src].switch == "s1"}
    groups = {
        line["destination"]: line["group_id"]
        for line in service.get("/paths")
        if line["switch"] == "s1" and line["destination"] in leaving and line["primary"].startswith(f"{ELEMENT}-")
    }
    assert groups, "some flow crosses the link"
    counters = _Counters(lab.grpc_address("s1"), lab.topology.switch("s1").device_id, schema)
    traffic = Traffic(lab, flows, experiment.run_dir / "traffic", duration_s=LONGEST_S)
    traffic.start()
    try:
        eventually(lambda: counters.moved(groups, side=0), "packets leave on the primary")
        for path, side in (("/flip", 1), ("/revert", 0)):
            began_s = time.time()
            answer = service.post(path, {"element": ELEMENT})
            assert answer["moved"] == len(answer["decisions"]) > 0, answer
            assert {item["outcome"] for item in answer["decisions"]} == {"done"}, answer
            lines = service.get("/ledger", since_s=began_s)
            assert len(lines) == answer["moved"], lines
            assert all(line["outcome"] == "done" and line["verified"] for line in lines), lines
            eventually(lambda side=side: counters.moved(groups, side=side), f"packets leave on side {side} only")
    finally:
        traffic.stop()
        counters.close()
    for report in traffic.report().values():
        assert report.sent > 0 and report.lost == report.duplicated == 0, report


class _Counters:
    """``group_tx`` of one switch, read beside the controller: reading needs no primary."""

    def __init__(self, address: str, device_id: int, schema: P4Schema) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub: Any = p4r_grpc.P4RuntimeStub(self._channel)
        self._device_id, self._schema = device_id, schema

    def moved(self, groups: Mapping[str, int], *, side: int) -> bool:
        """Whether within a moment every group sent packets on this side (1: the shadow), and none on the other."""
        cells = [(group, which) for group in groups.values() for which in (0, 1)]
        before = {cell: self._read(*cell) for cell in cells}
        time.sleep(0.1)
        grown = {cell for cell in cells if self._read(*cell) > before[cell]}
        return grown == {(group, side) for group in groups.values()}

    def _read(self, group: int, side: int) -> int:
        entry = P4CounterEntry("group_tx", index=2 * group + side).encode(self._schema)
        request = p4r.ReadRequest(device_id=self._device_id, entities=[entry])
        return sum(
            int(found.counter_entry.data.packet_count)
            for reply in self._stub.Read(request, timeout=10)
            for found in reply.entities
        )

    def close(self) -> None:
        self._channel.close()


def cut_and_restore(experiment: Experiment) -> None:
    """The ordered heartbeats tell a silent link from a living one, and notice when it is back."""
    lab, service = experiment.lab, experiment.service
    link = lab.topology.link(ELEMENT)
    ends = {str(link.a), str(link.b)}
    lab.cut(link)
    eventually(lambda: ends <= set(service.get("/status")["dead_ports"]), "both ends report the cut")
    lab.cut(link, restore=True)
    eventually(lambda: not service.get("/status")["dead_ports"], "all links are heard again")


if __name__ == "__main__":
    main()
