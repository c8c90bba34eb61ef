"""Clients that misbehave and certificates that don't hold: specified codes, bounded memory, and the server goes on."""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.api import Digest, PacketIn
from engine.flags import Tls, UsageError
from engine.p4rt.streams import MAX_STREAMS
from engine.p4rt.stubs import gnmi, p4r
from engine.server import Listener
from tests.engine.switchd_support import eventually
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import BALANCE, DIGEST, INSERT, TIMEOUT_S, RawClient, exact, served

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def alive(address: str, credentials: grpc.ChannelCredentials | None = None) -> str:
    client = RawClient(address, credentials=credentials)
    try:
        call = client.call("Capabilities", "unary_unary", p4r.CapabilitiesResponse)
        return str(call(p4r.CapabilitiesRequest(), timeout=TIMEOUT_S).p4runtime_api_version)
    finally:
        client.close()


# -- clients that stop reading, or never start -----------------------------------------------------------------------


def test_a_client_that_stalls_its_stream_costs_little(raw: RawClient, primary: Any, backend: FakeBackend) -> None:
    """100,000 packet-ins of 1 KiB for a stream that nobody reads: a bounded queue, and writes go on."""
    stalled = raw.channel.stream_stream(
        "/p4.v1.P4Runtime/StreamChannel",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=p4r.StreamMessageResponse.FromString,
    )
    hold = threading.Event()

    def requests() -> Iterator[p4r.StreamMessageRequest]:
        first = p4r.StreamMessageRequest()
        first.arbitration.device_id = 1
        first.arbitration.election_id.low = 9  # it becomes the primary, so packets go to it
        yield first
        hold.wait()

    call = stalled(requests())
    try:
        assert next(call).arbitration.status.code == 0
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(100_000):
            backend.emit(PacketIn(bytes(1024)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 40 << 10, f"{grown} KiB more"
        raw.election = 9
        raw.insert(exact(1))
        assert len(raw.read(table_entry=p4r.TableEntry())) == 1
    finally:
        hold.set()
        call.cancel()


def test_a_slow_reader_of_a_large_table_holds_up_nobody(raw: RawClient, primary: Any) -> None:
    for first in range(0, 20_000, 5_000):
        raw.insert(*(exact(n + 1) for n in range(first, first + 5_000)))
    request = p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry())])
    slow = raw.call("Read", "unary_stream", p4r.ReadResponse)(request, timeout=60)
    next(slow)  # and no further
    raw.insert(exact(99_999))
    assert len(raw.read(table_entry=p4r.TableEntry())) == 20_001
    slow.cancel()
    raw.insert(exact(99_998))


def test_streams_beyond_the_limit_and_the_room_that_closed_ones_leave(address: str) -> None:
    """A thousand at once, from clients of their own: as many as there is room for, the rest RESOURCE_EXHAUSTED."""
    clients = [RawClient(address) for _ in range(4)]
    streams = [clients[n % 4].stream() for n in range(1000)]
    for number, stream in enumerate(streams):
        stream.arbitrate(number + 1)
    refused = accepted = 0
    for stream in streams:
        try:
            stream.next("arbitration")
            accepted += 1
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            refused += 1
    assert accepted + refused == 1000 and refused > 0 and accepted <= MAX_STREAMS
    for client in clients:
        client.close()
    client = RawClient(address)

    def room() -> bool:
        stream = client.stream()
        stream.arbitrate(5000)
        with contextlib.suppress(grpc.RpcError):
            return stream.next("arbitration") is not None
        return False

    eventually(room, "a place that a closed stream left")
    client.close()


def test_half_open_connections_and_noise(address: str) -> None:
    host, port = address.split(":")
    half = [socket.create_connection((host, int(port))) for _ in range(100)]
    for number, one in enumerate(half):
        if number % 4 == 1:
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        elif number % 4 == 2:
            one.sendall(b"GET / HTTP/1.1\r\n\r\n")
        elif number % 4 == 3:
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096)
    assert alive(address).startswith("1.4")
    for number, one in enumerate(half):
        if number % 2:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        one.close()
    assert alive(address).startswith("1.4")


def test_messages_that_are_too_large_or_are_none(raw: RawClient, primary: Any) -> None:
    call = raw.channel.unary_unary("/p4.v1.P4Runtime/Write", None, None)
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes((128 << 20) + 1), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for method in ("Write", "SetForwardingPipelineConfig", "GetForwardingPipelineConfig", "Capabilities"):
        call = raw.channel.unary_unary(f"/p4.v1.P4Runtime/{method}", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    deep = p4r.WriteRequest(device_id=1)
    deep.election_id.low = 1
    deep.updates.add(type=INSERT).entity.table_entry.CopyFrom(exact(1, metadata=bytes(1 << 20)))
    raw.call("Write", "unary_unary", p4r.WriteResponse)(deep, timeout=TIMEOUT_S)


def test_a_digest_nobody_acknowledges(raw: RawClient, primary: Any, backend: FakeBackend) -> None:
    config = p4r.DigestEntry.Config(max_list_size=1, ack_timeout_ns=10**15)
    raw.write((INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST, config=config)}))
    for number in range(20_000):
        backend.emit(Digest(0, (bytes(2), number.to_bytes(4, "big")), number))
    assert len(raw.read(digest_entry=p4r.DigestEntry())) == 1


# -- TLS -------------------------------------------------------------------------------------------------------------


