"""Digest lists: configuration, batching, acknowledgement (P4Runtime 1.4, "DigestEntry").

Pure state with the clock passed in; :mod:`engine.p4rt.device` drives it.

* ``max_list_size``: a list is sent as soon as it holds that many messages. 0 means no limit of the client's; the
  server then sends at 1,024.
* ``max_timeout_ns``: a list is sent when its oldest message has waited that long; 0: every message at once.
* ``ack_timeout_ns``: a message equal to one in a list that is neither acknowledged nor older than this is suppressed
  (counted). 0: no list is remembered. An absent acknowledgement never stops further, different messages.

The messages of one list are distinct: one that waits already is suppressed, too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from engine.p4rt.errors import P4Error, Rpc, invalid, not_found
from engine.p4rt.schema import DigestSchema
from engine.p4rt.stubs import p4d, p4r
from engine.p4rt.values import canonical

P = ParamSpec("P")
T = TypeVar("T")
LIST_LIMIT = 1024
UNACKED_LIMIT = 4096  # remembered messages per digest


@dataclass(slots=True)
class _Channel:
    schema: DigestSchema
    config: p4r.DigestEntry.Config
    waiting: list[tuple[bytes, ...]] = field(default_factory=list)
    waiting_set: set[tuple[bytes, ...]] = field(default_factory=set)
    due_ns: int = 0  # when the waiting messages must leave
    list_id: int = 0
    unacked: OrderedDict[tuple[bytes, ...], tuple[int, int]] = field(default_factory=OrderedDict)  # -> list, expiry

    @property
    def limit(self) -> int:
        return min(self.config.max_list_size or LIST_LIMIT, LIST_LIMIT)


def _locked(method: Callable[Concatenate[DigestBuffer, P], T]) -> Callable[Concatenate[DigestBuffer, P], T]:
    def call(self: DigestBuffer, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return method(self, *args, **kwargs)

    call.__doc__ = method.__doc__
    return call


class DigestBuffer:
    """All digests of one pipeline. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: dict[int, _Channel] = {}
        self.suppressed = 0

    @_locked
    def configure(self, op: int, schema: DigestSchema, entry: p4r.DigestEntry) -> None:
        """Apply a Write of a DigestEntry; ``op`` is ``Update.Type``."""
        present = schema.id in self._channels
        if op == p4r.Update.INSERT and present:
            raise P4Error(Rpc.ALREADY_EXISTS, f"digest {schema.name} is already configured")
        if op != p4r.Update.INSERT and not present:
            raise not_found(f"digest {schema.name} is not configured")
        if op == p4r.Update.DELETE:
            del self._channels[schema.id]
            return
        config = entry.config
        if config.max_timeout_ns < 0 or config.max_list_size < 0 or config.ack_timeout_ns < 0:
            raise invalid(f"digest {schema.name}: time-outs and list size cannot be negative")
        copy = p4r.DigestEntry.Config()
        copy.CopyFrom(config)
        if present:
            self._channels[schema.id].config = copy
        else:
            self._channels[schema.id] = _Channel(schema, copy)

    @_locked
    def entries(self) -> list[p4r.DigestEntry]:
        """The configured digests."""
        return [p4r.DigestEntry(digest_id=id_, config=channel.config) for id_, channel in self._channels.items()]

    @_locked
    def configured(self) -> tuple[int, ...]:
        """Ids of the configured digests."""
        return tuple(self._channels)

    @_locked
    def restore(self, entries: list[p4r.DigestEntry], schemas: dict[int, DigestSchema]) -> None:
        """Back to the configuration that :meth:`entries` gave; messages that wait stay where they can."""
        channels = {}
        for entry in entries:
            channel = self._channels.get(entry.digest_id) or _Channel(schemas[entry.digest_id], entry.config)
            channel.config = entry.config
            channels[entry.digest_id] = channel
        self._channels = channels

    @_locked
    def add(self, digest_id: int, values: tuple[bytes, ...], now_ns: int) -> p4r.DigestList | None:
        """Take one message of the data plane; returns a list when one is complete."""
        channel = self._channels.get(digest_id)
        if channel is None:
            return None
        config = channel.config
        if values in channel.waiting_set:
            self.suppressed += 1
            return None
        if config.ack_timeout_ns:
            earlier = channel.unacked.get(values)
            if earlier is not None:
                if earlier[1] > now_ns:
                    self.suppressed += 1
                    return None
                del channel.unacked[values]
        if not channel.waiting:
            channel.due_ns = now_ns + config.max_timeout_ns
        channel.waiting.append(values)
        channel.waiting_set.add(values)
        if not config.max_timeout_ns or len(channel.waiting) >= channel.limit:
            return self._flush(channel, now_ns)
        return None

    @_locked
    def due(self, now_ns: int) -> list[p4r.DigestList]:
        """The lists whose time-out has passed."""
        return [self._flush(c, now_ns) for c in self._channels.values() if c.waiting and c.due_ns <= now_ns]

    @_locked
    def next_due_ns(self) -> int | None:
        """When :meth:`due` should be called next; None while nothing waits."""
        return min((c.due_ns for c in self._channels.values() if c.waiting), default=None)

    @_locked
    def ack(self, message: p4r.DigestListAck) -> None:
        """Forget an acknowledged list; NOT_FOUND for a digest that is not configured. Unknown lists are ignored."""
        channel = self._channels.get(message.digest_id)
        if channel is None:
            raise not_found(f"digest id 0x{message.digest_id:08x} is not configured")
        done = [values for values, (list_id, _) in channel.unacked.items() if list_id == message.list_id]
        for values in done:
            del channel.unacked[values]

    def _flush(self, channel: _Channel, now_ns: int) -> p4r.DigestList:
        channel.list_id += 1
        out = p4r.DigestList(digest_id=channel.schema.id, list_id=channel.list_id, timestamp=now_ns)
        scalar = channel.schema.scalar
        for values in channel.waiting:
            given = [canonical(value) for value in values]
            for position, names in enumerate(channel.schema.names):
                if names is not None:
                    given[position] = names.string(int.from_bytes(values[position], "big"))
            if scalar:
                out.data.add(bitstring=given[0])
            else:
                members = [p4d.P4Data(bitstring=value) for value in given]
                out.data.add(struct=p4d.P4StructLike(members=members))
            if channel.config.ack_timeout_ns:
                channel.unacked[values] = (channel.list_id, now_ns + channel.config.ack_timeout_ns)
                while len(channel.unacked) > UNACKED_LIMIT:
                    channel.unacked.popitem(last=False)
        channel.waiting.clear()
        channel.waiting_set.clear()
        return out
