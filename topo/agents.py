"""gNMI for switches that offer none: one process per lab with a server beside each ``simple_switch_grpc``.

A bought switch has an agent of its operating system that tells port counters, transceivers and processor load; the
reference switch is only a data plane. Here the agent reads the switch's front panel (:mod:`topo.fronts`) and, from
``/proc``, how busy the switch's busiest thread is. Addresses: the P4Runtime port + 1000.

``python -m topo.agents`` is started by :class:`Agents`, which tells it the switches' process ids on standard input and
ends it by closing that.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import DeviceState, EngineError, PortStatus
from engine.dataplane import Client
from topo import marks
from topo.fronts import BEHIND, of_switch
from topo.mininet_nodes import LabError

PORT_OFFSET = 1000  # gNMI listens at the P4Runtime port + this
START_TIMEOUT_S = 20.0
_WINDOW_S = 0.2  # over which a thread's load is taken
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = os.sysconf("SC_PHYS_PAGES") * _PAGE


@dataclass(frozen=True, slots=True)
class Device:
    """A switch to speak for."""

    name: str
    port: int  # TCP port on loopback
    socket: Path  # of its front panel
    interfaces: dict[int, str]


class ProcessLoad:
    """How busy the busiest thread of a process is (0..1 of a core), and its share of the machine's memory.

    A switch forwards no faster than its busiest stage, and each stage of ``simple_switch_grpc`` is a thread.
    """

    def __init__(self) -> None:
        self._pid: int | None = None
        self._spent: dict[str, float] = {}  # thread to seconds of processor time
        self._at = 0.0
        self._cpu = self._memory = 0.0
        self._lock = threading.Lock()

    def watch(self, pid: int | None) -> None:
        with self._lock:
            self._pid, self._spent, self._at, self._cpu, self._memory = pid, {}, 0.0, 0.0, 0.0

    def read(self, now_s: float) -> tuple[float, float]:
        """(processor, memory) as of the last complete window; zeros where nothing runs."""
        with self._lock:
            if self._pid is not None and now_s - self._at >= _WINDOW_S:
                self._measure(now_s)
            return self._cpu, self._memory

    def _measure(self, now_s: float) -> None:
        process = Path(f"/proc/{self._pid}")
        spent: dict[str, float] = {}
        try:
            for task in (process / "task").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
                    fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
                    spent[task.name] = (int(fields[11]) + int(fields[12])) * _TICK_S
            resident = int((process / "statm").read_text().split()[1]) * _PAGE
        except (FileNotFoundError, ProcessLookupError):
            self._pid, self._cpu, self._memory = None, 0.0, 0.0
            return
        if self._spent:
            grown = [seconds - self._spent.get(name, 0.0) for name, seconds in spent.items()]
            self._cpu = min(1.0, max(grown, default=0.0) / (now_s - self._at))
        self._memory = resident / _MEMORY
        self._spent, self._at = spent, now_s


class Agent:
    """Speaks gNMI for one switch."""

    def __init__(self, device: Device) -> None:
        import grpc

        from engine.gnmi import MAX_SUBSCRIPTIONS, GnmiService

        self.device = device
        self.load = ProcessLoad()
        self._client = Client(device.socket)
        self._service = GnmiService(self._read)
        self._client.subscribe(self._event)
        self._server = grpc.server(
            ThreadPoolExecutor(MAX_SUBSCRIPTIONS + 8), options=(("grpc.so_reuseport", 0),), compression=None
        )
        self._server.add_generic_rpc_handlers((self._service.handler(),))
        try:
            self._server.add_insecure_port(f"127.0.0.1:{device.port}")
        except RuntimeError as error:
            raise LabError(f"{device.name}: TCP port {device.port} on 127.0.0.1 is taken; another lab?") from error
        self._server.start()

    def stop(self) -> None:
        self._service.close()
        self._server.stop(0.2).wait()
        self._client.close()

    def _event(self, event: object) -> None:
        if isinstance(event, PortStatus) and event.port < BEHIND:
            self._service.on_port(event)

    def _read(self, keep_maxima: bool) -> DeviceState:
        state = of_switch(self._client.device_state(keep_maxima=keep_maxima), self.device.interfaces)
        cpu, memory = self.load.read(time.monotonic())
        # The panel's own load is the modelled device's where a fault gives it a capacity, and small otherwise.
        return dataclasses.replace(
            state,
            cpu_utilization=max(state.cpu_utilization, cpu),
            memory_utilization=max(state.memory_utilization, memory),
        )


class Agents:
    """The lab's side: starts the process, tells it process ids, ends it."""

    def __init__(self, devices: list[Device], log: Path, lab_id: str) -> None:
        self._devices, self._log, self._lab_id = devices, log, lab_id
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when all servers listen; :class:`LabError` with the process's last words when they don't."""
        listing = [
            {**dataclasses.asdict(device), "socket": str(device.socket), "interfaces": list(device.interfaces.items())}
            for device in self._devices
        ]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "topo.agents", "--devices", json.dumps(listing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).resolve().parent.parent,
                env={**os.environ, marks.VARIABLE: self._lab_id},
                start_new_session=True,
            )
        self._process = process
        assert process.stdout is not None
        timer = threading.Timer(START_TIMEOUT_S, process.kill)
        timer.start()
        try:
            answer = process.stdout.readline()
        finally:
            timer.cancel()
        if answer.strip() != "ready":
            self.stop()
            words = self._log.read_text(errors="replace").strip().splitlines()
            raise LabError(f"the switches' gNMI agents do not start: {words[-1] if words else 'they said nothing'}")

    def tell(self, pids: Mapping[str, int | None]) -> None:
        """The process that each switch is now (None: none)."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(dict(pids)) + "\n")
                process.stdin.flush()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m topo.agents", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--devices", required=True, help="JSON list of name, port, socket and [port, interface] pairs")
    listing: list[dict[str, Any]] = json.loads(parser.parse_args().devices)
    agents: dict[str, Agent] = {}
    try:
        for item in listing:
            device = Device(item["name"], item["port"], Path(item["socket"]), dict(item["interfaces"]))
            agents[device.name] = Agent(device)
        print("ready", flush=True)
        for line in sys.stdin:  # until the lab closes it, or ends
            for name, pid in json.loads(line).items():
                agents[name].load.watch(pid)
    except (LabError, EngineError) as error:
        print(f"agents: {error}", file=sys.stderr)
        return 1
    finally:
        for agent in agents.values():
            agent.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
