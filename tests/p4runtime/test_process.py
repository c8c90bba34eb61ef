"""The switch as its users run it: ``python -m engine`` with the native data plane, on the steering program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format

from engine.api import DatapathError
from engine.dataplane import Client
from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.harness import DELETE, INSERT, MODIFY, TIMEOUT_S, RawClient, errors_of
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "p4" / "build"
INFO = BUILD / "shadowplane.p4info.txtpb"
JSON = BUILD / "shadowplane.json"
START_S = 90.0  # the first start may have to compile

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)
EVERYTHING, ALL_BUT_DIGESTS = 0b1111, 0b1110  # engine/native/switchd/commands.c: SUBSCRIBE


class Switch:
    """One ``python -m engine``; ``start`` again after ``kill``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s1.sock"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self, *flags: str) -> list[str]:
        own = ["--device-id", "1", "--control-socket", str(self.socket), "--log-file", str(self.folder / "log")]
        return [sys.executable, "-m", "engine", *own, *flags, "--", "--grpc-server-addr", self.address]

    def start(self, *flags: str) -> None:
        self.process = subprocess.Popen(self.command(*flags), cwd=ROOT, stderr=(self.folder / "err").open("ab"))
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            status = self.process.poll()
            assert status is None and time.monotonic() < deadline, (status, (self.folder / "err").read_text())
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        with contextlib.suppress(DatapathError):
            client = Client(self.socket)
            client.shutdown()
            client.close()


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    made = Switch(tmp_path)
    yield made
    made.clean()


@pytest.fixture
def connect(switch: Switch) -> Iterator[type[RawClient]]:
    made: list[RawClient] = []

    def make(address: str) -> RawClient:
        made.append(RawClient(address))
        return made[-1]

    yield make  # type: ignore[misc]
    for client in made:
        client.close()


def info() -> p4i.P4Info:
    return text_format.Parse(INFO.read_text(), p4i.P4Info())


def ids() -> dict[str, int]:
    found = info()
    return {
        item.preamble.name: item.preamble.id
        for kind in (found.tables, found.actions, found.registers, found.digests, found.action_profiles)
        for item in kind
    }


def config(cookie: int = 5) -> p4r.ForwardingPipelineConfig:
    out = p4r.ForwardingPipelineConfig(p4info=info(), p4_device_config=JSON.read_bytes())
    out.cookie.cookie = cookie
    return out


def route(number: int, group: int = 1) -> p4r.TableEntry:
    known = ids()
    entry = p4r.TableEntry(table_id=known["route_ipv4"])
    lpm = entry.match.add(field_id=1).lpm
    lpm.value, lpm.prefix_len = ((10 << 24) + (number << 8)).to_bytes(4, "big"), 24
    entry.action.action.action_id = known["set_group"]
    entry.action.action.params.add(param_id=1, value=bytes([group]))
    return entry


def failover(index: int, value: bytes = b"") -> p4r.RegisterEntry:
    entry = p4r.RegisterEntry(register_id=ids()["failover"], index=p4r.Index(index=index))
    entry.data.bitstring = value
    return entry


def masks(plane: Client) -> list[int]:
    """The events that each client of the data plane wants."""
    return [client["events"] for client in plane.hello()["clients"]]


