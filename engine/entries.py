"""Table entries, multicast groups and clone sessions from the JSON that the P4 tutorials use (``s1-runtime.json``).

``{"table_entries": [{"table": "MyIngress.ipv4_lpm", "match": {"hdr.ipv4.dstAddr": ["10.0.1.1", 32]}, "action_name":
"MyIngress.forward", "action_params": {"port": 1}}, ...], "multicast_group_entries": [{"multicast_group_id": 1,
"replicas": [{"egress_port": 1, "instance": 1}]}], "clone_session_entries": [{"clone_session_id": 5, ...}]}``.
Match values: exact, a value; lpm, ``[value, prefix length]``; ternary, ``[value, mask]``; range, ``[low, high]``. A
value is a number, a string with one (``0x...``), or an IPv4, IPv6 or MAC address.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from engine.api import ActionCall, Code, Match, MatchKind, Op, ProgramInfo, TableUpdate
from engine.codec import octets
from engine.commands import Commands

_KEYS = {"target", "p4info", "bmv2_json", "table_entries", "multicast_group_entries", "clone_session_entries"}


class EntriesError(Exception):
    """The file is wrong; the text names it, the entry and the key."""


def load_entries(path: Path, switch: Commands) -> int:
    """Write all that the file holds; the number of table entries."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EntriesError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise EntriesError(f"{path}: not a JSON object")
    if unknown := data.keys() - _KEYS:
        raise EntriesError(f"{path}: unknown key {min(unknown)!r}; expected {', '.join(sorted(_KEYS))}")
    program = switch.codec.program
    count = 0
    for kind, apply in (
        ("table_entries", _table_entry),
        ("multicast_group_entries", _multicast),
        ("clone_session_entries", _clone),
    ):
        for number, item in enumerate(data.get(kind) or []):
            where = f"{path}: {kind}[{number}]"
            if not isinstance(item, dict):
                raise EntriesError(f"{where}: not an object")
            try:
                apply(item, program, switch)
            except (KeyError, TypeError, ValueError) as error:
                what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise EntriesError(f"{where}: {what}") from None
            count += kind == "table_entries"
    return count


def number(value: Any, width: int, what: str) -> int:
    """The number of a value in any of the forms above; ValueError when it is none, or does not fit ``width`` bits.

    >>> number("10.0.0.1", 32, "dst"), number("0x10", 8, "x"), number("00:00:00:00:01:00", 48, "mac")
    (167772161, 16, 256)
    """
    found: int
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{what}: {value!r} is no value")
    if isinstance(value, int):
        found = value
    else:
        try:
            found = int(value, 0)
        except ValueError:
            found = _address(value, what)
    if found < 0 or found >> width:
        raise ValueError(f"{what}: {value!r} does not fit bit<{width}>")
    return found


def _address(text: str, what: str) -> int:
    parts = text.replace("-", ":").split(":")
    if len(parts) == 6 and all(len(part) <= 2 for part in parts):
        try:
            return int("".join(part.zfill(2) for part in parts), 16)
        except ValueError:
            raise ValueError(f"{what}: {text!r} is no address") from None
    try:
        return int(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{what}: {text!r} is neither a number nor an address") from None


def _find(items: Any, name: str, what: str) -> int:
    """Position of the object with that name, or with it as last parts of its name."""
    exact = [i for i, item in enumerate(items) if item.name == name]
    found = exact or [i for i, item in enumerate(items) if item.name.endswith("." + name)]
    if not found:
        raise ValueError(f"unknown {what} {name!r}")
    return found[0]


def _match(value: Any, kind: MatchKind, width: int, what: str) -> Match:
    size = octets(width)

    def raw(item: Any) -> bytes:
        return number(item, width, what).to_bytes(size, "big")

    if kind is MatchKind.EXACT:
        return Match(raw(value[0] if isinstance(value, list) and len(value) == 1 else value))
    if kind is MatchKind.OPTIONAL:
        return Match(raw(value), mask=((1 << width) - 1).to_bytes(size, "big"))
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{what}: a {kind.name.lower()} match is a list of two values")
    if kind is MatchKind.LPM:
        if not isinstance(value[1], int) or not 0 <= value[1] <= width:
            raise ValueError(f"{what}: prefix length {value[1]!r} is not within 0..{width}")
        return Match(raw(value[0]), prefix_len=value[1])
    if kind is MatchKind.RANGE:
        return Match(raw(value[0]), high=raw(value[1]))
    return Match(raw(value[0]), mask=raw(value[1]))


def _any(kind: MatchKind, width: int, what: str) -> Match:
    size = octets(width)
    if kind is MatchKind.EXACT:
        raise ValueError(f"{what}: an exact match is missing")
    if kind is MatchKind.RANGE:
        return Match(bytes(size), high=((1 << width) - 1).to_bytes(size, "big"))
    return Match(bytes(size)) if kind is MatchKind.LPM else Match(bytes(size), mask=bytes(size))


def _table_entry(item: dict[str, Any], program: ProgramInfo, switch: Commands) -> None:
    index = _find(program.tables, item["table"], "table")
    table = program.tables[index]
    names = [program.actions[a] for a in table.actions]
    action = table.actions[_find(names, item["action_name"], f"action of table {table.name}")]
    given = dict(item.get("action_params") or {})
    params = []
    for name, width in program.actions[action].params:
        if name not in given:
            raise ValueError(f"action_params: {name!r} is missing")
        params.append(number(given.pop(name), width, f"action_params: {name}").to_bytes(octets(width), "big"))
    if given:
        raise ValueError(f"action_params: {min(given)!r} is no parameter of {program.actions[action].name}")
    call = ActionCall(action, tuple(params))
    if item.get("default_action"):
        update = TableUpdate(Op.MODIFY, index, (), call)
    else:
        match = dict(item["match"])
        key = []
        for field in table.key:
            what = f"match: {field.name}"
            found = field.name in match
            value = match.pop(field.name, None)
            whole = found and value is not None
            key.append(_match(value, field.kind, field.width, what) if whole else _any(field.kind, field.width, what))
        if match:
            raise ValueError(f"match: {min(match)!r} is no key of table {table.name}")
        ternary = any(f.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for f in table.key)
        priority = item.get("priority", 1) if ternary else 0
        update = TableUpdate(Op.INSERT, index, tuple(key), call, priority)
    (code,) = switch.table_write([update])
    if code is not Code.OK:
        raise ValueError(f"table {table.name} refuses the entry: {code.name}")


def _pairs(item: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(replica["egress_port"]), int(replica.get("instance", 0))) for replica in item["replicas"]]


def _multicast(item: dict[str, Any], _program: ProgramInfo, switch: Commands) -> None:
    switch.multicast_write(Op.INSERT, int(item["multicast_group_id"]), _pairs(item))


def _clone(item: dict[str, Any], _program: ProgramInfo, switch: Commands) -> None:
    length = int(item.get("packet_length_bytes", 0))
    switch.clone_write(Op.INSERT, int(item["clone_session_id"]), _pairs(item), length)
