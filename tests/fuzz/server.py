"""The P4Runtime server with a sanitized data plane behind it: calls, streams and bytes that no client should send.

Every answer must be one that the specification knows: no exception may come out of the server's code, the data plane
must live, and both must end in order with nothing leaked.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from engine.compiled import parse_json
from engine.dataplane import Client
from engine.library import Switch, compile_program
from engine.p4rt.backend import ProcessBackend
from engine.p4rt.stubs import gnmi, p4i, p4r
from engine.process import executable, spawn
from engine.server import Listener
from tests.engine.engine_support import STEERING
from tests.engine.test_sanitized import PROGRAM_FILES
from tests.fuzz.common import SANITIZER_ENVIRONMENT, Budget, Finding, Report
from tests.fuzz.loader import damage
from tests.fuzz.messages import ELECTION, Messages, damaged

P4INFO = STEERING.with_name("shadowplane.p4info.txtpb")
P4RT, GNMI = "/p4.v1.P4Runtime/", "/gnmi.gNMI/"
PIPELINE_FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TIMEOUT_S = 60.0
COMPILE_S = 600.0  # under the sanitizers, with other work on every core
GROWTH_LIMIT = 1 << 30  # bytes that the server's process may grow by
NEVER = {grpc.StatusCode.DEADLINE_EXCEEDED}


class _Sanitized(ProcessBackend):
    """Pipelines built with the sanitizers, as the switch process is."""

    def _compile(self, config: bytes) -> Any:
        if self._compiled is None or self._compiled[0] != config:
            self._compiled = (config, compile_program(parse_json(config), flags=PIPELINE_FLAGS))
        return self._compiled[1]

    def in_memory(self, config: bytes) -> Any:
        """Without the sanitizers, which would have to be in this process from its start."""
        return Switch(compile_program(parse_json(config)))


class _Target:
    """The server, and a channel to it."""

    def __init__(self, address: str, seed: int) -> None:
        self.channel = grpc.insecure_channel(address, [("grpc.max_metadata_size", 1 << 20)])
        self.chance = random.Random(seed)
        self.p4info = text_format.Parse(P4INFO.read_text(), p4i.P4Info())
        self.config = STEERING.read_bytes()
        self.messages = Messages(self.p4info, self.chance)

    def unary(self, method: str, data: bytes) -> str:
        patience = COMPILE_S if method.endswith("SetForwardingPipelineConfig") else TIMEOUT_S
        return self._outcome(method, data, lambda: self.channel.unary_unary(method)(data, timeout=patience))

    def many(self, method: str, data: bytes) -> str:
        def take() -> None:
            call = self.channel.unary_stream(method)(data, timeout=TIMEOUT_S)
            for number, _ in enumerate(call):
                if number > 200:  # a client that has had enough
                    call.cancel()
                    return

        return self._outcome(method, data, take)

    def stream(self, method: str, messages: list[bytes]) -> str:
        """Send, read a little, go away: in order or by breaking off."""
        out: queue.Queue[bytes | None] = queue.Queue()
        for message in messages:
            out.put(message)
        patient = self.chance.random() < 0.7
        out.put(None) if patient else None

        def take() -> None:
            call = self.channel.stream_stream(method)(iter(out.get, None), timeout=TIMEOUT_S)
            timer = threading.Timer(0.05 if patient else 0.01, call.cancel)
            timer.start()
            try:
                for _ in call:
                    pass
            finally:
                timer.cancel()
                out.put(None)

        return self._outcome(method, b"\n".join(messages), take)

    def _outcome(self, method: str, data: bytes, work: Any) -> str:
        name = method.rpartition("/")[2]
        try:
            work()
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
            deserializing = text.startswith("Exception deserializing request")
            if code in NEVER or ("Exception" in text and not deserializing):
                raise Finding(f"{method}: {code.name}: {text}", request=data) from error
            if code is grpc.StatusCode.INTERNAL and not deserializing:
                raise Finding(f"{method}: INTERNAL: {text}", request=data) from error
            return f"{name} {code.name}"
        return f"{name} OK"

    def set_pipeline(self, action: str, config: bytes, p4info: p4i.P4Info | None) -> bytes:
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, action=p4r.SetForwardingPipelineConfigRequest.Action.Value(action)
        )
        request.election_id.high = request.election_id.low = ELECTION
        request.config.p4_device_config = config
        if p4info is not None:
            request.config.p4info.CopyFrom(p4info)
        return request.SerializeToString()

    def damaged_pipeline(self) -> bytes:
        """VERIFY only, mostly: a compilation under the sanitizers takes seconds."""
        chance = self.chance
        p4info = p4i.P4Info()
        p4info.CopyFrom(self.p4info)
        config = self.config
        if chance.random() < 0.5:
            config = json.dumps(damage(json.loads(PROGRAM_FILES["tables"].read_bytes()), chance)).encode()
        else:
            with contextlib.suppress(Exception):  # bytes that are no P4Info any more: the undamaged one does
                p4info.ParseFromString(damaged(self.p4info.SerializeToString(), chance))
        return self.set_pipeline(chance.choice(("VERIFY", "VERIFY", "RECONCILE_AND_COMMIT")), config, p4info)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, Client]]:
    """A P4Runtime server with a sanitized switch process; its orderly end, without leaks, is part of the check."""
    log, old = folder / "switch.log", {key: os.environ.get(key) for key in SANITIZER_ENVIRONMENT}
    os.environ.update(SANITIZER_ENVIRONMENT)
    try:
        process = spawn({}, folder / "switch.sock", binary=executable(sanitize=True), log_file=log)
    finally:
        for key, value in old.items():
            os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)
    client = Client(folder / "switch.sock")
    listener = Listener("127.0.0.1:0")
    serving = listener.serve(_Sanitized(client), 1)
    serving.start()
    try:
        yield f"127.0.0.1:{listener.port}", client
        if process.poll() is not None:
            raise Finding(f"the switch process ended ({process.returncode}): {log.read_text(errors='replace')[-6000:]}")
    finally:
        serving.stop(0)
        client.close()
        process.terminate()
        process.wait(60)
    if process.returncode != 0:
        raise Finding(f"at its end the switch process said: {log.read_text(errors='replace')[-6000:]}")


def run(budget: Budget, seed: int, report: Report) -> None:
    """Ask until the budget is spent."""
    with tempfile.TemporaryDirectory(prefix="shadowplane-fuzz-") as name, served(Path(name)) as (address, client):
        target = _Target(address, seed)
        primary = _Primary(target.channel)
        target.unary(
            P4RT + "SetForwardingPipelineConfig",
            target.set_pipeline("VERIFY_AND_COMMIT", target.config, target.p4info),
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            while budget.left(report):
                report.outcomes[_one(target)] += 1
                report.inputs += 1
                if report.inputs % 500 == 0:
                    client.hello()  # raises when the process is gone
                    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
                    if grown > GROWTH_LIMIT:
                        raise Finding(f"the server grew by {grown >> 20} MiB")
                    primary.keep()
            answer = target.unary(P4RT + "Capabilities", b"")
            if answer != "Capabilities OK":
                raise Finding(f"afterwards: {answer}")
        finally:
            primary.close()
            target.channel.close()


class _Primary:
    """Keeps the mastership, without which every write would end at the first check."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._out: queue.Queue[bytes | None] = queue.Queue()
        self._open()

    def _open(self) -> None:
        arbitration = p4r.MasterArbitrationUpdate(device_id=1)
        arbitration.election_id.high = arbitration.election_id.low = ELECTION
        self._out = queue.Queue()
        self._out.put(p4r.StreamMessageRequest(arbitration=arbitration).SerializeToString())
        self._call = self._channel.stream_stream(P4RT + "StreamChannel")(iter(self._out.get, None))
        next(self._call)
        threading.Thread(target=self._drain, args=(self._call,), daemon=True).start()

    @staticmethod
    def _drain(call: Any) -> None:
        with contextlib.suppress(grpc.RpcError):
            for _ in call:
                pass

    def keep(self) -> None:
        if not self._call.is_active():
            self._open()

    def close(self) -> None:
        self._out.put(None)
        self._call.cancel()


