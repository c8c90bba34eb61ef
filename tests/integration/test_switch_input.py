"""Wrong input to a real switch with the steering program: refused by name, and nothing that worked changes."""

from __future__ import annotations

import contextlib
import json
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

from engine.p4rt.stubs import p4i, p4r
from tests.integration.support import ROOT, environment
from tests.p4runtime.harness import DELETE, INSERT, MODIFY, RawClient, errors_of
from tests.ports import free_port

BUILD = ROOT / "p4" / "build"
START_S = 90.0  # the first start may have to compile
INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, OUT_OF_RANGE = 3, 5, 8, 11  # google.rpc.Code

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="the switch needs a C compiler"
)


def p4info() -> p4i.P4Info:
    return text_format.Parse((BUILD / "shadowplane.p4info.txtpb").read_text(), p4i.P4Info())


def ids() -> dict[str, int]:
    found = p4info()
    kinds = (found.tables, found.actions, found.registers, found.counters, found.action_profiles)
    return {item.preamble.name: item.preamble.id for kind in kinds for item in kind}


IDS = ids()


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    """A running switch with our pipeline and some entries; the client is its primary."""
    folder = tmp_path_factory.mktemp("switch")
    port = free_port()
    log = (folder / "err").open("wb")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "engine", "--no-p4", "--device-id", "1", "--log-file", str(folder / "log")),
            *("--control-socket", str(folder / "s.sock"), "--", "--grpc-server-addr", f"127.0.0.1:{port}"),
        ],
        cwd=ROOT,
        env=environment(),
        stderr=log,
    )
    client = RawClient(f"127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "err").read_text()
            time.sleep(0.02)
        client.become_primary()
        client.set_config(config())
        client.insert(*(route(number) for number in range(1, 20)))
        yield client
        assert process.poll() is None, "the switch survived all of it"
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        log.close()


@pytest.fixture(autouse=True)
def unchanged(switch: RawClient) -> Iterator[None]:
    """Whatever a test does wrong, pipeline and entries stay as they were."""
    before = state(switch)
    yield
    assert state(switch) == before


def state(switch: RawClient) -> tuple[int, list[bytes]]:
    entries = sorted(item.SerializeToString() for item in switch.read(table_entry=p4r.TableEntry()))
    return switch.get_config("COOKIE_ONLY").cookie.cookie, entries


def config(cookie: int = 5) -> p4r.ForwardingPipelineConfig:
    out = p4r.ForwardingPipelineConfig(p4info=p4info(), p4_device_config=(BUILD / "shadowplane.json").read_bytes())
    out.cookie.cookie = cookie
    return out


def route(number: int, *, value: bytes | None = None, table: int = 0, group: bytes = b"\1") -> p4r.TableEntry:
    entry = p4r.TableEntry(table_id=table or IDS["route_ipv4"])
    lpm = entry.match.add(field_id=1).lpm
    lpm.value, lpm.prefix_len = value or ((10 << 24) + (number << 8)).to_bytes(4, "big"), 24
    entry.action.action.action_id = IDS["set_group"]
    entry.action.action.params.add(param_id=1, value=group)
    return entry


def refused(switch: RawClient, entry: p4r.TableEntry, kind: int = INSERT) -> p4r.Error:
    with pytest.raises(grpc.RpcError) as caught:
        switch.write((kind, {"table_entry": entry}))
    (error,) = errors_of(caught.value)
    return error


def test_an_unknown_table_is_named(switch: RawClient) -> None:
    unknown = IDS["route_ipv4"] + 99
    error = refused(switch, route(1, table=unknown))
    assert error.canonical_code == NOT_FOUND and (str(unknown) in error.message or f"{unknown:#010x}" in error.message)


def test_an_entry_that_is_not_there(switch: RawClient) -> None:
    for kind in (MODIFY, DELETE):
        assert refused(switch, route(77), kind).canonical_code == NOT_FOUND


def test_wrong_widths_name_field_and_width(switch: RawClient) -> None:
    error = refused(switch, route(1, value=b"\x01\x0a\x00\x01\x00"))
    assert error.canonical_code == OUT_OF_RANGE and "dst" in error.message and "32" in error.message
    error = refused(switch, route(50, group=b"\x01\x00\x00"))
    assert error.canonical_code == OUT_OF_RANGE and "group_id" in error.message and "16" in error.message


def test_a_full_table_says_so_and_keeps_what_it_has(switch: RawClient) -> None:
    (acl,) = [table for table in p4info().tables if table.preamble.name == "acl"]
    (field,) = [item.id for item in acl.match_fields if item.name == "ip_proto"]

    def entry(number: int) -> p4r.TableEntry:
        found = p4r.TableEntry(table_id=IDS["acl"], priority=number + 1)
        ternary = found.match.add(field_id=field).ternary
        ternary.value, ternary.mask = b"\x11", b"\xff"
        found.action.action.action_id = IDS["acl_permit"]
        return found

    everything = [entry(number) for number in range(acl.size)]
    switch.insert(*everything)
    try:
        error = refused(switch, entry(acl.size))
        assert error.canonical_code == RESOURCE_EXHAUSTED
        assert "acl" in error.message and str(acl.size) in error.message
        assert len(switch.read(table_entry=p4r.TableEntry(table_id=IDS["acl"]))) == acl.size
    finally:
        switch.write(*((DELETE, {"table_entry": item}) for item in everything))


def test_a_register_cell_that_does_not_exist(switch: RawClient) -> None:
    for index, value in ((16384, b"\1"), (1 << 40, b"\1"), (3, b"\2")):
        entry = p4r.RegisterEntry(register_id=IDS["failover"], index=p4r.Index(index=index))
        entry.data.bitstring = value
        with pytest.raises(grpc.RpcError) as caught:
            switch.write((MODIFY, {"register_entry": entry}))
        (error,) = errors_of(caught.value)
        assert error.canonical_code in (INVALID_ARGUMENT, OUT_OF_RANGE) and "failover" in error.message, error


def _push(switch: RawClient, wrong: p4r.ForwardingPipelineConfig) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        switch.set_config(wrong)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value
    return str(caught.value.details())


def test_a_p4info_of_another_program(switch: RawClient) -> None:
    """A table that the program does not have, one that is missing, and a field of another width."""
    wrong = config(9)
    wrong.p4info.tables[0].preamble.name = "stranger"
    assert "stranger" in _push(switch, wrong)
    wrong = config(9)
    table = next(item for item in wrong.p4info.tables if item.preamble.name == "route_ipv4")
    table.match_fields[0].bitwidth = 31
    said = _push(switch, wrong)
    assert "route_ipv4" in said and "dst" in said
    wrong = config(9)
    register = next(item for item in wrong.p4info.registers if item.preamble.name == "failover")
    register.size = 7
    assert "failover" in _push(switch, wrong)


def test_a_program_that_is_cut_short_or_not_understood(switch: RawClient) -> None:
    wrong = config(9)
    wrong.p4_device_config = wrong.p4_device_config[: len(wrong.p4_device_config) // 2]
    assert "JSON" in _push(switch, wrong)
    program = json.loads(config().p4_device_config)
    program["actions"][0]["primitives"].insert(0, {"op": "teleport", "parameters": []})
    wrong.p4_device_config = json.dumps(program).encode()
    with pytest.raises(grpc.RpcError) as caught:
        switch.set_config(wrong)
    assert "teleport" in str(caught.value.details())


def test_the_log_stays_free_of_tracebacks(switch: RawClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All of the above is expected input: nothing of it is an internal error."""
    logs: list[Path] = list(tmp_path_factory.getbasetemp().glob("switch*/*"))
    texts = [item.read_text(errors="replace") for item in logs if item.is_file() and item.name in ("err", "log")]
    assert texts and not any("Traceback" in text for text in texts), texts
