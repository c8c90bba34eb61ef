"""Capture files that other tools read."""

from __future__ import annotations

import shutil
from pathlib import Path

from scapy.utils import RawPcapReader

from tests.engine.switchd_support import burst, eventually, hello_port, needs_interfaces, number_of, numbered, rig

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


def test_a_capture_that_cannot_start_anew_goes_on_when_it_can(tmp_path: Path) -> None:
    captures = tmp_path / "pcaps"
    captures.mkdir()
    with rig(tmp_path) as built:
        client = built.start(pcap=captures, pcap_limit_mib=1)
        shutil.rmtree(captures)
        for first in range(0, 800, 50):  # more than 1 MiB: the files shall start anew, and have nowhere to
            burst(built.host[1], 50, size=1400, first=first)
            assert len(built.host[2].receive(50)) == 50

        def lost() -> int:
            burst(built.host[1], 1, first=800)  # the last ones before may still be written to the file that is gone
            return int(hello_port(client, 2)["capture_lost"])

        eventually(lambda: lost() >= 1, "the loss being counted")
        captures.mkdir()
        burst(built.host[1], 5, first=900)
        out = captures / f"{built.port[2]}_out.pcap"
        eventually(lambda: out.exists() and out.stat().st_size >= 24 + 5 * (16 + 60), "the frames in the new file")
        assert [number_of(data) for data, _ in RawPcapReader(str(out))][-5:] == list(range(900, 905))
        assert built.log.read_text().count("frames are left out") + built.log.read_text().count("No such file") < 12
