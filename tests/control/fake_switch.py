"""A P4Runtime and gNMI server that only keeps state: tables, registers, arbitration. No packets.

It lets the session, the service and the flip transports be tested without a data plane; the same tests run
against the embedded switch's real server in ``test_contract.py``.
"""

from __future__ import annotations

import json
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from finsy import P4Schema
from finsy.proto import gnmi, gnmi_grpc, p4d, p4r, p4r_grpc, rpc_code, rpc_status

COMMAND = struct.Struct("!IIQ")
_WORDS = {
    int(rpc_code.UNIMPLEMENTED): "Register writes are not supported yet",
    int(rpc_code.RESOURCE_EXHAUSTED): "Full",
}


def free_base() -> int:
    """The start of four free ports in a row; by chance, so that test runs side by side do not get the same."""
    for base in random.sample(range(20_000, 30_000, 10), 200):
        try:
            for number in range(1, 5):
                socket.create_server(("127.0.0.1", base + number)).close()
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports between 20000 and 30000")


class FakeSwitch(p4r_grpc.P4RuntimeServicer, gnmi_grpc.gNMIServicer):
    """``registers`` False: RegisterEntry is UNIMPLEMENTED, as on BMv2. ``opcodes`` False: no steering packets.
    ``generator`` False: nothing orders heartbeats in there."""

    def __init__(self, schema: P4Schema, port: int, device_id: int, *, registers: bool = True, opcodes: bool = True):
        self.schema = schema
        self.device_id = device_id
        self.registers, self.opcodes = registers, opcodes
        self.address = f"127.0.0.1:{port}"
        self.lock = threading.Lock()
        self.generator = True
        self.ordered: list[int] = []  # ports of heartbeat orders by packet-out
        self.generated = 0
        self.refuse: str = ""  # table name whose writes are refused
        self.silent = False  # steering opcodes are not answered
        self.go_on = threading.Event()  # cleared: writes are not answered
        self.go_on.set()
        self.writes: list[p4r.WriteRequest] = []
        self.up = {1: True, 2: True, 3: True, 4: True}
        self.sample: dict[str, Any] = {}
        self.hang_up = False  # end the sample stream, in order
        self.subscribed = 0
        self.wipe()
        self.server: grpc.Server | None = None

    def wipe(self) -> None:
        """As a restart would: no pipeline, no entries, bits 0."""
        self.cookie: int | None = None
        self.tables: dict[tuple[int, bytes], p4r.TableEntry] = {}
        self.bits: dict[int, int] = {}
        self.digests: set[int] = set()
        self.acks: list[int] = []
        self.clients: dict[int, queue.Queue[Any]] = {}
        self.elections: dict[int, int] = {}

    def start(self) -> FakeSwitch:
        self.server = grpc.server(futures.ThreadPoolExecutor(24), options=[("grpc.so_reuseport", 0)])
        p4r_grpc.add_P4RuntimeServicer_to_server(self, self.server)
        gnmi_grpc.add_gNMIServicer_to_server(self, self.server)
        assert self.server.add_insecure_port(self.address), f"{self.address} is taken"
        self.server.start()
        return self

    def stop(self) -> None:
        if self.server is not None:
            for client in list(self.clients.values()):
                client.put(None)
            self.server.stop(0).wait(5)
            self.server = None

    # -- arbitration and streams --------------------------------------------------------------------------

    def primary(self) -> int | None:
        return max(self.elections, key=lambda key: self.elections[key], default=None)

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
                if kind == "arbitration":
                    self._arbitrate(key, mine, request.arbitration.election_id.low)
                elif kind == "digest_ack":
                    self.acks.append(request.digest_ack.list_id)
                elif kind == "packet" and self.opcodes:
                    self._packet(request.packet, mine)
        except grpc.RpcError:
            pass  # the client left
        mine.put(None)

    def _arbitrate(self, key: int, mine: queue.Queue[Any], election: int) -> None:
        with self.lock:
            if any(other == election and who != key for who, other in self.elections.items()):
                mine.put("Election ID is already used by another connection")
                return
            self.elections[key] = election
            self.clients[key] = mine
            self._tell_all()

    def _tell_all(self) -> None:
        leader = self.primary()
        for key, client in self.clients.items():
            code = rpc_code.OK if key == leader else rpc_code.ALREADY_EXISTS
            best = self.elections[leader] if leader is not None else 0
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
        with self.lock:
            was = self.primary() == key
            best = self.elections.pop(key, 0)
            self.clients.pop(key, None)
            if was:
                for client in self.clients.values():
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
        if self.silent:
            return
        index, value, cookie = COMMAND.unpack_from(packet.payload)
        if opcode == 3:
            self.ordered.append(index)
            return
        if opcode == 1:
            self.bits[index] = value & 1
        reply = p4r.PacketIn(payload=COMMAND.pack(index, self.bits.get(index, 0), cookie))
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
        message = p4r.DigestList(digest_id=digest.id, list_id=len(self.acks) + 1, data=[data])
        leader = self.primary()
        if leader is not None:
            self.clients[leader].put(p4r.StreamMessageResponse(digest=message))

    # -- unary --------------------------------------------------------------------------------------------

    def Capabilities(self, request: Any, context: Any) -> Any:
        return p4r.CapabilitiesResponse(p4runtime_api_version="1.4.1")

    def SetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        self._check_primary(request.election_id.low, context)
        self.tables.clear()
        self.bits.clear()
        self.cookie = request.config.cookie.cookie
        return p4r.SetForwardingPipelineConfigResponse()

    def GetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        if self.cookie is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
        config = p4r.ForwardingPipelineConfig(cookie=p4r.ForwardingPipelineConfig.Cookie(cookie=self.cookie))
        return p4r.GetForwardingPipelineConfigResponse(config=config)

    def Write(self, request: Any, context: Any) -> Any:
        self._check_primary(request.election_id.low, context)
        self.writes.append(request)
        self.go_on.wait(10)
        errors = []
        for update in request.updates:
            code = self._apply(update)
            errors.append(p4r.Error(canonical_code=code, message=_WORDS.get(code, "")))
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
            self.bits[entity.register_entry.index.index] = int.from_bytes(entity.register_entry.data.bitstring, "big")
        elif kind == "digest_entry":
            self.digests.add(entity.digest_entry.digest_id)
        elif kind == "table_entry":
            entry = entity.table_entry
            if self.refuse and self.schema.tables[entry.table_id].alias == self.refuse:
                return int(rpc_code.RESOURCE_EXHAUSTED)
            key = (entry.table_id, b"".join(match.SerializeToString() for match in entry.match))
            exists = key in self.tables
            if update.type == p4r.Update.INSERT and exists:
                return int(rpc_code.ALREADY_EXISTS)
            if update.type != p4r.Update.INSERT and not exists:
                return int(rpc_code.NOT_FOUND)
            if update.type == p4r.Update.DELETE:
                del self.tables[key]
            else:
                self.tables[key] = entry
        return 0

    def Read(self, request: Any, context: Any) -> Iterator[Any]:
        reply = p4r.ReadResponse()
        for entity in request.entities:
            kind = entity.WhichOneof("entity")
            if kind == "table_entry":
                for (table, _), entry in sorted(self.tables.items(), key=lambda item: item[0]):
                    if entity.table_entry.table_id in (0, table):
                        reply.entities.add().table_entry.CopyFrom(entry)
            elif kind == "register_entry":
                if not self.registers:
                    context.abort(grpc.StatusCode.UNIMPLEMENTED, "registers are not supported")
                found = reply.entities.add().register_entry
                found.CopyFrom(entity.register_entry)
                found.data.bitstring = bytes([self.bits.get(found.index.index, 0)])
            elif kind == "counter_entry":
                counter = reply.entities.add().counter_entry
                counter.CopyFrom(entity.counter_entry)
                counter.data.byte_count = 1000
                if self.generator and counter.index.index == 509:
                    self.generated += 1
                    counter.data.packet_count = self.generated
        yield reply

    def _check_primary(self, election: int, context: Any) -> None:
        leader = self.primary()
        if leader is None or self.elections[leader] != election:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not the primary")

    # -- gNMI ---------------------------------------------------------------------------------------------

    def Get(self, request: Any, context: Any) -> Any:
        note = gnmi.Notification()
        for port in self.up:
            update = note.update.add()
            for name in ("interfaces", "interface", "state", "ifindex"):
                update.path.elem.add(name=name)
            update.path.elem[1].key["name"] = str(port)
            update.val.uint_val = port
        return gnmi.GetResponse(notification=[note])

    def Subscribe(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        wanted = next(requests).subscribe.subscription
        changes = wanted[0].mode == gnmi.SubscriptionMode.ON_CHANGE
        self.subscribed += not changes
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
        for port, up in self.up.items():
            if told.get(port) != up:
                told[port] = up
                self._put(note, f"interfaces/interface[name={port}]/state/oper-status", "UP" if up else "DOWN")
        return note

    def _sample(self) -> Any:
        note = gnmi.Notification(timestamp=time.time_ns())
        for path, value in self.sample.items():
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
