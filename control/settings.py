"""Settings of the service, in one place, with units in the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from control.errors import InputError
from control.plan import Monitor
from control.tse import Tuning

COMPILED = "shadowplane.json"
HEARTBEAT_MS = {"engine": 10.0, "bmv2": 20.0}
"""Heartbeat interval by target: BMv2 has no packet generator, so there the control plane orders each one."""


class Strategy(StrEnum):
    """Who answers a failure."""

    NONE = "none"  # nobody: no override, no reaction
    REACTIVE = "reactive"  # the controller reroutes once a port is reported down
    DATAPLANE = "dataplane"  # liveness in the data plane alone
    PREDICTIVE = "predictive"  # liveness, prediction, steering


def compiled_program() -> Path:
    """The folder of the compiled P4 program: ``p4/build`` of the source tree, or where the installed package keeps it
    (``share/shadowplane/p4`` of the environment)."""
    folder = Path(__file__).resolve().parent.parent / "p4" / "build"
    if folder.is_dir():
        return folder
    try:
        files = metadata.files("shadowplane") or []
    except metadata.PackageNotFoundError:
        files = []
    found = (Path(str(file.locate())).resolve() for file in files if file.name == COMPILED)
    return next((file.parent for file in found if file.is_file()), folder)


SAMPLE_MS = {"lab": 50.0, "operations": 5000.0}  # by profile: what its models were trained with


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults suit the lab. A port is dead ``dead_multiplier`` heartbeat
    intervals after it was last heard: two heartbeats may get lost (one, where an idle
    neighbour keeps its answers for nearly an interval), the next is not waited for."""

    topology: str = "diamond"
    strategy: Strategy = Strategy.PREDICTIVE
    state_dir: Path | None = None
    notices_dir: Path | None = None
    history_dir: Path | None = None  # where telemetry is recorded; None: nowhere
    config: Path | None = None  # switches, sources and so on (control.inventory)
    feeds: Path | None = None  # maintenance and weather feeds (control.feeds)
    profile: str = "lab"  # of the models: "lab" (compressed time) or "operations" (ml.profiles)
    models_dir: Path = Path("models")  # the operator's own versions (ml.store); without any, the packaged ones
    build_dir: Path = field(default_factory=compiled_program)
    host: str = "127.0.0.1"
    base_port: int = 9558  # P4Runtime port of a switch: this plus its device id
    gnmi_port_offset: int = 0  # where gNMI is not served at the P4Runtime port
    heartbeat_ms: float = 10.0
    dead_multiplier: float = 2.7
    report_ms: float = 100.0  # a silent port still reports this often
    rtt_delta_us: int = 5000  # a larger step is told at once
    sample_ms: float = SAMPLE_MS["lab"]  # gNMI
    rates_ms: float = 100.0  # group counters, where a port fills up
    tick_ms: float = 10.0  # steering wakes at least this often; samples wake it at once
    stable_s: float = 5.0
    capacity_limit: float = 0.9
    realtime: bool = True  # run as real-time threads where permitted (control.realtime)
    outage_s: dict[str, float] = field(
        default_factory=lambda: {"link_failure": 10.0, "congestion": 5.0, "device_overload": 10.0, "maintenance": 60.0}
    )
    """How long a failure of a mode is expected to cost packets if nobody acts: weighs recommendations."""
    tuning: Tuning = field(default_factory=Tuning)

    def monitor(self, strategy: Strategy) -> Monitor:
        """Liveness settings under a strategy."""
        return Monitor(
            dead_us=int(self.heartbeat_ms * self.dead_multiplier * 1000),
            report_us=int(self.report_ms * 1000),
            rtt_delta_us=self.rtt_delta_us,
            override=strategy in (Strategy.DATAPLANE, Strategy.PREDICTIVE),
        )

    def gnmi_address(self, address: str) -> str:
        """Where gNMI listens for a switch whose P4Runtime is at ``address``."""
        host, port = parse_address(address)
        return f"{host}:{port + self.gnmi_port_offset}"

    def address(self, device_id: int) -> str:
        return f"{self.host}:{self.base_port + device_id}"


def parse_address(text: str) -> tuple[str, int]:
    """``host:port``; raises :class:`InputError`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"{text!r} is not an address; expected HOST:PORT, for example 127.0.0.1:8080")
    return host, int(port)
