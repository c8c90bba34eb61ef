"""Flow reports by the thousand as columns: the members of many digests become arrays, with no object per report.

Reading 38 members costs 20 us a report in Python. So reports are taken as they are on the wire, and numpy goes through
all of them at once: the strings, whose leading zeros are left out, come into fields of 16 bytes, and numbers are views
of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control.inband.report import COUNTED, FLOW_KEY, HEAD, MAX_HOPS, MEMBERS, WIDTHS, FlowEvent

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
WIDTH = 16  # bytes of the widest members
PLACES = MAX_HOPS + 1  # the sink's own, then the hops before it
_NUMBERS = {"flow_id": 0, "seq": 2, "time_us": 3, "event": 4, "flags": 5, "hops": 6, "protocol": 7}
_SINK_NODE, _SINK_IN, _SINK_OUT, _SINK_TIME, _SINK_LATENCY, _SINK_QUEUE = range(14, HEAD)
_UNTOLD = 0xFFFFFFFF
_TAG = 10  # field 1, length-delimited (protobuf encoding)
_PLACE = np.arange(WIDTH)
_MOST_BYTES = [(bits + 7) // 8 for bits in WIDTHS]
_PARTLY = [(member, 0xFF >> -bits % 8) for member, bits in enumerate(WIDTHS) if bits % 8]  # largest first byte


@dataclass(frozen=True, slots=True)
class FlowColumns:
    """Reports as columns; arrays of two dimensions are (reports, :data:`PLACES`): the sink, then its neighbour, and so
    on back to the source. What is not told is -1 (numbers) or nan (measured)."""

    sender: Ints  # number of the switch that each came from
    key: list[bytes]  # 5-tuple with both addresses, as bytes
    number: dict[str, Ints]  # flow_id, seq, time_us, event, flags, hops, protocol
    packets: Ints  # with telemetry, so far; modulo 2^32
    bytes_: Ints  # of these, without the telemetry
    sink_time_us: Ints  # of the packet that latency and queue of place 0 are of; 0: there was none
    node: Ints
    ingress: Ints
    egress: Ints
    latency_us: Floats
    queue_packets: Floats
    arrived_us: Floats
    left_us: Floats

    def __len__(self) -> int:
        return len(self.sender)


def read(waiting: Sequence[tuple[int, Sequence[Any]]]) -> tuple[FlowColumns, list[Any], int]:
    """(columns, the digests they are of, malformed ones left out) of the ``data`` of many ``p4.v1.DigestList``, each
    with the number of the switch that sent it."""
    items = [item for _, data in waiting for item in data]
    sender = np.repeat([switch for switch, _ in waiting], [len(data) for _, data in waiting]).astype(np.int64)
    table, sound = _members([item.struct.SerializeToString() for item in items])
    columns = _columns(sender, table)
    sound &= (columns.number["hops"] <= MAX_HOPS) & (columns.number["event"] <= max(FlowEvent))
    sound &= columns.bytes_ >= 0  # no switch counts to 2^63
    if sound.all():
        return columns, items, 0
    pick = np.flatnonzero(sound)
    return select(columns, pick), [items[row] for row in pick.tolist()], len(items) - len(pick)


def _members(structs: Sequence[bytes]) -> tuple[NDArray[np.uint8], Flags]:
    """Of ``P4StructLike`` messages on the wire: the members' strings, right-aligned, shape (reports, members,
    :data:`WIDTH`), and which reports have all of them and none wider than the program has it.

    Each member is a ``P4Data`` (tag 10 and length) with a bitstring (tag 10 and length): four bytes and its own. All
    reports are gone through at once, member by member.
    """
    sizes = np.fromiter(map(len, structs), dtype=np.int64, count=len(structs))
    wire = np.frombuffer(bytes(WIDTH) + b"".join(structs) + bytes(4 + WIDTH), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(wire, WIDTH)
    ends = np.cumsum(sizes) + WIDTH
    at = ends - sizes
    table = np.zeros((len(structs), MEMBERS, WIDTH), dtype=np.uint8)
    sound = np.ones(len(structs), dtype=bool)
    for member, most in enumerate(_MOST_BYTES):
        at = np.where(sound, at, 0)
        size = wire[at + 3].astype(np.int64)
        sound &= (wire[at] == _TAG) & (wire[at + 2] == _TAG) & (wire[at + 1] == size + 2) & (size <= most)
        after = np.where(sound, at + 4 + size, WIDTH)
        sound &= after <= ends
        found = windows[np.where(sound, after, WIDTH) - WIDTH]
        table[:, member] = np.where(WIDTH - size[:, None] <= _PLACE, found, 0)
        at = after
    for member, largest in _PARTLY:
        sound &= table[:, member, WIDTH - _MOST_BYTES[member]] <= largest
    return table, sound & (at == ends)


def _columns(sender: Ints, table: NDArray[np.uint8]) -> FlowColumns:
    count = len(sender)
    first, last = FLOW_KEY
    tuples = np.ascontiguousarray(table[:, first:last]).tobytes()
    size = (last - first) * WIDTH
    words = table.view(">u8").reshape(count, MEMBERS, 2).astype(np.uint64)
    low = words[:, :, 1].astype(np.int64)
    hops = low[:, _NUMBERS["hops"]]
    places, times = words[:, HEAD : HEAD + 2 * MAX_HOPS : 2], words[:, HEAD + 1 : HEAD + 2 * MAX_HOPS : 2]
    told = np.arange(MAX_HOPS) < hops[:, None]
    where, met = places[:, :, 0], places[:, :, 1]
    sink_told = low[:, _SINK_TIME] > 0

    def numbers(sink: Ints, others: NDArray[np.uint64]) -> Ints:
        return np.column_stack((sink, np.where(told, others.astype(np.int64), -1)))

    def measured(sink: Floats, others: NDArray[np.uint64], untold: int) -> Floats:
        known = told & (others != np.uint64(untold))
        return np.column_stack((sink, np.where(known, others.astype(np.float64), np.nan)))

    depth = np.where(met & np.uint64(_UNTOLD) == _UNTOLD, np.uint64(_UNTOLD), met & np.uint64(0xFFFFFF))
    return FlowColumns(
        sender=sender,
        key=[tuples[at : at + size] for at in range(0, count * size, size)],
        number={name: low[:, place] for name, place in _NUMBERS.items()},
        packets=low[:, COUNTED],
        bytes_=low[:, COUNTED + 1],
        sink_time_us=low[:, _SINK_TIME],
        node=numbers(low[:, _SINK_NODE], where >> np.uint64(32)),
        ingress=numbers(low[:, _SINK_IN], where >> np.uint64(16) & np.uint64(0xFFFF)),
        egress=numbers(low[:, _SINK_OUT], where & np.uint64(0xFFFF)),
        latency_us=measured(np.where(sink_told, low[:, _SINK_LATENCY], np.nan), met >> np.uint64(32), _UNTOLD),
        queue_packets=measured(np.where(sink_told, low[:, _SINK_QUEUE] & 0xFFFFFF, np.nan), depth, _UNTOLD),
        arrived_us=measured(low[:, 3].astype(np.float64), times[:, :, 0], (1 << 64) - 1),
        left_us=measured(np.full(count, np.nan), times[:, :, 1], (1 << 64) - 1),
    )


def select(columns: FlowColumns, pick: NDArray[np.intp]) -> FlowColumns:
    """The reports at ``pick``."""
    return FlowColumns(
        columns.sender[pick],
        [columns.key[row] for row in pick.tolist()],
        {name: values[pick] for name, values in columns.number.items()},
        columns.packets[pick],
        columns.bytes_[pick],
        columns.sink_time_us[pick],
        columns.node[pick],
        columns.ingress[pick],
        columns.egress[pick],
        columns.latency_us[pick],
        columns.queue_packets[pick],
        columns.arrived_us[pick],
        columns.left_us[pick],
    )
