"""Scapy layers and Wireshark dissectors read what the program, the exporter and the specification write."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from control.inband.entries import InbandSettings, ReportFilter, WatchedFlow
from control.inband.export import Encoder
from tests.inband.inband_net import Diamond, pcap
from tests.inband.test_telemetry_report import example_of_the_specification
from tests.p4 import frames as f
from tests.p4 import telemetry as t
from topo.load import load

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "deploy" / "wireshark" / "int.lua"
CAPTURE = Path(__file__).with_name("data") / "int_and_reports.pcap"
PORT = 32766


def capture() -> list[bytes]:
    """What the diamond puts on the wire for four packets of a watched flow, and the export of its reports."""
    topology = load("diamond")
    target = topology.hosts_of("s4")[0].name
    addresses = {name: topology.host(name).ipv4.split("/")[0] for name in ("h1", target)}
    watched = WatchedFlow(1, "h1", target, priority=5)
    diamond = Diamond([watched], InbandSettings(filter=ReportFilter(min_interval_ms=0, max_interval_ms=0)))
    try:
        diamond.route(target, ["s1", "s2", "s4"])
        for n, protocol in enumerate((17, 6, 17, 6)):
            options = bytes.fromhex("01010101") if n == 3 else b""
            frame = t.packet(
                b"payload %d" % n,
                protocol=protocol,
                options=options,
                src=addresses["h1"],
                dst=addresses[target],
                dscp=n,
            )
            diamond.send("h1", frame)
        datagrams = [data for data, _ in Encoder(t.DSCP).datagrams(diamond.reports("s4"))]
        wire = list(diamond.wire)
    finally:
        diamond.close()
    return wire + [udp(data) for data in [*datagrams, example_of_the_specification()]]


def udp(payload: bytes) -> bytes:
    head = f.ethernet(f.ETHERTYPE_IPV4) + f.ipv4("192.0.2.1", "192.0.2.2", payload=8 + len(payload))
    return head + f.udp(40000, PORT, len(payload)) + payload


@pytest.fixture(scope="module")
def captured() -> list[bytes]:
    return capture()


@pytest.fixture(scope="module")
def scapy_layers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shadowplane_int", ROOT / "deploy" / "scapy" / "shadowplane_int.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.announce(t.DSCP, PORT)
    return module


# -- Scapy -------------------------------------------------------------------------------------------------------


def test_scapy_reads_the_wire(captured: list[bytes], scapy_layers: ModuleType) -> None:
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether

    nodes = []
    for frame in captured[:8]:
        packet = Ether(frame)
        md = packet[scapy_layers.INTMD]
        assert packet[scapy_layers.INTShim].dscp == nodes_done(nodes)
        nodes.append([hop["node_id"] for hop in md.hops()])
        assert bytes(packet) == frame
        del packet[IP].chksum
        assert bytes(packet) == frame, "the IPv4 checksum is not what scapy computes"
        assert bytes(packet).endswith(b"payload %d" % ((len(nodes) - 1) // 2))
    assert nodes == [[1], [2, 1]] * 4


def nodes_done(nodes: list[Any]) -> int:
    """The DSCP that the host of the next frame chose: two frames on the wire per packet."""
    return len(nodes) // 2


def test_scapy_agrees_on_l4_checksums(captured: list[bytes], scapy_layers: ModuleType) -> None:
    from scapy.layers.inet import TCP, UDP
    from scapy.layers.l2 import Ether

    for frame in captured[:8]:
        packet = Ether(frame)
        layer = packet[UDP] if UDP in packet else packet[TCP]
        before = layer.chksum
        del layer.chksum
        again = Ether(bytes(packet))
        assert (again[UDP] if UDP in again else again[TCP]).chksum == before


def test_scapy_reads_reports(captured: list[bytes], scapy_layers: ModuleType) -> None:
    from scapy.layers.l2 import Ether

    report = Ether(captured[8])[scapy_layers.TelemetryReport]
    assert (report.node_id, report.sequence, len(report.reports)) == (4, 0, 4)
    for n, one in enumerate(report.reports):
        inner = one.packet()
        assert [hop["node_id"] for hop in inner[scapy_layers.INTMD].hops()] == [2, 1], n
        assert one.own()["ports"] >> 16 > 0
    assert bytes(report) == captured[8][42:]


def test_program_reads_what_scapy_builds(scapy_layers: ModuleType) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    from tests.p4.embedded import Embedded

    hop = scapy_layers.INTHop(node_id=7, ingress_port=1, egress_port=2, latency=30, queue=4)
    packet = (
        Ether(src=f.HOST_MAC, dst=f.ROUTER_MAC)
        / IP(src="10.0.0.1", dst="10.0.1.2", tos=t.DSCP << 2)
        / UDP(sport=1, dport=2)
        / scapy_layers.INTShim(dscp=10)
        / scapy_layers.INTMD(remaining_hops=7, stack=bytes(hop))
        / b"tail"
    )
    switch = Embedded()
    try:
        switch.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
        switch.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", {"port": 2, "src_mac": 1, "dst_mac": 2})
        t.ports(switch, 9, core=(1, 2), edge=())
        ((_, out),) = switch.send(1, bytes(packet))
    finally:
        switch.close()
    found = Ether(out)[scapy_layers.INTMD]
    assert [one["node_id"] for one in found.hops()] == [9, 7]
    assert (found.remaining_hops, found.hops()[1]["queue"]) == (6, 4)


# -- Wireshark ---------------------------------------------------------------------------------------------------


def dissect(file: Path, *settings: str) -> list[dict[str, list[str]]]:
    """Field values per packet, as tshark with our dissectors gives them."""
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not on the PATH (Debian: apt-get install tshark)")
    fields = ["int.hop.node_id", "int.shim.dscp", "int.hops", "int.hop.queue", "int.hop.latency", "int.too_short"]
    fields += ["telreport.node_id", "telreport.sequence", "telreport.in_type", "telreport.cut", "data.data"]
    fields += ["telreport.odd", "_ws.expert.message"]
    command = [tshark, "-X", f"lua_script:{LUA}", "-r", str(file), "-T", "json", "--no-duplicate-keys"]
    # Our flow uses a port that Wireshark has a dissector for, and the capture has each segment on two links.
    for setting in ("tcp.try_heuristic_first:TRUE", "tcp.analyze_sequence_numbers:FALSE", *settings):
        command += ["-o", setting]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def check(packets: list[dict[str, list[str]]]) -> None:
    assert len(packets) == 10
    for n, packet in enumerate(packets[:8]):
        assert packet["int.hop.node_id"] == [["1"], ["2", "1"]][n % 2]
        assert packet["int.hops"] == [str(1 + n % 2)]
        assert [int(value, 0) for value in packet["int.shim.dscp"]] == [n // 2]
        assert bytes.fromhex(packet["data.data"][0]) == b"payload %d" % (n // 2)
        assert "int.too_short" not in packet
    report, example = packets[8:]
    assert report["telreport.node_id"] == ["4"] and report["telreport.sequence"] == ["0"]
    assert report["telreport.in_type"] == ["4"] * 4
    assert report["int.hop.node_id"] == ["2", "1"] * 4
    assert example["telreport.node_id"] == ["3"] and example["telreport.sequence"] == ["77"]
    assert example["int.hop.queue"] == ["33"]
    assert "telreport.cut" not in report and "telreport.cut" not in example


def test_wireshark_reads_what_the_program_sends(captured: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "wire.pcap"
    file.write_bytes(pcap(captured))
    check(dissect(file))


def test_wireshark_reads_the_capture_kept_here() -> None:
    check(dissect(CAPTURE))


def test_wireshark_settings(captured: list[bytes], tmp_path: Path) -> None:
    """Another DSCP announces, another port receives."""
    file = tmp_path / "wire.pcap"
    file.write_bytes(pcap(captured))
    other = dissect(file, "int.dscp:7", "telreport.port:9999")
    assert not any("int.hops" in packet or "telreport.node_id" in packet for packet in other)
    anything = dissect(file, "int.dscp:7", "int.any_dscp:TRUE")
    assert all("int.hops" in packet for packet in anything[:8])


def test_wireshark_survives_damage(captured: list[bytes], tmp_path: Path) -> None:
    """Frames cut short and with bytes changed: no error of the scripts, and the damage is told."""
    frames = [frame[:size] for frame in captured for size in range(34, len(frame), 13)]
    for frame in captured:
        for at in range(42, min(len(frame), 70)):
            frames.append(frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :])
    report = captured[8]
    for words in range(report[51]):  # its first report shorter than it is: the packet in it ends anywhere
        frames.append(report[:51] + bytes([words]) + report[52:])
    file = tmp_path / "damaged.pcap"
    file.write_bytes(pcap(frames))
    packets = dissect(file)
    assert len(packets) == len(frames)
    assert any("int.too_short" in packet for packet in packets)
    assert any("telreport.cut" in packet for packet in packets)
    assert any("telreport.odd" in packet for packet in packets)
    assert not any("Lua Error" in text for packet in packets for text in packet.get("_ws.expert.message", []))


if __name__ == "__main__":  # python -m tests.inband.test_tools writes the capture anew
    CAPTURE.parent.mkdir(exist_ok=True)
    CAPTURE.write_bytes(pcap(capture()))
