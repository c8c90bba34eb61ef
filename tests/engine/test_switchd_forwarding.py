"""Frames cross the switch process whole, once, in order; a register write holds for the next frame."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.switchd_support import (
    Rig,
    burst,
    eventually,
    frame,
    hello_port,
    needs_interfaces,
    number_of,
    numbered,
    rig,
)

pytestmark = needs_interfaces()


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as built:
        built.start()
        yield built


def test_both_directions(switch: Rig) -> None:
    switch.host[1].send(frame(b"there"))
    assert [data for data, _ in switch.host[2].receive()] == [frame(b"there")]
    switch.host[2].send(frame(b"back"))
    assert [data for data, _ in switch.host[1].receive()] == [frame(b"back")]
    assert switch.host[3].silent()


def test_a_burst_keeps_order_and_loses_nothing(switch: Rig) -> None:
    burst(switch.host[1], 1000)
    assert [number_of(data) for data, _ in switch.host[2].receive(1000)] == list(range(1000))
    assert switch.host[2].silent()


@pytest.mark.parametrize("size", [14, 15, 59, 60, 61, 1513, 1514])
def test_every_size_arrives_unchanged(switch: Rig, size: int) -> None:
    data = frame(bytes(range(256)) * 6, size=size)[:size]
    switch.host[1].send(data)
    assert [got for got, _ in switch.host[2].receive()] == [data]


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
def test_vlan_tags_survive(switch: Rig, tpid: int) -> None:
    data = frame((0x2ABC).to_bytes(2, "big") + b"\x88\x99 inside", kind=tpid)
    # A receiving socket sees the tag in its metadata only: let the switch's own capture decide.
    capture = switch.directory / "pcap"
    capture.mkdir()
    with switch.client() as client:
        client.pcap(capture)
        switch.host[1].send(data)
        file = capture / f"{switch.port[1]}_in.pcap"
        eventually(lambda: file.stat().st_size >= 24 + 16 + len(data), "the capture")
        assert data in file.read_bytes()
        client.pcap(None)


def test_what_we_send_does_not_come_back(switch: Rig) -> None:
    with switch.client() as client:
        before = client.device_state().ports[1].rx_packets
        burst(switch.host[1], 50)
        assert len(switch.host[2].receive(50)) == 50
        assert client.device_state().ports[1].rx_packets == before


def test_counters(switch: Rig) -> None:
    with switch.client() as client:
        burst(switch.host[1], 20, size=100)
        assert len(switch.host[2].receive(20)) == 20
        state = {port.port: port for port in client.device_state().ports}
    assert (state[1].rx_packets, state[1].rx_bytes) == (20, 2000)
    assert (state[2].tx_packets, state[2].tx_bytes) == (20, 2000)
    assert state[1].up
    assert state[1].name == switch.port[1]


def test_register_write_holds_for_the_next_frame(switch: Rig) -> None:
    with switch.client() as client:
        for round_ in range(20):
            shadow = round_ % 2
            client.register_write(0, 0, shadow)
            switch.host[1].send(numbered(round_))
            assert [number_of(data) for data, _ in switch.host[3 if shadow else 2].receive()] == [round_]
    assert switch.host[2].silent()
    assert switch.host[3].silent()


def test_frames_of_several_ports_are_processed_in_order_of_arrival(switch: Rig) -> None:
    assert switch.process is not None
    switch.process.send_signal(signal.SIGSTOP)
    for number in range(200):
        switch.host[2 + number % 2].send(numbered(number))
    switch.process.send_signal(signal.SIGCONT)
    assert [number_of(data) for data, _ in switch.host[1].receive(200)] == list(range(200))
    assert switch.host[1].silent()


def test_oversized_frames_are_counted_not_fatal(switch: Rig) -> None:
    for interface in (switch.port[1], switch.host[1].interface):
        subprocess.run(["ip", "link", "set", interface, "mtu", "4000"], check=True)
    with switch.client() as client:
        eventually(lambda: hello_port(client, 1)["mtu"] == 4000, "the new MTU")
        switch.host[1].send(frame(size=3000))  # does not fit port 2
        eventually(lambda: hello_port(client, 2)["tx_oversize"] == 1, "the count")
        switch.host[1].send(numbered(7))
        assert [number_of(data) for data, _ in switch.host[2].receive()] == [7]


def test_unfinished_checksums_are_finished(switch: Rig) -> None:
    """A UDP datagram from a veth with checksum offload arrives with a correct checksum."""
    ours, theirs = switch.host[1].interface, switch.host[2].interface
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", ours], check=True)
    subprocess.run(
        ["ip", "neigh", "replace", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", ours, "nud", "permanent"],
        check=True,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ours.encode())
        sender.sendto(b"odd length!", ("192.0.2.9", 4242))
    received = switch.host[2].receive(kind=0x0800)
    assert received, f"nothing on {theirs}"
    packet = received[0][0][14:]
    length = int.from_bytes(packet[2:4], "big")
    udp = packet[20:length]
    pseudo = packet[12:20] + b"\0\x11" + len(udp).to_bytes(2, "big") + udp + b"\0" * (len(udp) % 2)
    total = sum(int.from_bytes(pseudo[i : i + 2], "big") for i in range(0, len(pseudo), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
