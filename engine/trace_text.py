"""Steps of a packet (:mod:`engine.trace_events`) as a tree for people and as JSON for programs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine.trace_events import Change, Step, Value

_TEMPORARY = re.compile(r"tmp(_\d+)?")
_NESTED = re.compile(r"(\w+)\._(\w+?)\d+")
_COLOURS = {
    "section": "1",
    "hit": "32",
    "miss": "33",
    "drop": "1;31",
    "sent": "1;32",
    "source": "2",
    "change": "36",
    "state": "34",
    "register": "35",
}


class Style:
    """Colours of a terminal, or none."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, what: str, text: str) -> str:
        return f"\x1b[{_COLOURS[what]}m{text}\x1b[0m" if self._colour and text else text


def shown(value: Value, name: str = "") -> str:
    """A value as its name and width suggest: an address, a type, or a number.

    >>> shown(Value(0x0A000001, 32), "dstAddr"), shown(Value(5, 9)), shown(Value(2048, 16), "etherType")
    ('10.0.0.1', '5', '0x0800')
    """
    word = name.rpartition(".")[2].lower()
    if value.width == 48 and any(part in word for part in ("addr", "mac", "src", "dst")):
        return ":".join(f"{byte:02x}" for byte in value.number.to_bytes(6, "big"))
    addressed = any(part in word for part in ("addr", "src", "dst", "ip", "nhop", "hop_ip"))
    if value.width == 32 and addressed:
        return str(ipaddress.IPv4Address(value.number))
    if value.width == 128 and addressed:
        return str(ipaddress.IPv6Address(value.number))
    if value.width == 16 and "type" in word:
        return f"0x{value.number:04x}"
    if value.width > 64:
        return f"0x{value.number:x}"
    return str(value.number)


def render(steps: Sequence[Step], *, colour: bool = False) -> str:
    """The tree of one packet, without a newline at the end."""
    style = Style(colour)
    sections: list[tuple[str, list[str]]] = []
    parsing = False
    for step in steps:
        if step.kind == "parser state" and not parsing:
            sections.append((style("section", "parser"), []))
        parsing = step.kind == "parser state"
        if step.kind in ("packet", "ingress", "egress", "copy", "deparser"):
            sections.append((style("section", step.title), list(_changes(step.changes, style))))
            continue
        if step.kind in ("sent", "drop"):
            sections.append((style(step.kind, step.title), []))
            continue
        if not sections:
            sections.append(("", []))
        sections[-1][1].extend(_lines(step, style))
    out = []
    for number, (title, lines) in enumerate(sections):
        last = number == len(sections) - 1
        out.append(title if number == 0 else ("└─ " if last else "├─ ") + title)
        out += [("   " if last else "│  ") + line for line in lines]
    return "\n".join(out)


def _lines(step: Step, style: Style) -> Iterator[str]:
    source = style("source", f"  {step.source}") if step.source else ""
    if step.kind == "table":
        yield from _table(step, style, source)
    elif step.kind == "condition":
        result = style("hit", "yes") if step.details["result"] else style("miss", "no")
        yield f"if {step.title}: {result}{source}"
    elif step.kind == "action":
        if step.changes:
            yield f"action {step.title}{source}"
    elif step.kind == "parser state":
        yield f"{style('state', step.title)}{source}"
    elif step.kind.startswith("register"):
        yield f"{style('register', step.kind)} {step.title}"
    else:
        yield step.title
    yield from ("  " + line for line in _changes(step.changes, style))


def _table(step: Step, style: Style, source: str) -> Iterator[str]:
    details = step.details
    params = ", ".join(f"{p['name']}={shown(p['value'], p['name'])}" for p in details["params"])
    call = f"{details['action']}({params})" if details["action"] else "no action"
    if not details["keys"]:
        yield f"table {step.title}: {call}{source}"
        return
    through = "".join(f", {what} {details[what]}" for what in ("member", "group") if what in details)
    hit = style("hit", "hit") if details["hit"] else style("miss", "miss")
    priority = f", priority {details['priority']}" if details.get("priority") else ""
    yield f"table {step.title}: {hit}{priority}{through}, {call}{source}"
    for key in details["keys"]:
        yield f"  {key['name']} = {shown(key['value'], key['name'])}  ({_matched(key)})"


def _matched(key: dict[str, Any]) -> str:
    entry = key["entry"]
    if entry is None:
        return str(key["match"])
    text = shown(entry["value"], key["name"])
    if "prefix" in entry:
        return f"lpm {text}/{entry['prefix']}"
    if "high" in entry:
        return f"range {text}..{shown(entry['high'], key['name'])}"
    if "mask" in entry:
        if not entry["mask"].number:
            return f"{key['match']} *"
        return f"{key['match']} {text} &&& 0x{entry['mask'].number:x}"
    return f"exact {text}"


def place(header: str, field: str) -> str:
    """Where a change is, as the P4 source has it; "" for temporaries of p4c.

    p4c keeps metadata and local variables in one header, and writes a struct within metadata as ``_outer_inner7``.

    >>> place("scalars", "metadata_t._intake_now1"), place("scalars", "I.port"), place("ipv4", "ttl")
    ('metadata_t.intake_now', 'I.port', 'ipv4.ttl')
    >>> place("scalars", "tmp_12")
    ''
    """
    if header != "scalars":
        return f"{header}.{field}"
    if _TEMPORARY.fullmatch(field):
        return ""
    return _NESTED.sub(r"\1.\2", field)


def _changes(changes: Sequence[Change], style: Style) -> Iterator[str]:
    """Headers that appear come with all their fields in one line."""
    fresh = {c.header for c in changes if not c.field and c.after is not None and c.after.number}
    for name in [c.header for c in changes if c.header in fresh and not c.field]:
        fields = [c for c in changes if c.header == name and c.field and c.after is not None]
        text = ", ".join(f"{c.field}={shown(c.after, c.field)}" for c in fields if c.after is not None)
        yield style("change", f"+ {name}") + (f"  {text}" if text else "")
    for change in changes:
        if change.header in fresh:
            continue
        if not change.field:
            yield style("change", f"- {change.header}")
        elif change.after is not None and (name := place(change.header, change.field)):
            before = "" if change.before is None else f"{shown(change.before, change.field)} → "
            yield f"{style('change', name)}: {before}{shown(change.after, name)}"


def as_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The steps as JSON values; field values are numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, Value):
            return value.number
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return [
        {
            "kind": step.kind,
            "title": step.title,
            **({"source": step.source} if step.source else {}),
            **plain(step.details),
            **({"changes": [_change(change) for change in step.changes]} if step.changes else {}),
        }
        for step in steps
    ]


def _change(change: Change) -> dict[str, Any]:
    before = None if change.before is None else change.before.number
    after = None if change.after is None else change.after.number
    return {"field": f"{change.header}.{change.field or '$valid$'}", "before": before, "after": after}
