"""Front panels: ports that can be impaired and tell their state, for ``simple_switch_grpc``, whose own cannot.

::

    h1 ── s1-ln1 [ front panel of s1 ] s1-in1 ── s1-eth1 [ simple_switch_grpc ]
    s2 ── s1-ln2 [                   ] s1-in2 ── s1-eth2 [                    ]

One process per switch (the embedded switch's, with ``native/front.c`` as its pipeline): port N is where the cable of
the switch's port N is plugged in, port N + 256 leads to the switch. Delay, loss, rate, queue, transceiver and device
load are modelled there exactly as the embedded switch models its own, and read from there.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.api import DeviceState, EngineError
from engine.build import build_shared
from engine.process import spawn
from topo import marks
from topo.impairments import Schedule
from topo.mininet_nodes import LabError
from topo.spec import Endpoint, Topology

BEHIND = 256  # added to a port's number: the side towards the switch (``native/front.c``)
MAX_PORT = 240
#: A forwarded packet crosses the panel twice, and so do the orders of the device model's packets per second.
_CROSSINGS = 2
_PER_CROSSING = ("capacity_pps", "backlog_packets")


class Fronts:
    """The front panels of a topology's switches; :meth:`start` needs their interfaces up."""

    def __init__(self, topology: Topology, socket_dir: Path, run_dir: Path, lab_id: str) -> None:
        self.topology, self._socket_dir, self._run_dir, self._lab_id = topology, socket_dir, run_dir, lab_id
        for switch in topology.switches:
            if max(topology.ports(switch.name), default=0) > MAX_PORT:
                raise LabError(f"{switch.name}: ports above {MAX_PORT} need the embedded switch")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def socket(self, switch: str) -> Path:
        """The control socket of a switch's front panel."""
        return self._socket_dir / f"{switch}.front.sock"

    @staticmethod
    def line(end: Endpoint) -> str:
        """The panel's interface that a port's cable is plugged into."""
        return f"{end.switch}-ln{end.port}"

    @staticmethod
    def inside(end: Endpoint) -> str:
        """The panel's interface towards the switch's own port."""
        return f"{end.switch}-in{end.port}"

    def ends(self) -> Iterator[Endpoint]:
        for switch in self.topology.switches:
            for port in self.topology.ports(switch.name):
                yield Endpoint(switch.name, port)

    def interfaces(self) -> list[str]:
        return [name for end in self.ends() for name in (self.line(end), self.inside(end))]

    def start(self) -> None:
        try:
            pipeline = build_shared([Path(__file__).parent / "native" / "front.c"], name="front")
            for switch in self.topology.switches:
                ends = [Endpoint(switch.name, port) for port in self.topology.ports(switch.name)]
                self._processes[switch.name] = spawn(
                    {end.port: self.line(end) for end in ends} | {end.port + BEHIND: self.inside(end) for end in ends},
                    self.socket(switch.name),
                    load=pipeline,
                    log_file=self._run_dir / f"{switch.name}.front.log",
                    prefix=["env", f"{marks.VARIABLE}={self._lab_id}"],
                )
        except EngineError as exc:
            raise LabError(f"the switches' front panels do not start: {exc}") from exc

    def stop(self) -> None:
        processes, self._processes = self._processes, {}
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def device_schedule(schedule: Schedule) -> Schedule:
    """What a device's packets per second and waiting packets are at its front panel, which they cross twice."""
    return {
        key: [(when, value * _CROSSINGS) for when, value in points] if key in _PER_CROSSING else points
        for key, points in schedule.items()
    }


def of_switch(state: DeviceState, interfaces: Mapping[int, str]) -> DeviceState:
    """A front panel's state as its switch's: ports by the switch's own numbers and names (``interfaces``)."""
    ports = tuple(
        dataclasses.replace(port, name=interfaces.get(port.port, port.name))
        for port in state.ports
        if port.port < BEHIND
    )
    return dataclasses.replace(state, ports=ports, backlog=state.backlog // _CROSSINGS)
