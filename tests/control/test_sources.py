"""node_exporter: the text format read strictly, counters that restart, and an exporter that misbehaves."""

from __future__ import annotations

import asyncio
import http.server
import math
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.clock import SystemClock
from control.errors import InputError
from control.inventory import NodeExporter
from control.sources import node_exporter
from control.sources.exposition import parse
from control.sources.node_exporter import WANTED, NodeExporterSource, Reading
from ml.schema import DeviceSample, PortSample

PAGE = """# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{{cpu="0",mode="idle"}} {idle}
node_cpu_seconds_total{{cpu="0",mode="user"}} {user}
node_memory_MemTotal_bytes 8e+09
node_memory_MemAvailable_bytes 2e+09
node_network_transmit_bytes_total{{device="swp1"}} 1.5e+06
node_network_transmit_packets_total{{device="swp1"}} 1000
node_network_receive_errs_total{{device="swp1"}} 3
node_network_transmit_bytes_total{{device="lo"}} 9
node_network_up{{device="swp1"}} 1
node_network_speed_bytes{{device="swp1"}} 1.25e+09
"""
ENTRY = NodeExporter(url="http://127.0.0.1:1/metrics", element="s1", interval_s=0.1, ports={"swp1": 1})


def test_pages_become_samples() -> None:
    reading = Reading(ENTRY)
    device, port = reading.samples(parse(PAGE.format(idle=100, user=50), WANTED), 1.0)
    assert isinstance(device, DeviceSample) and math.isnan(device.cpu_utilization)
    assert device.memory_utilization == pytest.approx(0.75)
    assert isinstance(port, PortSample) and port.element == "s1:1" and port.up
    assert (port.tx_bytes_total, port.tx_packets_total, port.rx_errors_total) == (1.5e6, 1000, 3)
    assert port.rate_bps == 1e10 and math.isnan(port.tx_dropped_total)
    (device, _) = reading.samples(parse(PAGE.format(idle=103, user=51), WANTED), 2.0)
    assert isinstance(device, DeviceSample) and device.cpu_utilization == pytest.approx(0.25)
    (device, _) = reading.samples(parse(PAGE.format(idle=1, user=1), WANTED), 3.0)
    assert isinstance(device, DeviceSample) and math.isnan(device.cpu_utilization), "the machine started anew"
    (device, _) = reading.samples(parse(PAGE.format(idle=2, user=2), WANTED), 4.0)
    assert isinstance(device, DeviceSample) and device.cpu_utilization == pytest.approx(0.5)


@pytest.mark.parametrize(
    "line",
    [
        "m{a=1} 2", 'm{a="1" 2', "m one", "m", 'm{a="1",a="2"} 3', 'm{a="1"b="2"} 3', "m 1 2 3", "m 0x10", "m 1_000",
        "m " + "1" * 9000, "m +-1",
    ],
)  # fmt: skip
def test_lines_that_are_no_samples_are_skipped_and_counted(line: str) -> None:
    found = parse(f"{line}\nm 5\n", frozenset({"m"}))
    assert found.skipped == 1 and found.values == {"m": [({}, 5.0)]}


def test_values_and_labels_of_every_form() -> None:
    page = 'm{a="x\\\\y\\"z\\n",b=""} +Inf 1700000000\nm{ a = "1" , } -3e-2\r\n#m 1\n\nm NaN\nother 3\n'
    found = parse(page, frozenset({"m"}))
    assert found.values == {"m": [({"a": 'x\\y"z\n', "b": ""}, math.inf), ({"a": "1"}, -0.03)]} and not found.skipped
    assert found.single("m") is None and found.single("none") is None


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    parse("m" + text, frozenset({"m"}))
    Reading(ENTRY).samples(parse("node_cpu_seconds_total" + text, WANTED), 0.0)


class Exporter(http.server.BaseHTTPRequestHandler):
    answer: tuple[int, bytes] = (200, PAGE.format(idle=1, user=1).encode())
    hold = threading.Event()

    def do_GET(self) -> None:
        status, body = type(self).answer
        if status == 0:
            type(self).hold.wait(100)
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def exporter() -> Iterator[str]:
    Exporter.answer, Exporter.hold = (200, PAGE.format(idle=1, user=1).encode()), threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    Exporter.hold.set()
    server.shutdown()
    server.server_close()


def test_an_exporter_that_misbehaves_is_reported_and_asked_again(
    exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_exporter, "MOST_BYTES", 100_000)
    found: list[PortSample | DeviceSample] = []
    entry = NodeExporter(url=exporter, element="s1", interval_s=0.1, timeout_s=10.0, ports={"swp1": 1})
    source = NodeExporterSource(entry, SystemClock(), found.extend)

    async def until(words: str) -> None:
        async with asyncio.timeout(60):
            while words not in source.error or (not words and source.error):
                await asyncio.sleep(0.01)

    async def scenario() -> None:
        task = asyncio.create_task(source.run())
        await until("")
        assert {item.element for item in found} == {"s1", "s1:1"} and source.failures == 0
        for answer, words in (
            ((500, b"no"), "HTTP status 500"),
            ((200, b"x" * 200_000), "more than 100000 bytes"),
            ((200, b"<html>hello</html>"), "none of node_exporter's metrics"),
            ((0, b""), "no answer within 0.5 s"),
        ):
            if not answer[0]:
                source.entry = entry.model_copy(update={"timeout_s": 0.5})
            Exporter.answer = answer
            await until(words)
        count = len(found)
        Exporter.answer = (200, PAGE.format(idle=9, user=9).encode())
        await until("")
        assert len(found) > count and source.failures >= 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_only_http_addresses_are_taken() -> None:
    for url in ("file:///etc/passwd", "10.0.0.1:9100", "http://"):
        with pytest.raises(InputError, match="http"):
            NodeExporterSource(NodeExporter(url=url, element="s1"), SystemClock(), lambda _: None)
