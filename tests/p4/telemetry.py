"""In-band telemetry as bytes, from the INT specification 2.1; independent of the program and of any packet library."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.p4 import frames as f
from tests.p4.target import Target

DSCP = 0x17
FULL = 0xFC00  # node, ports, latency, queue, both times
FULL_WORDS = 8
ONES = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Stack:
    """Shim, MD header and stack; ``words``: the stack, the latest hop first."""

    instructions: int = FULL
    hop_words: int = FULL_WORDS
    remaining: int = 8
    dscp: int = 0  # the original one
    discard: int = 0
    exceeded: int = 0  # E
    mtu: int = 0  # M
    domain: int = 0
    ds_instructions: int = 0
    ds_flags: int = 0
    shim_type: int = 1
    version: int = 2
    words: tuple[int, ...] = field(default=())
    length: int | None = None

    def pack(self) -> bytes:
        length = 3 + len(self.words) if self.length is None else self.length
        first = self.version << 28 | self.discard << 27 | self.exceeded << 26 | self.mtu << 25
        first |= self.hop_words << 8 | self.remaining
        return struct.pack(
            f"!BBBBIHHHH{len(self.words)}I",
            *(self.shim_type << 4, length, 0, self.dscp << 2, first),
            *(self.instructions, self.domain, self.ds_instructions, self.ds_flags),
            *self.words,
        )


def hop(node: int, ports: tuple[int, int], latency: int = 0, queue: int = 0, times: tuple[int, int] = (0, 0)) -> Any:
    """The eight words of one hop for :data:`FULL`; ``queue``: id << 24 | occupancy."""
    return (
        *(node, ports[0] << 16 | ports[1], latency, queue),
        *(times[0] >> 32, times[0] & ONES, times[1] >> 32, times[1] & ONES),
    )


def l4_checksum(packet: bytes) -> int:
    """What is left of an IP packet's TCP or UDP checksum: 0 when it is right."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total = struct.unpack("!H", packet[2:4])[0]
        protocol, body = packet[9], packet[header:total]
        pseudo = packet[12:20] + struct.pack("!BBH", 0, protocol, len(body))
    else:
        protocol, body = packet[6], packet[40 : 40 + struct.unpack("!H", packet[4:6])[0]]
        pseudo = packet[8:40] + struct.pack("!IHBB", len(body), 0, 0, protocol)
    return f.checksum(pseudo + body)


def packet(
    body: bytes = b"shadowplane!",
    *,
    protocol: int = 17,
    family: int = 4,
    dscp: int = 0,
    ttl: int = 64,
    options: bytes = b"",
    telemetry: bytes = b"",
    checksum: bool = True,
    sport: int = 1000,
    dport: int = 2000,
    src: str | None = None,
    dst: str | None = None,
    via: tuple[str, str] = (f.HOST_MAC, f.ROUTER_MAC),
    flags: int = 0,
    labels: bytes = b"",
) -> bytes:
    """A whole frame with right lengths and checksums; ``telemetry`` goes behind the TCP or UDP header."""
    payload = telemetry + body
    if protocol == 17:
        head = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
        place = 6
    else:
        offset = (20 + len(options)) // 4
        head = struct.pack("!HHIIHHHH", sport, dport, 7, 9, offset << 12 | 0x18, 1024, 0, 0) + options
        place = 16
    segment = head + payload
    if family == 4:
        source, target = src or "10.0.0.1", dst or "10.0.1.2"
        ip = f.ipv4(source, target, ttl=ttl, protocol=protocol, dscp=dscp, payload=len(segment), fragment_offset=flags)
        pseudo = ip[12:20] + struct.pack("!BBH", 0, protocol, len(segment))
    else:
        source, target = src or "fd00::1", dst or "fd00:1::2"
        ip = f.ipv6(source, target, hop_limit=ttl, next_header=protocol, dscp=dscp, payload=len(segment))
        pseudo = ip[8:40] + struct.pack("!IHBB", len(segment), 0, 0, protocol)
    if checksum:
        value = f.checksum(pseudo + segment) or 0xFFFF
        segment = segment[:place] + struct.pack("!H", value) + segment[place + 2 :]
    ether_type = f.ETHERTYPE_MPLS if labels else f.ETHERTYPE_IPV4 if family == 4 else f.ETHERTYPE_IPV6
    return f.ethernet(ether_type, *via) + labels + ip + segment


def find(frame: bytes, options: int = 0) -> tuple[int, bytes]:
    """(DSCP, everything behind the TCP or UDP header) of an unlabelled frame."""
    ip = frame[14:]
    if ip[0] >> 4 == 4:
        dscp, protocol, at = ip[1] >> 2, ip[9], 20
    else:
        dscp, protocol, at = (struct.unpack("!H", ip[:2])[0] >> 6) & 0x3F, ip[6], 40
    return dscp, ip[at + (8 if protocol == 17 else 20 + options) :]


def parse(data: bytes) -> tuple[Stack, bytes]:
    """Shim, header and stack at the start of ``data``, and what follows."""
    shim, length, _, dscp, first, instructions, domain, ds, flags = struct.unpack("!BBBBIHHHH", data[:16])
    end = 4 + length * 4
    words = struct.unpack(f"!{length - 3}I", data[16:end])
    stack = Stack(
        instructions=instructions,
        hop_words=first >> 8 & 31,
        remaining=first & 255,
        dscp=dscp >> 2,
        discard=first >> 27 & 1,
        exceeded=first >> 26 & 1,
        mtu=first >> 25 & 1,
        domain=domain,
        ds_instructions=ds,
        ds_flags=flags,
        shim_type=shim >> 4,
        version=first >> 28,
        words=words,
    )
    return stack, data[end:]


def ports(switch: Target, node: int, core: tuple[int, ...], edge: tuple[int, ...], mtu: int = 0) -> None:
    """Say which ports lead where; MTU 0: any."""
    for port in core:
        switch.insert("int_ingress", {"port": port}, "int_from_core", {"dscp": DSCP})
        switch.insert("int_egress", {"port": port}, "int_to_core", {"node_id": node, "dscp": DSCP, "mtu": mtu})
    for port in edge:
        switch.insert("int_ingress", {"port": port}, "int_from_edge", {"dscp": DSCP})
        switch.insert("int_egress", {"port": port}, "int_to_edge", {"node_id": node, "dscp": DSCP})


def source(
    switch: Target,
    instructions: int = FULL,
    hop_words: int = FULL_WORDS,
    hop_limit: int = 8,
    one_in: int = 1,
    flow: int = 5,
    priority: int = 3,
) -> None:
    """Classify everything as one flow and start telemetry for it."""
    params = {"flow_id": flow, "priority": priority, "sample": 1}
    switch.insert("classify", {}, "set_flow", params, priority=1)
    rule = {"instructions": instructions, "hop_words": hop_words, "hop_limit": hop_limit, "one_in": one_in}
    switch.insert("int_source", {"flow_id": flow}, "int_start", rule, priority=1)


def watch(
    switch: Target,
    latency: int = 1 << 30,
    queue: int = 1 << 20,
    min_interval: int = 0,
    max_interval: int = 1 << 40,
    priority: int = 3,
) -> None:
    params = {"latency": latency, "queue": queue, "min_interval": min_interval, "max_interval": max_interval}
    switch.insert("int_report", {"priority": priority}, "int_watch", params)


def address(text: str) -> int:
    return int(ipaddress.ip_address(text))
