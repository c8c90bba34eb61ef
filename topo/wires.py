"""Wires that can be impaired, for switches whose ports cannot: one process that all their links run through.

``s1-eth2 == w1``, ``w2 == s2-eth1``: the process (the embedded switch's, with ``native/wire.c`` as its pipeline) joins
w1 and w2. What is asked of a switch's port is done at the wire's far end, where its frames come in and what it
sends leaves: loss and delay for the port's received frames, rate and queue for those it sends.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.api import EngineError
from engine.build import build_shared
from engine.dataplane import spawn
from topo import marks
from topo.mininet_nodes import LabError
from topo.spec import Endpoint, Topology

MAX_LINKS = 250  # two ports each, below the switch process's own


class Wires:
    """The wires of a topology's links; :meth:`start` needs their interfaces up."""

    def __init__(self, topology: Topology, socket: Path, log: Path, lab_id: str) -> None:
        if len(topology.links) > MAX_LINKS:
            raise LabError(f"topology {topology.name}: more than {MAX_LINKS} links need the embedded switch")
        self.socket, self._log, self._lab_id = socket, log, lab_id
        self._port: dict[Endpoint, int] = {}
        for index, link in enumerate(topology.links):
            self._port[link.a], self._port[link.b] = 2 * index + 1, 2 * index + 2
        self._process: subprocess.Popen[bytes] | None = None

    def interface(self, end: Endpoint) -> str:
        """The wire's interface that is plugged into a switch's port."""
        return f"wire{self._port[end]}"

    def interfaces(self) -> list[str]:
        return [self.interface(end) for end in self._port]

    def far_port(self, end: Endpoint) -> int:
        """The port of the process at which to impair a switch's port."""
        if end not in self._port:
            raise LabError(f"port {end} leads to no switch: only links can be impaired with this target")
        return ((self._port[end] - 1) ^ 1) + 1

    def start(self) -> None:
        try:
            pipeline = build_shared([Path(__file__).parent / "native" / "wire.c"], name="wire")
            self._process = spawn(
                {port: f"wire{port}" for port in self._port.values()},
                self.socket,
                load=pipeline,
                log_file=self._log,
                prefix=["env", f"{marks.VARIABLE}={self._lab_id}"],
            )
        except EngineError as exc:
            raise LabError(f"the links' wires do not start: {exc}") from exc

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
