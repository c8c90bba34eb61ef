"""simple_switch_grpc without interfaces: packets go in as packet-outs and come back as packet-ins, over P4Runtime."""

from __future__ import annotations

import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from finsy.proto import U128, p4i, p4r, p4r_grpc
from google.protobuf import text_format

from tests.differential.programs import CPU_PORT, GROUP, MARKER, SESSION, Entry

EXECUTABLE = "simple_switch_grpc"
START_S = 20.0
ANSWER_S = 20.0
ROUNDS = 3  # markers behind each frame: more than a frame has passes
INSTANCES = (1, 2)


class ReferenceDied(Exception):
    """BMv2 ended, or does not answer."""


class ReferenceRefused(Exception):
    """BMv2 does not take the program or an entry."""


def missing() -> str | None:
    """Why there is no reference here; None if there is."""
    for name in (EXECUTABLE, "p4c-bm2-ss"):
        if shutil.which(name) is None:
            return f"{name} is not on the PATH"
    return None


def canonical(value: int) -> bytes:
    """P4Runtime's shortest big endian form."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


class Reference:
    """A running switch; one program after the other."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="reference-")
        self._requests: queue.Queue[p4r.StreamMessageRequest | None] = queue.Queue()
        self._packets: queue.Queue[bytes] = queue.Queue()
        self.digests: set[tuple[int, ...]] = set()
        self._ready = threading.Event()
        self._sequence = self._members = self._groups = 0
        self.info = p4i.P4Info()
        address = f"unix:{self._folder.name}/grpc"
        command = [EXECUTABLE, "--no-p4", "--device-id", "1", "--log-level", "off"]
        command = [*command, "--", "--grpc-server-addr", address, "--cpu-port", str(CPU_PORT)]
        with Path(self._folder.name, "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder.name)
        self._channel = grpc.insecure_channel(address)
        try:
            grpc.channel_ready_future(self._channel).result(timeout=START_S)
            self._stub = p4r_grpc.P4RuntimeStub(self._channel)
            self._listener = threading.Thread(target=self._listen, name="reference-stream", daemon=True)
            self._listener.start()
            election = p4r.MasterArbitrationUpdate(device_id=1, election_id=U128.encode(1))
            self._requests.put(p4r.StreamMessageRequest(arbitration=election))
            if not self._ready.wait(ANSWER_S):
                raise ReferenceDied(f"{EXECUTABLE} does not answer the arbitration: {self.log()}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def log(self) -> str:
        """The end of what the process printed."""
        return Path(self._folder.name, "log").read_text(errors="replace")[-800:]

    def close(self) -> None:
        self._requests.put(None)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)
        self._channel.close()
        self._folder.cleanup()

    # -- stream --------------------------------------------------------------------------------------------------

    def _outgoing(self) -> Iterator[p4r.StreamMessageRequest]:
        while (message := self._requests.get()) is not None:
            yield message

    def _listen(self) -> None:
        with suppress(grpc.RpcError):
            for message in self._stub.StreamChannel(self._outgoing()):
                which = message.WhichOneof("update")
                if which == "arbitration":
                    self._ready.set()
                elif which == "packet":
                    self._packets.put(message.packet.payload)
                elif which == "digest":
                    for item in message.digest.data:
                        values = tuple(int.from_bytes(m.bitstring, "big") for m in item.struct.members)
                        self.digests.add(values)
                    ack = p4r.DigestListAck(digest_id=message.digest.digest_id, list_id=message.digest.list_id)
                    self._requests.put(p4r.StreamMessageRequest(digest_ack=ack))

    # -- control -------------------------------------------------------------------------------------------------

    def load(self, program: bytes, info: str) -> None:
        """A new program, with the group, the session and the digest that every case may use."""
        self.info = p4i.P4Info()
        text_format.Parse(info, self.info)
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, election_id=U128.encode(1), action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        )
        request.config.p4info.CopyFrom(self.info)
        request.config.p4_device_config = program
        try:
            self._stub.SetForwardingPipelineConfig(request, timeout=START_S)
        except grpc.RpcError as error:
            raise ReferenceRefused(f"program: {error.details()}") from error
        self.send(bytes((0, 0, MARKER, 0)) + bytes(16))  # the program takes over with the next packet
        self.digests = set()
        for digest in self.info.digests:
            entity = p4r.Entity()
            entity.digest_entry.digest_id = digest.preamble.id
            entity.digest_entry.config.max_list_size = 1
            self._write(entity)
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

    def _write(self, entity: Any) -> None:
        request = p4r.WriteRequest(device_id=1, election_id=U128.encode(1))
        update = request.updates.add()
        update.type = p4r.Update.INSERT
        update.entity.CopyFrom(entity)
        try:
            self._stub.Write(request, timeout=ANSWER_S)
        except grpc.RpcError as error:
            reasons = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
            raise ReferenceRefused(f"{error.code()} {reasons}: {str(entity)[:600]}") from error

    def insert(self, entry: Entry) -> None:
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
            if kind == "exact":
                one.exact.value = canonical(first)
            elif kind == "lpm":
                one.lpm.value, one.lpm.prefix_len = canonical(first), second
            elif kind == "ternary":
                one.ternary.value, one.ternary.mask = canonical(first), canonical(second)
            elif kind == "optional":
                one.optional.value = canonical(first)
            else:
                one.range.low, one.range.high = canonical(first), canonical(second)
        if entry.selector:
            made.action.action_profile_group_id = self._group(table.implementation_id, entry)
        else:
            self._call(made.action.action, entry.action, entry.params)
        self._write(entity)

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
            self._members += 1
            member = p4r.Entity()
            member.action_profile_member.action_profile_id = profile
            member.action_profile_member.member_id = self._members
            self._call(member.action_profile_member.action, name, values)
            self._write(member)
            one = group.action_profile_group.members.add()
            one.member_id, one.weight = self._members, 1
        self._write(group)
        return self._groups

    def counters(self) -> dict[str, list[tuple[int, int]]]:
        """Packets and bytes of all cells, by counter."""
        out: dict[str, list[tuple[int, int]]] = {}
        for counter in self.info.counters:
            request = p4r.ReadRequest(device_id=1)
            request.entities.add().counter_entry.counter_id = counter.preamble.id
            found = [e.counter_entry for r in self._stub.Read(request, timeout=ANSWER_S) for e in r.entities]
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
        message = p4r.StreamMessageRequest()
        message.packet.payload = frame
        self._requests.put(message)

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


def run(reference: Reference, entries: Sequence[Entry], frames: Sequence[bytes]) -> list[list[bytes]]:
    """Entries, then frames one by one; what came back for each."""
    for entry in entries:
        reference.insert(entry)
    return [sorted(reference.send(frame)) for frame in frames]
