"""Reads the data plane's group counters, so that capacity decisions know who sends how much."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from control.capacity import Loads
from control.clock import Clock
from control.errors import ControlError
from control.fleet import Fleet
from control.paths import Network
from control.plan import Plan
from control.settings import Settings, Strategy
from control.threats import ThreatBook

LOG = structlog.get_logger("shadowplane.rates")
IDLE_S = 1.0
BUSY = 0.2  # share of a link's capacity from which its switch's groups are watched closely


class Watched(Protocol):
    """The part of the service that the poller reads."""

    plan: Plan
    strategy: Strategy
    settings: Settings
    clock: Clock
    network: Network
    loads: Loads
    book: ThreatBook
    fleet: Fleet


class RatePoller:
    """Often where a port fills up, seldom elsewhere, and not at all under strategies that do not use it."""

    def __init__(self, service: Watched) -> None:
        self._service = service
        self._last: dict[str, float] = {}

    async def run(self) -> None:
        """Task: until cancelled."""
        while True:
            await asyncio.sleep(self._service.settings.rates_ms / 1000)
            if self._service.strategy is Strategy.PREDICTIVE:
                await asyncio.gather(*(self._read(name) for name in self._due()))

    def _due(self) -> list[str]:
        service = self._service
        now = service.clock.monotonic()
        filling = any(threat.congestion for threat in service.book.standing())
        due = [
            name
            for name, session in service.fleet.sessions.items()
            if session.ready and (filling or self._busy(name) or now - self._last.get(name, -1e9) >= IDLE_S)
        ]
        self._last.update(dict.fromkeys(due, now))
        return due

    def _busy(self, switch: str) -> bool:
        service = self._service
        return any(service.loads.utilization(hop.out) > BUSY for hop in service.network.hops_from(switch))

    async def _read(self, switch: str) -> None:
        service = self._service
        groups = {group.id: group.key for group in service.plan.of(switch) if not group.local}
        before = service.clock.monotonic()
        try:
            totals = await service.fleet.sessions[switch].read_group_totals(list(groups))
        except ControlError as error:
            LOG.debug("group counters not read", switch=switch, reason=str(error))
            return
        now = (before + service.clock.monotonic()) / 2
        for group_id, (sent, packets) in totals.items():
            service.loads.observe_group(groups[group_id], sent, now, packets)
