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
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
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
from engine.connection import Connection
from engine.program_json import program_from_json

log = logging.getLogger(__name__)

WRITE_CHUNK = 64  # updates per message: packets wait no longer than one message takes
WRITE_WINDOW = 16  # messages on the way
_DEVICE = struct.Struct("<QddIIQ")
_PORT = struct.Struct("<HBB16sII8QddQQ")

Schedule = Mapping[str, Sequence[tuple[float, float]] | None]


class SwitchOp(IntEnum):
    """Commands of the switch process, as in ``commands.c``."""

    HELLO = 0x100
    LOAD = 0x101
    PORTS = 0x102
    DEVICE_STATE = 0x103
    IMPAIR = 0x104
    PACKET_OUT = 0x105
    SUBSCRIBE = 0x106
    STATE_PUT = 0x107
    STATE_GET = 0x108
    PKTGEN = 0x109
    PCAP = 0x10A
    SHUTDOWN = 0x10B
    TRACE = 0x10C
    QUEUE = 0x10D


class EventKind(IntEnum):
    DIGEST = 0x8000
    PACKET_IN = 0x8001
    PORT_STATUS = 0x8002
    IDLE_TIMEOUT = 0x8003
    LOST = 0x8004
    TRACE = 0x8005


ALL_EVENTS = 0b1111


class Client(Commands):
    """Implements :class:`engine.api.Datapath` over a control socket, plus what concerns the process itself.

    Thread-safe. ``timeout`` (s) bounds each command; when the process is gone or does not answer,
    :class:`DatapathError` UNAVAILABLE is raised and the next command connects anew.
    """

    def __init__(self, socket_path: str | Path, *, timeout: float = 30.0) -> None:
        self.socket_path = str(socket_path)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False
        self._ending = False  # the process was told to end
        self._events: Connection | None = None
        self._thread: threading.Thread | None = None
        self._callbacks: list[Callable[[Event], None]] = []
        self.lost_events = 0  # events that the process dropped because we read too slowly
        self.clock_ns = 0  # the data plane's clock in the last reply
        self.refresh()

    # -- transport -----------------------------------------------------------------------------------------------

    def _exchange(self, op: int, payloads: Sequence[bytes]) -> list[bytes]:
        """Send ``payloads`` with up to WRITE_WINDOW of them unanswered; the replies in order."""
        replies: list[bytes] = []
        failure: DatapathError | None = None
        with self._lock:
            if self._closed:
                raise DatapathError(Code.UNAVAILABLE, "the client is closed")
            try:
                if self._connection is None:
                    self._connection = Connection(self.socket_path, self._timeout)
                connection = self._connection
                expected: list[int] = []
                for position in range(len(payloads)):
                    while len(expected) < min(len(payloads), position + WRITE_WINDOW):
                        expected.append(connection.send(op, payloads[len(expected)]))
                    ident, _op, code, body = connection.receive()
                    if ident != expected[position] or len(body) < 8:
                        raise ConnectionError("unexpected reply")
                    self.clock_ns = int.from_bytes(body[:8], "little")
                    if code:
                        failure = failure or DatapathError(_code(code), body[8:].decode(errors="replace"))
                    replies.append(body[8:])
            except OSError as error:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                raise DatapathError(Code.UNAVAILABLE, f"switch process at {self.socket_path}: {error}") from error
        if failure:
            raise failure
        return replies

    def command(self, op: int, payload: bytes) -> bytes:
        return self._exchange(op, (payload,))[0]

    def _json(self, op: SwitchOp, request: Mapping[str, Any]) -> None:
        self.command(op, json.dumps(request).encode())

    def close(self) -> None:
        """Leave the process alone and close the connections."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        if self._events is not None:
            self._events.shutdown()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process ---------------------------------------------------------------------------------------------

    def hello(self) -> dict[str, Any]:
        """Version, pid, program path, ports, clients and statistics of the process."""
        return cast(dict[str, Any], json.loads(self.command(SwitchOp.HELLO, b"")))

    def refresh(self) -> None:
        """Learn which program is loaded (again, when another client may have loaded one)."""
        if self.hello()["program"]:
            self._codec = Codec(program_from_json(self.command(Command.INFO, b"").decode()))
        else:
            self._codec = None

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

    def pktgen(self, interval_us: int, *, port_down: bool = True, defer: bool = False) -> None:
        """Heartbeat commands for all ports every ``interval_us`` (0: none), PORT_DOWN at carrier loss.

        Only for programs that understand them: both arrive on the generator's port. ``defer``: heartbeats of neighbours
        wake nobody up and wait for the next command, where that comes in time; for programs whose requests say how long
        they may wait, and whose answers tell how long they did (``liveness_held``). A process of an older version that
        was taken over does not know it and handles them at once.
        """
        request: dict[str, Any] = {"interval_us": interval_us, "port_down": port_down}
        if defer and "defer" in self.hello()["pktgen"]:
            request["defer"] = True
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
        return b"".join(self._exchange(Command.TABLE_WRITE, slices))

    def packet_out(self, data: bytes) -> None:
        self.command(SwitchOp.PACKET_OUT, data)

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
        with self._lock:
            self._callbacks.append(callback)
            if self._thread is not None:
                return
            self._events = Connection(self.socket_path, self._timeout)
            self._events.send(SwitchOp.SUBSCRIBE, struct.pack("<I", ALL_EVENTS))
            self._events.receive()
            self._events.wait_forever()
            self._thread = threading.Thread(target=self._read_events, name="dataplane-events", daemon=True)
            self._thread.start()

    def _read_events(self) -> None:
        connection = self._events
        assert connection is not None
        try:
            while True:
                _ident, op, _status, body = connection.receive()
                event = self._event(op, body)
                if event is None:
                    continue
                for callback in tuple(self._callbacks):
                    callback(event)
        except OSError as error:
            if not self._closed and not self._ending:
                log.warning("events of %s end: %s", self.socket_path, error)
        finally:
            connection.close()

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


def _code(value: int) -> Code:
    try:
        return Code(value)
    except ValueError:
        return Code.UNKNOWN
