"""simple_switch_grpc with packets over its data plane service: any port, any length, and whose answer each frame is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from finsy.proto import p4i, p4r
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.differential.reference import Reference, ReferenceDied, ReferenceRefused, set_rates
from tests.simple_switch import START_S

DEVICE = 1
WAKE = (300, bytes(64))  # the first frame, which nothing is compared for: a new program takes over with it
BURST = 10  # frames under way: a queue of BMv2 holds 64, copies included
BURST_S = 20.0
MOST_CELLS = 4_096  # of a counter that is compared
Sent = list[tuple[int, bytes]]  # (port, frame)


def _packet() -> Any:
    """The message of both directions: id, device_id, port, packet."""
    file = descriptor_pb2.FileDescriptorProto(name="shadowplane/tests/peer.proto", package="peer", syntax="proto3")
    made = file.message_type.add(name="Packet")
    kinds = descriptor_pb2.FieldDescriptorProto
    described = (("id", kinds.TYPE_UINT64), ("device_id", kinds.TYPE_UINT64), ("port", kinds.TYPE_UINT32))
    for number, (name, kind) in enumerate((*described, ("packet", kinds.TYPE_BYTES)), 1):
        made.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("peer.Packet"))


Packet = _packet()


class PeerDied(ReferenceDied):
    """``count`` frames from the number ``first`` of those played, among which is the one that BMv2 did not survive."""

    def __init__(self, text: str, first: int, count: int) -> None:
        super().__init__(text)
        self.first, self.count = first, count


class Peer(Reference):
    """A fresh switch with one program; ``burst``: frames under way at a time."""

    def __init__(self, program: bytes, info: str, burst: int = BURST) -> None:
        super().__init__(data_plane=True)
        self._frames = burst
        self._next = self._origin = 1
        self._packets_channel = grpc.insecure_channel(self.packets_address)
        try:
            self.push(text_format.Parse(info, p4i.P4Info()), program)
            self._wake()
            self.want_digests()
        except grpc.RpcError as error:
            self.close()
            raise ReferenceRefused(f"program: {error.details()}") from error
        except BaseException:
            self.close()
            raise

    def _wake(self) -> None:
        """The program takes over with the next frame: one of a port that nothing else uses."""
        end = time.monotonic() + START_S
        while True:
            try:
                self.play([WAKE])
                break
            except PeerDied as error:  # the service is there before the switch is
                if "not ready" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.02)  # BMv2 tells nobody when it is ready
        self.digests = set()
        self._origin = self._next

    def replication(self, kind: str, number: int, replicas: Sequence[tuple[int, int]], size: int = 0) -> None:
        """A multicast group or a clone session; ``size``: bytes to which copies are cut, 0: not at all."""
        entity = p4r.Entity()
        if kind == "group":
            entity.packet_replication_engine_entry.multicast_group_entry.multicast_group_id = number
            target = entity.packet_replication_engine_entry.multicast_group_entry.replicas
        else:
            entity.packet_replication_engine_entry.clone_session_entry.session_id = number
            entity.packet_replication_engine_entry.clone_session_entry.packet_length_bytes = size
            target = entity.packet_replication_engine_entry.clone_session_entry.replicas
        for port, instance in replicas:
            target.add(egress_port=port, instance=instance)
        self._write(entity)

    def play(self, frames: Sequence[tuple[int, bytes]]) -> list[Sent]:
        """What each (port, frame) made leave, sorted. Raises :class:`PeerDied`."""
        out: list[Sent] = []
        for at in range(0, len(frames), self._frames):
            out += self._burst(frames[at : at + self._frames])
        return out

    def _burst(self, frames: Sequence[tuple[int, bytes]]) -> list[Sent]:
        first = self._next
        self._next += len(frames)

        def requests() -> Iterator[bytes]:
            for number, (port, data) in enumerate(frames, first):
                yield Packet(id=number, device_id=DEVICE, port=port, packet=data).SerializeToString()

        stream = self._packets_channel.stream_stream("/p4.bm.DataplaneInterface/PacketStream")
        found: dict[int, Sent] = defaultdict(list)
        try:  # BMv2 ends the stream when it has no packet left
            for raw in stream(requests(), timeout=BURST_S):
                message = Packet.FromString(raw)
                found[message.id].append((message.port, message.packet))
        except grpc.RpcError as error:
            why = f"frames {first}..{self._next - 1}: {error.code().name} {error.details()}: {self.log()}"
            raise PeerDied(why, first - self._origin, len(frames)) from error
        return [sorted(found[number]) for number in range(first, self._next)]

    def default(self, table: str, action: str, values: Sequence[tuple[int, int]]) -> None:
        """Set a default action."""
        entity = p4r.Entity()
        entity.table_entry.table_id = next(t.preamble.id for t in self.info.tables if t.preamble.name == table)
        entity.table_entry.is_default_action = True
        self._call(entity.table_entry.action.action, action, values)
        try:
            self.write(p4r.Update.MODIFY, entity)
        except grpc.RpcError as error:
            raise ReferenceRefused(f"{error.code()}: default action {action} of {table}") from error

    def meter(self, name: str, cell: int, rates: Sequence[int]) -> None:
        """Configure a meter's cell."""
        entity = p4r.Entity()
        entity.meter_entry.meter_id = next(m.preamble.id for m in self.info.meters if m.preamble.name == name)
        entity.meter_entry.index.index = cell
        set_rates(entity.meter_entry.config, rates)
        self._write(entity, p4r.Update.MODIFY)

    def count(self, name: str, cell: int, packets: int, octets: int) -> None:
        """Set a counter's cell."""
        entity = p4r.Entity()
        entity.counter_entry.counter_id = next(c.preamble.id for c in self.info.counters if c.preamble.name == name)
        entity.counter_entry.index.index = cell
        entity.counter_entry.data.packet_count, entity.counter_entry.data.byte_count = packets, octets
        self._write(entity, p4r.Update.MODIFY)

    def counters(self) -> dict[str, list[tuple[int, int]]]:
        """Those that fit into one message."""
        every = list(self.info.counters)
        del self.info.counters[:]
        self.info.counters.extend(c for c in every if c.size <= MOST_CELLS)
        try:
            return super().counters()
        finally:
            del self.info.counters[:]
            self.info.counters.extend(every)

    def direct_counters(self) -> dict[str, list[tuple[int, int]]]:
        """Packets and bytes of the entries of each table with a direct counter, sorted."""
        out = {}
        counted = {c.direct_table_id for c in self.info.direct_counters}
        for table in self.info.tables:
            if table.preamble.id in counted:
                entity = p4r.Entity()
                entity.table_entry.table_id = table.preamble.id
                entity.table_entry.counter_data.SetInParent()
                data = [item.table_entry.counter_data for item in self.read(entity)]
                out[table.preamble.name] = sorted((d.packet_count, d.byte_count) for d in data)
        return out

    def close(self) -> None:
        super().close()
        self._packets_channel.close()
