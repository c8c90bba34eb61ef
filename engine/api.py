"""What a data plane offers to the P4Runtime server, the twin and the tests.

Two things implement :class:`Datapath`: :class:`engine.library.Switch` (packets in memory, the caller's
clock) and :class:`engine.dataplane.Client` (a running switch process, over its control socket). Both
encode the same binary commands (:mod:`engine.codec`), so that a command means the same in both.

Numbers used here are *program indices*: the position of a table, action, register, ... in the loaded
program (:class:`ProgramInfo`). The P4Runtime server maps P4Info ids to them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, TypeAlias


class EngineError(Exception):
    """Base of all errors of the embedded switch."""


class Unsupported(EngineError):
    """The program uses a construct that the engine does not execute; the text names it and its source line."""


class ProgramError(EngineError):
    """The program's JSON is malformed or contradicts its P4Info."""


class CompilerMissing(EngineError):
    """No usable C compiler was found."""


class Code(IntEnum):
    """Result of one update; the values are those of ``google.rpc.Code``."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class DatapathError(EngineError):
    """A command was refused by the data plane."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class MatchKind(IntEnum):
    EXACT = 0
    LPM = 1
    TERNARY = 2
    RANGE = 3
    OPTIONAL = 4  # a ternary field whose mask is all ones or zero


class Op(IntEnum):
    INSERT = 1
    MODIFY = 2
    DELETE = 3


@dataclass(frozen=True, slots=True)
class Match:
    """One key field. ``value`` is big endian, exactly ``ceil(width / 8)`` bytes, unused high bits zero."""

    value: bytes
    mask: bytes = b""  # TERNARY, OPTIONAL: same length as value
    prefix_len: int = 0  # LPM: bits
    high: bytes = b""  # RANGE: inclusive upper end, same length as value


@dataclass(frozen=True, slots=True)
class ActionCall:
    """A direct action with parameters, each big endian and ``ceil(width / 8)`` bytes long."""

    action: int
    params: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberRef:
    member: int


@dataclass(frozen=True, slots=True)
class GroupRef:
    group: int


Action: TypeAlias = ActionCall | MemberRef | GroupRef


@dataclass(frozen=True, slots=True)
class TableUpdate:
    """``key`` holds one :class:`Match` per key field in the table's order; empty means the default action.

    A larger ``priority`` wins, as in P4Runtime; 0 where the table has no TERNARY, RANGE or OPTIONAL key.
    """

    op: Op
    table: int
    key: tuple[Match, ...]
    action: Action | None  # None for DELETE (default action: restore the program's own)
    priority: int = 0
    idle_timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class TableEntry:
    table: int
    key: tuple[Match, ...]
    action: Action
    priority: int = 0
    packets: int = 0
    bytes: int = 0
    since_hit_ns: int = 0
    idle_timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class GroupMember:
    member: int
    weight: int = 1
    watch_port: int | None = None  # a member whose port is down gets no packets


@dataclass(frozen=True, slots=True)
class KeyField:
    name: str
    kind: MatchKind
    width: int  # bits


@dataclass(frozen=True, slots=True)
class ActionInfo:
    name: str
    params: tuple[tuple[str, int], ...]  # (name, width in bits)


@dataclass(frozen=True, slots=True)
class TableInfo:
    name: str
    key: tuple[KeyField, ...]
    actions: tuple[int, ...]
    size: int
    selector: int | None = None  # index of its action profile or selector
    direct_counter: bool = False
    idle_timeout: bool = False


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """A register, counter or meter array."""

    name: str
    width: int  # bits of one register cell; 0 for counters and meters
    size: int  # cells; 0 for direct ones
    table: int | None = None  # the table a direct counter or meter belongs to


@dataclass(frozen=True, slots=True)
class DigestInfo:
    name: str
    fields: tuple[tuple[str, int], ...]  # (name, width in bits)


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    name: str
    size: int
    max_group_size: int
    with_selector: bool


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    name: str
    tables: tuple[TableInfo, ...]
    actions: tuple[ActionInfo, ...]
    profiles: tuple[ProfileInfo, ...] = ()
    registers: tuple[ArrayInfo, ...] = ()
    counters: tuple[ArrayInfo, ...] = ()
    meters: tuple[ArrayInfo, ...] = ()
    digests: tuple[DigestInfo, ...] = ()
    packet_out_bytes: int = 0  # length of the header before a packet-out's payload
    packet_in_bytes: int = 0
    value_sets: tuple[ArrayInfo, ...] = ()  # parser value sets: width of one value, size
    controller_headers: tuple[DigestInfo, ...] = ()  # packet_in and packet_out: fields of the header of that name


