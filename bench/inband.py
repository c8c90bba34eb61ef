"""What in-band telemetry costs the embedded switch: nanoseconds of one core per packet, by role, in memory.

The same packets (200 bytes of UDP payload) with and without telemetry, so the difference is the price of the role. The
digest of the sink is made for one packet in many, as in use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from bench._common import Result, write
from bench._wire import PROGRAM, _checksum
from bench.engine_memory import PACKETS, PORTS, ROUNDS, Pipeline, best, frames, prefixes, prepare
from engine.api import Match, TableUpdate

DSCP = 0x17
SIZE = 242
NODE = 7
HOPS = 3  # before the sink


def carrying(plain: list[bytes], hops: int) -> list[bytes]:
    """The frames with the telemetry of so many hops behind the UDP header."""
    stack = b"".join(struct.pack("!IIIIQQ", n, n << 16 | n, 10, 1, 1000, 1010) for n in range(hops))
    md = struct.pack("!BBBBIHHHH", 0x10, 3 + len(stack) // 4, 0, 0, 2 << 28 | 8 << 8 | 8, 0xFC00, 0, 0, 0) + stack
    out = []
    for frame in plain:
        ip, udp, payload = bytearray(frame[14:34]), bytearray(frame[34:42]), frame[42:]
        ip[1] = DSCP << 2
        struct.pack_into("!H", ip, 2, len(ip) + len(udp) + len(md) + len(payload))
        struct.pack_into("!H", ip, 10, 0)
        struct.pack_into("!H", ip, 10, _checksum(bytes(ip)))
        struct.pack_into("!H", udp, 4, len(udp) + len(md) + len(payload))
        out.append(frame[:14] + bytes(ip) + bytes(udp) + md + payload)
    return out


def ports(pipe: Pipeline, *, sink: bool) -> Iterator[TableUpdate]:
    """Packets come from other switches, and go to hosts (``sink``) or to other switches."""
    for port in PORTS:
        key = {"port": Match(port.to_bytes(2, "big"))}
        yield pipe.entry("int_ingress", key, "int_from_core", DSCP)
        if sink:
            yield pipe.entry("int_egress", key, "int_to_edge", NODE, DSCP)
        else:
            yield pipe.entry("int_egress", key, "int_to_core", NODE, DSCP, 0)


def measure(traffic: list[bytes], *, sink: bool = False, one_in: int = 0) -> float:
    """Nanoseconds per packet; ``one_in``: this switch is the source of telemetry in one packet of so many."""
    pipe = prepare(str(PROGRAM), prefixes(1000, 1))

    def updates() -> Iterator[TableUpdate]:
        yield from ports(pipe, sink=sink)
        yield pipe.entry("int_report", {"priority": Match(b"\0")}, "int_watch", 1000, 32, 10_000, 500_000)
        yield pipe.entry("int_report", {"priority": Match(b"\1")}, "int_watch", 1000, 32, 10_000, 500_000)
        if one_in:
            yield pipe.entry("classify", {}, "set_flow", 99, 0, 1, priority=1000)
            yield pipe.entry("int_source", {}, "int_start", 0xFC00, 8, 8, one_in, priority=1)

    pipe.fill(updates())
    try:
        fast, _slow = best(pipe, traffic)
    finally:
        pipe.close()
    return fast


def main() -> int:
    """Run and write the results."""
    plain = frames(prefixes(1000, 1), SIZE, 2)
    took = {
        "no telemetry": measure(plain),
        "source, every packet": measure(plain, one_in=1),
        "source, one packet in 10": measure(plain, one_in=10),
        "transit": measure(carrying(plain, 1)),
        f"sink of {HOPS} hops": measure(carrying(plain, HOPS), sink=True),
    }
    samples = ROUNDS * PACKETS
    write("inband", [Result(name, "ns/packet", value, samples=samples) for name, value in took.items()])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
