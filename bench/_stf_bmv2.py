"""STF packet tests on simple_switch_grpc: control over P4Runtime, packets through pcap files (``--use-files``).

Ports are files: what is written to ``N_in.pcap``, here a FIFO, arrives on port N, and what leaves is in ``N_out.pcap``.
So frames of any length get in, and no interfaces are needed. All packets follow all control statements: a test that
changes tables between packets, or writes registers (which BMv2's P4Runtime lacks), cannot be carried out.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import U128, p4i, p4r, p4r_grpc
from google.protobuf import text_format

from bench._stf import IGNORED, Runner, Statement, StfError
from engine.api import ActionCall, Code, KeyField, Match, MatchKind, Op, ProgramInfo, TableUpdate

EXECUTABLE = "simple_switch_grpc"
START_S, ANSWER_S, QUIET_S = 20.0, 20.0, 0.5
_PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
_TYPES = {Op.INSERT: p4r.Update.INSERT, Op.MODIFY: p4r.Update.MODIFY, Op.DELETE: p4r.Update.DELETE}


def _canonical(value: bytes) -> bytes:
    return value.lstrip(b"\0") or b"\0"


class Bmv2:
    """What :class:`Runner` needs of a switch, on a fresh BMv2; frames come out of :meth:`finish`."""

    def __init__(self, program: ProgramInfo, config: bytes, info: str, ports: Sequence[int]) -> None:
        self.program = program
        self._info = text_format.Parse(info, p4i.P4Info())
        self._folder = tempfile.TemporaryDirectory(prefix="stf-bmv2-")
        self._ports = sorted(ports)
        self._waiting: list[tuple[int, bytes]] = []
        self._pipes: dict[int, int] = {}
        work = Path(self._folder.name)
        for port in self._ports:
            os.mkfifo(work / f"{port}_in.pcap")
        address = f"unix:{work}/grpc"
        command = [EXECUTABLE, "--no-p4", "--device-id", "1", "--log-level", "off", "--use-files", "0"]
        command += [item for port in self._ports for item in ("-i", f"{port}@{port}")]
        with (work / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--", "--grpc-server-addr", address], stdout=log, stderr=subprocess.STDOUT, cwd=work
            )
        self._channel = grpc.insecure_channel(address)
        try:
            for port in self._ports:  # in the order in which BMv2 opens them
                self._pipes[port] = self._open(work / f"{port}_in.pcap")
                os.write(self._pipes[port], _PCAP)
            grpc.channel_ready_future(self._channel).result(timeout=START_S)
            self._stub = p4r_grpc.P4RuntimeStub(self._channel)
            self._stream = self._stub.StreamChannel(self._arbitration())
            next(iter(self._stream))
            request = p4r.SetForwardingPipelineConfigRequest(
                device_id=1, election_id=U128.encode(1), action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
            )
            request.config.p4info.CopyFrom(self._info)
            request.config.p4_device_config = config
            self._call(lambda: self._stub.SetForwardingPipelineConfig(request, timeout=START_S))
        except grpc.FutureTimeoutError as error:
            self.close()
            raise StfError("BMv2 does not start") from error
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _arbitration() -> Iterator[p4r.StreamMessageRequest]:
        update = p4r.MasterArbitrationUpdate(device_id=1, election_id=U128.encode(1))
        yield p4r.StreamMessageRequest(arbitration=update)
        while True:  # the stream stays open until its channel is closed
            time.sleep(3600)

    def _open(self, path: Path) -> int:
        """The writing end of a FIFO, as soon as BMv2 reads it."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(OSError):  # ENXIO: nobody reads yet
                pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.set_blocking(pipe, True)
                return pipe
            time.sleep(0.01)  # nothing tells when the other end opens
        raise StfError("BMv2 does not open its ports")

    @staticmethod
    def _call(action: Any) -> Any:
        try:
            return action()
        except grpc.RpcError as error:
            raise StfError(f"BMv2: {error.code().name} {error.details()}"[:300]) from error

    def _write(self, op: Op, entity: p4r.Entity) -> None:
        request = p4r.WriteRequest(device_id=1, election_id=U128.encode(1))
        request.updates.add(type=_TYPES[op], entity=entity)
        self._call(lambda: self._stub.Write(request, timeout=ANSWER_S))

    # -- what a Runner calls -------------------------------------------------------------------------------------

    def process(self, port: int, frame: bytes, _now_ns: int) -> list[tuple[int, bytes]]:
        self._waiting.append((port, frame))
        return []

    def table_write(self, updates: Sequence[TableUpdate]) -> list[Code]:
        for update in updates:
            described = self.program.tables[update.table]
            table = self._named(self._info.tables, described.name)
            entity = p4r.Entity()
            entry = entity.table_entry
            entry.table_id, entry.priority = table.preamble.id, update.priority
            entry.is_default_action = not update.key
            for item, field, match in zip(table.match_fields, described.key, update.key, strict=False):
                _match(entry, item.id, field, match)
            action = update.action
            if not isinstance(action, ActionCall):
                raise StfError("an entry without a direct action")
            name = self.program.actions[action.action].name
            found = self._named(self._info.actions, name)
            entry.action.action.action_id = found.preamble.id
            for param, value in zip(found.params, action.params, strict=True):
                entry.action.action.params.add(param_id=param.id, value=_canonical(value))
            self._write(update.op, entity)
        return [Code.OK] * len(updates)

    @staticmethod
    def _named(items: Any, name: str) -> Any:
        for item in items:
            if item.preamble.name == name:
                return item
        raise StfError(f"{name} is not in the P4Info")

    def multicast_write(self, op: Op, group: int, replicas: Sequence[tuple[int, int]]) -> None:
        entity = p4r.Entity()
        entry = entity.packet_replication_engine_entry.multicast_group_entry
        entry.multicast_group_id = group
        self._replicate(op, entity, entry, replicas)

    def clone_write(self, op: Op, session: int, replicas: Sequence[tuple[int, int]]) -> None:
        entity = p4r.Entity()
        entry = entity.packet_replication_engine_entry.clone_session_entry
        entry.session_id = session
        self._replicate(op, entity, entry, replicas)

    def _replicate(self, op: Op, entity: p4r.Entity, entry: Any, replicas: Sequence[tuple[int, int]]) -> None:
        for port, instance in replicas:
            entry.replicas.add(egress_port=port, instance=instance)
        self._write(op, entity)

    def counter_read(self, counter: int, index: int) -> list[tuple[int, int]]:
        found = self._named(self._info.counters, self.program.counters[counter].name)
        request = p4r.ReadRequest(device_id=1)
        cell = request.entities.add().counter_entry
        cell.counter_id, cell.index.index = found.preamble.id, index
        replies = self._call(lambda: list(self._stub.Read(request, timeout=ANSWER_S)))
        return [
            (e.counter_entry.data.packet_count, e.counter_entry.data.byte_count) for r in replies for e in r.entities
        ]

    def __getattr__(self, name: str) -> Any:
        raise StfError(f"BMv2 has no {name} over P4Runtime")

    # -- packets -------------------------------------------------------------------------------------------------

    def play(self) -> dict[int, list[bytes]]:
        """Send all packets in order; what left, by port."""
        for number, (port, frame) in enumerate(self._waiting, 1):
            os.write(self._pipes[port], struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        folder, before, since = Path(self._folder.name), -1, time.monotonic()
        while time.monotonic() - since < QUIET_S:
            size = sum(path.stat().st_size for path in folder.glob("*_out.pcap"))
            if size != before:
                before, since = size, time.monotonic()
            if self._process.poll() is not None:
                raise StfError(f"BMv2 ended with status {self._process.returncode}")
            time.sleep(0.02)  # BMv2 does not say when it is done: its captures stop growing
        return {port: list(_frames(folder / f"{port}_out.pcap")) for port in self._ports}

    def close(self) -> None:
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def _match(entry: p4r.TableEntry, field_id: int, field: KeyField, match: Match) -> None:
    """One key field, left out where it matches anything."""
    value, everything = _canonical(match.value), (1 << field.width) - 1
    if field.kind is MatchKind.EXACT:
        entry.match.add(field_id=field_id).exact.value = value
    elif field.kind is MatchKind.LPM and match.prefix_len:
        one = entry.match.add(field_id=field_id)
        one.lpm.value, one.lpm.prefix_len = value, match.prefix_len
    elif field.kind is MatchKind.TERNARY and any(match.mask):
        one = entry.match.add(field_id=field_id)
        one.ternary.value, one.ternary.mask = value, _canonical(match.mask)
    elif field.kind is MatchKind.OPTIONAL and any(match.mask):
        entry.match.add(field_id=field_id).optional.value = value
    elif field.kind is MatchKind.RANGE:
        low, high = int.from_bytes(match.value, "big"), int.from_bytes(match.high, "big")
        if (low, high) != (0, everything):
            one = entry.match.add(field_id=field_id)
            one.range.low, one.range.high = value, _canonical(match.high)


def _frames(path: Path) -> Iterator[bytes]:
    data = path.read_bytes() if path.exists() else b""
    at = len(_PCAP)
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + size]
        at += 16 + size


