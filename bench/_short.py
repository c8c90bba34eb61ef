"""Writes as the controller sends its flips (:mod:`control.shortway`), for benchmarks without an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from control.flip import WRITE
from control.shortway import ShortWay, harvest


class Short:
    """A connection to a P4Runtime server on loopback; close it."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._way = ShortWay(f"127.0.0.1:{port}", WRITE, timeout_s=5.0)
        if not self._loop.run_until_complete(self._way.open()):
            raise RuntimeError(f"no HTTP/2 at port {port}")

    def write(self, request: bytes) -> None:
        """Send a serialized request and wait for its success."""
        call = self._way.send(request)
        if call is None:
            raise RuntimeError("the connection takes no request")
        harvest([call], 5.0)
        if not call.ok:
            raise RuntimeError("the write was not confirmed")

    def timed(self, make: Callable[[int], bytes], count: int, warm: int = 64) -> list[float]:
        """Milliseconds of ``count`` writes of prebuilt requests, after some to warm up."""
        requests = [make(number) for number in range(64)]
        for number in range(warm):
            self.write(requests[number & 63])
        out = []
        for number in range(count):
            began = time.perf_counter()
            self.write(requests[number & 63])
            out.append((time.perf_counter() - began) * 1e3)
        return out

    def close(self) -> None:
        self._way.close()
        self._loop.close()
