"""A served fake switch and a plain client that speaks raw P4Runtime messages."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from engine.p4rt.stubs import p4i, p4r, rpc_status
from engine.program_json import program_to_json
from engine.server import Listener, Serving
from tests.p4runtime.fake import FakeBackend, program_of

SAMPLE = text_format.Parse((Path(__file__).parent / "sample.p4info.txtpb").read_text(), p4i.P4Info())
TIMEOUT_S = 60.0  # only so that what hangs ends: a busy machine takes its time
COMPILE_S = 120.0  # a program that no cache knows yet, on a busy machine

EXACT, LPM, ACL, BALANCE, CONST = (0x02000000 + n for n in (1, 2, 3, 4, 5))
FORWARD, DROP, NOACTION = (0x01000000 + n for n in (1, 2, 3))
PROFILE, COUNTER, METER, DIGEST, VALUE_SET = 0x11000001, 0x12000001, 0x14000001, 0x17000001, 0x03000001
FAILOVER, SEEN, OFFSET = (0x16000000 + n for n in (1, 2, 3))
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


def config_of(p4info: p4i.P4Info, cookie: int = 7) -> p4r.ForwardingPipelineConfig:
    """A config whose device part is what the fake runs."""
    config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=program_to_json(program_of(p4info)).encode())
    config.cookie.cookie = cookie
    return config


@contextlib.contextmanager
def served(backend: FakeBackend, device_id: int = 1) -> Iterator[tuple[Serving, str]]:
    """The backend behind a real gRPC server on loopback: (server, address)."""
    listener = Listener("127.0.0.1:0")
    serving = listener.serve(backend, device_id)
    serving.start()
    try:
        yield serving, f"127.0.0.1:{listener.port}"
    finally:
        serving.stop(0)


class Stream:
    """One StreamChannel."""

    def __init__(self, client: RawClient) -> None:
        self._out: queue.Queue[p4r.StreamMessageRequest | None] = queue.Queue()
        self.inbox: queue.Queue[p4r.StreamMessageResponse | grpc.RpcError | None] = queue.Queue()
        self.call = client.call("StreamChannel", "stream_stream", p4r.StreamMessageResponse)(iter(self._out.get, None))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self.call:
                self.inbox.put(message)
            self.inbox.put(None)
        except grpc.RpcError as error:
            self.inbox.put(error)

    def send(self, **parts: Any) -> None:
        self._out.put(p4r.StreamMessageRequest(**parts))

    def arbitrate(self, election: int | None, role: str = "", device_id: int = 1, **more: Any) -> None:
        message = p4r.MasterArbitrationUpdate(device_id=device_id, **more)
        if role:
            message.role.name = role
        if election is not None:
            message.election_id.high, message.election_id.low = election >> 64, election & (1 << 64) - 1
        self.send(arbitration=message)

    def next(self, kind: str | None = None) -> Any:
        """The next message (its part ``kind``); raises the stream's error."""
        message = self.inbox.get(timeout=TIMEOUT_S)
        if isinstance(message, grpc.RpcError):
            raise message
        if kind is None or message is None:
            return message
        assert message.WhichOneof("update") == kind, message
        return getattr(message, kind)

    def close(self) -> None:
        self._out.put(None)
        self.call.cancel()
        self._thread.join(TIMEOUT_S)


