"""Events of a switch process: a connection and a thread that hand them to whoever follows them.

Digests are sent only as far as somebody wants them, for a program may emit thousands a second that nobody configured.
What arrived together is handed over together.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeAlias

from engine.api import Code, DatapathError, Digest, Event
from engine.connection import Connection, code_of
from engine.operations import SwitchOp

log = logging.getLogger(__name__)

ALL_EVENTS = 0b1111
DIGESTS = 0b0001
LISTS_SINCE = 2  # protocol that knows which digests are wanted
Follower: TypeAlias = Callable[[Sequence[Event]], None]
Wish: TypeAlias = frozenset[int] | None  # numbers of digests; None: all


class Events:
    """Followers of one process's events.

    ``parse`` makes an event of a message's op and payload (None: nothing for followers), ``expected`` tells whether the
    process's end is no surprise. ``lists``: the process knows which digests are wanted, and not only whether any are.
    """

    def __init__(
        self,
        path: str,
        timeout: float | None,
        parse: Callable[[int, bytes], Event | None],
        expected: Callable[[], bool],
        *,
        lists: bool,
    ) -> None:
        self._path, self._timeout, self._lists = path, timeout, lists
        self._parse, self._expected = parse, expected
        self._changing = threading.Lock()  # one change at a time; the thread never takes it
        self._followers: dict[Follower, Wish] = {}
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None
        self._asked: Wish | Literal["nothing"] = "nothing"
        self._replied = threading.Condition(threading.Lock())
        self._reply: tuple[int, int, bytes] | None = None  # id, code, payload
        self._ended = False

    def follow(self, follower: Follower, digests: Collection[int] | None) -> None:
        """Hand over events from now on; again with the same ``follower``: change which digests it gets.

        Everything emitted after the return is handed over, in a thread of its own, which ``follower`` must not block.
        Not to be called by a follower. :class:`DatapathError`: nothing has changed, UNAVAILABLE when the process ended.
        """
        wish: Wish = None if digests is None else frozenset(digests)
        with self._changing:
            before = self._followers
            self._followers = {**before, follower: wish}  # a new one: the thread goes through the old
            try:
                self._ask()
            except BaseException:
                self._followers = before
                raise

    def _ask(self) -> None:
        wishes = self._followers.values()
        wanted = None if None in wishes else frozenset().union(*(wish for wish in wishes if wish is not None))
        if self._connection is None:
            self._connection = Connection(self._path, self._timeout)
            self._connection.wait_forever()
            self._thread = threading.Thread(target=self._read, name="dataplane-events", daemon=True)
            self._thread.start()
        if wanted == self._asked:
            return
        self._asked = "nothing"  # what is in force if there is no answer, nobody knows
        mask = ALL_EVENTS if wanted is None or wanted else ALL_EVENTS & ~DIGESTS
        numbers = sorted(wanted) if wanted and self._lists else []
        self._subscribe(struct.pack(f"<I{len(numbers)}I", mask, *numbers))
        self._asked = wanted

    def _subscribe(self, payload: bytes) -> None:
        connection = self._connection
        assert connection is not None
        with self._replied:
            self._reply = None
            try:
                ident = connection.send(SwitchOp.SUBSCRIBE, payload)
            except OSError as error:
                raise DatapathError(Code.UNAVAILABLE, f"events of {self._path}: {error}") from error
            self._replied.wait_for(lambda: self._ended or self._answers(ident), self._timeout)
            if self._reply is None or not self._answers(ident):
                raise DatapathError(Code.UNAVAILABLE, f"events of {self._path}: no answer to the subscription")
            _ident, code, body = self._reply
        if code:
            raise DatapathError(code_of(code), body[8:].decode(errors="replace"))

    def _answers(self, ident: int) -> bool:
        return self._reply is not None and self._reply[0] == ident  # a late one may come before

    def _read(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            while True:
                events = []
                for ident, op, code, body in connection.receive_some():
                    if ident:
                        with self._replied:
                            self._reply = (ident, code, body)
                            self._replied.notify_all()
                    elif (event := self._parse(op, body)) is not None:
                        events.append(event)
                if events:
                    self._hand_over(events)
        except OSError as error:
            if not self._expected():
                log.warning("events of %s end: %s", self._path, error)
        finally:
            with self._replied:
                self._ended = True
                self._replied.notify_all()
            connection.close()

    def _hand_over(self, events: list[Event]) -> None:
        for follower, wish in self._followers.items():
            theirs = events
            if wish is not None:
                theirs = [event for event in events if not isinstance(event, Digest) or event.digest in wish]
            if theirs:
                follower(theirs)

    def close(self) -> None:
        """End it; from a follower, too."""
        if self._connection is not None:
            self._connection.shutdown()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)
