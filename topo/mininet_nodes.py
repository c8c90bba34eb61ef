"""Mininet classes: hosts, links, and two P4Runtime switches that also work in ordinary Mininet scripts.

::

    net = Mininet(topo=SingleSwitchTopo(2), switch=ShadowplaneSwitch, controller=None)

``device_id`` comes from the switch's number (``s3``: 3) and P4Runtime listens on ``127.0.0.1:9558 + device_id``, unless
given. The pipeline is left to the controller unless ``json`` names a compiled program.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from topo import marks


def _provide_distutils() -> None:
    """Mininet 2.3.0 imports ``distutils.version``, which Python 3.12 no longer has (PEP 632)."""
    try:
        importlib.import_module("distutils.version")
    except ModuleNotFoundError:

        class StrictVersion(tuple[int, ...]):
            def __new__(cls, text: str) -> StrictVersion:
                return super().__new__(cls, (int(part) for part in re.findall(r"[0-9]+", text)))

        package, module = types.ModuleType("distutils"), types.ModuleType("distutils.version")
        module.StrictVersion = StrictVersion  # type: ignore[attr-defined]
        sys.modules["distutils"] = package
        sys.modules["distutils.version"] = module


_provide_distutils()

import mininet.link  # noqa: E402
import mininet.net  # noqa: E402
import mininet.node  # noqa: E402

_PRIORITY = ("nice", "-n", "-10")  # the embedded switch gives it to itself; where it is not allowed, nice goes on
READY_TIMEOUT_S = 60.0  # the first start on a machine compiles the switch


class LabError(RuntimeError):
    """The lab cannot be built or a switch failed; the text says which and why."""


def _environment(lab_id: str, given: Any = None) -> dict[str, str]:
    environment = dict(os.environ if given is None else given)
    if lab_id:
        environment[marks.VARIABLE] = lab_id
    return environment


class LabHost(mininet.node.Host):  # type: ignore[misc]
    """A Mininet host whose processes carry the lab's mark."""

    def __init__(self, name: str, lab_id: str = "", **params: Any) -> None:
        self.lab_id = lab_id
        super().__init__(name, **params)

    def _popen(self, cmd: Sequence[str], **params: Any) -> subprocess.Popen[Any]:
        params["env"] = _environment(self.lab_id, params.get("env"))
        return super()._popen(cmd, **params)  # type: ignore[no-any-return]


class LabInterface(mininet.link.Intf):  # type: ignore[misc]
    """An interface that the lab has made and configured already; Mininet only keeps the books."""

    def __init__(self, name: str, node: Any = None, ip: str = "", **params: Any) -> None:
        self.lab_ip = ip
        super().__init__(name, node=node, **params)

    def config(self, **_params: Any) -> dict[str, Any]:
        if self.lab_ip:
            self.ip, self.prefixLen = self.lab_ip.split("/")
        return {}


class LabLink(mininet.link.Link):  # type: ignore[misc]
    """A link between interfaces that exist; they are deleted all at once by the lab."""

    @classmethod
    def makeIntfPair(cls, *_args: Any, **_kwargs: Any) -> None:
        return

    def delete(self) -> None:
        self.intf1 = self.intf2 = None


class LabNet(mininet.net.Mininet):  # type: ignore[misc]
    """Mininet without the changes of system-wide limits that it makes at its first use."""

    def __init__(self, **params: Any) -> None:
        mininet.net.Mininet.inited = True
        super().__init__(**params)


