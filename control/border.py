"""Where finsy's objects and errors end and ours begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import grpc
from finsy import P4ClientError, P4CounterEntry, P4RegisterEntry, P4TableEntry, Switch
from finsy.proto import p4r

from control import refusals
from control.errors import SwitchUnavailable


class PlainSwitch(Switch):  # type: ignore[misc]
    """finsy's switch without its own gNMI client.

    finsy 0.30 subscribes to every port's status when it connects, insists on ``string_val`` (a JSON-encoded
    "UP" ends the session: ``OperStatus(b'"UP"')``), and never hands the events on (``_start_gnmi`` calls
    ``listen()`` without the switch). :mod:`control.telemetry` does the same for both encodings.
    """

    on_digest: Callable[[p4r.DigestList], None] | None = None

    async def _start_gnmi(self) -> None:
        return None

    def _stream_digest_message(self, msg: p4r.StreamMessageResponse) -> None:
        """finsy makes a dictionary of every digest, which takes longer than all that is done with it."""
        if self.on_digest is not None:
            self.on_digest(msg.digest)


@contextmanager
def border(name: str) -> Iterator[None]:
    """What a call says whose session ends under it becomes :class:`SwitchUnavailable`.

    grpc.aio cancels the calls of a channel that is closed. Whoever waits for one then gets a ``CancelledError``
    that nobody sent; let through, it would end the task that steers the whole network. A task that really is being
    cancelled tells by ``cancelling()``.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise SwitchUnavailable(f"{name}: the session ended") from None
    except (grpc.aio.UsageError, asyncio.InvalidStateError, AssertionError) as error:
        raise SwitchUnavailable(f"{name}: the session ended: {error}") from error


async def read(
    switch: Switch, entities: Sequence[P4RegisterEntry | P4TableEntry | P4CounterEntry]
) -> AsyncIterator[Any]:
    """Read entities; a failure is a :class:`SwitchUnavailable`.

    The cast: finsy declares the overloads of its generator as coroutines.
    """
    try:
        with border(switch.name):
            async for entity in cast("AsyncIterator[Any]", switch.read(list(entities))):
                yield entity
    except P4ClientError as error:
        raise SwitchUnavailable(f"{switch.name}: read failed: {refusals.plain(error)}") from error