class RawClient:
    """P4Runtime without a library's help (and without its opinions)."""

    def __init__(self, address: str, *, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [("grpc.max_metadata_size", 1 << 20), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self.streams: list[Stream] = []
        self.election = 0
        self.role = ""

    def call(self, method: str, shape: str, response: Any, service: str = "p4.v1.P4Runtime") -> Any:
        return getattr(self.channel, shape)(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    def stream(self) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def become_primary(self, election: int = 1, role: str = "") -> Stream:
        stream = self.stream()
        stream.arbitrate(election, role)
        assert stream.next("arbitration").status.code == 0
        self.election, self.role = election, role
        return stream

    def set_config(self, config: p4r.ForwardingPipelineConfig | None, action: str = "VERIFY_AND_COMMIT") -> None:
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, role=self.role, action=p4r.SetForwardingPipelineConfigRequest.Action.Value(action)
        )
        request.election_id.low = self.election
        if config is not None:
            request.config.CopyFrom(config)
        self.call("SetForwardingPipelineConfig", "unary_unary", p4r.SetForwardingPipelineConfigResponse)(
            request, timeout=COMPILE_S
        )

    def get_config(self, kind: str = "ALL") -> p4r.ForwardingPipelineConfig:
        return self.get_config_response(kind).config

    def get_config_response(self, kind: str = "ALL") -> p4r.GetForwardingPipelineConfigResponse:
        request = p4r.GetForwardingPipelineConfigRequest(
            device_id=1, response_type=p4r.GetForwardingPipelineConfigRequest.ResponseType.Value(kind)
        )
        method = self.call("GetForwardingPipelineConfig", "unary_unary", p4r.GetForwardingPipelineConfigResponse)
        return method(request, timeout=TIMEOUT_S)

    def write(self, *updates: tuple[int, dict[str, Any]], atomicity: int = 0, **more: Any) -> None:
        """Each update: (type, {entity kind: message})."""
        request = p4r.WriteRequest(device_id=1, role=self.role, atomicity=atomicity)
        request.election_id.low = self.election
        for type_, entity in updates:
            request.updates.add(type=type_, entity=p4r.Entity(**entity))
        for name, value in more.items():
            setattr(request, name, value)
        self.call("Write", "unary_unary", p4r.WriteResponse)(request, timeout=TIMEOUT_S)

    def insert(self, *entries: p4r.TableEntry) -> None:
        self.write(*((INSERT, {"table_entry": entry}) for entry in entries))

    def read(self, role: str = "", **entity: Any) -> list[p4r.Entity]:
        request = p4r.ReadRequest(device_id=1, role=role, entities=[p4r.Entity(**entity)])
        out: list[p4r.Entity] = []
        for response in self.call("Read", "unary_stream", p4r.ReadResponse)(request, timeout=TIMEOUT_S):
            out += response.entities
        return out

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.channel.close()


def until(condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> None:
    """Wait for what nothing tells of; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def errors_of(error: grpc.RpcError) -> list[p4r.Error]:
    """The per-update errors in an RPC's trailer."""
    assert error.code() is grpc.StatusCode.UNKNOWN, error
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = rpc_status.Status.FromString(value)
            assert status.code == 2
            out = []
            for detail in status.details:
                unpacked = p4r.Error()
                assert detail.Unpack(unpacked)
                out.append(unpacked)
            return out
    raise AssertionError("the error has no details")


def forward(port: int = 1, mac: int = 2) -> p4r.TableAction:
    params = [
        p4r.Action.Param(param_id=1, value=_bytes(port)),
        p4r.Action.Param(param_id=2, value=_bytes(mac)),
    ]
    return p4r.TableAction(action=p4r.Action(action_id=FORWARD, params=params))


def drop() -> p4r.TableAction:
    return p4r.TableAction(action=p4r.Action(action_id=DROP))


def exact(a: int, b: int = 1, action: p4r.TableAction | None = None, **more: Any) -> p4r.TableEntry:
    match = [
        p4r.FieldMatch(field_id=1, exact=p4r.FieldMatch.Exact(value=_bytes(a))),
        p4r.FieldMatch(field_id=2, exact=p4r.FieldMatch.Exact(value=_bytes(b))),
    ]
    return p4r.TableEntry(table_id=EXACT, match=match, action=action or forward(), **more)


def prefix(value: int, length: int, action: p4r.TableAction | None = None) -> p4r.TableEntry:
    match = [p4r.FieldMatch(field_id=1, lpm=p4r.FieldMatch.LPM(value=_bytes(value), prefix_len=length))]
    return p4r.TableEntry(table_id=LPM, match=match, action=action or forward())


def register(index: int | None, value: bytes, id_: int = FAILOVER) -> dict[str, Any]:
    entry = p4r.RegisterEntry(register_id=id_)
    if index is not None:
        entry.index.index = index
    entry.data.bitstring = value
    return {"register_entry": entry}


def _bytes(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
