"""A ``simple_switch_grpc`` process and a P4Runtime client of it, for tests that ask BMv2 what is right."""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from finsy.proto import U128, p4i, p4r, p4r_grpc

EXECUTABLE = "simple_switch_grpc"
START_S = 20.0
ANSWER_S = 20.0


class SwitchDied(Exception):
    """BMv2 ended, or does not answer."""


def canonical(value: int) -> bytes:
    """P4Runtime's shortest big endian form."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def set_match(match: Any, kind: str, first: int, second: int) -> None:
    """Fill a FieldMatch; ``second``: prefix length, mask or upper bound."""
    if kind == "exact":
        match.exact.value = canonical(first)
    elif kind == "lpm":
        match.lpm.value, match.lpm.prefix_len = canonical(first), second
    elif kind == "ternary":
        match.ternary.value, match.ternary.mask = canonical(first), canonical(second)
    elif kind == "optional":
        match.optional.value = canonical(first)
    else:
        match.range.low, match.range.high = canonical(first), canonical(second)


class SimpleSwitch:
    """A running switch, our stream its primary; what the stream brings goes to :meth:`packet` and :meth:`digest`.

    Used as a context manager, or closed by :meth:`close`. Raises :class:`SwitchDied` when it does not come up.
    """

    def __init__(self, prefix: str) -> None:
        self.info = p4i.P4Info()
        self._folder = tempfile.TemporaryDirectory(prefix=prefix)
        self._requests: queue.Queue[p4r.StreamMessageRequest | None] = queue.Queue()
        self._ready = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self._stub: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, *flags: str, target: Sequence[str], wrapper: Sequence[str] = ()) -> None:
        """Start it with BMv2's own ``flags`` and those of its ``target``; ``wrapper`` runs before it."""
        address = f"unix:{self._folder.name}/grpc"
        command = [*wrapper, EXECUTABLE, "--no-p4", "--device-id", "1", *flags, "--", "--grpc-server-addr", address]
        with Path(self._folder.name, "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *target], stdout=log, stderr=subprocess.STDOUT, cwd=self._folder.name
            )
        self._channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self._channel).result(timeout=START_S)
        self._stub = p4r_grpc.P4RuntimeStub(self._channel)
        threading.Thread(target=self._listen, name="bmv2-stream", daemon=True).start()
        election = p4r.MasterArbitrationUpdate(device_id=1, election_id=U128.encode(1))
        self._requests.put(p4r.StreamMessageRequest(arbitration=election))
        if not self._ready.wait(ANSWER_S):
            raise SwitchDied(f"{EXECUTABLE} does not answer the arbitration: {self.log()}")

    def log(self) -> str:
        """The end of what the process printed."""
        path = Path(self._folder.name, "log")
        return path.read_text(errors="replace")[-800:] if path.exists() else ""

    def close(self) -> None:
        self._requests.put(None)
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait(5)
        if self._channel is not None:
            self._channel.close()
        self._folder.cleanup()

    # -- stream ----------------------------------------------------------------------------------------------------

    def packet(self, message: p4r.PacketIn) -> None:
        """A packet-in (in the stream's thread)."""

    def digest(self, message: p4r.DigestList) -> None:
        """A digest list (in the stream's thread); it is acknowledged afterwards."""

    def send_message(self, **parts: Any) -> None:
        self._requests.put(p4r.StreamMessageRequest(**parts))

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
                    self.packet(message.packet)
                elif which == "digest":
                    self.digest(message.digest)
                    done = p4r.DigestListAck(digest_id=message.digest.digest_id, list_id=message.digest.list_id)
                    self.send_message(digest_ack=done)

    # -- requests --------------------------------------------------------------------------------------------------

    def push(self, info: p4i.P4Info, program: bytes) -> None:
        """A new pipeline."""
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, election_id=U128.encode(1), action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        )
        request.config.p4info.CopyFrom(info)
        request.config.p4_device_config = program
        self._stub.SetForwardingPipelineConfig(request, timeout=START_S)
        self.info = info

    def want_digests(self) -> None:
        """Every digest of the program, in lists of one."""
        for known in self.info.digests:
            entity = p4r.Entity()
            entity.digest_entry.digest_id = known.preamble.id
            entity.digest_entry.config.max_list_size = 1
            self.write(p4r.Update.INSERT, entity)

    def write(self, kind: Any, entity: p4r.Entity) -> None:
        request = p4r.WriteRequest(device_id=1, election_id=U128.encode(1))
        update = request.updates.add()
        update.type = kind
        update.entity.CopyFrom(entity)
        self._stub.Write(request, timeout=ANSWER_S)

    def read(self, entity: p4r.Entity) -> list[p4r.Entity]:
        request = p4r.ReadRequest(device_id=1)
        request.entities.add().CopyFrom(entity)
        return [item for response in self._stub.Read(request, timeout=ANSWER_S) for item in response.entities]
