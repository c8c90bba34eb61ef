"""Capture files that other tools read."""

from __future__ import annotations

from pathlib import Path

from scapy.utils import RawPcapReader

from tests.engine.switchd_support import burst, eventually, needs_interfaces, number_of, numbered, rig

pytestmark = needs_interfaces()


def test_captures_hold_what_crossed_each_port(tmp_path: Path) -> None:
    captures = tmp_path / "pcaps"
    captures.mkdir()
    with rig(tmp_path) as built:
        client = built.start(pcap=captures)
        sent = burst(built.host[1], 50, size=200)
        assert len(built.host[2].receive(50)) == 50
        out = captures / f"{built.port[2]}_out.pcap"
        eventually(lambda: out.stat().st_size >= 24 + 50 * (16 + 200), "the frames in the file")
        client.pcap(None)
        built.host[1].send(numbered(99))
        assert built.host[2].receive()
        for name in (f"{built.port[1]}_in.pcap", f"{built.port[2]}_out.pcap"):
            frames = list(RawPcapReader(str(captures / name)))
            assert [number_of(data) for data, _ in frames] == list(range(50))
            assert all(meta.wirelen == 200 for _, meta in frames)
        times = [meta.sec * 10**9 + meta.usec for _, meta in RawPcapReader(str(captures / f"{built.port[1]}_in.pcap"))]
        assert all(at >= sent[number] - 1_000_000 for number, at in enumerate(times))
        assert not list(RawPcapReader(str(captures / f"{built.port[3]}_out.pcap")))