class Authority:
    """A CA of a test's own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name = folder, name
        self._run("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-keyout", f"{name}.key", "-out",
                  f"{name}.pem", "-subj", f"/CN={name}")  # fmt: skip
        (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")

    def _run(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def certificate(self, name: str, *, days: int = 2) -> tuple[bytes, bytes]:
        """(key, certificate) signed by this CA; with ``days`` below 0 it has expired."""
        self._run("req", "-nodes", "-newkey", "rsa:2048", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                  f"/CN={name}")  # fmt: skip
        if days < 0:
            self._sign_in_the_past(name)
        else:
            signing = ("-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial", "-extfile", "san")
            self._run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing, "-days", str(days))
        return (self.folder / f"{name}.key").read_bytes(), (self.folder / f"{name}.pem").read_bytes()

    def _sign_in_the_past(self, name: str) -> None:
        """Valid on one day of 2020; only ``openssl ca`` takes dates in every version."""
        (self.folder / "index").write_text("")
        (self.folder / "serial").write_text("77\n")
        (self.folder / "ca.conf").write_text(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = .\nserial = serial\n"
            "default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n"
        )
        dates = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        files = (
            "-cert",
            f"{self.name}.pem",
            "-keyfile",
            f"{self.name}.key",
            "-in",
            f"{name}.csr",
            "-out",
            f"{name}.pem",
        )
        self._run("ca", "-batch", "-notext", "-config", "ca.conf", "-extfile", "san", *files, *dates)

    @property
    def pem(self) -> bytes:
        return (self.folder / f"{self.name}.pem").read_bytes()


@contextlib.contextmanager
def secured(folder: Path, *, server: str = "server", mutual: bool = True) -> Iterator[str]:
    tls = Tls(folder / f"{server}.pem", folder / f"{server}.key", folder / "ca.pem" if mutual else None)
    listener = Listener("127.0.0.1:0", tls)
    serving = listener.serve(FakeBackend(), 1)
    serving.start()
    try:
        yield f"127.0.0.1:{listener.port}"
    finally:
        serving.stop(0)


def refused(address: str, credentials: grpc.ChannelCredentials | None) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        alive(address, credentials)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@needs_openssl
def test_mutual_tls_wants_a_certificate_of_its_authority(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    other = Authority(tmp_path, "other")
    ours.certificate("server")
    good = ours.certificate("client")
    foreign = other.certificate("stranger")
    with secured(tmp_path) as address:
        assert alive(address, grpc.ssl_channel_credentials(ours.pem, *good)).startswith("1.4")
        for pair in ((None, None), foreign):
            refused(address, grpc.ssl_channel_credentials(ours.pem, *pair))
        refused(address, None)
        refused(address, grpc.ssl_channel_credentials(other.pem, *good))
        client = RawClient(address, credentials=grpc.ssl_channel_credentials(ours.pem, *good))
        call = client.call("Capabilities", "unary_unary", gnmi.CapabilityResponse, "gnmi.gNMI")
        assert call(gnmi.CapabilityRequest(), timeout=TIMEOUT_S).gNMI_version, "gNMI is behind the same door"
        client.close()
        stranger = RawClient(address, credentials=grpc.ssl_channel_credentials(ours.pem))
        call = stranger.call("Capabilities", "unary_unary", gnmi.CapabilityResponse, "gnmi.gNMI")
        with pytest.raises(grpc.RpcError):
            call(gnmi.CapabilityRequest(), timeout=TIMEOUT_S)
        stranger.close()


@needs_openssl
def test_expired_certificates_are_refused(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    ours.certificate("server")
    expired = ours.certificate("late", days=-1)
    with secured(tmp_path) as address:
        refused(address, grpc.ssl_channel_credentials(ours.pem, *expired))
        good = ours.certificate("client")
        assert alive(address, grpc.ssl_channel_credentials(ours.pem, *good)).startswith("1.4")
    with secured(tmp_path, server="late", mutual=False) as address:
        refused(address, grpc.ssl_channel_credentials(ours.pem))


@needs_openssl
def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    ours.certificate("server")
    (tmp_path / "broken.pem").write_text("no certificate\n")
    (tmp_path / "broken.key").write_text("no key\n")
    for certificate, key in (("broken", "server"), ("server", "broken")):
        tls = Tls(tmp_path / f"{certificate}.pem", tmp_path / f"{key}.key", None)
        with pytest.raises(UsageError, match="certificate"):
            Listener("127.0.0.1:0", tls)


def test_one_server_outlives_another_s_clients(backend: FakeBackend) -> None:
    with served(backend) as (_serving, address):
        for _ in range(20):
            client = RawClient(address)
            client.stream().arbitrate(1)
            client.close()
        assert alive(address).startswith("1.4")


@pytest.mark.parametrize("method", ["p4.v1.P4Runtime/StreamChannel", "gnmi.gNMI/Subscribe"])
def test_streams_of_bytes_that_are_no_message_end(method: str, backend: FakeBackend) -> None:
    """With a code, without a trace in the server: it can be stopped at once."""
    with served(backend) as (serving, address):
        client = RawClient(address)
        call = client.channel.stream_stream(f"/{method}", None, None)
        for _ in range(30):
            stream = call(iter([b"\xff\xff\xff"]), timeout=TIMEOUT_S)
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        client.close()
        assert serving.grpc.stop(0.5).wait(TIMEOUT_S), "no call is left"


def test_a_default_action_that_there_is_none_of(raw: RawClient, primary: Any, backend: FakeBackend) -> None:
    """Tables with an action profile may have no default action."""
    wanted = p4r.TableEntry(table_id=BALANCE, is_default_action=True)
    backend.switch.tables[3].default = b"\0"
    (read,) = raw.read(table_entry=wanted)
    assert read.table_entry == wanted
