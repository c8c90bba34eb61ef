"""A P4Runtime and gNMI server that only keeps state: tables, registers, arbitration. No packets.

It lets the session, the service and the flip transports be tested without a data plane; the same tests run
against the embedded switch's real server in ``test_contract.py``.

gRPC's threads serve it while a test's thread looks on. What both touch is behind one lock, and a test gets copies that
cannot be written to (:attr:`FakeSwitch.tables` and the like); it changes the switch by methods (:meth:`FakeSwitch.
remove`, :meth:`FakeSwitch.set_bit`, :meth:`FakeSwitch.sense`). Plain attributes are switches that one thread sets and
the others only read. A batch is applied whole under the lock: a test sees all of it or nothing.
"""

from __future__ import annotations

import json
import queue
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from types import MappingProxyType
from typing import Any

import grpc
from finsy import P4Schema
from finsy.proto import gnmi, gnmi_grpc, p4d, p4r, p4r_grpc, rpc_code, rpc_status

COMMAND = struct.Struct("!IIQ")
Key = tuple[int, bytes]  # a table's number, and the match as it was sent
_WORDS = {
    int(rpc_code.UNIMPLEMENTED): "Register writes are not supported yet",
    int(rpc_code.RESOURCE_EXHAUSTED): "Full",
}


