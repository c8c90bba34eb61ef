"""The native data plane in memory behind the server, for tests that need its real behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.api import DeviceState, EngineError, Event, ProgramInfo
from engine.commands import Commands
from engine.compiled import CompiledProgram, parse_json
from engine.library import Switch, compile_program


class LibraryBackend:
    """The engine in memory, in place of a switch process."""

    def __init__(self) -> None:
        self.switch: Switch | None = None
        self.states: dict[str, bytes] = {}
        self._callbacks: list[Callable[[Event], None]] = []

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
        for callback in self._callbacks:
            self.switch.subscribe(callback)
        return compiled.info

    def in_memory(self, config: bytes) -> Switch:
        return Switch(self._compile(config))

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        self._callbacks.append(callback)

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
