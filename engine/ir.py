"""A v1model program as typed, validated data: what :mod:`engine.ir_load` makes of BMv2 JSON.

References are indices into the tuples of :class:`Program`. The format is described in behavioral-model's
``docs/JSON_format.md``; names here follow it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from engine.api import MatchKind

VALID = -1  # field index of the hidden field ``$valid$``


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the P4 source."""

    file: str
    line: int
    fragment: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}"
        return f"{text}: {self.fragment}" if self.fragment else text


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    width: int  # bits; the most that a varbit field may have
    signed: bool = False
    varbit: bool = False


@dataclass(frozen=True, slots=True)
class HeaderType:
    name: str
    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        """Length without varbit fields."""
        return sum(f.width for f in self.fields if not f.varbit)

    @property
    def varbit(self) -> int | None:
        """Index of the varbit field."""
        return next((i for i, f in enumerate(self.fields) if f.varbit), None)


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    type: int
    metadata: bool
    stack: tuple[int, int] | None = None  # (stack, position)
    union: tuple[int, int] | None = None  # (union, position)


@dataclass(frozen=True, slots=True)
class Stack:
    name: str
    headers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Union:
    name: str
    headers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class UnionStack:
    name: str
    unions: tuple[int, ...]


# -- expressions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    value: int


@dataclass(frozen=True, slots=True)
class BoolConst:
    value: bool


@dataclass(frozen=True, slots=True)
class FieldRef:
    header: int
    field: int  # or VALID


@dataclass(frozen=True, slots=True)
class Param:
    """Runtime data of the enclosing action; signed when the program gives it negative values itself."""

    index: int
    width: int
    signed: bool = False


@dataclass(frozen=True, slots=True)
class HeaderRef:
    header: int


@dataclass(frozen=True, slots=True)
class StackRef:
    stack: int


@dataclass(frozen=True, slots=True)
class UnionRef:
    union: int


@dataclass(frozen=True, slots=True)
class UnionStackRef:
    stack: int


@dataclass(frozen=True, slots=True)
class StackElement:
    """A header of a stack, picked at run time."""

    stack: int
    index: Expr


@dataclass(frozen=True, slots=True)
class ElementField:
    element: StackElement
    field: int


@dataclass(frozen=True, slots=True)
class LastField:
    """A field of the last extracted header of a stack."""

    stack: int
    field: int


@dataclass(frozen=True, slots=True)
class Lookahead:
    offset: int  # bits
    width: int


@dataclass(frozen=True, slots=True)
class Op:
    op: str
    args: tuple[Expr, ...]


Expr: TypeAlias = (
    Const
    | BoolConst
    | FieldRef
    | Param
    | HeaderRef
    | StackRef
    | UnionRef
    | UnionStackRef
    | StackElement
    | ElementField
    | LastField
    | Lookahead
    | Op
)


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """A register, counter or meter array, or a calculation."""

    kind: str  # "register", "counter", "meter", "calculation"
    index: int


@dataclass(frozen=True, slots=True)
class Text:
    value: str


@dataclass(frozen=True, slots=True)
class Vector:
    """A list of values, for log messages."""

    items: tuple[Expr, ...]


Argument: TypeAlias = Expr | ArrayRef | Text | Vector


@dataclass(frozen=True, slots=True)
class Primitive:
    op: str
    args: tuple[Argument, ...]
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    params: tuple[tuple[str, int], ...]  # (name, width)
    primitives: tuple[Primitive, ...]
    source: Source | None = None


# -- parser ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extract:
    header: int
    length: Expr | None = None  # bits of the varbit field


@dataclass(frozen=True, slots=True)
class ExtractStack:
    stack: int
    length: Expr | None = None


@dataclass(frozen=True, slots=True)
class ExtractUnionStack:
    stack: int
    member: int
    length: Expr | None = None


@dataclass(frozen=True, slots=True)
class Set:
    target: FieldRef
    value: Expr


@dataclass(frozen=True, slots=True)
class Verify:
    condition: Expr
    error: Expr


@dataclass(frozen=True, slots=True)
class Advance:
    bits: Expr


ParserOp: TypeAlias = Extract | ExtractStack | ExtractUnionStack | Set | Verify | Advance | Primitive


