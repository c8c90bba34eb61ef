"""The embedded switch in memory, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from engine.api import (
    ActionCall,
    Code,
    Digest,
    Event,
    GroupMember,
    GroupRef,
    Match,
    MatchKind,
    Op,
    TableUpdate,
)
from engine.library import CompiledProgram, Switch, compile_program
from tests.p4.program import JSON_PATH, load_p4info, match_values, octets
from tests.p4.target import Frames

START_US = 1_000_000


@cache
def program() -> CompiledProgram:
    return compile_program(JSON_PATH, packet_out_bytes=2, packet_in_bytes=2)


class Embedded:
    """A fresh switch with the program; implements :class:`tests.p4.target.Target`."""

    name = "engine"

    def __init__(self) -> None:
        self.depths: dict[int, int] = {}  # packets waiting in the queue of a port
        self.switch = Switch(program(), queue_depth=lambda port, _priority: self.depths.get(port, 0))
        info = self.switch.program
        assert info is not None
        self.info = info
        self.now_us = START_US
        self._tables = {table.name: index for index, table in enumerate(info.tables)}
        # The compiler gives each table its own copy of a shared action: look names up within the table.
        self._counters = {array.name: index for index, array in enumerate(info.counters)}
        self._registers = {array.name: index for index, array in enumerate(info.registers)}
        self._events: list[Event] = []
        self._members = 0
        self.switch.subscribe(self._events.append)

    def close(self) -> None:
        self.switch.close()

    def _action(self, table: str, name: str, params: Mapping[str, Any] | None) -> ActionCall:
        for index in self.info.tables[self._tables[table]].actions:
            action = self.info.actions[index]
            if action.name == name:
                return ActionCall(index, tuple(octets((params or {})[key], width) for key, width in action.params))
        raise KeyError(f"table {table} has no action {name}")

    def _key(self, table: str, match: Mapping[str, Any]) -> tuple[Match, ...]:
        fields = self.info.tables[self._tables[table]].key
        unknown = match.keys() - {field.name for field in fields}
        assert not unknown, f"{table} has no key {unknown}"
        key = []
        for field in fields:
            width = field.width
            if field.name not in match:
                full = (1 << width) - 1
                key.append(
                    Match(octets(0, width), high=octets(full, width))
                    if field.kind is MatchKind.RANGE
                    else Match(octets(0, width), mask=octets(0, width))
                )
                continue
            value, second = match_values(field.kind.name, width, match[field.name])
            data = octets(value, width)
            if field.kind is MatchKind.LPM:
                key.append(Match(data, prefix_len=second))
            elif field.kind is MatchKind.TERNARY:
                key.append(Match(data, mask=octets(second, width)))
            elif field.kind is MatchKind.RANGE:
                key.append(Match(data, high=octets(second, width)))
            else:
                key.append(Match(data))
        return tuple(key)

    def write(self, op: Op, table: str, match: Mapping[str, Any], action: Any, priority: int = 0) -> Code:
        update = TableUpdate(op, self._tables[table], self._key(table, match), action, priority)
        return self.switch.table_write([update])[0]

    def insert(
        self,
        table: str,
        match: Mapping[str, Any],
        action: str,
        params: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
    ) -> None:
        assert self.write(Op.INSERT, table, match, self._action(table, action, params), priority) is Code.OK

    def modify(self, table: str, match: Mapping[str, Any], action: str, params: Mapping[str, Any]) -> None:
        assert self.write(Op.MODIFY, table, match, self._action(table, action, params)) is Code.OK

    def delete(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> None:
        assert self.write(Op.DELETE, table, match, None, priority) is Code.OK

    def balance(self, balance_id: int, groups: Mapping[int, int]) -> None:
        members = []
        for steering_group, weight in groups.items():
            self._members += 1
            call = self._action("balance", "set_group", {"group_id": steering_group})
            self.switch.member_write(Op.INSERT, 0, self._members, call)
            members.append(GroupMember(self._members, weight))
        self.switch.group_write(Op.INSERT, 0, balance_id, members)
        assert self.write(Op.INSERT, "balance", {"balance_id": balance_id}, GroupRef(balance_id)) is Code.OK

    def send(self, port: int, frame: bytes) -> Frames:
        return sorted(self.switch.process(port, frame, self.now_us * 1000))

    def priorities(self, port: int, frame: bytes) -> list[int]:
        """Queue priorities of what leaves because of ``frame``."""
        return [sent.priority for sent in self.switch.process_sent(port, frame, self.now_us * 1000)]

    def counter(self, name: str, index: int) -> tuple[int, int]:
        return self.switch.counter_read(self._counters[name], index)[0]

    def direct_counter(self, table: str, match: Mapping[str, Any], *, priority: int = 0) -> tuple[int, int]:
        entry = self.switch.table_read(self._tables[table], self._key(table, match), priority)[0]
        return entry.packets, entry.bytes

    def register(self, name: str, index: int) -> int:
        return self.switch.register_read(self._registers[name], index)[0]

    def set_register(self, name: str, index: int, value: int) -> None:
        self.switch.register_write(self._registers[name], index, value)

    def digests(self) -> list[dict[str, int]]:
        return self._digests("port_report_t")

    def flow_reports(self) -> list[dict[str, int]]:
        return self._digests("flow_report_t")

    def _digests(self, name: str) -> list[dict[str, int]]:
        """Those of one kind since the last call. p4c hands digests over through temporaries: names are in P4Info."""
        fields = [member.name for member in load_p4info().type_info.structs[name].members]
        index = [digest.name for digest in self.info.digests].index(name)
        taken = [event for event in self._events if isinstance(event, Digest) and event.digest == index]
        self._events[:] = [event for event in self._events if not (isinstance(event, Digest) and event.digest == index)]
        return [dict(zip(fields, (int.from_bytes(v, "big") for v in one.values), strict=True)) for one in taken]

    def wait(self, us: int) -> None:
        self.now_us += us
