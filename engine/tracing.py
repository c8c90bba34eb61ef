"""Traces: of packets in memory, and of those that pass a running switch (see ``engine/native/switchd/trace.c``)."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.api import EngineError
from engine.connection import Connection
from engine.dataplane import Client
from engine.flags import Filter
from engine.library import TRACED, Switch, compile_program, load_program
from engine.operations import EventKind, SwitchOp
from engine.trace_events import Decoder, Step

_MASK = 1 << (EventKind.TRACE - EventKind.DIGEST)


class OfflineTrace:
    """A switch in memory that records what happens to each packet."""

    def __init__(self, config: str | Path | dict[str, Any]) -> None:
        self._events: list[bytes] = []
        self.program = load_program(config)
        self.switch = Switch(compile_program(config, flags=TRACED), trace=self._events.append)
        self._decoder = Decoder(self.program, self.switch.codec)

    def packet(self, port: int, frame: bytes, now_ns: int = 0) -> list[Step]:
        """Process one frame; its steps."""
        self._events.clear()
        self.switch.process(port, frame, now_ns)
        return self._decoder.steps(self._events)


def running_config(client: Client) -> dict[str, Any]:
    """The BMv2 JSON that a P4Runtime server left in its data plane; EngineError without one."""
    from engine.compiled import parse_json
    from engine.p4rt.backend import device_json
    from engine.p4rt.state import CONFIG
    from engine.p4rt.stubs import p4r

    kept = client.state_get(CONFIG)
    if not kept:
        raise EngineError("the switch runs no program that was set over P4Runtime: there is nothing to trace")
    config = p4r.ForwardingPipelineConfig.FromString(zlib.decompress(kept))
    return parse_json(device_json(config.p4_device_config))


def live(client: Client, config: dict[str, Any], wanted: Filter) -> Iterator[tuple[int, list[Step]]]:
    """(arrival time in ns, steps) of packets that pass a running switch, until ``wanted.count`` of them came.

    Other packets lose nothing: only those that are traced go through the variant of the program with hooks.
    """
    variant = compile_program(config, flags=TRACED)
    decoder = Decoder(load_program(config), client.codec)
    connection = Connection(client.socket_path, None)
    try:
        connection.send(SwitchOp.SUBSCRIBE, struct.pack("<I", _MASK))
        connection.receive()
        request: dict[str, Any] = {"path": str(variant.path), "count": wanted.count, "per_second": wanted.per_second}
        if wanted.port is not None:
            request["port"] = wanted.port
        client.command(SwitchOp.TRACE, json.dumps(request).encode())
        for _ in range(wanted.count):
            op, body = 0, b""
            while op != EventKind.TRACE:
                _ident, op, _code, body = connection.receive()
            yield int.from_bytes(body[:8], "little"), decoder.steps(list(_records(body[8:])))
    finally:
        connection.close()


def _records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : end]
        at = end
