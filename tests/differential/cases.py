"""Cases as data: entries, packets in, packets out. One file per subject in ``data/``.

```yaml
- case: name
  entries:
    - {table: route_ipv4, match: {dst: [10.0.1.0, 24]}, action: set_group, params: {group_id: 1}}
    - {table: acl, match: {ip_proto: 17}, action: acl_deny, priority: 5}
  balances: {4: {2: 1, 3: 3}}        # balance id -> steering group -> weight
  nexthops: {1: 2}                   # group -> port, with MACs that tell ports apart
  shadows: {1: 3, 2: [3, 1042]}      # group -> port, or [port, label]
  dead: [2]                          # ports that are monitored and dead
  steps:
    - {port: 1, send: {udp4: {dst: 10.0.1.2}}, expect: {2: {udp4: {dst: 10.0.1.2, ttl: 63, via: 2}}}}
    - {flip: 1}                      # set a group's failover bit; unflip: clear it
  counters: {drops: {6: 1}}          # packets
```

A frame is one builder of ``tests/p4/frames.py`` with its arguments, or ``hex``. ``via: N`` stands for the MACs of
next hop N, ``labels`` for a list of arguments of ``mpls``. Unknown keys are errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.p4 import frames as f
from tests.p4.target import Frames, Target, dst_mac, nexthop, src_mac

FOLDER = Path(__file__).with_name("data")
CASE_KEYS = {"case", "entries", "balances", "nexthops", "shadows", "dead", "steps", "counters"}
ENTRY_KEYS = {"table", "match", "action", "params", "priority"}
STEP_KEYS = {"port", "send", "expect", "flip", "unflip"}
BUILDERS = {"udp4": f.udp4, "udp6": f.udp6, "heartbeat": f.heartbeat, "command": f.command}


class CaseError(Exception):
    """A case file is wrong; the text names file, case and key."""


@dataclass(frozen=True, slots=True)
class Step:
    """One frame in, and those that must leave."""

    port: int
    frame: bytes
    expected: Frames


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    balances: dict[int, dict[int, int]] = field(default_factory=dict)
    dead: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    counters: dict[str, dict[int, int]] = field(default_factory=dict)


def frame(spec: dict[str, Any]) -> bytes:
    """A frame from its notation."""
    if len(spec) != 1:
        raise CaseError(f"a frame has one kind, not {sorted(spec)}")
    ((kind, arguments),) = spec.items()
    if kind == "hex":
        return bytes.fromhex(arguments)
    if kind not in BUILDERS:
        raise CaseError(f"unknown kind of frame: {kind}")
    values = dict(arguments)
    if "via" in values:
        port = values.pop("via")
        values |= {"src_mac": src_mac(port), "dst_mac": dst_mac(port)}
    if "labels" in values:
        values["labels"] = b"".join(f.mpls(**one) for one in values["labels"])
    if "data" in values:
        values["data"] = bytes.fromhex(values["data"])
    try:
        return bytes(BUILDERS[kind](**values))
    except TypeError as error:
        raise CaseError(f"{kind}: {error}") from error


def load(path: Path) -> list[Case]:
    """The cases of one file.

    Raises:
        CaseError: unknown or missing keys.
    """
    out = []
    for raw in yaml.safe_load(path.read_text()):
        where = f"{path.name}: {raw.get('case', '?')}"
        try:
            out.append(_case(raw))
        except (CaseError, KeyError, ValueError) as error:
            raise CaseError(f"{where}: {error}") from error
    return out


def _check(raw: dict[str, Any], known: set[str]) -> None:
    if unknown := raw.keys() - known:
        raise CaseError(f"unknown keys {sorted(unknown)}")


def _case(raw: dict[str, Any]) -> Case:
    _check(raw, CASE_KEYS)
    entries = list(raw.get("entries", []))
    for entry in entries:
        _check(entry, ENTRY_KEYS)
    for group, port in raw.get("nexthops", {}).items():
        entries.append(_entry("primary_nexthop", group, "set_nexthop", nexthop(port)))
    for group, way in raw.get("shadows", {}).items():
        if isinstance(way, list):
            entries.append(_entry("shadow_nexthop", group, "set_nexthop_label", nexthop(way[0]) | {"label": way[1]}))
        else:
            entries.append(_entry("shadow_nexthop", group, "set_nexthop", nexthop(way)))
    steps = [_step(one) for one in raw.get("steps", [])]
    return Case(raw["case"], entries, raw.get("balances", {}), raw.get("dead", []), steps, raw.get("counters", {}))


def _entry(table: str, group: int, action: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"table": table, "match": {"group_id": group}, "action": action, "params": params}


def _step(raw: dict[str, Any]) -> Step:
    _check(raw, STEP_KEYS)
    for key, bit in (("flip", 1), ("unflip", 0)):
        if key in raw:
            group = raw[key]
            order = f.command(f.SET_FAILOVER, group, bit, group)
            return Step(f.CPU_PORT, order, [(f.CPU_PORT, f.answer(f.SET_FAILOVER, group, bit, group))])
    expected = [(port, frame(spec)) for port, spec in (raw.get("expect") or {}).items()]
    return Step(raw["port"], frame(raw["send"]), sorted(expected))


def configure(target: Target, case: Case) -> None:
    """Entries of the case, then death of its dead ports."""
    for entry in case.entries:
        target.insert(
            entry["table"], entry["match"], entry["action"], entry.get("params", {}), priority=entry.get("priority", 0)
        )
    for balance_id, groups in case.balances.items():
        target.balance(balance_id, groups)
    for port in case.dead:
        parameters = {"dead_interval": 1, "report_interval": 1 << 40, "rtt_delta": 1 << 31}
        target.insert("liveness_config", {"port": port}, "monitor", parameters)
        assert len(target.send(f.CPU_PORT, f.command(f.HEARTBEAT, port))) == 1


def masked(seen: Frames) -> Frames:
    """Times of heartbeats zeroed: they come from the switch's own clock, or are later by the time it took to answer."""
    out = []
    for port, data in seen:
        if data[12:14] == b"\x88\xb5" and len(data) >= 33:
            data = data[:21] + bytes(12) + data[33:]
        out.append((port, data))
    return out
