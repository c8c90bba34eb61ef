"""Random protobuf messages: nearly valid ones, by P4Info, and anything a type allows."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from engine.p4rt.stubs import p4i, p4r

ELECTION = (1 << 64) - 1  # both halves: no message of the fuzzer's can take the mastership away
_SMALL = (0, 1, 1, 1, 2, 3, 7, 255, 510, 511, 512, 65_535, (1 << 31) - 1)


class Messages:
    """Draws requests for a program. The same seed gives the same messages."""

    def __init__(self, p4info: p4i.P4Info, chance: random.Random) -> None:
        self.p4info = p4info
        self.chance = chance
        self._ids = _ids(p4info)

    def anything(self, message: Message, depth: int = 0) -> Message:
        """Fill a message at random: ids of the program where a field's name asks for one, small numbers, few items."""
        chance = self.chance
        done: set[str] = set()
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            if oneof is not None:
                if oneof.name in done:
                    continue
                done.add(oneof.name)
                field = chance.choice(list(oneof.fields))
            if chance.random() < (0.25 if depth < 5 else 0.8):
                continue
            count = chance.choice((0, 1, 1, 2, 3)) if field.is_repeated else 1
            for _ in range(count):
                self._fill(message, field, depth)
        return message

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry or depth > 8:
                return
            inner = getattr(message, field.name)
            self.anything(inner.add() if field.is_repeated else inner, depth + 1)
            if not field.is_repeated:
                inner.SetInParent()
            return
        value = self._scalar(field)
        try:
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
        except (ValueError, TypeError):
            return  # out of the type's range: another draw will do

    def _scalar(self, field: FieldDescriptor) -> Any:
        chance = self.chance
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 1, 1, 2, 4, 6, 8, 16, 17, 300)))
        if field.type == FieldDescriptor.TYPE_STRING:
            return chance.choice(("", "a", "\u00e9" * 40, "hdr.ipv4.dst", "0x1", "\0"))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        if field.enum_type is not None:
            return chance.choice([value.number for value in field.enum_type.values] + [77])
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return chance.choice((0.0, -1.0, float("inf"), float("nan")))
        if field.name.endswith("_id") and chance.random() < 0.85:
            return chance.choice(self._ids.get(field.name, self._ids["any"]))
        return chance.choice(_SMALL) * chance.choice((1, 1, 1, -1))

    # -- nearly valid ----------------------------------------------------------------------------------------------

    def bytes_of(self, width: int) -> bytes:
        value = self.chance.choice((0, 1, 2, (1 << width) - 1, self.chance.getrandbits(max(1, width))))
        if self.chance.random() < 0.03:
            value <<= 8  # too wide
        return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")

    def table_entry(self) -> p4r.TableEntry:
        chance = self.chance
        table = chance.choice(list(self.p4info.tables))
        entry = p4r.TableEntry(table_id=table.preamble.id)
        needs_priority = False
        for field in table.match_fields:
            match = p4r.FieldMatch(field_id=field.id)
            kind, width = field.match_type, field.bitwidth
            if kind == p4i.MatchField.EXACT:
                match.exact.value = self.bytes_of(width)
            elif kind == p4i.MatchField.LPM:
                length = chance.randint(0, width)
                match.lpm.value = _canonical(chance.getrandbits(width) >> (width - length) << (width - length))
                match.lpm.prefix_len = length
            elif kind == p4i.MatchField.TERNARY:
                mask = chance.getrandbits(width)
                match.ternary.mask, match.ternary.value = _canonical(mask), _canonical(mask & chance.getrandbits(width))
                needs_priority = True
            elif kind == p4i.MatchField.RANGE:
                low, high = sorted((chance.getrandbits(width), chance.getrandbits(width)))
                match.range.low, match.range.high = _canonical(low), _canonical(high)
                needs_priority = True
            else:
                match.optional.value = self.bytes_of(width)
                needs_priority = True
            if kind == p4i.MatchField.EXACT or chance.random() < 0.7:
                entry.match.append(match)
        if needs_priority:
            entry.priority = chance.randint(1, 9)
        reference = chance.choice(list(table.action_refs))
        if table.implementation_id:
            entry.action.action_profile_member_id = chance.randint(0, 4)
        else:
            entry.action.action.CopyFrom(self.action(reference.id))
        return entry

    def action(self, action_id: int) -> p4r.Action:
        info = next(item for item in self.p4info.actions if item.preamble.id == action_id)
        params = [p4r.Action.Param(param_id=p.id, value=self.bytes_of(p.bitwidth)) for p in info.params]
        return p4r.Action(action_id=action_id, params=params)

    def entity(self) -> p4r.Entity:
        if self.chance.random() < 0.5:
            return p4r.Entity(table_entry=self.table_entry())
        entity = p4r.Entity()
        self.anything(entity)
        if self.chance.random() < 0.3 and len(self.p4info.registers):
            register = self.chance.choice(list(self.p4info.registers))
            item = entity.register_entry
            item.register_id = register.preamble.id
            item.index.index = self.chance.choice((0, 1, register.size - 1, register.size))
            item.data.bitstring = self.bytes_of(8)
        return entity

    def write(self) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=1, atomicity=self.chance.choice((0, 0, 1, 2)))
        request.election_id.high = request.election_id.low = ELECTION
        for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
            request.updates.add(type=self.chance.choice((1, 1, 1, 2, 3, 0)), entity=self.entity())
        return request

    def read(self) -> p4r.ReadRequest:
        return p4r.ReadRequest(device_id=1, entities=[self.entity() for _ in range(self.chance.choice((0, 1, 2)))])

    def stream(self) -> p4r.StreamMessageRequest:
        request = p4r.StreamMessageRequest()
        if self.chance.random() < 0.5:
            request.packet.payload = self.chance.randbytes(self.chance.choice((0, 1, 14, 60, 1500, 9000)))
            for number in (1, 2):
                if self.chance.random() < 0.9:
                    request.packet.metadata.add(metadata_id=number, value=self.bytes_of(self.chance.choice((7, 9))))
            return request
        self.anything(request)
        return request


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Serialized bytes with a few of them changed, dropped or repeated."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            return chance.randbytes(chance.randint(0, 20))
        where = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[where] = chance.randrange(256)
            case 1:
                del changed[where : where + chance.randint(1, 9)]
            case 2:
                changed[where:where] = changed[: chance.randint(0, 40)]
            case _:
                changed[where] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _canonical(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _ids(p4info: p4i.P4Info) -> dict[str, list[int]]:
    def of(items: Any) -> list[int]:
        return [item.preamble.id for item in items] or [0]

    known = {
        "table_id": of(p4info.tables),
        "action_id": of(p4info.actions),
        "action_profile_id": of(p4info.action_profiles),
        "counter_id": of(p4info.counters),
        "direct_counter_id": of(p4info.direct_counters),
        "meter_id": of(p4info.meters),
        "direct_meter_id": of(p4info.direct_meters),
        "register_id": of(p4info.registers),
        "digest_id": of(p4info.digests),
        "value_set_id": of(p4info.value_sets),
        "device_id": [1],
    }
    return known | {"any": [0, 1, 2, 3, 5, *known["table_id"], *known["register_id"]]}
