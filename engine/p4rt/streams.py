"""The streams of one device: who has one, which of them is primary of its role, and what goes out to whom."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TypeAlias

from engine.p4rt import arbitration
from engine.p4rt.arbitration import Arbiter, Client
from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.outbox import DEFAULT_LIMIT, Outbox
from engine.p4rt.roles import RoleRules
from engine.p4rt.stubs import p4r

log = logging.getLogger(__name__)

MAX_STREAMS = 256
_TOLD = (1, 1000, 1_000_000)  # so many dropped messages of a stream are worth a line of log
Notice: TypeAlias = tuple[p4r.StreamMessageResponse, int]  # a message; id of the digest or table it is about


class Streams:
    """Thread-safe."""

    def __init__(self, device_id: int, outbox_limit: int = DEFAULT_LIMIT) -> None:
        self.arbiter = Arbiter(device_id)
        self.dropped = 0  # best-effort messages that streams already closed had dropped
        self._outbox_limit = outbox_limit
        self._rules: dict[str, RoleRules | None] = {}
        self._outboxes: dict[Client, Outbox] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._outboxes)

    def rules(self, role: str) -> RoleRules | None:
        """What the role's primary said that it may do; None: everything."""
        return self._rules.get(role)

    def outbox(self, client: Client) -> Outbox | None:
        """Where messages to ``client`` wait; None when its stream has ended."""
        return self._outboxes.get(client)

    def attach(self, client: Client) -> Outbox:
        """A new stream; RESOURCE_EXHAUSTED beyond :data:`MAX_STREAMS`."""
        with self._lock:
            if len(self._outboxes) >= MAX_STREAMS:
                raise P4Error(Rpc.RESOURCE_EXHAUSTED, f"more than {MAX_STREAMS} streams")
            box = self._outboxes[client] = Outbox(self._outbox_limit)
            return box

    def detach(self, client: Client) -> None:
        """The stream ended; safe to call twice."""
        with self._lock:
            box = self._outboxes.pop(client, None)
            if box is None:
                return
            self.dropped += box.dropped
            self._send(self.arbiter.leave(client))
        box.close()

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            boxes = list(self._outboxes.values())
        for box in boxes:
            box.close()

    def arbitrate(self, client: Client, message: p4r.MasterArbitrationUpdate) -> None:
        """Handle an arbitration message and notify whom it concerns; :class:`P4Error` ends the stream."""
        rules = RoleRules.of(message.role)
        with self._lock:
            if client not in self._outboxes:  # its stream has ended meanwhile: nobody would ever remove it again
                return
            notices = self.arbiter.update(client, message)
            if self.arbiter.is_primary(client):
                self._rules[message.role.name] = rules
            self._send(notices)

    def broadcast(self, notices: Sequence[Notice]) -> None:
        """To the primary of every role that is entitled to them."""
        if not notices:
            return
        with self._lock:
            for client in self.arbiter.primaries():
                box = self._outboxes.get(client)
                rules = self._rules.get(client.role or "")
                theirs = [message for message, about in notices if _entitled(rules, message, about)]
                if box is None or not theirs:
                    continue
                before = box.dropped
                box.put_all(theirs)
                if any(before < number <= box.dropped for number in _TOLD):
                    log.warning("a client reads too slowly: %d messages dropped", box.dropped)

    def _send(self, notices: list[arbitration.Notice]) -> None:
        for client, update in notices:
            box = self._outboxes.get(client)
            if box is not None:
                box.put_arbitration(update)


def _entitled(rules: RoleRules | None, message: p4r.StreamMessageResponse, about: int) -> bool:
    if rules is None:
        return True
    return rules.wants(message.packet) if message.HasField("packet") else rules.has(about)
