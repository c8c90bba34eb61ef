"""simple_switch_grpc without interfaces: packets go in as packet-outs and come back as packet-ins, over P4Runtime."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Sequence
from typing import Any

import grpc
from finsy.proto import p4i, p4r
from google.protobuf import text_format

from tests.differential.programs import CPU_PORT, GROUP, MARKER, SESSION, Entry
from tests.simple_switch import ANSWER_S, EXECUTABLE, SimpleSwitch, SwitchDied, canonical, set_match

ROUNDS = 3  # markers behind each frame: more than a frame has passes
INSTANCES = (1, 2)


ReferenceDied = SwitchDied


class ReferenceRefused(Exception):
    """BMv2 does not take the program or an entry."""


def missing() -> str | None:
    """Why there is no reference here; None if there is."""
    for name in (EXECUTABLE, "p4c-bm2-ss"):
        if shutil.which(name) is None:
            return f"{name} is not on the PATH"
    return None


class Reference(SimpleSwitch):
    """A running switch; one program after the other. ``data_plane``: packets come and go over its own service."""

    def __init__(self, data_plane: bool = False) -> None:
        super().__init__("reference-")
        self._packets: queue.Queue[bytes] = queue.Queue()
        self.digests: set[tuple[int, ...]] = set()
        self._sequence = self._members = self._groups = 0
        try:
            self.packets_address = f"unix:{self._folder.name}/packets"
            service = ("--dp-grpc-server-addr", self.packets_address)
            self.start("--log-level", "off", target=service if data_plane else ("--cpu-port", str(CPU_PORT)))
        except BaseException:
            self.close()
            raise

    def packet(self, message: p4r.PacketIn) -> None:
        self._packets.put(message.payload)

    def digest(self, message: p4r.DigestList) -> None:
        for item in message.data:
            self.digests.add(tuple(int.from_bytes(m.bitstring, "big") for m in item.struct.members))

    # -- control -------------------------------------------------------------------------------------------------

    def load(self, program: bytes, info: str) -> None:
        """A new program, with the group, the session and the digest that every case may use."""
        parsed = text_format.Parse(info, p4i.P4Info())
        try:
            self.push(parsed, program)
        except grpc.RpcError as error:
            raise ReferenceRefused(f"program: {error.details()}") from error
        self.send(bytes((0, 0, MARKER, 0)) + bytes(16))  # the program takes over with the next packet
        self.digests = set()
        self.want_digests()
        entity = p4r.Entity()
        entity.packet_replication_engine_entry.multicast_group_entry.multicast_group_id = GROUP
        for instance in INSTANCES:
            one = entity.packet_replication_engine_entry.multicast_group_entry.replicas.add()
            one.egress_port, one.instance = CPU_PORT, instance
        self._write(entity)
        entity = p4r.Entity()
        entity.packet_replication_engine_entry.clone_session_entry.session_id = SESSION
        for instance in INSTANCES:
            one = entity.packet_replication_engine_entry.clone_session_entry.replicas.add()
            one.egress_port, one.instance = CPU_PORT, instance
        self._write(entity)

    def _write(self, entity: p4r.Entity, kind: Any = p4r.Update.INSERT) -> None:
        try:
            self.write(kind, entity)
        except grpc.RpcError as error:
            reasons = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
            raise ReferenceRefused(f"{error.code()} {reasons}: {str(entity)[:600]}") from error

    def insert(self, entry: Entry) -> None:
        self.change("insert", entry)

    def change(self, what: str, entry: Entry) -> None:
        """Insert, modify or delete an entry. Raises :class:`ReferenceRefused`."""
        table = next(t for t in self.info.tables if t.preamble.name == entry.table)
        entity = p4r.Entity()
        made = entity.table_entry
        made.table_id, made.priority = table.preamble.id, entry.priority
        for described, (kind, width, first, second) in zip(table.match_fields, entry.key, strict=True):
            if (kind in ("lpm", "ternary", "optional") and not second) or (
                kind == "range" and (first, second) == (0, (1 << width) - 1)
            ):
                continue
            one = made.match.add()
            one.field_id = described.id
            set_match(one, kind, first, second)
        if what == "delete":
            self._write(entity, p4r.Update.DELETE)
            return
        if entry.member:
            made.action.action_profile_member_id = self._member(table.implementation_id, entry.action, entry.params)
        elif entry.selector:
            made.action.action_profile_group_id = self._group(table.implementation_id, entry)
        else:
            self._call(made.action.action, entry.action, entry.params)
        if entry.meter:
            set_rates(made.meter_config, entry.meter)
        if entry.counted:
            made.counter_data.packet_count, made.counter_data.byte_count = entry.counted
        self._write(entity, p4r.Update.INSERT if what == "insert" else p4r.Update.MODIFY)

    def _call(self, target: Any, name: str, values: Sequence[tuple[int, int]]) -> None:
        action = next(a for a in self.info.actions if a.preamble.name == name)
        target.action_id = action.preamble.id
        for param, (value, _width) in zip(action.params, values, strict=True):
            given = target.params.add()
            given.param_id, given.value = param.id, canonical(value)

    def _group(self, profile: int, entry: Entry) -> int:
        """A new group of an entry's actions; members and groups count from 1."""
        self._groups += 1
        group = p4r.Entity()
        group.action_profile_group.action_profile_id = profile
        group.action_profile_group.group_id = self._groups
        calls = [(entry.action, entry.params), *entry.others]
        group.action_profile_group.max_size = len(calls)
        for name, values in calls:
            one = group.action_profile_group.members.add()
            one.member_id, one.weight = self._member(profile, name, values), 1
        self._write(group)
        return self._groups

    def _member(self, profile: int, name: str, values: Sequence[tuple[int, int]]) -> int:
        """A new member."""
        self._members += 1
        member = p4r.Entity()
        member.action_profile_member.action_profile_id = profile
        member.action_profile_member.member_id = self._members
        self._call(member.action_profile_member.action, name, values)
        self._write(member)
        return self._members

    def counters(self) -> dict[str, list[tuple[int, int]]]:
        """Packets and bytes of all cells, by counter."""
        out: dict[str, list[tuple[int, int]]] = {}
        for counter in self.info.counters:
            entity = p4r.Entity()
            entity.counter_entry.counter_id = counter.preamble.id
            found = [item.counter_entry for item in self.read(entity)]
            found.sort(key=lambda item: int(item.index.index))
            out[counter.preamble.name] = [(e.data.packet_count, e.data.byte_count) for e in found]
        return out

    # -- packets -------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> list[bytes]:
        """What comes back for one frame, in order."""
        self._out(frame)
        seen: list[bytes] = []
        for _ in range(ROUNDS):
            self._sequence += 1
            marker = bytes((0, 0, MARKER, 0)) + self._sequence.to_bytes(16, "big")
            self._out(marker)
            while (data := self._take()) != marker:
                seen.append(data)
        return seen

    def _out(self, frame: bytes) -> None:
        self.send_message(packet=p4r.PacketOut(payload=frame))

    def _take(self) -> bytes:
        try:
            return self._packets.get(timeout=ANSWER_S)
        except queue.Empty:
            raise ReferenceDied(f"{EXECUTABLE} does not answer: {self.log()}") from None

    def settle(self, digests: int) -> None:
        """Wait until so many digests are here, or long enough for those that are under way."""
        end = time.monotonic() + 1.0
        while len(self.digests) < digests and time.monotonic() < end:
            time.sleep(0.02)


def set_rates(config: p4r.MeterConfig, rates: Sequence[int]) -> None:
    """Fill a meter's configuration."""
    config.cir, config.cburst, config.pir, config.pburst = rates


def run(reference: Reference, entries: Sequence[Entry], frames: Sequence[bytes]) -> list[list[bytes]]:
    """Entries, then frames one by one; what came back for each."""
    for entry in entries:
        reference.insert(entry)
    return [sorted(reference.send(frame)) for frame in frames]