def test_forwarding_state_survives_the_servers_death(switch: Switch, connect: type[RawClient]) -> None:
    switch.start("--no-p4")
    raw = connect(switch.address)
    raw.become_primary()
    raw.set_config(config(77))
    raw.insert(*(route(n) for n in range(200)))
    raw.write((MODIFY, {"register_entry": failover(3, b"\1")}))
    digest = p4r.DigestEntry(digest_id=ids()["port_report_t"])
    with Client(switch.socket) as plane:
        assert EVERYTHING not in masks(plane), "nobody has configured a digest"
    raw.write((INSERT, {"digest_entry": digest}))
    before = sorted(e.SerializeToString() for e in raw.read(table_entry=p4r.TableEntry()))
    assert len(before) == 200
    with Client(switch.socket) as plane:
        pid = plane.hello()["pid"]
        assert EVERYTHING in masks(plane)
    switch.kill()
    os.kill(pid, 0)  # the data plane lives
    with Client(switch.socket) as plane:
        position = next(n for n, r in enumerate(plane.codec.program.registers) if r.name == "failover")
        assert plane.register_read(position, 3, 1) == [1]
    switch.start("--no-p4")
    again = connect(switch.address)
    assert again.get_config("COOKIE_ONLY").cookie.cookie == 77
    assert again.get_config().p4_device_config == JSON.read_bytes()
    assert sorted(e.SerializeToString() for e in again.read(table_entry=p4r.TableEntry())) == before
    (cell,) = again.read(register_entry=failover(3))
    assert cell.register_entry.data.bitstring == b"\1"
    assert len(again.read(digest_entry=p4r.DigestEntry())) == 1
    again.become_primary(2)
    with Client(switch.socket) as plane:
        assert EVERYTHING in masks(plane), "the new server wants the digests that the former one had configured"
    again.write((DELETE, {"digest_entry": digest}))
    with Client(switch.socket) as plane:
        assert EVERYTHING not in masks(plane) and ALL_BUT_DIGESTS in masks(plane)
    again.write((DELETE, {"table_entry": route(0)}))
    with Client(switch.socket) as plane:
        assert plane.hello()["pid"] == pid
    assert switch.stop() == 0
    with pytest.raises(DatapathError):
        Client(switch.socket)


def test_a_program_on_the_command_line_and_an_opcode(switch: Switch, connect: type[RawClient]) -> None:
    switch.start("--p4info", str(INFO), str(JSON))
    raw = connect(switch.address)
    assert raw.get_config("P4INFO_AND_COOKIE").p4info == info()
    stream = raw.become_primary()
    raw.write((MODIFY, {"register_entry": failover(9, b"\1")}))
    command = (9).to_bytes(4, "big") + bytes(4) + (0xABCD).to_bytes(8, "big")
    metadata = [
        p4r.PacketMetadata(metadata_id=1, value=b"\0"),
        p4r.PacketMetadata(metadata_id=2, value=b"\2"),  # GET_FAILOVER
    ]
    stream.send(packet=p4r.PacketOut(payload=command, metadata=metadata))
    packet = stream.next("packet")
    assert packet.metadata[1].value == b"\2"
    assert packet.payload[:16] == (9).to_bytes(4, "big") + (1).to_bytes(4, "big") + (0xABCD).to_bytes(8, "big")


def test_atomic_batches_in_the_native_tables(switch: Switch, connect: type[RawClient]) -> None:
    switch.start("--no-p4")
    raw = connect(switch.address)
    raw.become_primary()
    raw.set_config(config())
    raw.insert(route(1))
    for atomicity in (1, 2):
        with pytest.raises(grpc.RpcError) as caught:
            raw.write(*((INSERT, {"table_entry": route(n)}) for n in (2, 1, 3)), atomicity=atomicity)
        assert [e.canonical_code for e in errors_of(caught.value)] == [10, 6, 10]
        assert len(raw.read(table_entry=p4r.TableEntry())) == 1
    raw.set_config(config(9), "RECONCILE_AND_COMMIT")
    assert len(raw.read(table_entry=p4r.TableEntry())) == 1


def test_finsy_drives_it(switch: Switch) -> None:
    import finsy as fy

    switch.start("--no-p4")

    async def session() -> None:
        options = fy.SwitchOptions(p4info=INFO, p4blob=JSON, device_id=1)
        async with fy.Switch("s1", switch.address, options) as sw:
            assert sw.is_primary
            entry = fy.P4TableEntry(
                "route_ipv4", match=fy.P4TableMatch(dst="10.0.0.0/8"), action=fy.P4TableAction("set_group", group_id=3)
            )
            await sw.insert([entry])
            assert [e.match async for e in sw.read(fy.P4TableEntry("route_ipv4"))]
            await sw.modify([fy.P4RegisterEntry("failover", index=1, data=1)])
            async for cell in sw.read(fy.P4RegisterEntry("failover", index=1)):
                assert cell.data == 1
            with pytest.raises(fy.P4ClientError) as caught:
                await sw.insert([entry])
            assert "already" in str(caught.value)
        async with fy.Switch("s1", switch.address, options) as sw:  # again: the pipeline is recognised
            assert [e async for e in sw.read(fy.P4TableEntry("route_ipv4"))]

    asyncio.run(asyncio.wait_for(session(), TIMEOUT_S))


