"""P4Info as readable text, so that a change of the control plane's interface shows in a review.

``python -m tests.p4.snapshot`` writes ``p4info.txt`` anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finsy.proto import p4i

from tests.p4.program import load_p4info

SNAPSHOT = Path(__file__).with_name("p4info.txt")


def lines(info: p4i.P4Info) -> list[str]:
    """One line per object, with its id, and one per field or parameter."""
    package = info.pkg_info
    out = [f"package {package.name} {package.version} arch {package.arch}"]
    actions = {item.preamble.id: item.preamble.name for item in info.actions}

    def add(kind: str, item: Any, *details: str) -> None:
        out.append(" ".join([f"{kind} {item.preamble.id:#010x} {item.preamble.name}", *details]))

    for table in _sorted(info.tables):
        details = [f"size {table.size}"]
        if table.implementation_id:
            details.append(f"selector {table.implementation_id:#010x}")
        if table.const_default_action_id:
            details.append(f"const default {actions[table.const_default_action_id]}")
        add("table", table, *details)
        out += [f"  key {f.id} {f.name} bit<{f.bitwidth}> {f.MatchType.Name(f.match_type)}" for f in table.match_fields]
        for reference in table.action_refs:
            only = "" if reference.scope == reference.TABLE_AND_DEFAULT else f" {reference.Scope.Name(reference.scope)}"
            out.append(f"  action {actions[reference.id]}{only}")
    for action in _sorted(info.actions):
        add("action", action)
        out += [f"  param {p.id} {p.name} bit<{p.bitwidth}>" for p in action.params]
    for profile in _sorted(info.action_profiles):
        add("selector", profile, f"size {profile.size}", f"group {profile.max_group_size}")
    for counter in _sorted(info.counters):
        add("counter", counter, f"size {counter.size}", counter.spec.Unit.Name(counter.spec.unit))
    for direct in _sorted(info.direct_counters):
        add("direct counter", direct, f"table {direct.direct_table_id:#010x}", direct.spec.Unit.Name(direct.spec.unit))
    for register in _sorted(info.registers):
        add("register", register, f"size {register.size}", f"bit<{register.type_spec.bitstring.bit.bitwidth}>")
    for header in _sorted(info.controller_packet_metadata):
        add("controller header", header)
        out += [f"  field {f.id} {f.name} bit<{f.bitwidth}>" for f in header.metadata]
    for digest in _sorted(info.digests):
        add("digest", digest)
        members = info.type_info.structs[digest.type_spec.struct.name].members
        out += [f"  field {m.name} bit<{m.type_spec.bitstring.bit.bitwidth}>" for m in members]
    return out


def _sorted(objects: Any) -> list[Any]:
    return sorted(objects, key=lambda item: item.preamble.id)


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(lines(load_p4info())) + "\n")
