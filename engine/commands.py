"""The methods of :class:`engine.api.Datapath` in terms of one function that carries a binary command.

:class:`engine.library.Switch` and :class:`engine.dataplane.Client` inherit :class:`Commands` and supply
:meth:`Commands.command`; so the two cannot drift apart.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

from engine.api import (
    Action,
    ActionCall,
    Code,
    DatapathError,
    GroupMember,
    Match,
    Op,
    ProgramInfo,
    TableEntry,
    TableUpdate,
)
from engine.codec import (
    STATS_FIELDS,
    Codec,
    Command,
    Reader,
    batch,
    group_members,
    octets,
    read_group_members,
    read_replicas,
    replicas,
)
from engine.connection import Exchange

MeterConfig: TypeAlias = tuple[int, int, int, int]
METER_UNSET: MeterConfig = ((1 << 64) - 1,) * 4
READ_CHUNK = 4096  # entries per TABLE_READ, so that a large read never holds up packets for long


class Commands(ABC):
    """Table, register, counter and replication commands over :meth:`command`."""

    _codec: Codec | None = None
    exchange: Exchange | None = None  # for native code that asks the data plane by itself

    @abstractmethod
    def command(self, op: int, payload: bytes) -> bytes:
        """Execute one command; raises :class:`DatapathError` with the reply's code and message."""

    def urgent(self, op: int, payload: bytes) -> bytes:
        """As :meth:`command`, for small ones that wait for no command that takes long, where that is possible."""
        return self.command(op, payload)

    def close(self) -> None:  # noqa: B027 - nothing to do where nothing belongs to this process
        """End what is behind it, as far as that belongs to this process."""

    @property
    def program(self) -> ProgramInfo | None:
        return self._codec.program if self._codec else None

    @property
    def codec(self) -> Codec:
        """The loaded program's codec; FAILED_PRECONDITION when nothing is loaded."""
        if self._codec is None:
            raise DatapathError(Code.FAILED_PRECONDITION, "no program is loaded")
        return self._codec

    # -- tables --------------------------------------------------------------------------------------------------

    def table_write(self, updates: Sequence[TableUpdate], *, atomic: bool = False) -> list[Code]:
        """See :meth:`engine.api.Datapath.table_write`.

        Updates that cannot even be encoded get their code here; with ``atomic`` they abort the whole batch.
        """
        codec = self.codec
        codes: list[Code] = [Code.OK] * len(updates)
        encoded: list[bytes] = []
        sent: list[int] = []
        for position, update in enumerate(updates):
            try:
                encoded.append(codec.update(update))
                sent.append(position)
            except DatapathError as error:
                codes[position] = error.code
        if atomic and len(sent) != len(updates):
            return [code if code is not Code.OK else Code.ABORTED for code in codes]
        reply = self._send_updates(encoded, atomic)
        if len(reply) != len(sent):
            raise DatapathError(Code.INTERNAL, f"{len(reply)} codes for {len(sent)} updates")
        for position, code in zip(sent, reply, strict=True):
            codes[position] = Code(code)
        return codes

    def _send_updates(self, encoded: Sequence[bytes], atomic: bool) -> bytes:
        """Carry encoded updates; a code for each."""
        return self.command(Command.TABLE_WRITE, self.codec.table_write(encoded, atomic=atomic))

    def table_read(self, table: int, key: tuple[Match, ...] | None = None, priority: int = 0) -> list[TableEntry]:
        entries: list[TableEntry] = []
        cursor = 0
        while True:
            request = self.codec.table_read(table, key, priority, cursor, READ_CHUNK)
            cursor, chunk = self.codec.read_table_reply(self.command(Command.TABLE_READ, request))
            entries += chunk
            if not cursor:
                return entries

    def default_action(self, table: int) -> Action:
        reader = Reader(self.command(Command.DEFAULT_READ, struct.pack("<I", table)))
        action = self.codec.read_action(reader)
        if action is None:
            raise DatapathError(Code.NOT_FOUND, f"table {table} has no default action")
        return action

    def direct_counter_write(
        self, table: int, key: tuple[Match, ...], priority: int, packets: int, bytes_: int
    ) -> None:
        """Set the direct counter of one entry; NOT_FOUND when there is no such entry."""
        payload = struct.pack("<I", table) + self.codec.key(table, key) + struct.pack("<iQQ", priority, packets, bytes_)
        self.command(Command.DIRECT_WRITE, payload)

    def direct_meter_write(self, table: int, key: tuple[Match, ...], priority: int, config: MeterConfig | None) -> None:
        """Configure the direct meter of one entry, as :meth:`meter_write`; MODIFY of the entry resets it."""
        payload = struct.pack("<I", table) + self.codec.key(table, key) + struct.pack("<i", priority)
        self.command(Command.DIRECT_METER_WRITE, payload + struct.pack("<4Q", *(config or METER_UNSET)))

    def direct_meter_read(self, table: int, key: tuple[Match, ...], priority: int = 0) -> MeterConfig | None:
        """The configuration of one entry's direct meter; None: every packet is green."""
        payload = struct.pack("<I", table) + self.codec.key(table, key) + struct.pack("<i", priority)
        return _read_meter(Reader(self.command(Command.DIRECT_METER_READ, payload)))

    # -- action profiles -----------------------------------------------------------------------------------------

    def member_write(self, op: Op, profile: int, member: int, action: ActionCall | None) -> None:
        self.command(Command.MEMBER_WRITE, struct.pack("<BII", op, profile, member) + self.codec.action(action))

    def member_read(self, profile: int) -> dict[int, ActionCall]:
        reader = Reader(self.command(Command.MEMBER_READ, struct.pack("<I", profile)))
        members: dict[int, ActionCall] = {}
        for _ in range(reader.u32()):
            member = reader.u32()
            action = self.codec.read_action(reader)
            if not isinstance(action, ActionCall):
                raise DatapathError(Code.INTERNAL, f"member {member} without an action")
            members[member] = action
        return members

    def group_write(self, op: Op, profile: int, group: int, members: Sequence[GroupMember]) -> None:
        self.command(Command.GROUP_WRITE, struct.pack("<BII", op, profile, group) + group_members(members))

    def group_read(self, profile: int) -> dict[int, list[GroupMember]]:
        reader = Reader(self.command(Command.GROUP_READ, struct.pack("<I", profile)))
        return {reader.u32(): read_group_members(reader) for _ in range(reader.u32())}

    # -- registers, counters, meters -----------------------------------------------------------------------------

    def register_write(self, register: int, index: int, value: int) -> int:
        info = self.codec.array(self.codec.program.registers, register, "register")
        _check_index(index, info.size, info.name)
        payload = struct.pack("<II", register, index) + self.codec.cell(info, value)
        return Reader(self.command(Command.REGISTER_WRITE, payload)).u64()

    def register_fill(self, register: int, value: int) -> None:
        info = self.codec.array(self.codec.program.registers, register, "register")
        self.command(Command.REGISTER_FILL, struct.pack("<I", register) + self.codec.cell(info, value))

    def register_read(self, register: int, index: int = 0, count: int = 1) -> list[int]:
        info = self.codec.array(self.codec.program.registers, register, "register")
        _check_index(index, info.size, info.name, count)
        reader = Reader(self.command(Command.REGISTER_READ, struct.pack("<III", register, index, count)))
        size = octets(info.width)
        return [int.from_bytes(reader.take(size), "big") for _ in range(count)]

    def counter_read(self, counter: int, index: int = 0, count: int = 1) -> list[tuple[int, int]]:
        info = self.codec.array(self.codec.program.counters, counter, "counter")
        _check_index(index, info.size, info.name, count)
        reader = Reader(self.command(Command.COUNTER_READ, struct.pack("<III", counter, index, count)))
        return [(reader.u64(), reader.u64()) for _ in range(count)]

    def counter_write(self, counter: int, index: int, packets: int, bytes_: int) -> None:
        info = self.codec.array(self.codec.program.counters, counter, "counter")
        _check_index(index, info.size, info.name)
        self.command(Command.COUNTER_WRITE, struct.pack("<IIQQ", counter, index, packets, bytes_))

    def meter_write(self, meter: int, index: int, config: MeterConfig | None) -> None:
        """``config``: committed rate and burst, peak rate and burst (bytes or packets, per second); None unsets."""
        info = self.codec.array(self.codec.program.meters, meter, "meter")
        _check_index(index, info.size, info.name)
        self.command(Command.METER_WRITE, struct.pack("<II4Q", meter, index, *(config or METER_UNSET)))

    def meter_read(self, meter: int, index: int = 0, count: int = 1) -> list[MeterConfig | None]:
        info = self.codec.array(self.codec.program.meters, meter, "meter")
        _check_index(index, info.size, info.name, count)
        reader = Reader(self.command(Command.METER_READ, struct.pack("<III", meter, index, count)))
        return [_read_meter(reader) for _ in range(count)]

    # -- replication, parser, state --------------------------------------------------------------------------------

    def multicast_write(self, op: Op, group: int, pairs: Sequence[tuple[int, int]]) -> None:
        self.command(Command.MULTICAST_WRITE, struct.pack("<BI", op, group) + replicas(pairs))

    def multicast_read(self) -> dict[int, list[tuple[int, int]]]:
        """Multicast groups and their (port, instance) replicas."""
        reader = Reader(self.command(Command.MULTICAST_READ, b""))
        return {reader.u32(): read_replicas(reader) for _ in range(reader.u32())}

    def clone_write(
        self, op: Op, session: int, pairs: Sequence[tuple[int, int]], length: int = 0, class_: int = 0
    ) -> None:
        """``length``: bytes to which copies are cut, 0: none; ``class_``: their priority, 0 to 7."""
        self.command(Command.CLONE_WRITE, struct.pack("<BIII", op, session, length, class_) + replicas(pairs))

    def clone_read(self) -> dict[int, tuple[int, list[tuple[int, int]]]]:
        """Clone sessions: (packet length limit or 0, replicas)."""
        reader = Reader(self.command(Command.CLONE_READ, b""))
        sessions: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        for _ in range(reader.u32()):
            session, length, _class = reader.u32(), reader.u32(), reader.u32()
            sessions[session] = (length, read_replicas(reader))
        return sessions

    def value_set_write(self, value_set: int, values: Sequence[int | tuple[int, int]]) -> None:
        """Replace the members of a parser value set: values, or (value, mask)."""
        info = self.codec.array(self.codec.program.value_sets, value_set, "value set")
        full = (1 << info.width) - 1
        pairs = [value if isinstance(value, tuple) else (value, full) for value in values]
        cells = b"".join(self.codec.cell(info, value) + self.codec.cell(info, mask) for value, mask in pairs)
        self.command(Command.VALUE_SET_WRITE, struct.pack("<II", value_set, len(values)) + cells)

    def batch(self, commands: Sequence[tuple[int, bytes]]) -> tuple[int, int, str] | None:
        """Execute write commands (operation, payload) of which all take effect or none; no packet sees half of them.

        None on success, else (position of the command that failed, code, message).
        """
        reply = self.command(Command.BATCH, batch(commands))
        failed, code = struct.unpack_from("<IB", reply)
        return None if code == 0 else (failed, code, reply[5:].decode(errors="replace"))

    def occupancy(self) -> list[tuple[int, int, int]]:
        """Per table: entries, size, and the sum of its direct counters in packets (0 where it counts nothing)."""
        return list(struct.iter_unpack("<IIQ", self.command(Command.OCCUPANCY, b"")))

    def reset(self) -> None:
        """Forget all entries, registers, counters and groups: the state right after loading."""
        self.command(Command.RESET, b"")

    def stats(self) -> dict[str, int]:
        """Counters of the pipeline (``struct sp_stats``)."""
        reader = Reader(self.command(Command.STATS, b""))
        return {name: reader.u64() for name in STATS_FIELDS}


def _read_meter(reader: Reader) -> MeterConfig | None:
    config = (reader.u64(), reader.u64(), reader.u64(), reader.u64())
    return None if config == METER_UNSET else config


def _check_index(index: int, size: int, name: str, count: int = 1) -> None:
    if index < 0 or count < 0 or index + count > size:
        raise DatapathError(Code.OUT_OF_RANGE, f"{name}: cells {index}..{index + count - 1} of {size}")
