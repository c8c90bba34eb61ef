"""One prefix, one group, a primary and a labelled shadow: what most packet tests start from."""

from __future__ import annotations

from typing import Any

from tests.p4 import frames as f
from tests.p4.target import Target, dst_mac, src_mac

IN, PRIMARY, SHADOW = 1, 2, 3
GROUP, LABEL = 7, 1042

DROPS = {
    "malformed": 1,
    "bad_checksum": 2,
    "unknown_ethertype": 3,
    "ttl_expired": 4,
    "acl_deny": 5,
    "no_route": 6,
    "route_drop": 7,
    "no_nexthop": 8,
    "bad_int": 9,
    "unknown_label": 10,
    "bad_command": 12,
    "unsupported": 13,
    "bad_heartbeat": 14,
    "no_balance": 15,
}


def flip(switch: Target, group: int, bit: int) -> None:
    order = f.command(f.SET_FAILOVER, group, bit, 0xABCDEF)
    assert switch.send(f.CPU_PORT, order) == [(f.CPU_PORT, f.answer(f.SET_FAILOVER, group, bit, 0xABCDEF))]


def kill(switch: Target, port: int) -> None:
    """Make a port dead at once: an interval of 1 us and no heartbeat within it."""
    parameters = {"dead_interval": 1, "report_interval": 1 << 40, "rtt_delta": 1 << 31}
    switch.insert("liveness_config", {"port": port}, "monitor", parameters)
    assert len(switch.send(f.CPU_PORT, f.command(f.HEARTBEAT, port))) == 1


def dropped(switch: Target, port: int, frame: bytes, reason: str) -> None:
    """``frame`` goes nowhere and is counted under ``reason``, and nowhere else."""
    before = [switch.counter("drops", index) for index in range(16)]
    assert switch.send(port, frame) == []
    after = [switch.counter("drops", index) for index in range(16)]
    packets, octets = before[DROPS[reason]]
    before[DROPS[reason]] = (packets + 1, octets + len(frame))
    assert after == before


def pause(switch: Target) -> None:
    """Let a port with an interval of 1 us die: BMv2's clock does it by itself."""
    wait = getattr(switch, "wait", None)
    if wait is not None:
        wait(1_000)


def onward4(port: int, **changes: Any) -> bytes:
    """The default IPv4 frame one hop on, leaving by ``port``."""
    return f.udp4(**({"src_mac": src_mac(port), "dst_mac": dst_mac(port), "ttl": 63} | changes))


def onward6(port: int, **changes: Any) -> bytes:
    return f.udp6(**({"src_mac": src_mac(port), "dst_mac": dst_mac(port), "hop_limit": 63} | changes))