def _one(target: _Target) -> str:
    chance, messages = target.chance, target.messages

    def bent(data: bytes) -> bytes:
        return damaged(data, chance) if chance.random() < 0.25 else data

    match chance.randrange(100):
        case kind if kind < 55:
            return target.unary(P4RT + "Write", bent(messages.write().SerializeToString()))
        case kind if kind < 75:
            return target.many(P4RT + "Read", bent(messages.read().SerializeToString()))
        case kind if kind < 85:
            several = [bent(messages.stream().SerializeToString()) for _ in range(chance.randint(1, 8))]
            return target.stream(P4RT + "StreamChannel", several)
        case kind if kind < 87:
            return target.unary(P4RT + "SetForwardingPipelineConfig", bent(target.damaged_pipeline()))
        case 87:
            action = chance.choice(("VERIFY_AND_SAVE", "VERIFY_AND_COMMIT"))
            request = target.set_pipeline(action, target.config, target.p4info)
            return target.unary(P4RT + "SetForwardingPipelineConfig", bent(request))
        case 88:
            return target.unary(P4RT + "SetForwardingPipelineConfig", bent(target.set_pipeline("COMMIT", b"", None)))
        case kind if kind < 90:
            request = messages.anything(p4r.GetForwardingPipelineConfigRequest()).SerializeToString()
            return target.unary(P4RT + "GetForwardingPipelineConfig", bent(request))
        case kind if kind < 93:
            return target.unary(GNMI + "Get", bent(messages.anything(gnmi.GetRequest()).SerializeToString()))
        case kind if kind < 96:
            request = messages.anything(gnmi.SubscribeRequest()).SerializeToString()
            return target.stream(GNMI + "Subscribe", [bent(request)])
        case kind if kind < 98:
            return target.unary(GNMI + "Set", bent(messages.anything(gnmi.SetRequest()).SerializeToString()))
        case _:
            return target.unary(P4RT + "Capabilities", bent(b"\n\x01a"))
