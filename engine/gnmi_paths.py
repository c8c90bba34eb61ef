"""The gNMI tree of a switch: which leaves there are, where their values come from, and paths that select them.

OpenConfig's names are used where OpenConfig has one (``openconfig-interfaces``, ``-platform-transceiver``, ``-qos``,
``-system``). An interface's name is its P4Runtime port number in decimal. ``/components/component[name=backlog]`` is
ours: packets that wait for processing, and those dropped because too many did.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from engine.api import DeviceState, PortState
from engine.p4rt.errors import invalid
from engine.p4rt.stubs import gnmi
from engine.p4rt.values import delimited, varint

Value = bool | int | float | str
MEMORY_BYTES = 1 << 30  # of the modelled device
_UPDATE_TAG = varint(gnmi.Notification.UPDATE_FIELD_NUMBER << 3 | 2)
_VAL_TAG = varint(gnmi.Update.VAL_FIELD_NUMBER << 3 | 2)
_JSON_TAG = varint(gnmi.TypedValue.JSON_VAL_FIELD_NUMBER << 3 | 2)
_IETF_TAG = varint(gnmi.TypedValue.JSON_IETF_VAL_FIELD_NUMBER << 3 | 2)

PORT_LEAVES: tuple[tuple[str, bool, Callable[[PortState], Value]], ...] = (
    # path, whether it changes by events, reading
    ("interfaces/interface[name={p}]/state/name", True, lambda s: str(s.port)),
    ("interfaces/interface[name={p}]/state/description", True, lambda s: s.name),
    ("interfaces/interface[name={p}]/state/ifindex", True, lambda s: s.port),
    ("interfaces/interface[name={p}]/config/name", True, lambda s: str(s.port)),
    ("interfaces/interface[name={p}]/config/enabled", True, lambda s: s.enabled),
    ("interfaces/interface[name={p}]/config/loopback-mode", True, lambda s: "NONE"),
    ("interfaces/interface[name={p}]/state/enabled", True, lambda s: s.enabled),
    ("interfaces/interface[name={p}]/state/admin-status", True, lambda s: "UP" if s.enabled else "DOWN"),
    ("interfaces/interface[name={p}]/state/loopback-mode", True, lambda s: "NONE"),
    ("interfaces/interface[name={p}]/state/oper-status", True, lambda s: "UP" if s.up else "DOWN"),
    ("interfaces/interface[name={p}]/state/counters/in-pkts", False, lambda s: s.rx_packets),
    ("interfaces/interface[name={p}]/state/counters/in-octets", False, lambda s: s.rx_bytes),
    ("interfaces/interface[name={p}]/state/counters/out-pkts", False, lambda s: s.tx_packets),
    ("interfaces/interface[name={p}]/state/counters/out-octets", False, lambda s: s.tx_bytes),
    ("interfaces/interface[name={p}]/state/counters/in-errors", False, lambda s: s.rx_errors),
    ("interfaces/interface[name={p}]/state/counters/in-fcs-errors", False, lambda s: s.rx_errors),
    ("interfaces/interface[name={p}]/state/counters/in-discards", False, lambda s: s.rx_dropped),
    ("interfaces/interface[name={p}]/state/counters/out-discards", False, lambda s: s.tx_dropped),
    ("interfaces/interface[name={p}]/ethernet/state/port-speed", False, lambda s: s.rate_bps),
    (
        "components/component[name={p}]/transceiver/physical-channels/channel[index=0]/state/input-power/instant",
        False,
        lambda s: s.rx_power_dbm,
    ),
    ("components/component[name={p}]/transceiver/state/pre-fec-ber/instant", False, lambda s: s.pre_fec_ber),
    ("components/component[name={p}]/transceiver/state/fec-corrected-bits", False, lambda s: s.corrected),
    ("components/component[name={p}]/transceiver/state/fec-uncorrectable-words", False, lambda s: s.uncorrected),
    (
        "qos/interfaces/interface[interface-id={p}]/output/queues/queue[name=0]/state/max-queue-len",
        False,
        lambda s: s.queue_max,
    ),
    (
        "qos/interfaces/interface[interface-id={p}]/output/queues/queue[name=0]/state/dropped-pkts",
        False,
        lambda s: s.tx_dropped,
    ),
)

DEVICE_LEAVES: tuple[tuple[str, Callable[[DeviceState], Value]], ...] = (
    ("system/cpus/cpu[index=ALL]/state/total/instant", lambda s: round(100 * s.cpu_utilization, 2)),
    ("system/memory/state/physical", lambda s: MEMORY_BYTES),
    ("system/memory/state/used", lambda s: round(MEMORY_BYTES * s.memory_utilization)),
    ("components/component[name=backlog]/state/packets", lambda s: s.backlog),
    ("components/component[name=backlog]/state/dropped-packets", lambda s: s.dropped),
)

#: Numbers of 32 bits and less; all others are 64 bits wide or decimals, which JSON_IETF writes as strings (RFC 7951).
_NARROW = ("interfaces/interface[name={p}]/state/ifindex", "system/cpus/cpu[index=ALL]/state/total/instant")

_UINT_TAG = varint(gnmi.TypedValue.UINT_VAL_FIELD_NUMBER << 3)
_BOOL_TAG = varint(gnmi.TypedValue.BOOL_VAL_FIELD_NUMBER << 3)
_DOUBLE_TAG = varint(gnmi.TypedValue.DOUBLE_VAL_FIELD_NUMBER << 3 | 1)

Elem = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: str) -> tuple[Elem, ...]:
    """Elements of a path in text form.

    >>> parse("a/b[k=1]")
    (('a', ()), ('b', (('k', '1'),)))
    """
    out: list[Elem] = []
    for part in text.strip("/").split("/"):
        name, _, keys = part.partition("[")
        pairs = [pair.partition("=") for pair in keys.rstrip("]").split("][")] if keys else []
        out.append((name, tuple((key, value) for key, _eq, value in pairs)))
    return tuple(out)


def elements(prefix: gnmi.Path, path: gnmi.Path) -> tuple[Elem, ...]:
    """Elements of a request's path with its prefix; INVALID_ARGUMENT for the old string form."""
    if len(path.element) or len(prefix.element):
        raise invalid("gNMI paths in the deprecated 'element' form are not supported: use 'elem'")
    origin = path.origin or prefix.origin
    if origin not in ("", "openconfig"):
        raise invalid(f"gNMI origin {origin!r} is unknown")
    return tuple((elem.name, tuple(sorted(elem.key.items()))) for elem in [*prefix.elem, *path.elem])