@dataclass(frozen=True, slots=True)
class Digest:
    """One digest message: ``values`` in the order of :attr:`DigestInfo.fields`."""

    digest: int
    values: tuple[bytes, ...]
    time_ns: int


@dataclass(frozen=True, slots=True)
class PacketIn:
    """A frame that the program sent to the CPU port, controller header included."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PortStatus:
    port: int
    up: bool
    time_ns: int


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    entry: TableEntry
    time_ns: int


Event: TypeAlias = Digest | PacketIn | PortStatus | IdleTimeout


@dataclass(frozen=True, slots=True)
class PortState:
    """Counters, queue and transceiver of one port, as a real port would report them."""

    port: int
    name: str  # interface
    up: bool
    rx_packets: int
    rx_bytes: int
    rx_dropped: int
    rx_errors: int  # frames lost to uncorrected bit errors
    tx_packets: int
    tx_bytes: int
    tx_dropped: int  # queue overflow
    queue_depth: int  # packets waiting now
    queue_max: int  # most packets waiting since the last read
    rate_bps: int  # configured line rate; 0: unlimited
    rx_power_dbm: float
    pre_fec_ber: float
    corrected: int  # corrected bit errors, cumulative
    uncorrected: int  # uncorrectable code words, cumulative
    enabled: bool = True  # the operator's wish: a disabled port is down whatever its carrier


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Load of the device itself."""

    time_ns: int
    cpu_utilization: float  # 0..1 of the packet processing capacity
    memory_utilization: float  # 0..1
    backlog: int  # packets waiting for processing
    dropped: int  # packets dropped because the backlog was full, cumulative
    ports: tuple[PortState, ...] = field(default=())


class Datapath(Protocol):
    """Commands to one data plane. Methods are synchronous, thread-safe and raise :class:`DatapathError`."""

    @property
    def program(self) -> ProgramInfo | None: ...

    def table_write(self, updates: Sequence[TableUpdate], *, atomic: bool = False) -> list[Code]:
        """Apply updates in order; with ``atomic`` either all are applied or none.

        Returns one code per update. No packet sees half of an atomic batch.
        """
        ...

    def table_read(self, table: int, key: tuple[Match, ...] | None = None, priority: int = 0) -> list[TableEntry]: ...

    def default_action(self, table: int) -> Action: ...

    def member_write(self, op: Op, profile: int, member: int, action: ActionCall | None) -> None: ...

    def member_read(self, profile: int) -> dict[int, ActionCall]: ...

    def group_write(self, op: Op, profile: int, group: int, members: Sequence[GroupMember]) -> None: ...

    def group_read(self, profile: int) -> dict[int, list[GroupMember]]: ...

    def register_write(self, register: int, index: int, value: int) -> int:
        """Set one cell and return the data plane's clock (ns) at which it took effect."""
        ...

    def register_fill(self, register: int, value: int) -> None: ...

    def register_read(self, register: int, index: int = 0, count: int = 1) -> list[int]: ...

    def counter_read(self, counter: int, index: int = 0, count: int = 1) -> list[tuple[int, int]]:
        """(packets, bytes) of ``count`` cells from ``index``."""
        ...

    def counter_write(self, counter: int, index: int, packets: int, bytes_: int) -> None: ...

    def multicast_write(self, op: Op, group: int, replicas: Sequence[tuple[int, int]]) -> None:
        """Replicas are (egress port, instance)."""
        ...

    def clone_write(
        self, op: Op, session: int, replicas: Sequence[tuple[int, int]], length: int = 0, class_: int = 0
    ) -> None: ...

    def packet_out(self, data: bytes) -> None:
        """Inject a frame, controller header included, as if it came from the CPU port."""
        ...

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Call ``callback`` for every event, from a thread of the implementation's; it must not block."""
        ...

    def device_state(self) -> DeviceState: ...

    def close(self) -> None: ...
