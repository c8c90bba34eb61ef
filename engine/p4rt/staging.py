"""Commands that can be held back: what makes a Write of any kind all or nothing.

Between :meth:`Staged.begin` and :meth:`Staged.commit` write commands are collected instead of sent, and go to the data
plane as one BATCH: packets see all of it from one instant on, or nothing. Reads go through and show the state before.
"""

from __future__ import annotations

from engine.api import Code, DatapathError
from engine.codec import Codec, Command
from engine.commands import Commands
from engine.p4rt.errors import P4Error, Rpc

MOST_BYTES = 60 << 20  # the data plane takes messages of up to 64 MiB
_WRITES = frozenset(
    {
        Command.TABLE_WRITE,
        Command.MEMBER_WRITE,
        Command.GROUP_WRITE,
        Command.REGISTER_WRITE,
        Command.REGISTER_FILL,
        Command.COUNTER_WRITE,
        Command.METER_WRITE,
        Command.DIRECT_WRITE,
        Command.DIRECT_METER_WRITE,
        Command.MULTICAST_WRITE,
        Command.CLONE_WRITE,
        Command.VALUE_SET_WRITE,
    }
)


class Staged(Commands):
    """``commands``, with the possibility to hold writes back. One thread writes; any may read."""

    def __init__(self, commands: Commands) -> None:
        self._inner = commands
        self._held: list[tuple[int, bytes]] | None = None
        self._owners: list[int] = []
        self._bytes = 0
        self.owner = 0  # the update that commands belong to from now on

    @property
    def codec(self) -> Codec:
        return self._inner.codec

    def command(self, op: int, payload: bytes) -> bytes:
        held = self._held
        if held is None or op not in _WRITES:
            return self._inner.command(op, payload)
        self._bytes += len(payload) + 6
        if self._bytes > MOST_BYTES:
            raise DatapathError(Code.RESOURCE_EXHAUSTED, f"an atomic batch of more than {MOST_BYTES >> 20} MiB")
        held.append((op, payload))
        self._owners.append(self.owner)
        return bytes(int.from_bytes(payload[1:5], "little")) if op == Command.TABLE_WRITE else bytes(8)

    def begin(self) -> None:
        """Hold writes back from now on."""
        self._held, self._owners, self._bytes = [], [], 0

    def cancel(self) -> None:
        """Forget what was held back."""
        self._held = None

    def commit(self) -> tuple[int, P4Error] | None:
        """Send what was held back; (the update that failed, its error) when nothing was applied."""
        held, owners = self._held or [], self._owners
        self._held = None
        if not held:
            return None
        failure = self._inner.batch(held)
        if failure is None:
            return None
        position, code, message = failure
        if position >= len(owners):
            raise P4Error(Rpc.INTERNAL, f"the data plane refused a batch: {message}")
        return owners[position], P4Error(code, message)
