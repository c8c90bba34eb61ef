"""The compiled program as tests see it: names instead of numbers, from P4Info."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from finsy.proto import p4i
from google.protobuf import text_format

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "p4" / "build"
JSON_PATH = BUILD / "shadowplane.json"
P4INFO_PATH = BUILD / "shadowplane.p4info.txtpb"


def load_p4info() -> p4i.P4Info:
    return text_format.Parse(P4INFO_PATH.read_text(), p4i.P4Info())


def by_name(objects: Any) -> dict[str, Any]:
    return {item.preamble.name: item for item in objects}


def number(value: Any) -> int:
    """An int, an IP address or a MAC address as an integer."""
    if isinstance(value, int):
        return value
    if value.count(":") == 5 and "::" not in value:
        return int(value.replace(":", ""), 16)
    return int(ipaddress.ip_address(value))


def octets(value: Any, width: int) -> bytes:
    """Big endian in ``ceil(width / 8)`` bytes."""
    return number(value).to_bytes((width + 7) // 8, "big")


def match_values(kind: str, width: int, spec: Any) -> tuple[int, int]:
    """(value, second) of a key field: mask, prefix length or upper end; plain values match exactly."""
    if kind == "LPM":
        address, prefix = (spec, width) if not isinstance(spec, (tuple, list)) else spec
        bits = number(address) >> (width - prefix) << (width - prefix)
        return bits, prefix
    if kind == "TERNARY":
        value, mask = spec if isinstance(spec, (tuple, list)) else (spec, (1 << width) - 1)
        return number(value) & number(mask), number(mask)
    if kind == "RANGE":
        low, high = spec if isinstance(spec, (tuple, list)) else (spec, spec)
        return number(low), number(high)
    return number(spec), 0
