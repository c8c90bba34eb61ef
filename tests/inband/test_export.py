"""Export over UDP: what a collector gets, and what it costs when there is none."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from control.inband.export import Encoder, Exporter
from control.inband.report import FlowEvent, FlowFlag, FlowHop, FlowReport
from control.inband.telemetry_report import InnerType
from control.inband.telemetry_report import decode as decode_report

HOPS = (
    FlowHop(1, 9, 2, 30, 3, 4, 1000, 1030),
    FlowHop(2, 1, 2, None, 3, None, 1200, None),
)
REPORT = FlowReport(
    flow_id=5,
    priority=3,
    seq=1,
    time_us=1500,
    event=FlowEvent.QUEUE,
    flags=FlowFlag.MTU_EXCEEDED,
    protocol=17,
    src="10.0.0.1",
    dst="10.0.1.2",
    sport=1000,
    dport=2000,
    hops=HOPS,
    sink_node=4,
    sink_ingress_port=2,
    sink_egress_port=1,
    sink_time_us=1400,
    sink_latency_us=12,
    sink_queue_id=3,
    sink_queue_packets=40,
)
V6 = replace(REPORT, src="fd00::1", dst="fd00:1::2", flags=FlowFlag.IPV6, protocol=6, event=FlowEvent.PERIODIC)


@pytest.mark.parametrize("report", [REPORT, V6], ids=["udp4", "tcp6"])
def test_everything_can_be_read_back(report: FlowReport) -> None:
    ((data, held),) = Encoder(0x17).datagrams([report])
    assert held == 1
    found = decode_report(data)
    assert (found.node_id, found.sequence) == (4, 0)
    (one,) = found.reports
    assert one.inner_type == (InnerType.IPV6 if report is V6 else InnerType.IPV4)
    assert (one.tracked, one.congested, one.dropped) == (True, report is REPORT, False)
    own = one.hop()
    assert (own.ingress_port, own.egress_port, own.latency, own.queue_id, own.queue) == (2, 1, 12, 3, 40)
    assert own.ingress_time == 1400
    stack = one.stack()
    assert stack is not None
    assert stack.mtu_exceeded is (report is REPORT)
    second, first = stack.hops()  # the latest first
    assert (first.node_id, first.latency, first.egress_time) == (1, 30, 1030)
    assert (second.node_id, second.latency, second.queue, second.egress_time) == (2, None, None, None)


def test_unknown_sink_is_not_told() -> None:
    ((data, _),) = Encoder(0x17).datagrams([replace(REPORT, sink_time_us=0)])
    (one,) = decode_report(data).reports
    assert (one.hop().egress_port, one.hop().latency, one.hop().queue) == (1, None, None)


def test_numbers_count_datagrams_per_node_and_wrap() -> None:
    encoder = Encoder(0x17, limit_bytes=200)
    other = replace(REPORT, sink_node=9)
    made = [decode_report(data) for data, _ in encoder.datagrams([REPORT, other, REPORT, REPORT])]
    assert [(one.node_id, one.sequence) for one in made] == [(4, 0), (4, 1), (4, 2), (9, 0)]
    encoder._sequence[9] = (1 << 22) - 1
    assert [decode_report(data).sequence for data, _ in encoder.datagrams([other])] == [(1 << 22) - 1]
    assert [decode_report(data).sequence for data, _ in encoder.datagrams([other])] == [0]


def test_sent_over_udp_and_coalesced() -> None:
    collector = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    collector.bind(("127.0.0.1", 0))
    collector.setblocking(False)

    async def play() -> list[bytes]:
        loop = asyncio.get_running_loop()
        exporter = Exporter(collector.getsockname())
        task = asyncio.create_task(exporter.run())
        for _ in range(20):
            exporter.put(REPORT)
        got: list[bytes] = []
        while sum(len(decode_report(data).reports) for data in got) < 20:
            got.append(await asyncio.wait_for(loop.sock_recv(collector, 65536), 60))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (exporter.sent, exporter.dropped, exporter.datagrams) == (20, 0, len(got))
        return got

    try:
        got = asyncio.run(play())
    finally:
        collector.close()
    assert 1 < len(got) < 20
    assert all(len(data) <= 1400 for data in got)


def test_bounded_and_counted() -> None:
    async def play() -> Exporter:
        exporter = Exporter(("127.0.0.1", 9), limit=3)
        for _ in range(5):
            exporter.put(REPORT)
        exporter.put(replace(REPORT, protocol=132))
        return exporter

    exporter = asyncio.run(play())
    assert (exporter.waiting, exporter.dropped) == (3, 3)

    def refuse(_data: bytes) -> None:
        raise OSError("no route")

    exporter.send_waiting(refuse)
    assert (exporter.waiting, exporter.sent, exporter.dropped) == (0, 0, 6)


def test_collector_that_is_not_there_stops_nothing() -> None:
    async def play() -> Exporter:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            address = free.getsockname()
        exporter = Exporter(address)
        task = asyncio.create_task(exporter.run())
        for _ in range(5):
            exporter.put(REPORT)
            for _ in range(20):
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return exporter

    assert asyncio.run(play()).waiting == 0