def run(program: ProgramInfo, config: bytes, info: str, statements: Sequence[Statement]) -> list[str]:
    """What differed from a test's expectations on BMv2.

    Raises:
        StfError: the test cannot be carried out there.
    """
    wanted = [s for s in statements if s.verb not in IGNORED]
    first = next((i for i, s in enumerate(wanted) if s.verb == "packet"), len(wanted))
    later = [s for s in wanted[first:] if s.verb not in ("packet", "expect", "check_counter")]
    last = max((i for i, s in enumerate(wanted) if s.verb == "packet"), default=0)
    if later or any(s.verb == "check_counter" for s in wanted[:last]):
        raise StfError("control between packets")
    ports = {int(s.words[0]) for s in wanted if s.verb in ("packet", "expect") and s.words[0]}
    checks = [s for s in wanted if s.verb == "check_counter"]
    switch = Bmv2(program, config, info, sorted(ports))
    try:
        # A Bmv2 has those of Switch's methods that a Runner calls, and refuses the others with StfError.
        runner = Runner(switch)  # type: ignore[arg-type]
        runner.carry_out([s for s in wanted if s.verb != "check_counter"])
        for port, frames in switch.play().items():
            runner.seen[port] += frames
        runner.carry_out(checks)
        return runner.differences()
    finally:
        switch.close()
