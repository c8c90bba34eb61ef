"""Packets as bytes, from the formats in p4/README.md; independent of the program and of any packet library.

A frame is written as a chain: ``ethernet(ETHERTYPE_IPV4) + ipv4("10.0.0.1", "10.0.1.1") + udp(1, 2) + b"data"``.
"""

from __future__ import annotations

import ipaddress
import struct

CPU_PORT = 510
PKTGEN_PORT = 509

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_HEARTBEAT = 0x88B5

PLAIN, SET_FAILOVER, GET_FAILOVER, HEARTBEAT, PORT_DOWN = range(5)
REQUEST, REPLY = 1, 2

HOST_MAC = "02:00:01:00:00:01"
ROUTER_MAC = "02:00:02:00:00:01"
HEARTBEAT_DST_MAC = "01:80:c2:00:00:0e"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def heartbeat_src_mac(port: int) -> str:
    return f"02:53:50:00:{port >> 8:02x}:{port & 0xFF:02x}"


def ethernet(ether_type: int, src: str = HOST_MAC, dst: str = ROUTER_MAC) -> bytes:
    return mac(dst) + mac(src) + struct.pack("!H", ether_type)


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    src: str,
    dst: str,
    *,
    ttl: int = 64,
    protocol: int = 17,
    dscp: int = 0,
    ecn: int = 0,
    payload: int = 8,
    version: int = 4,
    options: bytes = b"",
    ihl: int | None = None,
    total_length: int | None = None,
    fragment_offset: int = 0,
    bad_checksum: bool = False,
) -> bytes:
    """An IPv4 header whose ``total_length`` announces ``payload`` bytes; options are padded by the caller."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + payload if total_length is None else total_length
    head = struct.pack("!BBHHHBBH", version << 4 | words, dscp << 2 | ecn, length, 7, fragment_offset, ttl, protocol, 0)
    head += ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed + options
    value = checksum(head) ^ (0x0101 if bad_checksum else 0)
    return head[:10] + struct.pack("!H", value) + head[12:]


def ipv6(
    src: str,
    dst: str,
    *,
    hop_limit: int = 64,
    next_header: int = 17,
    dscp: int = 0,
    ecn: int = 0,
    flow_label: int = 0,
    payload: int = 8,
    version: int = 6,
) -> bytes:
    first = version << 28 | dscp << 22 | ecn << 20 | flow_label
    head = struct.pack("!IHBB", first, payload, next_header, hop_limit)
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed


def udp(sport: int, dport: int, payload: int = 0) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + payload, 0)


def mpls(label: int, *, ttl: int = 64, bottom: int = 1, traffic_class: int = 0) -> bytes:
    return struct.pack("!I", label << 12 | traffic_class << 9 | bottom << 8 | ttl)


def heartbeat(op: int, *, port: int = 1, seq: int = 1, tx_time: int = 0, echo_time: int = 0, version: int = 1) -> bytes:
    """A whole heartbeat frame, Ethernet included; times in microseconds."""
    body = struct.pack("!BHI", version << 4 | op, port, seq) + tx_time.to_bytes(6, "big") + echo_time.to_bytes(6, "big")
    return ethernet(ETHERTYPE_HEARTBEAT, heartbeat_src_mac(port), HEARTBEAT_DST_MAC) + body


def parse_heartbeat(frame: bytes) -> dict[str, int | str]:
    """Fields of a heartbeat frame."""
    assert frame[12:14] == struct.pack("!H", ETHERTYPE_HEARTBEAT), frame.hex()
    first, port, seq = struct.unpack("!BHI", frame[14:21])
    return {
        "dst": frame[0:6].hex(":"),
        "src": frame[6:12].hex(":"),
        "version": first >> 4,
        "op": first & 0xF,
        "port": port,
        "seq": seq,
        "tx_time": int.from_bytes(frame[21:27], "big"),
        "echo_time": int.from_bytes(frame[27:33], "big"),
    }


def packet_out(opcode: int = PLAIN, egress_port: int = 0) -> bytes:
    """The controller header; also packet_in, whose fields are (ingress port, reason)."""
    return struct.pack("!H", egress_port << 7 | opcode)


def command(opcode: int, index: int, value: int = 0, cookie: int = 0) -> bytes:
    """A packet-out with a command, as from the CPU port or the packet generator."""
    return packet_out(opcode) + struct.pack("!IIQ", index, value, cookie)


def packet_in(ingress_port: int, reason: int) -> bytes:
    return struct.pack("!H", ingress_port << 7 | reason)


def answer(opcode: int, index: int, value: int, cookie: int) -> bytes:
    """What SET_FAILOVER and GET_FAILOVER are answered with."""
    return packet_in(CPU_PORT, opcode) + struct.pack("!IIQ", index, value, cookie)


def udp4(
    dst: str = "10.0.1.2",
    *,
    src: str = "10.0.0.1",
    sport: int = 1000,
    dport: int = 2000,
    ttl: int = 64,
    data: bytes = b"shadowplane",
    src_mac: str = HOST_MAC,
    dst_mac: str = ROUTER_MAC,
    dscp: int = 0,
    labels: bytes = b"",
) -> bytes:
    """A whole UDP over IPv4 frame, with ``labels`` between Ethernet and IP."""
    ether_type = ETHERTYPE_MPLS if labels else ETHERTYPE_IPV4
    head = ethernet(ether_type, src_mac, dst_mac) + labels
    return head + ipv4(src, dst, ttl=ttl, dscp=dscp, payload=8 + len(data)) + udp(sport, dport, len(data)) + data


def udp6(
    dst: str = "fd00:1::2",
    *,
    src: str = "fd00::1",
    sport: int = 1000,
    dport: int = 2000,
    hop_limit: int = 64,
    data: bytes = b"shadowplane",
    src_mac: str = HOST_MAC,
    dst_mac: str = ROUTER_MAC,
    labels: bytes = b"",
) -> bytes:
    """A whole UDP over IPv6 frame."""
    ether_type = ETHERTYPE_MPLS if labels else ETHERTYPE_IPV6
    head = ethernet(ether_type, src_mac, dst_mac) + labels
    return head + ipv6(src, dst, hop_limit=hop_limit, payload=8 + len(data)) + udp(sport, dport, len(data)) + data
