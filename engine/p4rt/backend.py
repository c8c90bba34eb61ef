"""What the P4Runtime server needs of a data plane: commands, loading of programs, a place for its own state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from engine.api import (
    CompilerMissing,
    DatapathError,
    DeviceState,
    EngineError,
    ProgramError,
    ProgramInfo,
    Unsupported,
)
from engine.commands import Commands
from engine.compiled import CompiledProgram, compiled
from engine.dataplane import Client
from engine.events import Follower
from engine.p4rt.errors import P4Error, Rpc, invalid

MESSAGE_LIMIT = 1500  # characters: a status message travels in an HTTP/2 header


class Backend(Protocol):
    """One data plane. ``compile`` must not touch what runs; ``load`` replaces it."""

    @property
    def commands(self) -> Commands: ...

    def compile(self, config: bytes) -> ProgramInfo:
        """Check a device config completely; :class:`EngineError` says what is wrong with it."""
        ...

    def load(self, config: bytes) -> ProgramInfo:
        """Run a device config with fresh state."""
        ...

    def in_memory(self, config: bytes) -> Commands:
        """A device config in this process, beside what runs; :class:`EngineError`."""
        ...

    def follow(self, follower: Follower, digests: Collection[int]) -> None:
        """Hand all events over, of digests those of these numbers; again with the same ``follower``: of these from now.

        Everything emitted after the return is handed over; :class:`DatapathError`.
        """
        ...

    def packet_out(self, data: bytes) -> None: ...

    def device_state(self, *, keep_maxima: bool = False) -> DeviceState: ...

    def enable_ports(self, states: Mapping[int, bool]) -> None: ...

    def state_put(self, key: str, value: bytes) -> None: ...

    def state_get(self, key: str) -> bytes | None: ...


class ProcessBackend:
    """A switch process behind its control socket. ``on_load`` is told of every program that starts to run."""

    def __init__(self, client: Client, on_load: Callable[[Client, ProgramInfo], None] | None = None) -> None:
        self.client = client
        self._on_load = on_load
        self._compiled: tuple[bytes, CompiledProgram] | None = None
        self.on_loaded: list[Callable[[], None]] = []

    @property
    def commands(self) -> Commands:
        return self.client

    def _compile(self, config: bytes) -> CompiledProgram:
        if self._compiled is None or self._compiled[0] != config:
            self._compiled = (config, compiled(config))
        return self._compiled[1]

    def compile(self, config: bytes) -> ProgramInfo:
        return self._compile(config).info

    def load(self, config: bytes) -> ProgramInfo:
        self.client.load(self._compile(config).path)
        self._compiled = None
        info = self.client.program
        if info is None:
            raise EngineError("the switch process lost the program that it was given")
        if self._on_load is not None:
            self._on_load(self.client, info)
        for callback in tuple(self.on_loaded):
            callback()
        return info

    def in_memory(self, config: bytes) -> Commands:
        from engine.library import Switch

        return Switch(self._compile(config))

    def follow(self, follower: Follower, digests: Collection[int]) -> None:
        self.client.follow(follower, digests)

    def packet_out(self, data: bytes) -> None:
        self.client.packet_out(data)

    def device_state(self, *, keep_maxima: bool = False) -> DeviceState:
        return self.client.device_state(keep_maxima=keep_maxima)

    def enable_ports(self, states: Mapping[int, bool]) -> None:
        self.client.enable_ports(states)

    def state_put(self, key: str, value: bytes) -> None:
        self.client.state_put(key, value)

    def state_get(self, key: str) -> bytes | None:
        return self.client.state_get(key)


def device_json(config: bytes) -> bytes:
    """The BMv2 JSON in a ``p4_device_config``.

    Controllers send it bare or, as the P4 tutorials do, inside PI's ``p4.tmp.P4DeviceConfig`` (field 3).
    """
    stripped = config.lstrip()
    if stripped[:1] in (b"{", b""):
        return stripped
    inner = _length_delimited(config, 3)
    if inner is None or not inner.lstrip().startswith(b"{"):
        raise invalid("p4_device_config is neither BMv2 JSON nor a P4DeviceConfig that holds it")
    return inner


def _length_delimited(data: bytes, wanted: int) -> bytes | None:
    """Field ``wanted`` of a serialized message, None when it isn't there or the bytes are no message."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while at < len(data) and shift < 64:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise IndexError

    try:
        while at < len(data):
            tag = number()
            kind = tag & 7
            if kind == 0:
                number()
            elif kind == 2:
                size = number()
                if at + size > len(data):
                    return None
                if tag >> 3 == wanted:
                    return data[at : at + size]
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                return None
    except IndexError:
        return None
    return None


def translated(error: EngineError) -> P4Error:
    """An engine error as the P4Runtime error for a pipeline that cannot be realized."""
    if isinstance(error, Unsupported):
        return P4Error(Rpc.UNIMPLEMENTED, str(error))
    if isinstance(error, ProgramError):
        return invalid(str(error))
    if isinstance(error, CompilerMissing):
        return P4Error(Rpc.FAILED_PRECONDITION, str(error))
    text = str(error)
    if isinstance(error, DatapathError):
        return P4Error(int(error.code), str(error))
    return P4Error(Rpc.INTERNAL, text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]} ...")
