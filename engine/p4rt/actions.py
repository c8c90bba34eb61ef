"""Actions between P4Runtime messages and the data plane's binary commands.

Both directions work on bytes: a protobuf message in becomes the command's bytes, the data plane's bytes become
protobuf's wire format, without objects in between, because a read of 100,000 entries would make a million of them.
Binary form (see :mod:`engine.codec`): ``u8 1, u32 action index, parameters``, each in ``ceil(width / 8)`` bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from engine.p4rt.errors import invalid
from engine.p4rt.names import Names
from engine.p4rt.stubs import p4r
from engine.p4rt.values import delimited, fixed, octets, varint

DIRECT, MEMBER, GROUP = 1, 2, 3
_ACTION = p4r.TableAction.ACTION_FIELD_NUMBER
_PARAMS = p4r.Action.PARAMS_FIELD_NUMBER
_VALUE = p4r.Action.Param.VALUE_FIELD_NUMBER
_ID_TAG = bytes([p4r.Action.Param.PARAM_ID_FIELD_NUMBER << 3])
_ACTION_ID_TAG = bytes([p4r.Action.ACTION_ID_FIELD_NUMBER << 3])


class ParamSchema:
    """One action parameter: width in bits and the protobuf prefix for each length of its value."""

    __slots__ = ("_head", "id", "name", "names", "prefixes", "size", "what", "whole", "width")

    def __init__(self, id_: int, name: str, width: int, action: str, names: Names | None = None) -> None:
        self.id = id_
        self.name = name
        self.width = width
        self.size = octets(width)
        self.what = f"action {action}: parameter {name}"
        self.names = names  # the parameter's strings, None: numbers
        self.whole = not width & 7 and names is None  # a value of the right length needs no look
        self._head = _ID_TAG + varint(id_) + varint(_VALUE << 3 | 2)
        self.prefixes = []
        for length in range(self.size + 1):
            head = _ID_TAG + varint(id_) + varint(_VALUE << 3 | 2) + varint(length)
            self.prefixes.append(varint(_PARAMS << 3 | 2) + varint(len(head) + length) + head)

    def fit(self, value: bytes) -> bytes:
        """The value in the data plane's form."""
        if self.names is not None:
            return self.names.number(value, self.what).to_bytes(self.size, "big")
        return fixed(value, self.width, self.what)

    def wire(self, value: bytes) -> bytes:
        """The field ``Action.params`` for a value in the data plane's form."""
        if self.names is None:
            value = value.lstrip(b"\0") or b"\0"
            return self.prefixes[len(value)] + value
        text = self.names.string(int.from_bytes(value, "big"))
        return delimited(_PARAMS, self._head + varint(len(text)) + text)


class ActionSchema:
    """One P4Info action bound to an action of the program; ``index`` is its position there."""

    __slots__ = ("_by_id", "_head", "_sole", "id", "index", "name", "params", "size")

    def __init__(self, id_: int, name: str, index: int, params: Sequence[ParamSchema]) -> None:
        self.id = id_
        self.name = name
        self.index = index
        self.params = tuple(params)
        self.size = sum(param.size for param in params)
        self._by_id = {param.id: position for position, param in enumerate(params)}
        self._head = struct.pack("<BI", DIRECT, index)
        self._sole = _ACTION_ID_TAG + varint(id_)

    def at(self, index: int) -> ActionSchema:
        """The same action bound to another program index (the compiler may copy an action per table)."""
        return self if index == self.index else ActionSchema(self.id, self.name, index, self.params)

    def encode(self, action: p4r.Action) -> bytes:
        """Binary form of ``action``, whose id is known to be this one's."""
        params = self.params
        given = action.params
        if len(given) != len(params):
            raise self._wrong_count(action)
        parts = [self._head]
        for position, item in enumerate(given):
            param = params[position]
            if item.param_id != param.id:
                return self._encode_unordered(action)
            value = item.value
            parts.append(value if param.whole and len(value) == param.size else param.fit(value))
        return b"".join(parts)

    def _encode_unordered(self, action: p4r.Action) -> bytes:
        values: list[bytes] = [b""] * len(self.params)
        seen: set[int] = set()
        for item in action.params:
            position = self._by_id.get(item.param_id)
            if position is None:
                raise invalid(f"action {self.name} has no parameter with id {item.param_id}")
            if position in seen:
                raise invalid(f"action {self.name}: parameter {self.params[position].name} is given twice")
            seen.add(position)
            values[position] = self.params[position].fit(item.value)
        return self._head + b"".join(values)

    def _wrong_count(self, action: p4r.Action) -> Exception:
        given = {item.param_id for item in action.params}
        unknown = sorted(given - set(self._by_id))
        if unknown:
            return invalid(f"action {self.name} has no parameter with id {unknown[0]}")
        missing = [param.name for param in self.params if param.id not in given]
        if missing:
            return invalid(f"action {self.name}: parameter {missing[0]} is missing")
        return invalid(f"action {self.name}: {len(action.params)} parameters instead of {len(self.params)}")

    def wire(self, data: bytes, offset: int) -> bytes:
        """Body of a ``p4.v1.Action`` from the parameters at ``offset``."""
        parts = [self._sole]
        for param in self.params:
            end = offset + param.size
            parts.append(param.wire(data[offset:end]))
            offset = end
        return b"".join(parts)

    def message(self, params: Sequence[bytes]) -> p4r.Action:
        """The message for parameter values as :class:`engine.api.ActionCall` holds them."""
        return p4r.Action.FromString(self.wire(b"".join(params), 0))

    def values(self, action: p4r.Action) -> tuple[bytes, ...]:
        """The parameters of ``action`` as :class:`engine.api.ActionCall` wants them."""
        data = self.encode(action)
        out = []
        offset = len(self._head)
        for param in self.params:
            out.append(data[offset : offset + param.size])
            offset += param.size
        return tuple(out)


def param_schemas(action: str, specs: Sequence[tuple[int, str, int, Names | None]]) -> list[ParamSchema]:
    """Schemas for (id, name, width in bits, strings or None)."""
    return [ParamSchema(id_, name, width, action, names) for id_, name, width, names in specs]


def table_action_wire(action_body: bytes) -> bytes:
    """A ``p4.v1.TableAction`` holding a direct action."""
    return delimited(_ACTION, action_body)
