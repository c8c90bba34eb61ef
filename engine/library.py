"""Compiles programs, and runs them in this process: packets in memory, the caller's clock.

>>> from engine.library import Switch, compile_program
>>> switch = Switch(compile_program("p4/build/shadowplane.json"))      # doctest: +SKIP
>>> switch.process(1, frame, now_ns=0)                                 # doctest: +SKIP
[(2, b'...')]
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine import ir
from engine.api import (
    Code,
    DatapathError,
    DeviceState,
    Digest,
    Event,
    IdleTimeout,
    PacketIn,
    PortStatus,
    ProgramError,
)
from engine.build import INCLUDE, NATIVE, build_shared, sources_key
from engine.codec import Codec, Reader
from engine.codegen import generate
from engine.commands import Commands
from engine.compiled import RELEASE, CompiledProgram
from engine.ir_load import load
from engine.program import program_info
from engine.program_json import program_from_json

ABI = 7
LATER = 0x100  # sp_engine.h: SP_LATER
DROP_PORT = 511
CPU_PORT = 510
TRACED = ("-O1", "-DSP_TRACE")  # the variant that tells of each packet's way: sp_trace.h
PROGRAM_LOG = logging.getLogger("engine.program")  # what the extern log_msg() says


def load_program(source: str | Path | dict[str, Any]) -> ir.Program:
    """Parse and validate BMv2 JSON; :class:`ProgramError` or :class:`engine.api.Unsupported`."""
    return load(source)


def compile_program(
    source: str | Path | dict[str, Any],
    *,
    packet_out_bytes: int = 0,
    packet_in_bytes: int = 0,
    flags: Sequence[str] = RELEASE,
) -> CompiledProgram:
    """Load, generate and compile (or find in the cache) a program.

    Raises :class:`ProgramError`, :class:`engine.api.Unsupported`, :class:`engine.api.CompilerMissing` or
    :class:`engine.build.BuildError`.
    """
    program = load(source)
    info = program_info(program, packet_out_bytes, packet_in_bytes)
    text = generate(program, info)
    core = sorted((NATIVE / "core").glob("*.c"))
    key = sources_key([*core, *sorted(INCLUDE.glob("*.h"))], [text])  # the same for all variants: equal state
    path = build_shared(core, name="pipeline", generated={"pipeline.c": text}, flags=(*flags, f'-DSP_KEY="{key}"'))
    return CompiledProgram(path, info)


class _Tx(ctypes.Structure):
    _fields_ = (
        ("ingress_port", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
        ("instance", ctypes.c_uint32),
        ("rid", ctypes.c_uint32),
    )


class _Queue(ctypes.Structure):
    _fields_ = (
        ("enq_qdepth", ctypes.c_uint32),
        ("deq_qdepth", ctypes.c_uint32),
        ("deq_timedelta_us", ctypes.c_uint32),
        ("held_us", ctypes.c_uint32),
    )


_Emit = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.POINTER(_Tx))
_DigestFn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64)
_QueueFn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(_Queue))
_Log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
_Trace = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
_Breathe = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Command = ctypes.CFUNCTYPE(
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_char_p,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_uint32),
)
_Idle = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64)


class _Options(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("drop_port", ctypes.c_uint32),
        ("user", ctypes.c_void_p),
        ("emit", _Emit),
        ("digest", _DigestFn),
        ("queue", _QueueFn),
        ("idle", _Idle),
        ("seed", ctypes.c_uint64),
        ("log", _Log),
        ("breathe", _Breathe),
        ("trace", _Trace),
    )


class _Engine(ctypes.Structure):
    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("name", ctypes.c_char_p),
        ("info", ctypes.c_char_p),
        ("key", ctypes.c_char_p),
        ("create", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Options))),
        ("destroy", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        (
            "process",
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint64),
        ),
        ("command", _Command),
        ("port_status", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)),
        ("tick", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)),
        ("stats", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)),
        (
            "ahead",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32),
        ),
        ("overtake", _Command),
    )


def load_engine(path: Path) -> _Engine:
    """Load a compiled pipeline into this process."""
    library = ctypes.CDLL(str(path))
    library.sp_engine.restype = ctypes.POINTER(_Engine)
    library.sp_engine.argtypes = ()
    engine: _Engine = library.sp_engine().contents
    if engine.abi != ABI:
        raise ProgramError(f"{path}: interface version {engine.abi}, this engine speaks {ABI}")
    return engine


class Sent(NamedTuple):
    """A frame that left, with what the engine knows about it."""

    port: int
    data: bytes
    priority: int
    instance: int
    rid: int


class Switch(Commands):
    """One data plane in memory; implements :class:`engine.api.Datapath`.

    Not a simulation of time: ``now_ns`` is whatever the caller says and must not run backwards. Thread-safe by a lock.
    ``queue_depth(port, priority)`` gives the depth that the program sees between ingress and egress. ``trace`` gets
    the events of :mod:`engine.trace_events`, when the program was compiled with :data:`TRACED`. ``breathe`` is called
    in the middle of commands, where a switch process handles packets: it may call :meth:`process` and :meth:`overtake`,
    nothing else.
    """

    def __init__(
        self,
        program: CompiledProgram,
        *,
        seed: int = 0,
        cpu_port: int = CPU_PORT,
        drop_port: int = DROP_PORT,
        queue_depth: Callable[[int, int], int] | None = None,
        trace: Callable[[bytes], None] | None = None,
        breathe: Callable[[], None] | None = None,
    ) -> None:
        self._engine = load_engine(program.path)
        self._codec = Codec(program_from_json(self._engine.info.decode()))
        self._lock = threading.RLock()
        self._cpu_port = cpu_port
        self._sent: list[Sent] = []
        self._events: list[Event] = []
        self._subscribers: list[Callable[[Event], None]] = []
        self._queue_depth = queue_depth
        self.now_ns = 0
        self._callbacks = (
            _Emit(self._on_emit),
            _DigestFn(self._on_digest),
            _QueueFn(self._on_queue if queue_depth else 0),
            _Idle(self._on_idle),
        )
        self._log = _Log(self._on_log)
        self._trace = _Trace((lambda _user, data, length: trace(ctypes.string_at(data, length))) if trace else 0)
        self._breathe = _Breathe((lambda _user: breathe()) if breathe else 0)
        options = _Options(ABI, drop_port, None, *self._callbacks, seed, self._log, self._breathe, self._trace)
        self._handle: int | None = self._engine.create(ctypes.byref(options))
        if not self._handle:
            raise DatapathError(Code.RESOURCE_EXHAUSTED, f"{program.path}: cannot create a switch")

    # -- callbacks -------------------------------------------------------------------------------------------------

    def _on_emit(self, _user: object, port: int, data: int, length: int, tx: Any) -> None:
        info = tx.contents
        frame = ctypes.string_at(data, length)
        self._sent.append(Sent(port, frame, info.priority, info.instance, info.rid))
        if port == self._cpu_port and self._subscribers:
            self._events.append(PacketIn(frame))

    def _on_digest(self, _user: object, digest: int, values: int, length: int, now_ns: int) -> None:
        fields = self.codec.digest_values(digest, ctypes.string_at(values, length))
        self._events.append(Digest(digest, fields, now_ns))

    def _on_queue(self, _user: object, port: int, priority: int, queue: Any) -> None:
        assert self._queue_depth is not None
        queue.contents.enq_qdepth = queue.contents.deq_qdepth = self._queue_depth(port, priority)

    def _on_idle(self, _user: object, entry: int, length: int, now_ns: int) -> None:
        self._events.append(IdleTimeout(self.codec.read_entry(Reader(ctypes.string_at(entry, length))), now_ns))

    def _on_log(self, _user: object, text: int, length: int) -> None:
        PROGRAM_LOG.info("%s", ctypes.string_at(text, length).decode(errors="replace"))

    def _publish(self) -> None:
        events, self._events = self._events, []
        for event in events:
            for callback in self._subscribers:
                callback(event)

    # -- packets -----------------------------------------------------------------------------------------------------

    def _live(self) -> int:
        if self._handle is None:
            raise DatapathError(Code.UNAVAILABLE, "the switch is closed")
        return self._handle

    def process(self, port: int, frame: bytes, now_ns: int | None = None) -> list[tuple[int, bytes]]:
        """Run one frame through the program; the frames that leave, with their ports, in order."""
        return [(sent.port, sent.data) for sent in self.process_sent(port, frame, now_ns)]

    def process_sent(self, port: int, frame: bytes, now_ns: int | None = None) -> list[Sent]:
        """As :meth:`process`, with priority, instance type and replication id of what leaves."""
        with self._lock:
            if now_ns is not None:
                self.now_ns = now_ns
            self._sent = []
            self._engine.process(self._live(), port, bytes(frame), len(frame), self.now_ns)
            sent, self._sent = self._sent, []
            self._publish()
            return sent

    def process_many(self, frames: Iterable[tuple[int, bytes, int]]) -> list[tuple[int, bytes]]:
        """Process (port, frame, now_ns) in order and return all that leaves."""
        out: list[tuple[int, bytes]] = []
        for port, frame, now_ns in frames:
            out += self.process(port, frame, now_ns)
        return out

    def packet_out(self, data: bytes) -> None:
        """Inject a frame from the CPU port; what it causes goes to subscribers only when it is a packet-in."""
        self.process(self._cpu_port, data)

    def port_status(self, port: int, up: bool) -> None:
        """Tell selector groups and subscribers that a port changed."""
        with self._lock:
            self._engine.port_status(self._live(), port, int(up))
            self._events.append(PortStatus(port, up, self.now_ns))
            self._publish()

    def tick(self, now_ns: int) -> None:
        """Advance the clock and report idle entries."""
        with self._lock:
            self.now_ns = now_ns
            self._engine.tick(self._live(), now_ns)
            self._publish()

    # -- Datapath -----------------------------------------------------------------------------------------------------

    def command(self, op: int, payload: bytes) -> bytes:
        code, data = self._command(self._engine.command, op, payload)
        if code:
            raise DatapathError(Code(code), data.decode(errors="replace"))
        return data

    def overtake(self, op: int, payload: bytes) -> bytes | None:
        """As :meth:`command`, also in the middle of another one; None: it has to wait, and nothing was done."""
        code, data = self._command(self._engine.overtake, op, payload)
        if code == LATER:
            return None
        if code:
            raise DatapathError(Code(code), data.decode(errors="replace"))
        return data

    def _command(self, function: Callable[..., int], op: int, payload: bytes) -> tuple[int, bytes]:
        reply, length = ctypes.c_void_p(), ctypes.c_uint32()
        with self._lock:
            code = function(
                self._live(), op, payload, len(payload), self.now_ns, ctypes.byref(reply), ctypes.byref(length)
            )
            return code, ctypes.string_at(reply.value, length.value) if reply.value and length.value else b""

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        self._subscribers.append(callback)

    def device_state(self) -> DeviceState:
        """In memory there are no ports and no load."""
        return DeviceState(self.now_ns, 0.0, 0.0, 0, 0)

    def close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
            if handle:
                self._engine.destroy(handle)

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
