"""Processor, memory and interfaces of a device that runs Prometheus's node_exporter.

Counters that went back (a restart) give no rate until two readings follow each other again. What is not answered in
time, not 200, too large or unreadable is a failure: reported once until it is over, and the element falls silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import nan
from urllib.parse import urlsplit

import structlog

from control.clock import Clock
from control.errors import InputError
from control.inventory import NodeExporter
from control.sources.exposition import Exposition, parse
from ml.schema import DeviceSample, PortSample

LOG = structlog.get_logger("shadowplane.node_exporter")
MOST_BYTES = 8 << 20
_PORTS = {
    "node_network_transmit_bytes_total": "tx_bytes_total",
    "node_network_transmit_packets_total": "tx_packets_total",
    "node_network_transmit_drop_total": "tx_dropped_total",
    "node_network_receive_errs_total": "rx_errors_total",
}
_CPU, _TOTAL, _FREE = "node_cpu_seconds_total", "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes"
_UP, _SPEED = "node_network_up", "node_network_speed_bytes"
_IDLE = ("idle", "iowait", "steal")
WANTED = frozenset({*_PORTS, _CPU, _TOTAL, _FREE, _UP, _SPEED})


class Reading:
    """Turns the pages of one exporter into samples; remembers the processors' counters."""

    def __init__(self, entry: NodeExporter) -> None:
        self.entry = entry
        self._cpu: dict[tuple[str, str], float] = {}

    def samples(self, page: Exposition, time_s: float) -> list[PortSample | DeviceSample]:
        """Samples of a page that was read at ``time_s``."""
        total, free = page.single(_TOTAL), page.single(_FREE)
        memory = 1 - free / total if total and free is not None and 0 <= free <= total else nan
        found: list[PortSample | DeviceSample] = [
            DeviceSample(self.entry.element, time_s, cpu_utilization=self._busy(page), memory_utilization=memory)
        ]
        ports: dict[str, dict[str, float]] = {}
        for metric, name in _PORTS.items():
            for labels, value in page.of(metric):
                if labels.get("device") in self.entry.ports and value >= 0:
                    ports.setdefault(labels["device"], {})[name] = value
        up = {labels.get("device"): value for labels, value in page.of(_UP)}
        speed = {labels.get("device"): value for labels, value in page.of(_SPEED)}
        for device, values in ports.items():
            rate = speed.get(device, nan) * 8
            found.append(
                PortSample(
                    f"{self.entry.element}:{self.entry.ports[device]}",
                    time_s,
                    rate_bps=rate if rate > 0 else nan,
                    up=up.get(device, 1.0) > 0,
                    **values,
                )
            )
        return found

    def _busy(self, page: Exposition) -> float:
        """Share of the processors' time since the page before that was not idle; nan without one, or after a reset."""
        now = {(labels.get("cpu", ""), labels.get("mode", "")): value for labels, value in page.of(_CPU)}
        before, self._cpu = self._cpu, now
        if not now or now.keys() != before.keys() or any(now[key] < before[key] - 1e-3 for key in now):
            return nan
        spent = {key: max(0.0, now[key] - before[key]) for key in now}
        total = sum(spent.values())
        idle = sum(value for (_, mode), value in spent.items() if mode in _IDLE)
        return 1 - idle / total if total > 0 else nan


class NodeExporterSource:
    """Polls one exporter; :meth:`run` is its task. Raises :class:`InputError` for an address that is no HTTP URL."""

    def __init__(
        self, entry: NodeExporter, clock: Clock, emit: Callable[[list[PortSample | DeviceSample]], None]
    ) -> None:
        parts = urlsplit(entry.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"sources.node_exporter: {entry.url!r} is no http or https address")
        self.entry = entry
        self.polls = 0
        self.failures = 0
        self.skipped = 0
        self.error = "no answer yet"
        self._clock = clock
        self._emit = emit
        self._reading = Reading(entry)

    async def run(self) -> None:
        """Poll at a fixed pace until cancelled; a slow exporter is asked less often, never twice at once."""
        import httpx

        loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(trust_env=False, timeout=self.entry.timeout_s, follow_redirects=False) as client:
            due = loop.time()
            while True:
                try:
                    async with asyncio.timeout(self.entry.timeout_s):
                        await self._poll(client)
                    if self.error and self.failures:
                        LOG.info("node_exporter answers", url=self.entry.url)
                    self.error = ""
                except (httpx.HTTPError, TimeoutError, ValueError) as error:
                    self.failures += 1
                    text = str(error) or f"no answer within {self.entry.timeout_s:g} s"
                    if text != self.error:
                        LOG.warning("node_exporter not read", url=self.entry.url, reason=text)
                    self.error = text
                due = max(due + self.entry.interval_s, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _poll(self, client: object) -> None:
        import httpx

        assert isinstance(client, httpx.AsyncClient)
        body = bytearray()
        before = self._clock.time()
        async with client.stream("GET", self.entry.url) as answer:
            if answer.status_code != 200:
                raise ValueError(f"HTTP status {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes")
        self.polls += 1
        page = parse(body.decode("utf-8", errors="replace"), WANTED)
        self.skipped += page.skipped
        if not page.values:
            raise ValueError("the page has none of node_exporter's metrics")
        self._emit(self._reading.samples(page, (before + self._clock.time()) / 2))
