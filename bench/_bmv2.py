"""simple_switch_grpc with the same program and entries, for comparison in the same run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
from finsy.proto import U128, p4i, p4r, p4r_grpc
from google.protobuf import text_format

from bench._program import STEERING, Row, Subject
from bench._wire import Cables

EXECUTABLE = "simple_switch_grpc"
START_S = 20.0


def available() -> bool:
    return shutil.which(EXECUTABLE) is not None


def version() -> str:
    """What the executable says of itself."""
    done = subprocess.run([EXECUTABLE, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def _update(info: p4i.P4Info, row: Row) -> p4r.Update:
    tables = {item.preamble.name: item for item in info.tables}
    update = p4r.Update(type=p4r.Update.INSERT)
    entry = update.entity.table_entry
    entry.table_id = tables[row.table].preamble.id
    field = entry.match.add(field_id=1)
    if row.prefix is not None:
        field.lpm.value, field.lpm.prefix_len = row.key, row.prefix
    else:
        field.exact.value = row.key.lstrip(b"\0") or b"\0"
    call = entry.action.action
    call.action_id = next(a.preamble.id for a in info.actions if a.preamble.alias == row.action)
    for number, value in enumerate(row.params, 1):
        call.params.add(param_id=number, value=value.lstrip(b"\0") or b"\0")
    return update


def _load(stub: p4r_grpc.P4RuntimeStub, election: p4r.Uint128, subject: Subject, rows: Sequence[Row]) -> None:
    request = p4r.SetForwardingPipelineConfigRequest(
        device_id=1, election_id=election, action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
    )
    text_format.Parse(subject.p4info.read_text(), request.config.p4info)
    request.config.p4_device_config = subject.program.read_bytes()
    stub.SetForwardingPipelineConfig(request)
    write = p4r.WriteRequest(device_id=1, election_id=election)
    write.updates.extend(_update(request.config.p4info, row) for row in rows)
    stub.Write(write)


@contextmanager
def bmv2_switch(
    made: Cables, subject: Subject = STEERING, rows: Sequence[Row] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running switch with the program's entries, or ``rows``; niceness as :func:`bench._wire.engine_switch`."""
    done = threading.Event()
    ready = threading.Event()
    election = U128.encode(1)
    with tempfile.TemporaryDirectory(prefix="sw-bmv2-") as folder:
        address = f"unix:{folder}/grpc"
        command = ["nice", "-n", "-10", EXECUTABLE, "--no-p4", "--device-id", "1", "--log-level", "off"]
        for port, interface in made.switch.items():
            command += ["-i", f"{port}@{interface}"]
        command += ["--", "--grpc-server-addr", address, "--cpu-port", "510", "--priority-queues", "8"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(timeout=START_S)
                stub = p4r_grpc.P4RuntimeStub(channel)

                def requests() -> Iterator[p4r.StreamMessageRequest]:
                    arbitration = p4r.MasterArbitrationUpdate(device_id=1, election_id=election)
                    yield p4r.StreamMessageRequest(arbitration=arbitration)
                    done.wait()

                def listen() -> None:
                    try:
                        for _ in stub.StreamChannel(requests()):
                            ready.set()
                    except grpc.RpcError:
                        done.set()  # the channel was closed

                listener = threading.Thread(target=listen, daemon=True)
                listener.start()
                if not ready.wait(START_S):
                    raise RuntimeError(f"{EXECUTABLE} does not answer the arbitration")
                _load(stub, election, subject, subject.rows if rows is None else rows)
                yield process
                done.set()
            listener.join(5)
        finally:
            done.set()
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
