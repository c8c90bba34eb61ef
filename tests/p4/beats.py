"""Heartbeats of one monitored port: the generator's orders, the neighbour's requests and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.p4 import frames as f

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded

PORT, OTHER = 2, 3
INTERVAL = 10_000  # us between heartbeats
DEAD = 3 * INTERVAL
REPORT = 100_000
DELTA = 500
RTT = 1_200

PERIODIC, CHANGE, DIED, REVIVED = range(4)


def configure(
    switch: Embedded, port: int, action: str = "monitor", dead: int = DEAD, report: int = REPORT, delta: int = DELTA
) -> None:
    parameters = {"dead_interval": dead, "report_interval": report, "rtt_delta": delta}
    switch.insert("liveness_config", {"port": port}, action, parameters)


def tick(switch: Embedded, port: int = PORT, padding: int = 0) -> dict[str, int | str]:
    """The packet generator's order; returns the request that leaves."""
    seen = switch.send(f.PKTGEN_PORT, f.command(f.HEARTBEAT, port) + bytes(padding))
    assert [where for where, _ in seen] == [port]
    return f.parse_heartbeat(seen[0][1])


def reply(switch: Embedded, request: dict[str, int | str], port: int = PORT) -> None:
    frame = f.heartbeat(
        f.REPLY, port=77, seq=int(request["seq"]), tx_time=int(request["tx_time"]), echo_time=switch.now_us * 3
    )
    assert switch.send(port, frame) == []


def round_trip(switch: Embedded, rtt: int = RTT, port: int = PORT) -> None:
    request = tick(switch, port)
    switch.wait(rtt)
    reply(switch, request, port)


def peer_request(switch: Embedded, seq: int, port: int = PORT) -> dict[str, int | str]:
    """A request of the neighbour; returns the echo."""
    seen = switch.send(port, f.heartbeat(f.REQUEST, port=77, seq=seq, tx_time=123_456))
    assert [where for where, _ in seen] == [port]
    return f.parse_heartbeat(seen[0][1])


def way(switch: Embedded) -> int:
    """The port by which data leaves."""
    return switch.send(1, f.udp4())[0][0]
