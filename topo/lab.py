"""The lab: a topology as real interfaces, host namespaces and switch processes, on Mininet.

::

    with Lab(load("diamond"), run_dir=Path("build/run/lab")) as lab:
        ...                          # connect a controller to lab.grpc_address("s1")
        lab.cut(lab.topology.link("s1-s2"))

Needs root, or :func:`topo.userns.ensure` called before. All times in seconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from engine.api import DeviceState
from topo import marks, network, userns, wiring
from topo.agents import PORT_OFFSET, Agents, Device
from topo.fronts import Fronts, device_schedule, of_switch
from topo.impairments import Impairments, Schedule, constant
from topo.interrupts import Termination, no_interrupt
from topo.mininet_nodes import Bmv2Switch, LabError, LabHost, LabLink, LabNet, P4Switch, ShadowplaneSwitch
from topo.spec import Endpoint, Host, Link, Topology

__all__ = ["Lab", "LabError"]

TARGETS = ("engine", "bmv2")


class Lab:
    """A running network. Use as a context manager, or ``start`` and ``stop``.

    ``target``: ``engine`` or ``bmv2``. ``heartbeat_interval_us``: 0 turns the packet generator off.
    ``base``: give links the topology's delays and rates. ``pcap``: write captures of all ports to ``run_dir/pcaps``.
    """

    #: Switch class per target; a subclass of Lab may bring another.
    switch_classes: ClassVar[dict[str, type[P4Switch]]] = {"engine": ShadowplaneSwitch, "bmv2": Bmv2Switch}

    def __init__(
        self,
        topology: Topology,
        *,
        target: str = "engine",
        run_dir: Path,
        heartbeat_interval_us: int = 10_000,
        pcap: bool = False,
        base: bool = True,
        log_level: str = "info",
    ) -> None:
        if target not in TARGETS:
            raise LabError(f"unknown target {target!r} (known: {', '.join(TARGETS)})")
        self.topology = topology.validate()
        self.target = target
        self.run_dir = run_dir.resolve()
        self.heartbeat_interval_us = heartbeat_interval_us
        self.id = ""
        self.net: Any = None  # mininet.net.Mininet
        self.start_seconds: dict[str, float] = {}  # how long each step of the start took
        self._pcap, self._base, self._log_level = pcap, base, log_level
        self._socket_dir = Path()
        self._impairments: Impairments | None = None
        self._fronts: Fronts | None = None  # bmv2: its ports have no impairments of their own
        self._agents: Agents | None = None  # bmv2: it has no gNMI of its own
        self._lock = threading.RLock()
        self._termination = Termination()

    # --- life ---

    def start(self) -> Lab:
        """Build the network and wait until every switch listens. On failure nothing is left behind."""
        self._check()
        self.id = marks.new_id()
        self._socket_dir = marks.state_dir().parent / "run" / self.id
        self._socket_dir.mkdir(parents=True, mode=0o700)
        self._termination.install()
        try:
            self._register()
            began = time.monotonic()
            for name, step in (
                ("nodes", self._make_nodes),
                ("links", self._make_links),
                ("hosts", self._configure_hosts),
                ("switches", self._start_switches),
            ):
                step()
                self.start_seconds[name], began = time.monotonic() - began, time.monotonic()
        except network.NetworkError as exc:
            self.stop()
            raise LabError(str(exc)) from exc
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process, delete every interface; may be called twice, and after a failed start.

        A second Ctrl-C does not interrupt it.
        """
        with self._lock, no_interrupt():
            if not self.id:
                return
            if self._impairments is not None:
                self._impairments.close()
                self._impairments = None
            if self.net is not None:
                P4Switch.batchShutdown(self.net.switches)
                if self._agents is not None:
                    self._agents.stop()
                    self._agents = None
                if self._fronts is not None:
                    self._fronts.stop()
                    self._fronts = None
                with contextlib.suppress(network.NetworkError):
                    network.delete_interfaces(self._own_interfaces())
                self.net.stop()
                self.net = None
            marks.end_processes(self.id)
            shutil.rmtree(self._socket_dir, ignore_errors=True)
            marks.unregister(self.id)
            self.id = ""
            self._termination.restore()

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cli(self) -> None:
        """Mininet's command line on the terminal, until the user leaves it."""
        from mininet.cli import CLI

        CLI(self.net)

    # --- parts ---

    @property
    def hosts(self) -> Mapping[str, Host]:
        return {host.name: host for host in self.topology.hosts}

    def grpc_address(self, switch: str) -> str:
        return f"127.0.0.1:{9558 + self.topology.switch(switch).device_id}"

    def gnmi_address(self, switch: str) -> str:
        """Where a switch's telemetry is: at the switch itself, or at the agent beside it (``bmv2``)."""
        offset = PORT_OFFSET if self.target == "bmv2" else 0
        return f"127.0.0.1:{9558 + self.topology.switch(switch).device_id + offset}"

    def control_socket(self, switch: str) -> Path:
        """The control socket of a switch's data plane, or of its front panel (``bmv2``)."""
        name = self.topology.switch(switch).name
        return self._socket_dir / f"{name}.sock" if self._fronts is None else self._fronts.socket(name)

    def interface(self, end: Endpoint) -> str:
        return wiring.interface(end)

    def node(self, name: str) -> Any:
        """Mininet's node (a :class:`~topo.mininet_nodes.LabHost` or a switch), with ``cmd``, ``popen``, ``pid``."""
        if self.net is None:
            raise LabError("the lab is not running")
        try:
            return self.net.nameToNode[name]
        except KeyError:
            raise LabError(f"no node {name!r}") from None

    def host_popen(self, host: str, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[str]:
        """Start a command in a host's namespace, in text mode and out of reach of the terminal's Ctrl-C."""
        environment = {**(kwargs.pop("env", None) or os.environ), marks.VARIABLE: self.id}
        command = ["mnexec", "-a", str(self.node(self.topology.host(host).name).pid), *argv]
        return subprocess.Popen(command, text=True, env=environment, start_new_session=True, **kwargs)

    def host_run(self, host: str, argv: Sequence[str], timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command in a host's namespace to its end, with its output."""
        process = self.host_popen(host, argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    # --- faults ---

    def impair(self, target: Endpoint | str, schedule: Schedule) -> None:
        """Impair a port (an end point, or ``"s1:2"``) or a device (``"s1"``).

        ``schedule``: parameter to ``(seconds from now, value)`` points, linear between them and held after the last;
        the parameters are those of the engine's IMPAIR command. On ``bmv2`` it is the switch's front panel
        (:mod:`topo.fronts`) that is impaired, the device's load included.
        """
        switch, port = self._target(target)
        if port is None and self._fronts is not None:
            schedule = device_schedule(schedule)
        self._faults().set(switch, port, schedule)

    def clear_impairments(self, target: Endpoint | str | None = None) -> None:
        """Remove the impairments of one port or device, or of all; the topology's own delays and rates stay."""
        if target is not None:
            self._faults().clear(*self._target(target))
            return
        for link in self.topology.links:
            for end in (link.a, link.b):
                self._faults().clear(end.switch, end.port)
        for switch in self.topology.switches:
            self._faults().clear(switch.name, None)
        for host in self.topology.hosts:
            self._faults().clear(host.switch, host.port)

    def seed_noise(self, seed: int) -> None:
        """Start every link port's dice (receiver noise, random loss) from ``seed``, each from a point of its own."""
        for index, link in enumerate(self.topology.links):
            for side, end in enumerate((link.a, link.b)):
                self._faults().seed(end.switch, end.port, seed * 1_000_003 + 2 * index + side)

    def set_base(self, switch: str | None = None) -> None:
        """Give all ports (of one switch) the delays (on reception) and rates (on sending) of the topology."""
        for link in self.topology.links:
            for end in (link.a, link.b):
                if switch not in (None, end.switch) or not (link.delay_ms or link.rate_mbps):
                    continue
                values = {"delay_ms": link.delay_ms, "rate_mbps": link.rate_mbps}
                schedule = {key: constant(value) for key, value in values.items() if value}
                self._faults().set(end.switch, end.port, schedule, base=True)

    def state(self, switch: str) -> DeviceState:
        """Counters, queues and transceivers of a switch, as its data plane or its front panel sees them."""
        name = self.topology.switch(switch).name
        state = self._faults().state(name)
        return state if self._fronts is None else of_switch(state, self._switch_node(name).data_ports())

    def cut(self, link: Link, *, restore: bool = False) -> None:
        """Silent cut of both directions (or its end): interfaces stay up and nothing arrives any more."""
        for end in (link.a, link.b):
            self._faults().set(end.switch, end.port, {"loss": constant(0.0 if restore else 1.0)})

    def carrier(self, link: Link, up: bool) -> None:
        """Take the carrier of a link away, or give it back: both switches see their port go down or up.

        On ``bmv2`` it is the front panel's end that goes down: a switch of this kind stops reading all of its ports
        while one of its own interfaces is down (libpcap waits for it to come back).
        """
        plugs = self.interface if self._fronts is None else self._fronts.line
        network.ip_batch(f"link set dev {plugs(end)} {'up' if up else 'down'}" for end in (link.a, link.b))

    def kill_switch(self, name: str) -> None:
        """SIGKILL a switch, data plane included."""
        self._forget(name)
        self._switch_node(name).kill()

    def kill_server(self, name: str) -> None:
        """SIGKILL the P4Runtime server alone; its data plane goes on (``engine`` only)."""
        node = self._switch_node(name)
        if not isinstance(node, ShadowplaneSwitch):
            raise LabError(f"{name}: {self.target} has no separate data plane process")
        node.kill_server()

    def restart_switch(self, name: str) -> None:
        """Start a killed switch again and wait until it listens; its topology delays and rates come back."""
        node = self._switch_node(name)
        survived = isinstance(node, ShadowplaneSwitch) and node.dataplane_pid() is not None
        self._forget(name)
        node.start()
        node.wait_ready()
        self._tell_agents()
        if self._base and not survived and self._fronts is None:
            self.set_base(name)

    # --- building ---

    def _check(self) -> None:
        if self.id:
            raise LabError("the lab is running already")
        if not userns.privileged():
            raise userns.PrivilegeError("the lab needs root or a user namespace: call topo.userns.ensure() first")
        for tool, package in (("mnexec", "mininet"), ("ip", "iproute2")):
            if shutil.which(tool) is None:
                raise LabError(f"{tool} is not on the PATH: `apt install --no-install-recommends {package}`")
        if self.target == "bmv2" and not Bmv2Switch.available():
            raise LabError("TARGET=bmv2 needs simple_switch_grpc on the PATH; the default target is `engine`")
        taken = network.existing(wiring.interface_names(self.topology))
        if taken:
            raise LabError(
                f"interface {taken[0]} exists already: another lab is running, "
                "or one crashed (`make clean` repairs that)"
            )

    def _own_interfaces(self) -> list[str]:
        return list(network.interfaces_with_alias(marks.ALIAS + self.id))

    def _register(self) -> None:
        names = [switch.name for switch in self.topology.switches]
        marks.register(
            marks.LabEntry(
                id=self.id,
                pid=os.getpid(),
                topology=self.topology.name,
                target=self.target,
                run_dir=str(self.run_dir),
                sockets=tuple(str(self.control_socket(name)) for name in names),
                grpc={name: self.grpc_address(name) for name in names},
                namespaced=bool(os.environ.get(userns.ENTERED)),
            )
        )

    def _make_nodes(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for switch in self.topology.switches:
            (self.run_dir / f"{switch.name}.log").unlink(missing_ok=True)
        self.net = LabNet(build=False, controller=None, host=LabHost, link=LabLink)
        common = {
            "lab_id": self.id,
            "run_dir": self.run_dir,
            "pcap_dir": self.run_dir / "pcaps" if self._pcap else None,
            "log_level": self._log_level,
        }
        for host in self.topology.hosts:
            self.net.addHost(host.name, ip=host.ipv4, mac=host.mac, lab_id=self.id)
        for switch in self.topology.switches:
            special: dict[str, object] = {}
            if self.target == "engine":
                special["control_socket"] = self.control_socket(switch.name)
                special["heartbeat_interval_us"] = self.heartbeat_interval_us
            cls = self.switch_classes[self.target]
            self.net.addSwitch(switch.name, cls=cls, device_id=switch.device_id, **special, **common)

    def _host_pids(self) -> dict[str, int]:
        return {host.name: self.node(host.name).pid for host in self.topology.hosts}

    def _make_links(self) -> None:
        if self.target == "bmv2":
            self._fronts = Fronts(self.topology, self._socket_dir, self.run_dir, self.id)
        wiring.lay_cables(self.topology, self.id, self._host_pids(), self._fronts)
        wiring.tell_mininet(self.net, self.topology)

    def _configure_hosts(self) -> None:
        wiring.configure_hosts(self.topology, self._host_pids())

    def _start_switches(self) -> None:
        if self._fronts is not None:
            self._fronts.start()
        self._impairments = Impairments(self.control_socket)
        self.net.built = True
        self.net.start()
        if self._base:
            self.set_base()
        if self._fronts is not None:
            self._start_agents(self._fronts)

    def _start_agents(self, fronts: Fronts) -> None:
        devices = [
            Device(
                switch.name,
                int(self.gnmi_address(switch.name).rpartition(":")[2]),
                fronts.socket(switch.name),
                self._switch_node(switch.name).data_ports(),
            )
            for switch in self.topology.switches
        ]
        self._agents = Agents(devices, self.run_dir / "agents.log", self.id)
        self._agents.start()
        self._tell_agents()

    def _tell_agents(self) -> None:
        if self._agents is not None:
            processes = {switch.name: self._switch_node(switch.name).process for switch in self.topology.switches}
            self._agents.tell({name: process.pid if process else None for name, process in processes.items()})

    # --- inside ---

    def _target(self, target: Endpoint | str) -> tuple[str, int | None]:
        if isinstance(target, str):
            name, colon, port = target.partition(":")
            if colon and not port.isdigit():
                raise LabError(f"bad target {target!r}: wanted a switch or switch:port")
            target = Endpoint(name, int(port)) if colon else name
        if isinstance(target, str):
            return self.topology.switch(target).name, None
        if target.port not in self.topology.ports(target.switch):
            raise LabError(f"no port {target}")
        return target.switch, target.port

    def _faults(self) -> Impairments:
        if self._impairments is None:
            raise LabError("the lab is not running")
        return self._impairments

    def _forget(self, switch: str) -> None:
        if self._impairments is not None and self._fronts is None:  # a front panel outlives its switch
            self._impairments.forget(switch)

    def _switch_node(self, name: str) -> P4Switch:
        node = self.node(self.topology.switch(name).name)
        if not isinstance(node, P4Switch):
            raise LabError(f"{name} is not a switch")
        return node
