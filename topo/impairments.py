"""Impairments of running switches, through the control sockets of their data planes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from engine.api import DeviceState, EngineError
from engine.dataplane import Client
from topo.mininet_nodes import LabError

T = TypeVar("T")

#: Parameter to points (seconds, value): linear between points, held after the last.
Schedule: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]


def constant(value: float) -> tuple[tuple[float, float], ...]:
    return ((0.0, value),)


def shifted(points: Sequence[tuple[float, float]], by_s: float) -> tuple[tuple[float, float], ...]:
    """The points moved by ``by_s`` seconds; what falls before 0 is cut off, with the value at 0 kept."""
    moved = [(when + by_s, value) for when, value in points]
    later = [point for point in moved if point[0] >= 0]
    earlier = [point for point in moved if point[0] < 0]
    if not earlier:
        return tuple(later)
    if not later:
        return ((0.0, earlier[-1][1]),)
    (t0, v0), (t1, v1) = earlier[-1], later[0]
    return ((0.0, v0 + (v1 - v0) * (0.0 - t0) / (t1 - t0)), *later)


class Impairments:
    """Keeps one connection per switch. Thread-safe; errors come out as :class:`LabError` naming the switch."""

    def __init__(self, socket_of: Callable[[str], Path]) -> None:
        self._socket_of = socket_of
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def set(self, switch: str, port: int | None, schedule: Schedule, *, base: bool = False) -> None:
        """Replace the named parameters of a port, or of the device. ``base``: the layer that stays under faults."""
        self._call(switch, lambda client: client.impair(port, schedule, base=base))

    def clear(self, switch: str, port: int | None) -> None:
        self._call(switch, lambda client: client.impair(port, clear=True))

    def seed(self, switch: str, port: int, seed: int) -> None:
        """Make the noise of a port's receiver repeatable."""
        self._call(switch, lambda client: client.impair(port, seed=seed))

    def state(self, switch: str) -> DeviceState:
        """Counters, queues and transceivers of a switch, without disturbing the maxima that telemetry reads."""
        return self._call(switch, lambda client: client.device_state(keep_maxima=True))

    def forget(self, switch: str) -> None:
        """Drop the connection to a switch that is about to go."""
        with self._lock:
            client = self._clients.pop(switch, None)
        if client is not None:
            client.close()

    def close(self) -> None:
        for switch in list(self._clients):
            self.forget(switch)

    def _call(self, switch: str, work: Callable[[Client], T]) -> T:
        try:
            with self._lock:
                client = self._clients.get(switch)
                if client is None:
                    client = self._clients[switch] = Client(self._socket_of(switch))
            return work(client)
        except (EngineError, OSError) as exc:
            self.forget(switch)
            raise LabError(f"{switch}: its data plane refused a command: {exc}") from exc