class FakeSwitch(p4r_grpc.P4RuntimeServicer, gnmi_grpc.gNMIServicer):
    """``registers`` False: RegisterEntry is UNIMPLEMENTED, as on BMv2. ``opcodes`` False: no steering packets.
    ``generator`` False: nothing orders heartbeats in there."""

    def __init__(self, schema: P4Schema, port: int, device_id: int, *, registers: bool = True, opcodes: bool = True):
        self.schema = schema
        self.device_id = device_id
        self.registers, self.opcodes = registers, opcodes
        self.address = f"127.0.0.1:{port}"
        self._lock = threading.RLock()
        self.generator = True
        self._ordered: list[int] = []
        self._generated = 0
        self.refuse: str = ""  # table name whose writes are refused
        self.anybody = False  # who is not the primary may write, too
        self.silent = False  # steering opcodes are not answered
        self.go_on = threading.Event()  # cleared: writes are not answered
        self.go_on.set()
        self._writes: list[p4r.WriteRequest] = []
        self._asked = 0
        self._up = {1: True, 2: True, 3: True, 4: True}
        self._sensed: dict[str, Any] = {}
        self.hang_up = False  # end the sample stream, in order
        self._subscribed = 0
        self._life = 0  # how often it was wiped: what a thread of a former life still holds is void
        self.wipe()
        self.server: grpc.Server | None = None

    def wipe(self) -> None:
        """As a restart would: no pipeline, no entries, bits 0."""
        with self._lock:
            self._life += 1
            self.cookie: int | None = None
            self._tables: dict[Key, p4r.TableEntry] = {}
            self._bits: dict[int, int] = {}
            self._digests: set[int] = set()
            self._acks: list[int] = []
            self._clients: dict[int, queue.Queue[Any]] = {}
            self._elections: dict[int, int] = {}

    # -- what a test sees and changes -----------------------------------------------------------------------

    @property
    def tables(self) -> Mapping[Key, p4r.TableEntry]:
        """The entries, as of now."""
        with self._lock:
            return MappingProxyType(dict(self._tables))

    @property
    def bits(self) -> Mapping[int, int]:
        """Failover bits by group, as of now."""
        with self._lock:
            return MappingProxyType(dict(self._bits))

    @property
    def writes(self) -> tuple[p4r.WriteRequest, ...]:
        """Every write request that arrived, answered or not."""
        with self._lock:
            return tuple(self._writes)

    @property
    def asked(self) -> int:
        """Steering packets that arrived, answered or not."""
        with self._lock:
            return self._asked

    @property
    def ordered(self) -> tuple[int, ...]:
        """Ports of heartbeat orders by packet-out."""
        with self._lock:
            return tuple(self._ordered)

    @property
    def digests(self) -> frozenset[int]:
        """Digests that were asked for."""
        with self._lock:
            return frozenset(self._digests)

    @property
    def acks(self) -> tuple[int, ...]:
        """Digest lists that were acknowledged."""
        with self._lock:
            return tuple(self._acks)

    @property
    def subscribed(self) -> int:
        """Sample streams that were begun."""
        with self._lock:
            return self._subscribed

    def remove(self, keys: Iterable[Key]) -> None:
        """Lose entries, as nobody asked for."""
        with self._lock:
            for key in keys:
                del self._tables[key]

    def set_bit(self, index: int, bit: int) -> None:
        """Turn a failover bit, as nobody asked for."""
        with self._lock:
            self._bits[index] = bit

    def set_port(self, port: int, *, up: bool) -> None:
        """Carrier comes or goes."""
        with self._lock:
            self._up[port] = up

    def sense(self, path: str, value: Any) -> None:
        """Have samples tell a value from now on."""
        with self._lock:
            self._sensed[path] = value

    def start(self) -> FakeSwitch:
        self.server = grpc.server(futures.ThreadPoolExecutor(24), options=[("grpc.so_reuseport", 0)])
        p4r_grpc.add_P4RuntimeServicer_to_server(self, self.server)
        gnmi_grpc.add_gNMIServicer_to_server(self, self.server)
        assert self.server.add_insecure_port(self.address), f"{self.address} is taken"
        self.server.start()
        return self

    def stop(self) -> None:
        if self.server is not None:
            with self._lock:
                for client in self._clients.values():
                    client.put(None)
            self.server.stop(0).wait(5)
            self.server = None

    # -- arbitration and streams --------------------------------------------------------------------------

    def _primary(self) -> int | None:
        return max(self._elections, key=lambda key: self._elections[key], default=None)

    def StreamChannel(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        mine: queue.Queue[Any] = queue.Queue()
        key = id(mine)
        context.add_callback(lambda: self._leave(key, mine))
        threading.Thread(target=self._receive, args=(requests, key, mine, context), daemon=True).start()
        while True:
            item = mine.get()
            if item is None:
                return
            if isinstance(item, str):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, item)
            yield item

    def _receive(self, requests: Iterator[Any], key: int, mine: queue.Queue[Any], context: Any) -> None:
        try:
            for request in requests:
                kind = request.WhichOneof("update")
                with self._lock:
                    if kind == "arbitration":
                        self._arbitrate(key, mine, request.arbitration.election_id.low)
                    elif kind == "digest_ack":
                        self._acks.append(request.digest_ack.list_id)
                    elif kind == "packet" and self.opcodes:
                        self._packet(request.packet, mine)
        except grpc.RpcError:
            pass  # the client left
        mine.put(None)

    def _arbitrate(self, key: int, mine: queue.Queue[Any], election: int) -> None:
        if any(other == election and who != key for who, other in self._elections.items()):
            mine.put("Election ID is already used by another connection")
            return
        self._elections[key] = election
        self._clients[key] = mine
        self._tell_all()

    def _tell_all(self) -> None:
        leader = self._primary()
        for key, client in self._clients.items():
            code = rpc_code.OK if key == leader else rpc_code.ALREADY_EXISTS
            best = self._elections[leader] if leader is not None else 0
            client.put(
                p4r.StreamMessageResponse(
                    arbitration=p4r.MasterArbitrationUpdate(
                        device_id=self.device_id,
                        election_id=p4r.Uint128(low=best),
                        status=rpc_status.Status(code=code),
                    )
                )
            )

    def _leave(self, key: int, mine: queue.Queue[Any]) -> None:
        mine.put(None)
        with self._lock:
            was = self._primary() == key
            best = self._elections.pop(key, 0)
            self._clients.pop(key, None)
            if was:
                for client in self._clients.values():
                    client.put(
                        p4r.StreamMessageResponse(
                            arbitration=p4r.MasterArbitrationUpdate(
                                device_id=self.device_id,
                                election_id=p4r.Uint128(low=best),
                                status=rpc_status.Status(code=rpc_code.NOT_FOUND),
                            )
                        )
                    )

    def _packet(self, packet: p4r.PacketOut, mine: queue.Queue[Any]) -> None:
        meta = {item.metadata_id: int.from_bytes(item.value, "big") for item in packet.metadata}
        names = {item.id: item.name for item in self.schema.controller_packet_metadata["packet_out"].metadata}
        opcode = next(value for number, value in meta.items() if names[number] == "opcode")
        self._asked += 1
        if self.silent:
            return
        index, value, cookie = COMMAND.unpack_from(packet.payload)
        if opcode == 3:
            self._ordered.append(index)
            return
        if opcode == 1:
            self._bits[index] = value & 1
        reply = p4r.PacketIn(payload=COMMAND.pack(index, self._bits.get(index, 0), cookie))
        for item in self.schema.controller_packet_metadata["packet_in"].metadata:
            number = opcode if item.name == "reason" else 510
            reply.metadata.add(metadata_id=item.id, value=number.to_bytes(2, "big").lstrip(b"\0") or b"\0")
        mine.put(p4r.StreamMessageResponse(packet=reply))

    def report(self, **fields: int) -> None:
        """Send one port report to the primary."""
        digest = self.schema.digests["port_report_t"]
        members = digest.type_spec.members
        data = p4d.P4Data()
        for name in members:
            raw = fields.get(name, 0)
            data.struct.members.add(bitstring=raw.to_bytes(8, "big").lstrip(b"\0") or b"\0")
        with self._lock:
            message = p4r.DigestList(digest_id=digest.id, list_id=len(self._acks) + 1, data=[data])
            leader = self._primary()
            if leader is not None:
                self._clients[leader].put(p4r.StreamMessageResponse(digest=message))

    # -- unary --------------------------------------------------------------------------------------------

    def Capabilities(self, request: Any, context: Any) -> Any:
        return p4r.CapabilitiesResponse(p4runtime_api_version="1.4.1")

    def SetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        self._check_primary(request.election_id.low, context)
        with self._lock:
            self._tables.clear()
            self._bits.clear()
            self.cookie = request.config.cookie.cookie
        return p4r.SetForwardingPipelineConfigResponse()

    def GetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        cookie = self.cookie
        if cookie is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
        config = p4r.ForwardingPipelineConfig(cookie=p4r.ForwardingPipelineConfig.Cookie(cookie=cookie))
        return p4r.GetForwardingPipelineConfigResponse(config=config)

    def Write(self, request: Any, context: Any) -> Any:
        self._check_primary(request.election_id.low, context)
        with self._lock:
            self._writes.append(request)
            life = self._life
        self.go_on.wait(100)
        with self._lock:
            if life != self._life:
                context.abort(grpc.StatusCode.UNAVAILABLE, "it was restarted")
            codes = [self._apply(update) for update in request.updates]
        errors = [p4r.Error(canonical_code=code, message=_WORDS.get(code, "")) for code in codes]
        if any(error.canonical_code for error in errors):
            status = rpc_status.Status(code=rpc_code.UNKNOWN)  # without a text, as BMv2's
            for error in errors:
                status.details.add().Pack(error)
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNKNOWN, "")
        return p4r.WriteResponse()

    def _apply(self, update: Any) -> int:
        entity = update.entity
        kind = entity.WhichOneof("entity")
        if kind == "register_entry":
            if not self.registers:
                return int(rpc_code.UNIMPLEMENTED)
            self._bits[entity.register_entry.index.index] = int.from_bytes(entity.register_entry.data.bitstring, "big")
        elif kind == "digest_entry":
            self._digests.add(entity.digest_entry.digest_id)
        elif kind == "table_entry":
            entry = entity.table_entry
            if self.refuse and self.schema.tables[entry.table_id].alias == self.refuse:
                return int(rpc_code.RESOURCE_EXHAUSTED)
            key = (entry.table_id, b"".join(match.SerializeToString() for match in entry.match))
            exists = key in self._tables
            if update.type == p4r.Update.INSERT and exists:
                return int(rpc_code.ALREADY_EXISTS)
            if update.type != p4r.Update.INSERT and not exists:
                return int(rpc_code.NOT_FOUND)
            if update.type == p4r.Update.DELETE:
                del self._tables[key]
            else:
                self._tables[key] = entry
        return 0

    def Read(self, request: Any, context: Any) -> Iterator[Any]:
        reply = p4r.ReadResponse()
        with self._lock:
            for entity in request.entities:
                self._read(entity, reply, context)
        yield reply

    def _read(self, entity: Any, reply: p4r.ReadResponse, context: Any) -> None:
        kind = entity.WhichOneof("entity")
        if kind == "table_entry":
            for (table, _), entry in sorted(self._tables.items(), key=lambda item: item[0]):
                if entity.table_entry.table_id in (0, table):
                    reply.entities.add().table_entry.CopyFrom(entry)
        elif kind == "register_entry":
            if not self.registers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "registers are not supported")
            found = reply.entities.add().register_entry
            found.CopyFrom(entity.register_entry)
            found.data.bitstring = bytes([self._bits.get(found.index.index, 0)])
        elif kind == "counter_entry":
            counter = reply.entities.add().counter_entry
            counter.CopyFrom(entity.counter_entry)
            counter.data.byte_count = 1000
            if self.generator and counter.index.index == 509:
                self._generated += 1
                counter.data.packet_count = self._generated

    def _check_primary(self, election: int, context: Any) -> None:
        with self._lock:
            leader = self._primary()
            allowed = leader is not None and self._elections[leader] == election
        if not allowed and not self.anybody:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not the primary")

    # -- gNMI ---------------------------------------------------------------------------------------------

    def Get(self, request: Any, context: Any) -> Any:
        note = gnmi.Notification()
        for port in self._up:  # none comes or goes
            update = note.update.add()
            for name in ("interfaces", "interface", "state", "ifindex"):
                update.path.elem.add(name=name)
            update.path.elem[1].key["name"] = str(port)
            update.val.uint_val = port
        return gnmi.GetResponse(notification=[note])

    def Subscribe(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        wanted = next(requests).subscribe.subscription
        changes = wanted[0].mode == gnmi.SubscriptionMode.ON_CHANGE
        with self._lock:
            self._subscribed += not changes
        told: dict[int, bool] = {}
        yield gnmi.SubscribeResponse(update=self._status(told) if changes else self._sample())
        yield gnmi.SubscribeResponse(sync_response=True)
        while context.is_active() and self.server is not None and (changes or not self.hang_up):
            time.sleep(0.01 if changes else wanted[0].sample_interval / 1e9)
            note = self._status(told) if changes else self._sample()
            if note.update:
                yield gnmi.SubscribeResponse(update=note)

    def _status(self, told: dict[int, bool]) -> Any:
        note = gnmi.Notification(timestamp=time.time_ns())
        for port, up in self._up.items():  # none comes or goes
            if told.get(port) != up:
                told[port] = up
                self._put(note, f"interfaces/interface[name={port}]/state/oper-status", "UP" if up else "DOWN")
        return note

    def _sample(self) -> Any:
        note = gnmi.Notification(timestamp=time.time_ns())
        with self._lock:
            for path, value in self._sensed.items():
                self._put(note, path, value)
        return note

    @staticmethod
    def _put(note: Any, path: str, value: Any) -> None:
        update = note.update.add()
        for part in path.split("/"):
            name, _, key = part.partition("[")
            elem = update.path.elem.add(name=name)
            if key:
                left, _, right = key.rstrip("]").partition("=")
                elem.key[left] = right
        update.val.json_ietf_val = json.dumps(value).encode()
