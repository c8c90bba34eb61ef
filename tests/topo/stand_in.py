"""A stand-in for `python -m engine` in tests of the lab: a native data plane with the hand-written pipeline of the
switch process's tests (ports 1 <-> 2), and a TCP listener where the P4Runtime server would be.

It reads the same flags, so that the lab cannot tell the difference. Run as a script it is that process; imported it
gives the lab class that uses it.
"""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import ClassVar

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from engine.build import build_shared  # noqa: E402
from engine.process import spawn  # noqa: E402
from topo.lab import Lab  # noqa: E402
from topo.mininet_nodes import P4Switch, ShadowplaneSwitch  # noqa: E402
from topo.spec import Endpoint, Host, Link, Switch, Topology, port_mac  # noqa: E402


class StandInSwitch(ShadowplaneSwitch):
    def command(self) -> list[str]:
        return [sys.executable, str(Path(__file__).resolve()), *super().command()[3:]]


class StandInLab(Lab):
    switch_classes: ClassVar[dict[str, type[P4Switch]]] = {"engine": StandInSwitch}


def line(delay_ms: float = 0.0, rate_mbps: float = 0.0) -> Topology:
    """h1 - s1 - s2 - h2. The pipeline changes no MAC address, so each host has that of the other's gateway."""
    switches = (Switch("s1", 1), Switch("s2", 2))
    hosts = (
        Host("h1", "10.0.1.10/24", "fd00:0:1::10/64", port_mac(2, 1), "s1", 1),
        Host("h2", "10.0.2.10/24", "fd00:0:2::10/64", port_mac(1, 1), "s2", 1),
    )
    link = Link(Endpoint("s1", 2), Endpoint("s2", 2), delay_ms=delay_ms, rate_mbps=rate_mbps)
    return Topology("line", switches, hosts, (link,))


def main(flags: list[str]) -> None:
    ports: dict[int, str] = {}
    control_socket = address = ""
    for index, flag in enumerate(flags):
        if flag == "-i":
            number, _, interface = flags[index + 1].partition("@")
            ports[int(number)] = interface
        elif flag == "--control-socket":
            control_socket = flags[index + 1]
        elif flag == "--grpc-server-addr":
            address = flags[index + 1]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    pipeline = build_shared([REPOSITORY / "tests" / "engine" / "switchd_pipeline.c"], name="test-pipeline")
    dataplane = spawn(ports, control_socket, load=pipeline)
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        signal.signal(signal.SIGTERM, _leave)
        signal.sigwait([signal.SIGTERM])
    dataplane.terminate()
    dataplane.wait()


def _leave(_number: int, _frame: FrameType | None) -> None:
    return


if __name__ == "__main__":
    main(sys.argv[1:])
