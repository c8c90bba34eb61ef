"""The native data plane in memory behind the server, for tests that need its real behaviour."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.api import DeviceState, Digest, EngineError, Event, ProgramInfo
from engine.commands import Commands
from engine.compiled import CompiledProgram, parse_json
from engine.events import Follower
from engine.library import Switch, compile_program


class LibraryBackend:
    """The engine in memory, in place of a switch process."""

    def __init__(self) -> None:
        self.switch: Switch | None = None
        self.states: dict[str, bytes] = {}
        self._followers: dict[Follower, frozenset[int]] = {}

    @property
    def commands(self) -> Commands:
        if self.switch is None:
            raise EngineError("no program")
        return self.switch

    @staticmethod
    def _compile(config: bytes) -> CompiledProgram:
        return compile_program(parse_json(config), flags=("-O1",))

    def compile(self, config: bytes) -> ProgramInfo:
        return self._compile(config).info

    def load(self, config: bytes) -> ProgramInfo:
        compiled = self._compile(config)
        if self.switch is not None:
            self.switch.close()
        self.switch = Switch(compiled)
        self.switch.subscribe(self._emit)
        return compiled.info

    def in_memory(self, config: bytes) -> Switch:
        return Switch(self._compile(config))

    def follow(self, follower: Follower, digests: Collection[int]) -> None:
        self._followers[follower] = frozenset(digests)

    def _emit(self, event: Event) -> None:
        for follower, wanted in self._followers.items():
            if not isinstance(event, Digest) or event.digest in wanted:
                follower([event])

    def packet_out(self, data: bytes) -> None:
        self.commands.packet_out(data)  # type: ignore[attr-defined]

    def device_state(self, *, keep_maxima: bool = False) -> DeviceState:
        return DeviceState(0, 0.0, 0.0, 0, 0)

    def enable_ports(self, states: Mapping[int, bool]) -> None:
        raise EngineError(f"no ports in memory: {states}")

    def state_put(self, key: str, value: bytes) -> None:
        self.states[key] = value

    def state_get(self, key: str) -> bytes | None:
        return self.states.get(key)
