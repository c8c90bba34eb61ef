"""Orders heartbeats at switches that have no packet generator, by packet-outs (docs/decisions/0007).

Whether a switch has one is read off the data plane: its orders enter the pipeline at port 509 and are counted there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog
from finsy import P4PacketOut, P4Schema
from finsy.proto import p4r

from control.flip import command

LOG = structlog.get_logger("shadowplane.heartbeats")
HEARTBEAT = 3
BY_GENERATOR = "packet generator"
WATCH_S = 0.1  # a generator that works has counted something by then, or after four intervals
RECHECK_S = 2.0  # one that was only held up, or was switched on later


class Heartbeats:
    """For one switch while this controller is its primary; :meth:`run` is its task.

    ``counted`` reads how many orders the packet generator has given, ``ports`` names the monitored ones, ``send`` takes
    a round of orders. ``source`` says who orders: empty as long as that is not known.
    """

    def __init__(
        self,
        switch: str,
        interval_s: float,
        schema: P4Schema,
        *,
        ports: Callable[[], Sequence[int]],
        counted: Callable[[], Awaitable[int]],
        send: Callable[[Sequence[p4r.StreamMessageRequest]], Awaitable[None]],
    ) -> None:
        self.switch = switch
        self.source = ""
        self.rounds = 0
        self.late = 0  # rounds left out because the one before ended too late
        self._interval = interval_s
        self._schema = schema
        self._ports, self._counted, self._send = ports, counted, send
        self._orders: dict[int, p4r.StreamMessageRequest] = {}

    async def run(self) -> None:
        """Look for a packet generator; without one, order heartbeats until cancelled or until one is seen after all."""
        before = await self._counted()
        await asyncio.sleep(max(WATCH_S, 4 * self._interval))
        if await self._counted() == before:
            self.source = f"controller every {self._interval * 1000:g} ms"
            LOG.info("no packet generator; heartbeats go by packet-out", switch=self.switch, ms=self._interval * 1000)
            await self._order(before)
        self.source = BY_GENERATOR

    async def _order(self, before: int) -> None:
        """Rounds at a fixed pace: what was missed is left out, not made up for in a burst."""
        due = time.monotonic()
        recheck = due + RECHECK_S
        while True:
            await self._send([self._order_for(port) for port in self._ports()])
            self.rounds += 1
            now = time.monotonic()
            if now >= recheck:
                if await self._counted() != before:
                    LOG.info("a packet generator works after all", switch=self.switch)
                    return
                now = time.monotonic()
                recheck = now + RECHECK_S
            due += self._interval
            if due <= now:
                missed = int((now - due) / self._interval) + 1
                self.late += missed
                due += missed * self._interval
            await asyncio.sleep(due - now)

    def _order_for(self, port: int) -> p4r.StreamMessageRequest:
        known = self._orders.get(port)
        if known is None:
            packet = P4PacketOut(command(port, 0, 0), egress_port=0, opcode=HEARTBEAT)
            known = self._orders[port] = packet.encode_update(self._schema)
        return known