def matches(pattern: Sequence[Elem], leaf: Sequence[Elem]) -> bool:
    """Whether ``leaf`` is at or below ``pattern``; ``*`` and absent keys match anything, ``...`` any depth.

    >>> matches(parse("interfaces/interface[name=*]/state"), parse("interfaces/interface[name=2]/state/ifindex"))
    True
    """
    if not pattern:
        return True
    if pattern[0][0] == "...":
        return any(matches(pattern[1:], leaf[at:]) for at in range(len(leaf) + 1))
    if not leaf:
        return False
    name, keys = pattern[0]
    if name not in ("*", leaf[0][0]):
        return False
    have = dict(leaf[0][1])
    if any(key not in have or value not in ("*", have[key]) for key, value in keys):
        return False
    return matches(pattern[1:], leaf[1:])


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of one switch: its path (also as the protobuf bytes of ``Update.path``) and where its value is."""

    elems: tuple[Elem, ...]
    wire: bytes
    on_change: bool
    narrow: bool
    port: int | None
    read_port: Callable[[PortState], Value] | None
    read_device: Callable[[DeviceState], Value] | None


def _leaf(
    text: str,
    on_change: bool,
    port: int | None,
    read_port: Callable[[PortState], Value] | None,
    read_device: Callable[[DeviceState], Value] | None,
) -> Leaf:
    elems = parse(text.format(p=port))
    path = gnmi.Path(elem=[gnmi.PathElem(name=name, key=dict(keys)) for name, keys in elems])
    wire = delimited(gnmi.Update.PATH_FIELD_NUMBER, path.SerializeToString(deterministic=True))
    return Leaf(elems, wire, on_change, text in _NARROW, port, read_port, read_device)


def leaves(ports: Sequence[int]) -> list[Leaf]:
    """All leaves of a switch with these ports."""
    out = [_leaf(text, on_change, port, read, None) for port in ports for text, on_change, read in PORT_LEAVES]
    return out + [_leaf(text, False, None, None, read) for text, read in DEVICE_LEAVES]


def reading(leaf: Leaf, state: DeviceState, ports: dict[int, PortState]) -> Value | None:
    """The leaf's value; None when there is none (port gone, not a number)."""
    if leaf.read_device is not None:
        value = leaf.read_device(state)
    else:
        port = ports.get(leaf.port if leaf.port is not None else -1)
        if port is None or leaf.read_port is None:
            return None
        value = leaf.read_port(port)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def typed(value: Value, encoding: int, *, narrow: bool = False) -> bytes:
    """Body of a ``gnmi.TypedValue``. ``narrow``: a number that JSON_IETF has as a number, see :data:`_NARROW`."""
    if encoding == gnmi.PROTO:
        if isinstance(value, bool):
            return _BOOL_TAG + bytes([value])
        if isinstance(value, str):
            return delimited(gnmi.TypedValue.STRING_VAL_FIELD_NUMBER, value.encode())
        if isinstance(value, float):
            return _DOUBLE_TAG + struct.pack("<d", value)
        return _UINT_TAG + varint(value)
    if encoding == gnmi.JSON_IETF and not narrow and isinstance(value, int | float) and not isinstance(value, bool):
        value = format(Decimal(repr(value)), "f")  # decimals have no exponent there
    text = f'"{value}"'.encode() if isinstance(value, str) and value.isalnum() else json.dumps(value).encode()
    return (_IETF_TAG if encoding == gnmi.JSON_IETF else _JSON_TAG) + varint(len(text)) + text


def update(leaf: Leaf, value: Value, encoding: int) -> bytes:
    """One ``Notification.update`` in wire form."""
    body = typed(value, encoding, narrow=leaf.narrow)
    body = leaf.wire + _VAL_TAG + varint(len(body)) + body
    return _UPDATE_TAG + varint(len(body)) + body


def is_config(leaf: Leaf) -> bool:
    """Whether the leaf is configuration, not state."""
    return any(name == "config" for name, _keys in leaf.elems)


def notification(timestamp_ns: int, updates: Sequence[bytes]) -> bytes:
    """Body of a ``gnmi.Notification`` from :func:`update` pieces."""
    return b"\x08" + varint(timestamp_ns) + b"".join(updates)
