"""Flow reports: what a telemetry sink tells about a flow's path, as a dataclass.

The digest ``flow_report_t`` (p4/README.md) comes as positional values in the order of its P4Info struct. Hops stand in
the order of the packet's way, source first; the sink's own hop is the last and belongs to the flow's packet before
(:attr:`FlowReport.sink_time_us` tells which), because a data plane makes digests before it knows its queue.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

DIGEST = "flow_report_t"
MAX_HOPS = 8
HEAD = 20  # members before the hops
COUNTED = HEAD + 2 * MAX_HOPS  # packets, bytes
MEMBERS = COUNTED + 2
# Bits of each member, as the program declares them.
WIDTHS = (16, 8, 32, 48, 8, 8, 8, 8, 16, 16, 32, 32, 128, 128, 32, 9, 9, 48, 32, 32, *(128,) * 2 * MAX_HOPS, 32, 64)
FLOW_KEY = (7, 14)  # members that tell flows apart: protocol, ports, addresses
_ONES32, _ONES64 = (1 << 32) - 1, (1 << 64) - 1


class ReportError(ValueError):
    """A digest that is not a flow report; the text says why."""


class FlowEvent(IntEnum):
    """Why a sink reported."""

    PERIODIC = 0
    PATH = 1
    LATENCY = 2
    QUEUE = 3


class FlowFlag(IntFlag):
    HOPS_EXCEEDED = 1  # E: the hop limit left nodes out
    MTU_EXCEEDED = 2  # M: an MTU left nodes out
    MORE_HOPS = 4  # only the MAX_HOPS nearest the sink are told
    OPAQUE = 8  # other instructions than ours: no hops
    IPV6 = 16


@dataclass(frozen=True, slots=True)
class FlowHop:
    """One switch on the way. None: the switch could not tell."""

    node_id: int  # device id of the switch
    ingress_port: int
    egress_port: int
    latency_us: int | None
    queue_id: int
    queue_packets: int | None
    ingress_time_us: int | None  # that switch's clock
    egress_time_us: int | None


@dataclass(frozen=True, slots=True)
class FlowReport:
    """``hops`` in the packet's order, without the sink."""

    flow_id: int
    priority: int
    seq: int  # +1 each, per flow memory of the sink: a gap is a lost report
    time_us: int  # sink's clock, arrival of the packet
    event: FlowEvent
    flags: FlowFlag
    protocol: int
    src: str
    dst: str
    sport: int
    dport: int
    hops: tuple[FlowHop, ...]
    sink_node: int
    sink_ingress_port: int
    sink_egress_port: int
    sink_time_us: int  # arrival of the packet that the next three are of; 0: there was none
    sink_latency_us: int | None
    sink_queue_id: int
    sink_queue_packets: int | None
    packets: int = 0  # with telemetry, that the flow's memory has counted so far (modulo 2^32) ...
    bytes_: int = 0  # ... and of their frames on arrival, telemetry not counted

    @property
    def path(self) -> tuple[int, ...]:
        """Node ids from source to sink."""
        return (*(hop.node_id for hop in self.hops), self.sink_node)

    @property
    def complete(self) -> bool:
        """Whether every node on the way is in the report."""
        left_out = FlowFlag.HOPS_EXCEEDED | FlowFlag.MTU_EXCEEDED | FlowFlag.MORE_HOPS | FlowFlag.OPAQUE
        return not self.flags & left_out

    @property
    def max_latency_us(self) -> int:
        """The largest hop latency told, 0 if none was."""
        told = [hop.latency_us for hop in self.hops] + [self.sink_latency_us]
        return max((value for value in told if value is not None), default=0)

    @property
    def max_queue_packets(self) -> int:
        told = [hop.queue_packets for hop in self.hops] + [self.sink_queue_packets]
        return max((value for value in told if value is not None), default=0)

    def link_delays_us(self) -> tuple[tuple[int, int, int], ...]:
        """(node, next node, us) between neighbours whose times are told; right only where their clocks agree."""
        out = []
        ends = [(hop.node_id, hop.ingress_time_us) for hop in self.hops[1:]] + [(self.sink_node, self.time_us)]
        for hop, (node, arrived) in zip(self.hops, ends, strict=False):
            if hop.egress_time_us is not None and arrived is not None:
                out.append((hop.node_id, node, arrived - hop.egress_time_us))
        return tuple(out)


