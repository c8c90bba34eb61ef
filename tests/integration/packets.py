"""Frames that no switch should see, sent by a host of the lab: what is wrong with each, and how it is counted."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from types import TracebackType

from tests.integration.live import Live
from tests.p4 import frames as f
from topo.network import in_namespace

MALFORMED, BAD_CHECKSUM, UNKNOWN_ETHERTYPE, TTL, NO_ROUTE = 1, 2, 3, 4, 6
UNKNOWN_LABEL, UNSUPPORTED, BAD_HEARTBEAT = 10, 13, 14
HERE, THERE = "10.0.1.10", "10.0.2.10"  # h1 and h2 of the diamond
HERE6, THERE6 = "fd00:0:1::10", "fd00:0:2::10"
ROUTER = "02:00:00:00:01:01"
FREE_LABEL = 0xFFFF0
BURST = 64  # frames, then a pause: the noise must not overflow a queue by its sheer amount


def _truncated() -> list[bytes]:
    """Every frame kind cut at every length within its headers."""
    whole = [
        (f.udp4(THERE, src=HERE), 14 + 20 + 4),
        (f.udp6(THERE6, src=HERE6), 14 + 40 + 4),
        (f.udp4(THERE, src=HERE, labels=f.mpls(FREE_LABEL)), 14 + 4 + 20 + 4),
        (f.heartbeat(f.REQUEST), 14 + 19),
    ]
    return [frame[:length] for frame, headers in whole for length in range(15, headers)]


def _ip4(**wrong: object) -> bytes:
    return f.ethernet(f.ETHERTYPE_IPV4) + f.ipv4(HERE, THERE, **wrong) + f.udp(1, 2)  # type: ignore[arg-type]


def broken() -> list[tuple[int, bytes]]:
    """(drop reason, frame) for every kind."""
    udp = f.udp4(THERE, src=HERE)
    ip6 = f.ethernet(f.ETHERTYPE_IPV6)
    found = [(MALFORMED, frame) for frame in _truncated()]
    found += [(MALFORMED, _ip4(version=version)) for version in (0, 5, 6, 15)]
    found += [(MALFORMED, _ip4(ihl=words)) for words in range(5)]
    found += [(MALFORMED, _ip4(total_length=length)) for length in (0, 19)]
    found += [(MALFORMED, ip6 + f.ipv6(HERE6, THERE6, version=version) + f.udp(1, 2)) for version in (0, 4, 7)]
    found += [(BAD_CHECKSUM, _ip4(bad_checksum=True))]
    found += [(UNKNOWN_ETHERTYPE, f.ethernet(kind) + bytes(46)) for kind in (0, 0x0806, 0x8100, 0x88A8, 0x88CC, 0xFFFF)]
    found += [(UNKNOWN_ETHERTYPE, f.ethernet(0x8100) + b"\x00\x05\x08\x00" + udp[14:])]  # VLAN tags are not understood
    found += [(TTL, f.udp4(THERE, src=HERE, ttl=ttl)) for ttl in (0, 1)]
    found += [(TTL, f.udp6(THERE6, src=HERE6, hop_limit=limit)) for limit in (0, 1)]
    found += [(NO_ROUTE, f.udp4("192.0.2.1", src=HERE)), (NO_ROUTE, f.udp6("2001:db8::1", src=HERE6))]
    found += [(UNKNOWN_LABEL, f.udp4(THERE, src=HERE, labels=f.mpls(FREE_LABEL)))]
    found += [(UNKNOWN_LABEL, f.udp6(THERE6, src=HERE6, labels=f.mpls(FREE_LABEL)))]
    found += [(UNSUPPORTED, _ip4(options=b"\x94\x04\0\0"))]
    found += [(BAD_HEARTBEAT, f.heartbeat(op)) for op in (0, 3, 15)]
    found += [(BAD_HEARTBEAT, f.heartbeat(f.REQUEST, version=version)) for version in (0, 2, 15)]
    return found


def lies() -> list[bytes]:
    """Heartbeats that pretend to be another switch's; on a host's port they say nothing about any link."""
    found = [f.heartbeat(f.REPLY, port=port, seq=0xFFFFFFFF, tx_time=1 << 47, echo_time=5) for port in (1, 2, 65535)]
    return [*found, f.heartbeat(f.REQUEST, port=1, seq=0xFFFFFFF0)]


def orders() -> list[bytes]:
    """The controller's own orders, sent by a host: to the switch they are frames of no known EtherType."""
    return [f.command(code, index, 1, 1) + bytes(40) for code in range(5) for index in (1, 2, 3)]


class Injector:
    """A raw socket in a host's namespace."""

    def __init__(self, live: Live, host: str) -> None:
        def opened() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            raw.bind((f"{host}-eth0", 0))
            return raw

        self._socket = in_namespace(live.lab.node(host).pid, opened)
        self._sent = 0

    def __enter__(self) -> Injector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _send(self, frame: bytes) -> None:
        self._socket.send(frame)
        self._sent += 1
        if self._sent % BURST == 0:
            time.sleep(0.005)

    def send_broken(self) -> dict[int, int]:
        """Send each; returns how many should be dropped, by reason."""
        found = broken() + [(UNKNOWN_ETHERTYPE, frame) for frame in orders()]
        for _, frame in found:
            self._send(frame)
        for frame in lies():
            self._send(frame)
        return dict(Counter(reason for reason, _ in found))

    def send_random(self, count: int, seed: int) -> int:
        """Random bytes behind known EtherTypes (or none); returns how many."""
        dice = random.Random(seed)
        kinds = [f.ETHERTYPE_IPV4, f.ETHERTYPE_IPV6, f.ETHERTYPE_MPLS, f.ETHERTYPE_HEARTBEAT, 0x1234]
        for _ in range(count):
            kind, body = dice.choice(kinds), bytearray(dice.randbytes(dice.randrange(1, 200)))
            if kind == f.ETHERTYPE_HEARTBEAT and body[0] in (0x11, 0x12):  # a whole heartbeat is answered, not dropped
                body[0] = 0x13
            self._send(f.ethernet(kind) + body)
        return count
