"""The diamond in memory with in-band telemetry on: switches of the real program, entries of the real functions."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from control.inband.entries import InbandSettings, WatchedFlow, inband_entries
from control.inband.report import FlowReport, decode
from tests.p4.embedded import Embedded
from tests.p4.program import load_p4info
from topo.load import load
from topo.spec import Host, Link, Topology

LINK_US = 150
MEMBERS = [
    (m.name, m.type_spec.bitstring.bit.bitwidth) for m in load_p4info().type_info.structs["flow_report_t"].members
]


class Diamond:
    """Every switch of a topology as a pipeline in memory; frames travel links of :data:`LINK_US`."""

    def __init__(
        self, flows: Sequence[WatchedFlow], settings: InbandSettings | None = None, name: str = "diamond"
    ) -> None:
        self.topology: Topology = load(name)
        self.switches = {switch.name: Embedded() for switch in self.topology.switches}
        self.wire: list[bytes] = []  # frames between switches
        self.to_hosts: list[tuple[str, bytes]] = []
        for switch, entries in inband_entries(self.topology, flows, settings).items():
            for entry in entries:
                match = dict(entry.match or {})
                action = entry.action
                params = dict(action.args)  # type: ignore[union-attr]
                self.switches[switch].insert(
                    entry.table_id,
                    match,
                    action.name,
                    params,
                    priority=entry.priority,  # type: ignore[union-attr]
                )

    def close(self) -> None:
        for switch in self.switches.values():
            switch.close()

    def route(self, host: str, way: Sequence[str]) -> None:
        """The path to a host, switch by switch, its own one last."""
        target = self.topology.host(host)
        for here, there in zip(way, [*way[1:], None], strict=True):
            port = target.port if there is None else self.topology.links_between(here, there)[0].end(here).port
            switch = self.switches[here]
            group = {"group_id": port}
            switch.insert("route_ipv4", {"dst": (target.ipv4.split("/")[0], 32)}, "set_group", group)
            switch.insert("primary_nexthop", group, "set_nexthop", {"port": port, "src_mac": 1, "dst_mac": 2})

    def send(self, host: str, frame: bytes) -> None:
        """A host's frame, until it has arrived somewhere."""
        source = self.topology.host(host)
        waiting = [(source.switch, source.port, frame)]
        while waiting:
            name, port, data = waiting.pop(0)
            for out, sent in self.switches[name].send(port, data):
                far = self.topology.ports(name).get(out)
                if isinstance(far, Link):
                    end = far.other(name)
                    self.wire.append(sent)
                    waiting.append((end.switch, end.port, sent))
                elif isinstance(far, Host):
                    self.to_hosts.append((far.name, sent))
            for switch in self.switches.values():
                switch.wait(LINK_US)

    def reports(self, switch: str) -> list[FlowReport]:
        """Flow reports of a switch through the real decoder."""
        return [decode(members(item)) for item in self.switches[switch].flow_reports()]


def report_values(
    topology: Topology,
    way: Sequence[str],
    *,
    seq: int = 1,
    time_us: int = 1_000_000,
    depths: Sequence[int] = (),
    latencies: Sequence[int] = (),
    packets: int = 0,
    octets: int = 0,
    sport: int = 5000,
    flow_id: int = 1,
    link_us: int = LINK_US,
) -> dict[str, int]:
    """A flow report of a packet that went from a host over switches to a host, every :data:`LINK_US` a link. A
    latency of -1 was not told."""
    names = list(way[1:-1])
    numbers = {switch.name: switch.device_id for switch in topology.switches}
    ports = []
    for place, here in enumerate(names):
        pair = []
        for there in (way[place], way[place + 2]):
            host = there not in numbers
            pair.append(topology.host(there).port if host else topology.links_between(here, there)[0].end(here).port)
        ports.append(pair)
    depth, latency = [*depths, *[0] * len(names)], [*latencies, *[0] * len(names)]
    values = {
        "flow_id": flow_id, "seq": seq, "time": time_us, "hops": len(names) - 1, "protocol": 17, "sport": sport,
        "dport": 5001, "ipv4_src": 1, "ipv4_dst": 2, "sink_node": numbers[names[-1]],
        "sink_ingress_port": ports[-1][0], "sink_egress_port": ports[-1][1], "sink_time": time_us - 1000,
        "sink_latency": latency[len(names) - 1], "sink_queue": depth[len(names) - 1], "packets": packets,
        "bytes": octets,
    }  # fmt: skip
    at = time_us
    for number, place in enumerate(range(len(names) - 2, -1, -1), 1):
        at -= link_us
        left, arrived = at, at - max(latency[place], 0)
        port = ports[place]
        values[f"place{number}"] = (
            numbers[names[place]] << 96
            | port[0] << 80
            | port[1] << 64
            | (latency[place] & 0xFFFFFFFF) << 32
            | depth[place]
        )
        values[f"times{number}"] = arrived << 64 | left
        at = arrived
    return values


def members(digest: dict[str, int]) -> list[bytes]:
    """A digest as P4Runtime hands it over: the shortest big endian strings."""
    return [digest[name].to_bytes(max(1, (digest[name].bit_length() + 7) // 8), "big") for name, _ in MEMBERS]


def pcap(frames: Sequence[bytes], linktype: int = 1) -> bytes:
    """A capture file (libpcap, microseconds)."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)]
    for number, frame in enumerate(frames):
        out.append(struct.pack("<IIII", 1_700_000_000, number, len(frame), len(frame)) + frame)
    return b"".join(out)