def decode(values: Sequence[bytes]) -> FlowReport:
    """A report from its members in P4Info order, big endian, leading zeros optional.

    Raises:
        ReportError: another number of members, or values that do not fit.
    """
    if len(values) != MEMBERS:
        raise ReportError(f"a flow report has {MEMBERS} members, not {len(values)}")
    number = int.from_bytes
    flow_id, priority, seq, time_us, event, flags, count, protocol, sport, dport = (
        number(value, "big") for value in values[:10]
    )
    src4, dst4, src6, dst6, node, port_in, port_out, sink_time, sink_latency, sink_queue = (
        number(value, "big") for value in values[10:HEAD]
    )
    if count > MAX_HOPS:
        raise ReportError(f"{count} hops; a report holds {MAX_HOPS}")
    try:
        told = FlowEvent(event)
        src, dst = _addresses(flags, src4, dst4, src6, dst6)
    except ValueError as error:
        raise ReportError(str(error)) from error
    try:
        hops = tuple(_hop(values[HEAD + 2 * i], values[HEAD + 2 * i + 1]) for i in range(count - 1, -1, -1))
    except OverflowError as error:
        raise ReportError(str(error)) from error
    known = sink_time != 0
    return FlowReport(
        flow_id=flow_id,
        priority=priority,
        seq=seq,
        time_us=time_us,
        event=told,
        flags=FlowFlag(flags),
        protocol=protocol,
        src=src,
        dst=dst,
        sport=sport,
        dport=dport,
        hops=hops,
        sink_node=node,
        sink_ingress_port=port_in,
        sink_egress_port=port_out,
        sink_time_us=sink_time,
        sink_latency_us=sink_latency if known else None,
        sink_queue_id=sink_queue >> 24,
        sink_queue_packets=sink_queue & 0xFFFFFF if known else None,
        packets=number(values[COUNTED], "big"),
        bytes_=number(values[COUNTED + 1], "big"),
    )


def decode_list(data: Iterable[Any]) -> tuple[list[FlowReport], int]:
    """(reports, malformed ones left out) of ``p4.v1.DigestList.data``."""
    reports: list[FlowReport] = []
    malformed = 0
    for item in data:
        try:
            reports.append(decode([member.bitstring for member in item.struct.members]))
        except ReportError:
            malformed += 1
    return reports, malformed


def _addresses(flags: int, src4: int, dst4: int, src6: int, dst6: int) -> tuple[str, str]:
    if flags & FlowFlag.IPV6:
        return str(ipaddress.IPv6Address(src6)), str(ipaddress.IPv6Address(dst6))
    return str(ipaddress.IPv4Address(src4)), str(ipaddress.IPv4Address(dst4))


def _hop(place: bytes, times: bytes) -> FlowHop:
    """From the two words of 128 bits (p4/include/headers.p4, ``int_hop_t``)."""
    if len(place) > 16 or len(times) > 16:
        raise OverflowError("a hop has two words of 128 bits")
    where, when = int.from_bytes(place, "big"), int.from_bytes(times, "big")
    latency, queue = where >> 32 & _ONES32, where & _ONES32
    arrived, left = when >> 64, when & _ONES64
    return FlowHop(
        node_id=where >> 96,
        ingress_port=where >> 80 & 0xFFFF,
        egress_port=where >> 64 & 0xFFFF,
        latency_us=None if latency == _ONES32 else latency,
        queue_id=queue >> 24,
        queue_packets=None if queue == _ONES32 else queue & 0xFFFFFF,
        ingress_time_us=None if arrived == _ONES64 else arrived,
        egress_time_us=None if left == _ONES64 else left,
    )