def _fails(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_start_up_errors_are_one_line_and_status_2(switch: Switch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", switch.port))
        taken.listen()
        assert "in use" in _fails(switch.command("--no-p4"))
    assert "no interface pr-missing0" in _fails(switch.command("-i", "1@pr-missing0"))
    assert "no such file" in _fails(switch.command("--p4info", "x", "/no/program.json"))
    broken = switch.folder / "broken.json"
    broken.write_text("{")
    assert "not JSON" in _fails(switch.command("--p4info", str(INFO), str(broken)))
    with pytest.raises(DatapathError):  # no data plane stays behind
        Client(switch.socket)


def test_no_compiler_is_said_in_one_line(switch: Switch, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        switch.command("--no-p4"),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "compiler" in line


def test_the_server_is_as_urgent_as_it_may_be(switch: Switch) -> None:
    code = "import os; from engine.priority import raise_priority; raise_priority(); print(os.getpriority(0, 0))"
    possible = int(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout)
    switch.start("--no-p4")
    assert switch.process is not None
    assert os.getpriority(os.PRIO_PROCESS, switch.process.pid) == possible


def test_the_server_imports_little() -> None:
    script = "import engine.server, json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"typer", "rich", "pydantic", "numpy", "scapy", "sqlalchemy", "structlog", "engine.library"}
    assert not loaded & (heavy | {"finsy.switch", "finsy.controller"})


def _certificates(folder: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    subject = ("-nodes", "-newkey", "rsa:2048", "-days", "2")
    openssl("req", "-x509", *subject, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test-ca")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *subject[:3], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
@pytest.mark.parametrize("mutual", [False, True])
def test_tls(switch: Switch, mutual: bool) -> None:
    folder = switch.folder
    _certificates(folder)
    flags = [
        "--grpc-server-ssl",
        "--grpc-server-cert",
        f"{folder}/server.pem",
        "--grpc-server-key",
        f"{folder}/server.key",
    ]
    if mutual:
        flags += ["--grpc-server-with-client-auth", "--grpc-server-cacert", f"{folder}/ca.pem"]
    switch.start("--no-p4", *flags)
    authority = (folder / "ca.pem").read_bytes()
    pair = ((folder / "client.key").read_bytes(), (folder / "client.pem").read_bytes())

    def version(credentials: grpc.ChannelCredentials | None) -> str:
        client = RawClient(switch.address, credentials=credentials)
        try:
            method = client.call("Capabilities", "unary_unary", p4r.CapabilitiesResponse)
            return str(method(p4r.CapabilitiesRequest(), timeout=TIMEOUT_S).p4runtime_api_version)
        finally:
            client.close()

    assert version(grpc.ssl_channel_credentials(authority, *(pair if mutual else (None, None)))).startswith("1.4")
    with pytest.raises(grpc.RpcError):
        version(None)
    if mutual:
        with pytest.raises(grpc.RpcError):
            version(grpc.ssl_channel_credentials(authority))


def refused(switch: Switch, *flags: str) -> str:
    """The one line of a switch that ends with status 2."""
    done = subprocess.run(
        switch.command(*flags), cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False
    )
    assert done.returncode == 2, done
    (line,) = done.stderr.strip().splitlines()
    return line


def test_a_served_data_plane_is_not_taken_over(switch: Switch) -> None:
    switch.start("--no-p4")
    other = Switch(switch.folder)
    assert f"{switch.socket} belongs to a running switch" in refused(other, "--no-p4")
    assert switch.process is not None and switch.process.poll() is None
    with Client(switch.socket) as client:
        pid = client.hello()["pid"]
    switch.kill()
    switch.start("--no-p4")  # nobody serves it now
    with Client(switch.socket) as client:
        assert client.hello()["pid"] == pid


def test_mistakes_are_told_by_their_flag_or_file(switch: Switch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"program": ')
    assert f"{broken}: p4_device_config is not JSON" in refused(switch, str(broken))
    assert f"{broken}: p4_device_config is not JSON" in refused(switch, "--p4info", str(INFO), str(broken))
    assert "--pcap /nonexistent: not a directory" in refused(switch, "--no-p4", "--pcap", "/nonexistent")
    file = tmp_path / "file"
    file.touch()
    line = refused(switch, "--no-p4", "--log-file", str(file / "log"))
    assert "--log-file" in line and "Not a directory" in line
    line = refused(switch, "--no-p4", "--control-socket", str(file / "a" / "sock"))
    assert "--control-socket" in line and "Not a directory" in line