@dataclass(frozen=True, slots=True)
class Transition:
    """``value`` and ``mask`` cover the whole key, each part in whole bytes; both None: the default."""

    next: int | None  # state, None: accept
    value: int | None = None
    mask: int | None = None
    value_set: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    name: str
    ops: tuple[ParserOp, ...]
    key: tuple[tuple[Expr, int], ...]  # (part, width in bits)
    transitions: tuple[Transition, ...]
    source: Source | None = None


# -- controls ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    kind: MatchKind
    target: FieldRef
    width: int
    mask: int | None = None  # ANDed with the field before the match


@dataclass(frozen=True, slots=True)
class ConstEntry:
    """``key``: per field (value, mask or prefix length or upper end)."""

    key: tuple[tuple[int, int], ...]
    action: int
    params: tuple[int, ...]
    priority: int  # larger wins


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    keys: tuple[Key, ...]
    lpm: bool  # matched by prefix alone; otherwise an LPM key is ternary
    ternary: bool
    actions: tuple[int, ...]
    next_by_action: dict[int, str | None]
    next_hit: str | None
    next_miss: str | None
    by_hit: bool  # next_hit and next_miss decide, not the action
    next_default: str | None
    size: int
    profile: int | None
    direct_counter: bool
    direct_meter: int | None
    idle_timeout: bool
    default: tuple[int, tuple[int, ...]] | None
    default_const: bool
    entries: tuple[ConstEntry, ...]
    immutable: bool
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    name: str
    expression: Expr
    true_next: str | None
    false_next: str | None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class ActionCall:
    name: str
    action: int
    next: str | None
    source: Source | None = None


Node: TypeAlias = Table | Condition | ActionCall


@dataclass(frozen=True, slots=True)
class Pipeline:
    name: str
    first: str | None
    nodes: dict[str, Node]


@dataclass(frozen=True, slots=True)
class Calculation:
    name: str
    algorithm: str
    inputs: tuple[tuple[Expr, int], ...]  # (field, header or constant; width in bits, 0 for headers)
    payload: bool
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Checksum:
    target: FieldRef
    calculation: int
    condition: Expr | None
    verify: bool
    update: bool
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    size: int
    selector: Calculation | None


@dataclass(frozen=True, slots=True)
class Array:
    name: str
    size: int
    width: int = 0  # bits of a register cell or value set member
    direct: str | None = None  # the table it belongs to
    bytes_: bool = False  # meters: by bytes
    target: FieldRef | None = None  # direct meters: where the colour goes
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class LearnList:
    name: str
    id: int
    fields: tuple[Expr, ...]
    names: tuple[tuple[str, int], ...]  # (name, width)


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    types: tuple[HeaderType, ...]
    headers: tuple[Header, ...]
    stacks: tuple[Stack, ...]
    unions: tuple[Union, ...]
    union_stacks: tuple[UnionStack, ...]
    errors: dict[str, int]
    actions: tuple[Action, ...]
    states: tuple[State, ...]
    first_state: int | None
    value_sets: tuple[Array, ...]
    ingress: Pipeline
    egress: Pipeline
    tables: tuple[Table, ...]
    profiles: tuple[Profile, ...]
    registers: tuple[Array, ...]
    counters: tuple[Array, ...]
    meters: tuple[Array, ...]
    calculations: tuple[Calculation, ...]
    checksums: tuple[Checksum, ...]
    deparser: tuple[int, ...]
    deparser_calls: tuple[Primitive, ...]
    learn_lists: tuple[LearnList, ...]
    field_lists: dict[int, tuple[FieldRef, ...]]
    aliases: dict[str, FieldRef] = field(default_factory=dict)

    def field_type(self, ref: FieldRef) -> Field:
        """Type of a field; ``$valid$`` is one bit."""
        if ref.field == VALID:
            return Field("$valid$", 1)
        return self.types[self.headers[ref.header].type].fields[ref.field]

    def find(self, name: str) -> FieldRef | None:
        """The field with an alias or a full name such as ``standard_metadata.egress_spec``."""
        if name in self.aliases:
            return self.aliases[name]
        header_name, _, field_name = name.rpartition(".")
        for index, header in enumerate(self.headers):
            if header.name == header_name:
                for position, item in enumerate(self.types[header.type].fields):
                    if item.name == field_name:
                        return FieldRef(index, position)
        return None
