"""The control plane against the embedded switch itself: server, data plane and program, without any port."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from test_service import KEY, ROOT, until

from control.errors import WriteRejected
from control.flip import PacketOutTransport
from control.plan import Entry, Op, Table, Update
from control.program import Program
from control.service import Service
from control.session import State
from control.settings import Settings, Strategy
from control.store import Store
from control.tse import Side
from tests.ports import free_base
from topo.builtin import diamond

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="the embedded switch needs a C compiler"
)


@dataclass
class RealSwitch:
    """``python -m engine`` without interfaces."""

    device_id: int
    port: int
    control: Path
    process: subprocess.Popen[bytes] | None = None
    extra: tuple[str, ...] = ()

    def start(self) -> None:
        own = ["--no-p4", "--device-id", str(self.device_id), "--log-console", "--control-socket", str(self.control)]
        server = ["--grpc-server-addr", f"127.0.0.1:{self.port}", *self.extra]
        command = [sys.executable, "-m", "engine", *own, "--", *server]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        log = self.control.with_suffix(".log").open("ab")
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        log.close()

    def kill(self) -> None:
        """SIGKILL the server; the data plane goes on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End both processes, also after a kill."""
        if self.process is None:
            self.start()
            assert self.process is not None
            deadline = time.monotonic() + 30
            while not self.listens() and self.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)  # it has the data plane, and knows how to end it
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        self.process = None


@pytest.fixture
def switches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RealSwitch]]:
    base = free_base()
    folder = tmp_path_factory.mktemp("sw")
    found = {
        switch.name: RealSwitch(switch.device_id, base + switch.device_id, folder / f"{switch.name}.sock")
        for switch in diamond().switches
    }
    for switch in found.values():
        switch.start()
    yield found
    for switch in found.values():
        switch.stop()


@pytest.fixture(autouse=True)
def _no_cables(monkeypatch: pytest.MonkeyPatch) -> None:
    """These switches have no ports, so no link is ever heard; that these are dead is not what is tested here."""
    monkeypatch.setattr("control.steering.NEWCOMER_S", float("inf"))


class Running:
    """A service on real switches, as an async context manager."""

    def __init__(self, switches: dict[str, RealSwitch], program: Program, store: Store | None = None) -> None:
        settings = replace(Settings(base_port=switches["s1"].port - 1, sample_ms=50.0))
        self.service = Service(diamond(), settings, store=store or Store(None), program=program)

    async def __aenter__(self) -> Service:
        self.task = asyncio.create_task(self.service.run())
        assert await self.service.wait_ready(60), [s.last_error for s in self.service.fleet.sessions.values()]
        return self.service

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


def test_pipeline_entries_flips_strategies_and_verification(switches: dict[str, RealSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with Running(switches, program) as service:
            session = service.fleet.sessions["s1"]
            assert session.transport == "register"
            assert await service.fleet.verify() == {}
            groups = service.select(switch="s1", destination=None, element=None)
            ids = [service.plan.groups[key].id for key in groups]
            await service.move(Side.SHADOW, groups, force=True, dry_run=False)
            assert await session.read_bits(ids) == dict.fromkeys(ids, 1)
            for strategy in Strategy:
                outcome = await service.set_strategy(strategy)
                assert outcome.failed == {} and await service.fleet.verify() == {}
                assert await session.read_bits(ids) == dict.fromkeys(ids, 0)
            assert set(await session.read_group_totals(ids)) == set(ids)
            await until(lambda: service.inbox.received > 0)  # gNMI

    asyncio.run(scenario())


def test_the_packet_out_transport_works_on_the_real_program(switches: dict[str, RealSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with Running(switches, program) as service:
            session = service.fleet.sessions["s1"]
            switch = session._switch
            assert switch is not None
            transport = PacketOutTransport(partial(session._send, switch), timeout_s=60.0)
            session._packets = transport
            assert await transport.probe()
            await transport.flip({5: 1, 6: 1})
            assert await transport.read(5) == 1
            assert await session.read_bits([4, 5, 6]) == {4: 0, 5: 1, 6: 1}
            for _ in range(20):  # beside the digests' acknowledgements
                await transport.flip(dict.fromkeys(range(5, 25), 1))
            await transport.flip(dict.fromkeys(range(5, 25), 0))
            assert session.punted == 0

    asyncio.run(scenario())


def test_a_killed_server_comes_back_without_rewriting(
    switches: dict[str, RealSwitch], program: Program, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Running(switches, program) as service:
            session = service.fleet.sessions["s1"]
            groups = service.select(switch="s1", destination="h4", element=None)
            await service.move(Side.SHADOW, groups, force=True, dry_run=False)
            written = session.corrected
            switches["s1"].kill()
            await until(lambda: session.state is State.DOWN)
            switches["s1"].start()
            await until(lambda: session.ready)
            assert session.corrected == written  # the data plane kept everything
            assert await session.read_bits([service.plan.groups[KEY].id]) == {service.plan.groups[KEY].id: 1}

    asyncio.run(scenario())


def test_a_controller_that_died_finds_its_network(
    switches: dict[str, RealSwitch], program: Program, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Running(switches, program, Store(tmp_path / "control.db")) as service:
            groups = service.select(switch=None, destination=None, element="s1-s2")
            await service.move(Side.SHADOW, groups, force=True, dry_run=False)
            held = service.tse.flipped()
        async with Running(switches, program, Store(tmp_path / "control.db")) as again:
            assert again.tse.flipped() == held
            assert all(session.corrected == 0 for session in again.fleet.sessions.values())
            assert await again.fleet.verify() == {}

    asyncio.run(scenario())


def test_a_refused_write_names_the_entry_and_the_mirror_stays_true(
    switches: dict[str, RealSwitch], program: Program
) -> None:
    async def scenario() -> None:
        async with Running(switches, program) as service:
            session = service.fleet.sessions["s1"]
            good = Entry(Table.LABEL, 999, "label_pop")
            twice = next(entry for entry in session.installed.values() if entry.table is Table.PRIMARY)
            with pytest.raises(WriteRejected, match=rf"primary_nexthop {twice.match} .*ALREADY_EXISTS"):
                await session.write([Update(Op.INSERT, good), Update(Op.INSERT, twice)])
            assert session.installed == await session.read_entries()
            await service.fleet.resync("s1")
            service.fleet._sweep_due.set()
            await until(lambda: good.key not in session.installed)
            assert await service.fleet.verify() == {}

    asyncio.run(scenario())


def test_a_second_controller_is_a_backup(switches: dict[str, RealSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with Running(switches, program) as first:
            settings = Settings(base_port=switches["s1"].port - 1)
            second = Service(diamond(), settings, store=Store(None), program=program)
            task = asyncio.create_task(second.run())
            await until(lambda: all(s.state is State.BACKUP for s in second.fleet.sessions.values()))
            assert first.fleet.ready and second.fleet.backup
        assert await second.wait_ready(60)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def _certificates(folder: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")  # quick to make
    openssl("req", "-x509", *new, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test-ca")
    (folder / "san").write_text("subjectAltName=DNS:leaf.example.net\n")
    for name in ("server", "client"):
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_switches_behind_mutual_tls(tmp_path: Path, program: Program) -> None:
    """P4Runtime, flips and gNMI all go by TLS; without our certificate the switch does not answer."""
    _certificates(tmp_path)
    base = free_base()
    found = {
        s.name: RealSwitch(s.device_id, base + s.device_id, tmp_path / f"{s.name}.sock") for s in diamond().switches
    }
    flags = ("--grpc-server-ssl", "--grpc-server-cert", "server.pem", "--grpc-server-key", "server.key",
             "--grpc-server-with-client-auth", "--grpc-server-cacert", "ca.pem")  # fmt: skip
    for switch in found.values():
        switch.extra = tuple(word if word.startswith("--") else str(tmp_path / word) for word in flags)
        switch.start()
    lines = [
        f"  {name}: {{address: '127.0.0.1:{switch.port}', device_id: {switch.device_id}}}"
        for name, switch in found.items()
    ]
    config = tmp_path / "serve.yaml"
    tls = "tls: {ca: ca.pem, %s server_name: leaf.example.net}\nswitches:\n"

    async def scenario() -> None:
        config.write_text(tls % "cert: client.pem, key: client.key," + "\n".join(lines))
        service = Service(diamond(), Settings(config=config, sample_ms=50.0), store=Store(None), program=program)
        task = asyncio.create_task(service.run())
        assert await service.wait_ready(60), [s.last_error for s in service.fleet.sessions.values()]
        await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
        assert service.fleet.sessions["s1"].transport == "register" and service.tse.flipped() == [KEY]
        await until(lambda: service.inbox.received > 0)  # gNMI
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        config.write_text(tls % "" + "\n".join(lines))
        service = Service(diamond(), Settings(config=config), store=Store(None), program=program)
        task = asyncio.create_task(service.run())
        assert not await service.wait_ready(1.0)
        assert {session.state for session in service.fleet.sessions.values()} == {State.DOWN}
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(scenario())
    finally:
        for switch in found.values():
            switch.stop()
