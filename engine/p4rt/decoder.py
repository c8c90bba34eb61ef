"""Large Writes of plain table entries, decoded by native code (``engine/native/p4rt/decode.c``).

Python takes about 6 µs for an entry, most of it for the objects that its messages are made of; native code 0.2 µs. It
gives up at anything that is not simple or not right, and then the request goes the usual way as a whole.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import threading
from dataclasses import dataclass

from engine.api import EngineError
from engine.build import NATIVE, build_shared
from engine.p4rt.schema import Schema
from engine.p4rt.values import octets

log = logging.getLogger(__name__)

LEAST_BYTES = 2048  # of a request: below, the usual way is as quick
STEP = 512  # updates per command: about 0.2 ms, in which packets pass but no other command
_MAX_FIELDS, _MAX_PARAMS, _MAX_BYTES = 64, 64, 512
_HAS_PRIORITY, _HAS_IDLE, _HAS_INITIAL = 1, 2, 4


class _Head(ctypes.Structure):
    _fields_ = (
        ("device_id", ctypes.c_uint64),
        ("role_id", ctypes.c_uint64),
        ("election_high", ctypes.c_uint64),
        ("election_low", ctypes.c_uint64),
        ("has_election", ctypes.c_uint32),
        ("atomicity", ctypes.c_uint32),
        ("role_at", ctypes.c_uint32),
        ("role_len", ctypes.c_uint32),
        ("updates", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Decoded:
    """A request of plain table entries: ``slices`` are (number of updates, framed updates)."""

    device_id: int
    role_id: int
    role: str
    election: int | None
    atomicity: int
    slices: list[tuple[int, bytes]]


class Decoder:
    """Decodes requests for one pipeline; ``decode`` gives None for what it leaves to others. Thread-safe.

    ``plan``: words that describe the tables whose plain entries can be decoded; ``most``: bytes of one framed update.
    """

    def __init__(self, schema: Schema) -> None:
        self._lock = threading.Lock()
        self._function = _decode_write()
        words, self.most = _plan(schema)
        self.plan = (ctypes.c_uint32 * len(words))(*words)
        self._usable = self._function is not None and len(words) > 1

    def decode(self, data: bytes, step: int = STEP) -> Decoded | None:
        if not self._usable or len(data) < LEAST_BYTES or self._function is None:
            return None
        room = 4 * len(data) + 2 * self.most
        marks = (ctypes.c_uint32 * (len(data) // (16 * step) + 2))()
        # Nothing is cleared here, with everybody waiting for the interpreter.
        memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        out = (ctypes.c_char * room).from_buffer(memory)
        head = _Head()
        with self._lock:
            done = self._function(
                data, len(data), self.plan, self.most, out, room, marks, step, len(marks), ctypes.byref(head)
            )
        if not done:
            return None
        raw = memoryview(out)[: head.bytes]
        count = (head.updates + step - 1) // step
        ends = [*marks[1:count], head.bytes]
        slices = [(min(step, head.updates - i * step), bytes(raw[marks[i] : ends[i]])) for i in range(count)]
        try:
            role = data[head.role_at : head.role_at + head.role_len].decode()
        except UnicodeDecodeError:
            return None
        election = head.election_high << 64 | head.election_low if head.has_election else None
        return Decoded(head.device_id, head.role_id, role, election, head.atomicity, slices)


_loaded: list[ctypes.CDLL | None] = []
_load_lock = threading.Lock()


def library() -> ctypes.CDLL | None:
    """The native functions; None without a compiler (then everything goes the usual way)."""
    with _load_lock:
        if not _loaded:
            folder = NATIVE / "p4rt"
            try:
                path = build_shared(sorted(folder.glob("*.c")), name="p4rt-decode", include=(folder,))
                _loaded.append(ctypes.CDLL(str(path)))
            except (EngineError, OSError) as error:
                log.info("writes are decoded by Python: %s", error)
                _loaded.append(None)
        return _loaded[0]


def _decode_write() -> ctypes._NamedFuncPointer | None:
    native = library()
    if native is None:
        return None
    function = native.sp_decode_write
    u32, buffer = ctypes.c_uint32, ctypes.c_char_p
    function.argtypes = (
        buffer, u32, ctypes.c_void_p, u32, buffer, u32, ctypes.c_void_p, u32, u32, ctypes.c_void_p,
    )  # fmt: skip
    function.restype = ctypes.c_int
    return function


def _plan(schema: Schema) -> tuple[list[int], int]:
    """(words that describe the tables whose plain entries can be decoded, most bytes of one framed update)."""
    words: list[int] = []
    tables = 0
    most = 64
    for table in schema.tables.values():
        fields = table.fields
        if table.profile is not None or table.const or not 0 < len(fields) <= _MAX_FIELDS:
            continue
        if any(field.names is not None or field.width > 8 * _MAX_BYTES for field in fields):
            continue
        actions = [
            action
            for action in table.actions.values()
            if action.id not in table.default_only
            and len(action.params) <= _MAX_PARAMS
            and all(param.names is None for param in action.params)
        ]
        flags = _HAS_PRIORITY * table.has_priority | _HAS_IDLE * table.idle | _HAS_INITIAL * table.initial
        words += [table.id, table.index, flags, len(fields), len(actions)]
        for field in fields:
            words += [field.id, int(field.kind), field.width]
        for action in actions:
            words += [action.id, action.index, len(action.params)]
            for param in action.params:
                words += [param.id, param.width]
        size = sum(2 * octets(field.width) + 2 for field in fields)
        most = max(most, 64 + size + max((action.size for action in actions), default=0))
        tables += 1
    return [tables, *words], most
