"""A running switch process, commanded over its control socket; :mod:`engine.process` starts one.

The process (``engine/native/switchd``) owns the interfaces and the loaded program and outlives its clients; a new
:class:`Client` on the same socket finds everything as it was. Message format: ``engine/native/switchd/control.c``,
commands of the process: ``commands.c``, of the program: :mod:`engine.codec`.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from engine.api import (
    Code,
    DatapathError,
    DeviceState,
    Digest,
    Event,
    IdleTimeout,
    PacketIn,
    PortState,
    PortStatus,
)
from engine.codec import Codec, Command, Reader
from engine.commands import Commands
from engine.connection import Exchange
from engine.events import LISTS_SINCE, Events, Follower
from engine.operations import EventKind, SwitchOp
from engine.program_json import program_from_json

log = logging.getLogger(__name__)

WRITE_CHUNK = 64  # updates per message: packets wait no longer than one message takes
_DEVICE = struct.Struct("<QddIIQ")
_PORT = struct.Struct("<HBB16sII8QddQQ")

Schedule = Mapping[str, Sequence[tuple[float, float]] | None]


class Client(Commands):
    """Implements :class:`engine.api.Datapath` over a control socket, plus what concerns the process itself.

    Thread-safe. ``timeout`` (s) bounds each command; when the process is gone or does not answer,
    :class:`DatapathError` UNAVAILABLE is raised and the next command connects anew.
    """

    def __init__(self, socket_path: str | Path, *, timeout: float = 30.0) -> None:
        self.socket_path = str(socket_path)
        self._ordered = Exchange(self.socket_path, timeout)
        self.exchange = self._urgent = Exchange(self.socket_path, timeout)
        self._closed = False
        self._ending = False  # the process was told to end
        self.lost_events = 0  # events that the process dropped because we read too slowly
        lists = self.refresh() >= LISTS_SINCE
        self._events = Events(self.socket_path, timeout, self._event, lambda: self._closed or self._ending, lists=lists)

    # -- transport -----------------------------------------------------------------------------------------------

    @property
    def clock_ns(self) -> int:
        """The data plane's clock in the last reply to :meth:`command`."""
        return self._ordered.clock_ns

    def command(self, op: int, payload: bytes) -> bytes:
        return self._ordered.run(op, (payload,))[0]

    def urgent(self, op: int, payload: bytes) -> bytes:
        """As :meth:`command`, on a connection of its own: waits for no command that takes long."""
        return self._urgent.run(op, (payload,))[0]

    def _json(self, op: SwitchOp, request: Mapping[str, Any]) -> None:
        self.command(op, json.dumps(request).encode())

    def close(self) -> None:
        """Leave the process alone and close the connections."""
        self._closed = True
        self._ordered.close()
        self._urgent.close()
        self._events.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process ---------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Version, pid, program path, ports, clients and statistics of the process."""
        return cast(dict[str, Any], json.loads(self.command(SwitchOp.HELLO, b"")))

    def refresh(self) -> int:
        """Learn which program is loaded (again, when another client may have loaded one); the process's protocol."""
        hello = self.hello()
        if hello["program"]:
            self._codec = Codec(program_from_json(self.command(Command.INFO, b"").decode()))
        else:
            self._codec = None
        return int(hello["protocol"])

    def load(self, shared_object: str | Path) -> None:
        """Load a compiled program; its state is fresh, the old program's is gone."""
        self.command(SwitchOp.LOAD, os.fsencode(Path(shared_object).resolve()))
        self.refresh()

    def add_port(self, port: int, interface: str) -> None:
        """The interface need not exist yet: the port is up as soon as it does."""
        self._json(SwitchOp.PORTS, {"add": [{"port": port, "name": interface}]})

    def remove_port(self, port: int) -> None:
        self._json(SwitchOp.PORTS, {"remove": [port]})

    def enable_ports(self, states: Mapping[int, bool]) -> None:
        """Administrative states: a disabled port is down whatever its carrier. NOT_FOUND changes none of them."""
        self._json(SwitchOp.PORTS, {"enabled": {str(port): state for port, state in states.items()}})

    def pktgen(self, interval_us: int, *, port_down: bool = True, defer: bool = False, relaxed: int = 1) -> None:
        """Heartbeat commands for all ports every ``interval_us`` (0: none), PORT_DOWN at carrier loss.

        Only for programs that understand them: both arrive on the generator's port. ``defer``: heartbeats of neighbours
        wake nobody up and wait for the next command, where that comes in time; for programs whose requests say how long
        they may wait, and whose answers tell how long they did (``liveness_held``). ``relaxed``: ports on which nothing
        but heartbeats passes get each so many-th command only (1, 2, 4 or 8), if they are deferred and that is at most
        50 ms; its value tells the program how many times the interval is doubled (``liveness_relaxed``). A process of
        an older version that was taken over does not know these and handles all at once, or commands as often as usual.
        """
        request: dict[str, Any] = {"interval_us": interval_us, "port_down": port_down}
        known = self.hello()["pktgen"]
        if defer and "defer" in known:
            request["defer"] = True
        if relaxed > 1 and "relaxed" in known:
            request["relaxed"] = relaxed
        self._json(SwitchOp.PKTGEN, request)

    def pcap(self, directory: str | Path | None) -> None:
        """Write ``<interface>_in.pcap`` and ``<interface>_out.pcap`` for all ports; None stops."""
        self.command(SwitchOp.PCAP, os.fsencode(directory) if directory is not None else b"")

    def state_put(self, key: str, value: bytes) -> None:
        """Keep ``value`` in the process (at most 64 MiB in all); empty forgets it."""
        name = key.encode()
        if not 1 <= len(name) <= 255:
            raise DatapathError(Code.INVALID_ARGUMENT, "a key has 1 to 255 bytes")
        self.command(SwitchOp.STATE_PUT, bytes([len(name)]) + name + value)

    def state_get(self, key: str) -> bytes | None:
        """What :meth:`state_put` kept; None when there is nothing."""
        try:
            return self.command(SwitchOp.STATE_GET, key.encode())
        except DatapathError as error:
            if error.code is Code.NOT_FOUND:
                return None
            raise

    def shutdown(self) -> None:
        """End the process."""
        self._ending = True
        self.command(SwitchOp.SHUTDOWN, b"")

    # -- impairments ---------------------------------------------------------------------------------------------

    def impair(
        self,
        port: int | None,
        schedule: Schedule | None = None,
        *,
        clear: bool = False,
        base: bool = False,
        seed: int | None = None,
    ) -> None:
        """Impair a port (None: the device).

        ``schedule``: parameter -> [(seconds from now, value), ...], piecewise linear, held after the last point;
        None ends a parameter. ``clear`` removes all others first. ``base`` addresses the layer that clearing
        faults leaves alone (a link's own delay and rate). ``seed`` repeats the port's random choices.
        Parameters: ``impair.h``.
        """
        request: dict[str, Any] = {"port": port}
        if schedule is not None:
            request["schedule"] = {
                name: None if points is None else [list(point) for point in points] for name, points in schedule.items()
            }
        if clear:
            request["clear"] = True
        if base:
            request["base"] = True
        if seed is not None:
            request["seed"] = seed
        self._json(SwitchOp.IMPAIR, request)

    def queue(
        self,
        port: int | None,
        priority: int | None = None,
        *,
        rate_pps: float | None = None,
        rate_mbps: float | None = None,
        depth: int | None = None,
    ) -> None:
        """Rate and depth (packets) of a port's queue of one priority (None: of all ports, of all eight priorities).

        A packet leaves when both rates and the port's own allow it. 0 takes a setting back: no rate, the port's
        ``queue_packets``; None leaves it alone. :meth:`hello` tells what is set, queued and dropped.
        """
        settings = {"rate_pps": rate_pps, "rate_mbps": rate_mbps, "depth": depth}
        given = {name: value for name, value in settings.items() if value is not None}
        self._json(SwitchOp.QUEUE, {"port": port, "priority": priority, **given})

    # -- Datapath ------------------------------------------------------------------------------------------------

    def _send_updates(self, encoded: Sequence[bytes], atomic: bool) -> bytes:
        """Large batches go in slices, with packets in between."""
        if atomic or len(encoded) <= WRITE_CHUNK:
            return super()._send_updates(encoded, atomic)
        slices = [
            self.codec.table_write(encoded[i : i + WRITE_CHUNK], atomic=False)
            for i in range(0, len(encoded), WRITE_CHUNK)
        ]
        return b"".join(self._ordered.run(Command.TABLE_WRITE, slices))

    def packet_out(self, data: bytes) -> None:
        self.urgent(SwitchOp.PACKET_OUT, data)

    def device_state(self, *, keep_maxima: bool = False) -> DeviceState:
        """Readings of now. ``queue_max`` counts from the last call without ``keep_maxima``."""
        data = self.command(SwitchOp.DEVICE_STATE, b"\x01" if keep_maxima else b"")
        time_ns, cpu, memory, backlog, count, dropped = _DEVICE.unpack_from(data)
        if len(data) != _DEVICE.size + count * _PORT.size:
            raise DatapathError(Code.INTERNAL, f"{len(data)} bytes for {count} ports")
        ports = []
        for number, up, disabled, name, depth, maximum, *rest in _PORT.iter_unpack(data[_DEVICE.size :]):
            ports.append(
                PortState(
                    number, name.rstrip(b"\0").decode(), bool(up), *_port_fields(rest, depth, maximum, not disabled)
                )
            )
        ports.sort(key=lambda port: port.port)
        return DeviceState(time_ns, cpu, memory, backlog, dropped, tuple(ports))

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        def one_by_one(events: Sequence[Event]) -> None:
            for event in events:
                callback(event)

        self._events.follow(one_by_one, None)

    def follow(self, follower: Follower, digests: Collection[int]) -> None:
        """As :meth:`subscribe`, but what arrived together comes together, and of digests only those of these numbers.

        See :meth:`engine.events.Events.follow`. An older process that was taken over sends all digests or none.
        """
        self._events.follow(follower, digests)

    def _event(self, op: int, body: bytes) -> Event | None:
        reader = Reader(body)
        time_ns = reader.u64()
        rest = body[8:]
        if op == EventKind.PACKET_IN:
            return PacketIn(rest)
        if op == EventKind.PORT_STATUS:
            return PortStatus(reader.u16(), bool(reader.u8()), time_ns)
        if op == EventKind.LOST:
            self.lost_events = reader.u64()
            return None
        codec = self._codec
        try:
            if codec is not None and op == EventKind.DIGEST:
                digest = reader.u32()
                return Digest(digest, codec.digest_values(digest, rest[4:]), time_ns)
            if codec is not None and op == EventKind.IDLE_TIMEOUT:
                return IdleTimeout(codec.read_entry(Reader(rest)), time_ns)
        except (DatapathError, IndexError) as error:  # the event of a program that was just replaced
            log.warning("event 0x%x does not fit the loaded program: %s", op, error)
        return None


def _port_fields(rest: Sequence[Any], depth: int, maximum: int, enabled: bool) -> tuple[Any, ...]:
    rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, rate, *optics = rest
    counters = (rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped)
    return (*counters, depth, maximum, rate, *optics, enabled)