class P4Switch(mininet.node.Switch):  # type: ignore[misc]
    """A switch process with a P4Runtime server, in the lab's own (Mininet's root) network namespace."""

    program = ""

    def __init__(
        self,
        name: str,
        *,
        device_id: int | None = None,
        grpc_port: int | None = None,
        run_dir: str | Path | None = None,
        json: str | Path | None = None,
        pcap_dir: str | Path | None = None,
        log_level: str = "info",
        lab_id: str = "",
        **params: Any,
    ) -> None:
        self.lab_id = lab_id
        super().__init__(name, dpid=f"{device_id:x}" if device_id is not None else None, **params)
        self.device_id = device_id if device_id is not None else int(self.dpid, 16)
        self.grpc_port = grpc_port if grpc_port is not None else 9558 + self.device_id
        self.run_dir = Path(run_dir) if run_dir is not None else Path(tempfile.mkdtemp(prefix="shadowplane-"))
        self.json = Path(json) if json is not None else None
        self.pcap_dir = Path(pcap_dir) if pcap_dir is not None else None
        self.log_level = log_level
        self.process: subprocess.Popen[bytes] | None = None
        self._told = False  # to end

    def _popen(self, cmd: Sequence[str], **params: Any) -> subprocess.Popen[Any]:
        params["env"] = _environment(self.lab_id, params.get("env"))
        return super()._popen(cmd, **params)  # type: ignore[no-any-return]

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log_file(self) -> Path:
        return self.run_dir / f"{self.name}.log"

    def data_ports(self) -> dict[int, str]:
        """Port number to interface name."""
        return {port: str(intf) for port, intf in sorted(self.intfs.items()) if str(intf) != "lo"}

    def command(self) -> list[str]:
        raise NotImplementedError

    def _target_options(self) -> list[str]:
        """What simple_switch_grpc wants behind ``--``, and the embedded switch takes there too."""
        return ["--", "--grpc-server-addr", self.grpc_address, "--cpu-port", "510", "--drop-port", "511"]

    def start(self, controllers: Iterable[Any] = ()) -> None:
        """Start the process; :meth:`wait_ready` waits for it. P4Runtime controllers connect by themselves."""
        del controllers
        if _port_taken(self.grpc_port):
            raise LabError(f"{self.name}: TCP port {self.grpc_port} on 127.0.0.1 is taken; is another lab running?")
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if self.pcap_dir is not None:
            self.pcap_dir.mkdir(parents=True, exist_ok=True)
        environment = _environment(self.lab_id)
        root = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
        self._told = False
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether the P4Runtime server accepts connections. Raises :class:`LabError` when the process has ended."""
        if self.process is None:
            raise LabError(f"{self.name} was not started")
        status = self.process.poll()
        if status is not None:
            raise LabError(f"{self.name} ended at start ({status}): {self.log_tail()} (log: {self.log_file})")
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.grpc_port)) == 0

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} does not listen after {timeout_s:g} s (log: {self.log_file})")
            time.sleep(0.02)

    @classmethod
    def batchStartup(cls, switches: Sequence[P4Switch]) -> Sequence[P4Switch]:
        """Mininet starts all switches first and then calls this: they come up side by side."""
        for switch in switches:
            switch.wait_ready()
        return switches

    @classmethod
    def batchShutdown(cls, switches: Sequence[P4Switch]) -> Sequence[P4Switch]:
        for switch in switches:
            switch.terminate_process()
        for switch in switches:
            switch.stop()
        return switches

    def terminate_process(self) -> None:
        """SIGTERM, once: a second one could disturb the orderly end."""
        if self.process is not None and self.process.poll() is None and not self._told:
            self._told = True
            self.process.terminate()

    def stop(self, deleteIntfs: bool = True) -> None:
        del deleteIntfs  # the lab or Mininet's links delete them
        self.terminate_process()
        process, self.process = self.process, None
        if process is None:
            return
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_tail(self) -> str:
        """The last lines of the log, on one line."""
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
            return " | ".join(line.strip() for line in lines[-4:]) or "it said nothing"
        return "no log"


class ShadowplaneSwitch(P4Switch):
    """The embedded switch (``python -m engine``): a P4Runtime server and a native data plane process.

    ``relaxed``: idle links are asked at each so many intervals. Not less often than others by default: a lab's devices
    are modelled with a few thousand packets/s, where the heartbeats of links that come into use look like load that
    grows, and its models learned what links say that are all asked alike.
    """

    def __init__(
        self,
        name: str,
        *,
        heartbeat_interval_us: int = 10_000,
        relaxed: int = 1,
        control_socket: str | Path | None = None,
        **params: Any,
    ) -> None:
        super().__init__(name, **params)
        self.heartbeat_interval_us = heartbeat_interval_us
        self.relaxed = relaxed
        self.control_socket = Path(control_socket) if control_socket is not None else self.run_dir / f"{name}.sock"

    def command(self) -> list[str]:
        ports = [item for port, name in self.data_ports().items() for item in ("-i", f"{port}@{name}")]
        return [
            sys.executable,
            "-m",
            "engine",
            "--device-id",
            str(self.device_id),
            *ports,
            *([str(self.json)] if self.json is not None else ["--no-p4"]),
            *(["--pcap", str(self.pcap_dir)] if self.pcap_dir is not None else []),
            "--log-level",
            self.log_level,
            "--control-socket",
            str(self.control_socket),
            "--pktgen-interval-us",
            str(self.heartbeat_interval_us),
            "--pktgen-relaxed",
            str(self.relaxed),
            *self._target_options(),
        ]

    def is_ready(self) -> bool:
        return super().is_ready() and self.control_socket.is_socket()

    def dataplane_pid(self) -> int | None:
        """Process id of the data plane behind the control socket, or None when nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self.control_socket))
            except OSError:
                return None
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return int(struct.unpack("3i", credentials)[0])

    def stop(self, deleteIntfs: bool = True) -> None:
        pid = self.dataplane_pid()
        super().stop(deleteIntfs)
        self._end_dataplane(pid)

    def kill(self) -> None:
        """SIGKILL to the server and to the data plane."""
        pid = self.dataplane_pid()
        super().kill()
        self._end_dataplane(pid)

    def kill_server(self) -> None:
        """SIGKILL to the P4Runtime server alone: the data plane goes on forwarding."""
        super().kill()

    def _end_dataplane(self, pid: int | None) -> None:
        """Only a data plane that outlived its server is left to end here."""
        if pid is None:
            return
        for _ in range(100):
            if marks.start_time(pid) is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.control_socket.unlink(missing_ok=True)


class Bmv2Switch(P4Switch):
    """The reference switch, ``simple_switch_grpc``, for ``TARGET=bmv2``."""

    program = "simple_switch_grpc"

    @classmethod
    def available(cls) -> bool:
        return shutil.which(cls.program) is not None

    def command(self) -> list[str]:
        ports = [item for port, name in self.data_ports().items() for item in ("-i", f"{port}@{name}")]
        return [
            *_PRIORITY,
            self.program,
            "--device-id",
            str(self.device_id),
            *ports,
            *([str(self.json)] if self.json is not None else ["--no-p4"]),
            *(["--pcap", str(self.pcap_dir)] if self.pcap_dir is not None else []),
            "--log-console",
            "--log-level",
            "warn" if self.log_level in ("info", "warning") else self.log_level,
            # Only builds with Thrift know the option, and they open its port whether it is wanted or not.
            *(["--thrift-port", str(19_090 + self.device_id)] if self._knows("--thrift-port") else []),
            *self._target_options(),
            # Without them a packet with a priority, such as a heartbeat, is dropped.
            *(["--priority-queues", "8"] if self._knows("--priority-queues") else []),
        ]

    @classmethod
    def _knows(cls, option: str) -> bool:
        """Whether this build of the switch has an option."""
        return option in _help(cls.program)


@functools.cache
def _help(program: str) -> str:
    """What a program says of its options; nothing when it does not answer."""
    try:
        done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _port_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False
