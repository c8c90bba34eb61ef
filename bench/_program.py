"""The programs that switches are compared with, and their entries by name, for both switches alike."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._wire import GROUP, HOST_MAC, P4INFO, PRIMARY, PROGRAM, SHADOW, SOURCE_MAC
from engine.api import ActionCall, Match, Op, ProgramInfo, TableUpdate
from engine.library import compile_program

HERE = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True, slots=True)
class Row:
    """One entry with a single key field; ``prefix`` is the length of an LPM match, None for an exact one."""

    table: str
    key: bytes
    prefix: int | None
    action: str
    params: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to compare switches with. ``rows`` send 10.0.2.0/24 to port PRIMARY, ``back`` 10.0.1.0/24 to port 1."""

    name: str
    program: Path
    p4info: Path
    rows: tuple[Row, ...]
    back: tuple[Row, ...]

    def shared_object(self) -> Path:
        """The compiled program (from the cache when it is there)."""
        return compile_program(self.program, packet_out_bytes=2, packet_in_bytes=2).path


def _steer(network: str, group: int, primary: int, shadow: int) -> tuple[Row, ...]:
    number = group.to_bytes(2, "big")
    hops = (("primary_nexthop", primary), ("shadow_nexthop", shadow))
    return (
        Row("route_ipv4", socket.inet_aton(network), 24, "set_group", (number,)),
        *(
            Row(table, number, None, "set_nexthop", (port.to_bytes(2, "big"), SOURCE_MAC, HOST_MAC))
            for table, port in hops
        ),
    )


def _route(network: str, port: int) -> tuple[Row, ...]:
    params = (port.to_bytes(2, "big"), SOURCE_MAC, HOST_MAC)
    return (Row("route", socket.inet_aton(network), 24, "forward", params),)


STEERING = Subject(
    "steering program", PROGRAM, P4INFO, _steer("10.0.2.0", GROUP, PRIMARY, SHADOW), _steer("10.0.1.0", GROUP + 1, 1, 1)
)
L3 = Subject("plain L3", HERE / "l3.json", HERE / "l3.p4info.txtpb", _route("10.0.2.0", PRIMARY), _route("10.0.1.0", 1))


def updates(program: ProgramInfo, rows: Sequence[Row]) -> list[TableUpdate]:
    """The entries for the embedded switch."""
    made = []
    for row in rows:
        number = [item.name for item in program.tables].index(row.table)
        # The compiler may repeat an action for each table: take the table's own.
        actions = program.tables[number].actions
        index = next(i for i in actions if program.actions[i].name.rsplit(".")[-1] == row.action)
        made.append(
            TableUpdate(Op.INSERT, number, (Match(row.key, prefix_len=row.prefix or 0),), ActionCall(index, row.params))
        )
    return made


def shared_object() -> Path:
    """Path of the compiled steering program (from the cache when it is there)."""
    return STEERING.shared_object()
