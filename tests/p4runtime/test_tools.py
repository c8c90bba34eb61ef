"""Traces and statistics: of packets in memory, and of a running switch."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.api import EngineError
from engine.entries import EntriesError, load_entries, number
from engine.flags import Filter, UsageError, parse
from engine.library import TRACED, Switch, compile_program
from engine.stats import rates, snapshot
from engine.stats import render as render_stats
from engine.tools import control_socket, main, read_pcap
from engine.trace_events import Value
from engine.trace_text import as_json, place, render, shown
from engine.tracing import OfflineTrace, live
from tests.engine.engine_support import PROBE, PROGRAMS, STEERING, pack
from tests.engine.switchd_support import eventually, hello_port, needs_interfaces, numbered, rig

FRAME = bytes.fromhex("ffffffffffff00000000000108004500001c000100004011") + bytes(30)


def test_a_packet_s_way_as_a_tree() -> None:
    trace = OfflineTrace(PROGRAMS / "tables.json")
    steps = trace.packet(1, pack(PROBE, {"op": 1, "a": 7}))
    text = render(steps)
    assert text.startswith("packet received on port 1") and "└─ sent on port 1" in text
    assert "parser" in text and "start" in text and "ingress" in text and "deparser" in text
    assert "\x1b" not in text and "\x1b[" in render(steps, colour=True)
    assert any(step.kind == "table" and not step.details["hit"] for step in steps)
    extracted = [c for step in steps if step.kind == "parser state" for c in step.changes]
    assert Value(7, 32) in [change.after for change in extracted if change.field == "a"]
    kinds = [step["kind"] for step in as_json(steps)]
    assert kinds[0] == "packet" and kinds[-1] == "sent" and kinds.index("ingress") < kinds.index("egress")
    json.dumps(as_json(steps))


def test_tables_registers_and_drops_are_told(tmp_path: Path) -> None:
    entries = {
        "table_entries": [
            {"table": "route_ipv4", "match": {"dst": ["10.0.0.0", 8]}, "action_name": "set_group",
             "action_params": {"group_id": 5}},
            {"table": "primary_nexthop", "match": {"group_id": 5}, "action_name": "set_nexthop",
             "action_params": {"port": 2, "src_mac": "02:00:00:00:00:01", "dst_mac": "02:00:00:00:00:02"}},
        ]
    }  # fmt: skip
    path = tmp_path / "entries.json"
    path.write_text(json.dumps(entries))
    trace = OfflineTrace(STEERING)
    assert load_entries(path, trace.switch) == 2
    head = bytes.fromhex("4500001c0001000040110000") + bytes([10, 0, 0, 1, 10, 9, 8, 7])
    words = sum(struct.unpack(">10H", head))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    head = head[:10] + (~words & 0xFFFF).to_bytes(2, "big") + head[12:]
    steps = trace.packet(1, FRAME[:12] + b"\x08\x00" + head + bytes.fromhex("0035003500080000"))
    tables = {step.title: step.details for step in steps if step.kind == "table"}
    assert tables["route_ipv4"]["hit"] and tables["route_ipv4"]["action"] == "set_group"
    (key,) = tables["route_ipv4"]["keys"]
    assert (key["value"], key["entry"]["prefix"]) == (Value(0x0A090807, 32), 8)
    assert tables["primary_nexthop"]["params"][0]["value"] == Value(2, 9)
    assert any(step.kind == "register read" and step.details["register"] == "failover" for step in steps)
    assert any(c.field == "ttl" and c.after == Value(63, 8) for step in steps for c in step.changes)
    assert any(c.field == "checksum" for step in steps if step.kind == "deparser" for c in step.changes)
    text = render(steps)
    assert "table route_ipv4: hit, set_group(group_id=5)" in text and "dst = 10.9.8.7  (lpm 10.0.0.0/8)" in text
    assert steps[-1].kind == "sent" and steps[-1].details["port"] == 2
    dropped = trace.packet(1, FRAME[:20])
    assert dropped[-1].kind == "drop" and any(step.details.get("error") == "PacketTooShort" for step in dropped)


def test_the_usual_program_calls_no_hook() -> None:
    seen: list[bytes] = []
    with Switch(compile_program(PROGRAMS / "tables.json"), trace=seen.append) as switch:
        switch.process(1, pack(PROBE, {"op": 1}))
    assert seen == []


def test_clones_and_copies_have_their_own_sections() -> None:
    from engine.api import Op

    trace = OfflineTrace(PROGRAMS / "fate.json")
    trace.switch.clone_write(Op.INSERT, 5, [(8, 3)])
    trace.switch.multicast_write(Op.INSERT, 7, [(3, 1), (4, 2)])
    kinds = [step.kind for step in trace.packet(1, struct.pack(">BIIHI", 3, 5, 0, 0, 0) + bytes(20))]
    assert kinds.count("sent") == 2 and "clone" in kinds and "copy" in kinds
    copies = [step for step in trace.packet(1, struct.pack(">BIIHI", 2, 7, 0, 0, 0) + bytes(20)) if step.kind == "copy"]
    assert [step.details["port"] for step in copies] == [3, 4]


def test_values_look_like_what_they_are() -> None:
    assert shown(Value(0x020000000001, 48), "hdr.ethernet.dst") == "02:00:00:00:00:01"
    assert shown(Value(1, 128), "src_addr") == "::1"
    assert shown(Value(2**70, 80), "x") == hex(2**70)
    assert shown(Value(5, 48), "meta.intake_now") == "5"


def test_changes_are_named_as_in_the_source() -> None:
    assert place("ipv4", "ttl") == "ipv4.ttl"
    assert place("scalars", "metadata_t._intake_now1") == "metadata_t.intake_now"
    assert place("scalars", "metadata_t.tmp") == "metadata_t.tmp"
    assert place("scalars", "tmp_12") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trace", "nothing.json", "--packet", "00"], "nothing.json: no such file"),
        (["trace", "no-switch:1"], "no switch is running there"),
        (["trace", str(STEERING)], "needs packets"),
        (["trace", str(STEERING), "--packet", "zz"], "not hexadecimal"),
        (["trace", "127.0.0.1:1", "--pcap", "x"], "need a program"),
        (["trace", str(STEERING), "--pcap", str(STEERING)], "not a pcap file"),
        (["stats", "--interval", "0"], "--interval"),
        (["stats", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_mistakes_are_named(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments[0], arguments[1:]) == 2
    assert words in capsys.readouterr().err


def test_entries_that_are_wrong_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    good = {"table": "route_ipv4", "match": {"dst": ["10.0.0.0", 8]}, "action_name": "set_group",
            "action_params": {"group_id": 5}}  # fmt: skip
    with Switch(compile_program(STEERING)) as switch:
        for change, words in (
            ({"table": "nope"}, "unknown table 'nope'"),
            ({"action_name": "nope"}, "action of table route_ipv4"),
            ({"action_params": {}}, "'group_id' is missing"),
            ({"action_params": {"group_id": 70000}}, "does not fit bit<16>"),
            ({"action_params": {"group_id": 1, "x": 1}}, "'x' is no parameter"),
            ({"match": {"dst": ["10.0.0.0", 40]}}, "prefix length 40"),
            ({"match": {"dst": "10.0.0.0"}}, "list of two values"),
            ({"match": {"src": 1}}, "'src' is no key"),
            ({"match": {"dst": ["ten", 8]}}, "neither a number nor an address"),
        ):
            path.write_text(json.dumps({"table_entries": [{**good, **change}]}))
            with pytest.raises(EntriesError) as caught:
                load_entries(path, switch)
            assert words in str(caught.value) and "e.json: table_entries[0]" in str(caught.value)
        for text, words in (("{", ""), ("[]", "not a JSON object"), ('{"tables": []}', "unknown key 'tables'")):
            path.write_text(text)
            with pytest.raises(EntriesError, match=r"e\.json.*" + words):
                load_entries(path, switch)
        del good["action_name"]
        path.write_text(json.dumps({"table_entries": [good]}))
        with pytest.raises(EntriesError, match="'action_name' is missing"):
            load_entries(path, switch)
    assert number("0x10", 8, "x") == 16


def test_filters() -> None:
    assert Filter.parse("port=1, count=20,per_second=5") == Filter(1, 20, 5.0)
    assert parse(["--no-p4", "--trace"]).trace == Filter()
    for bad in ("port", "port=x", "port=600", "count=0", "speed=1", "per_second=0"):
        with pytest.raises(UsageError, match="--trace"):
            parse(["--no-p4", "--trace", bad])


def test_offline_from_the_command_line(tmp_path: Path) -> None:
    capture = tmp_path / "in.pcap"
    records = b"".join(struct.pack("<IIII", 5, 7, len(FRAME), len(FRAME)) + FRAME for _ in range(2))
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + records)
    assert list(read_pcap(capture)) == [(5_000_000_007, FRAME)] * 2
    command = [sys.executable, "-m", "engine", "trace", str(PROGRAMS / "tables.json"), "--pcap", str(capture)]
    done = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["time_ns"] for line in lines] == [5_000_000_007] * 2
    assert all(line["steps"][0]["kind"] == "packet" for line in lines)
    capture.write_bytes(capture.read_bytes()[:-1])
    cut = subprocess.run(command, capture_output=True, text=True, check=False)
    assert cut.returncode == 2 and "cut off" in cut.stderr


@needs_interfaces()
def test_a_running_switch_is_traced_and_keeps_its_state(tmp_path: Path) -> None:
    config = json.loads((PROGRAMS / "tables.json").read_text())
    usual, other = compile_program(config), compile_program(PROGRAMS / "fate.json", flags=TRACED)
    with rig(tmp_path, (1, 2)) as built:
        client = built.start(load=usual.path)
        found: list[tuple[int, list[Any]]] = []
        thread = threading.Thread(target=lambda: found.extend(live(client, config, Filter(1, 2, 1e6))), daemon=True)
        thread.start()

        def traced() -> bool:
            built.host[2].send(pack(PROBE, {"op": 1}) + bytes(60))
            built.host[1].send(pack(PROBE, {"op": 1}) + bytes(60))
            return not thread.is_alive()

        eventually(traced, "two traces")
        assert [steps[0].details["port"] for _time, steps in found] == [1, 1], "port 2 was not asked for"
        assert all(steps[-1].kind in ("sent", "drop") for _time, steps in found)
        assert client.stats()["received"] >= 2, "the traced variant works on the same state"
        with pytest.raises(Exception, match="no variant"):
            client.command(0x10C, json.dumps({"path": str(other.path), "count": 1}).encode())
        now = snapshot(client)
        port = next(p for p in now["ports"] if p["port"] == 1)
        assert port["rx_packets"] >= 2 and now["pipeline"]["received"] >= 2
        assert now["process"]["memory_bytes"] > 0 and {t["table"] for t in now["tables"]}
        later = snapshot(client)
        rate = rates(now, later)
        assert set(rate["ports"]) == {1, 2}
        assert str(port["rx_packets"]) in render_stats(now) and "rx/s" in render_stats(later, rate)


@needs_interfaces()
def test_a_second_trace_is_refused_while_the_first_is_watched(tmp_path: Path) -> None:
    config = json.loads((PROGRAMS / "tables.json").read_text())
    usual = compile_program(config)
    with rig(tmp_path, (1, 2)) as built:
        client = built.start(load=usual.path)
        first = live(client, config, Filter(1, 5, 1e6))
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(next(first)), daemon=True)
        thread.start()

        def traced() -> bool:
            built.host[1].send(pack(PROBE, {"op": 1}) + bytes(60))
            return not thread.is_alive()

        eventually(traced, "a packet of the first trace")
        with pytest.raises(EngineError, match=r"a trace is running already, with [0-9]+ packets to come"):
            next(live(client, config, Filter(2, 1, 1e6)))
        first.close()  # whoever watched it went away in the middle

        def watch() -> None:
            while len(got) < 2:
                with suppress(EngineError):  # until the switch has noticed
                    got.append(next(live(client, config, Filter(2, 1, 1e6))))

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()

        def other() -> bool:
            built.host[2].send(pack(PROBE, {"op": 1}) + bytes(60))
            return not thread.is_alive()

        eventually(other, "a packet of the second trace")
        assert [steps[0].details["port"] for _time, steps in got] == [1, 2]


@needs_interfaces()
def test_a_full_disk_keeps_frames_out_of_captures_only(tmp_path: Path) -> None:
    """A file system of 64 KiB: what it does not take is counted, what is in the file stays readable."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with rig(tmp_path, (1, 2)) as built:
            client = built.start(pcap=small)

            def full() -> bool:
                for k in range(50):
                    built.host[1].send(numbered(k, 1000))
                return int(hello_port(client, 1)["capture_lost"]) > 0

            eventually(full, "the disk to be full")
            built.host[2].receive(100_000, quiet=0.2, seconds=2)
            built.host[1].send(numbered(424242))
            assert built.host[2].receive(), "forwarding goes on"
            frames = list(read_pcap(small / f"{built.port[1]}_in.pcap"))
            assert 10 < len(frames) < 64 and all(len(data) == 1000 for _time, data in frames)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_interfaces()
def test_captures_start_anew_at_the_limit(tmp_path: Path) -> None:
    with rig(tmp_path, (1, 2)) as built:
        client = built.start(pcap=tmp_path, pcap_limit_mib=1)
        older = tmp_path / f"{built.port[1]}_in.pcap.1"

        def rotated() -> bool:
            for k in range(100):
                built.host[1].send(numbered(k, 1400))
            return older.exists()

        eventually(rotated, "a second file")
        assert older.stat().st_size >= 1 << 20
        assert list(read_pcap(older))
        client.pcap(None)
        list(read_pcap(tmp_path / f"{built.port[1]}_in.pcap"))


@needs_interfaces()
def test_a_disabled_port_is_down(tmp_path: Path) -> None:
    with rig(tmp_path, (1, 2)) as built:
        client = built.start()
        built.host[1].send(numbered(1))
        assert built.host[2].receive()
        client.enable_ports({1: False})
        state = {port.port: port for port in client.device_state().ports}
        assert (state[1].up, state[1].enabled, state[2].up) == (False, False, True)
        built.host[1].send(numbered(2))
        assert built.host[2].silent()
        with pytest.raises(Exception, match="no such port"):
            client.enable_ports({1: True, 99: False})
        client.enable_ports({1: True})
        built.host[1].send(numbered(3))
        assert built.host[2].receive()


def test_a_switch_of_a_lab_is_found_by_name_and_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `shadowplane switch trace`, `stats` and `queue` take beside a running lab."""
    from control.commands import run
    from control.commands.run import lab_sockets
    from topo import marks

    monkeypatch.setattr(marks, "state_dir", lambda: tmp_path)
    assert lab_sockets() == {}
    path = tmp_path / "s1.sock"
    grpc_address = {"s1": "127.0.0.1:59", "s2": "127.0.0.1:60"}
    sockets = (str(path), str(tmp_path / "s2.sock"))
    marks.register(marks.LabEntry(marks.new_id(), os.getpid(), "t", "engine", str(tmp_path), sockets, grpc_address))
    known = lab_sockets()
    other = tmp_path / "s2.sock"
    assert known == {"s1": path, "127.0.0.1:59": path, "s2": other, "127.0.0.1:60": other}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert control_socket("s1", known) == control_socket("127.0.0.1:59", known) == path
        assert control_socket(str(path), {}) == path
    assert main("stats", ["s2"], known) == 2
    assert "s2: no switch is running there" in capsys.readouterr().err
    with subprocess.Popen(["sleep", "30"]) as later:  # the owner of a lab that began after ours
        try:
            lab = f"{later.pid}.{marks.start_time(later.pid)}.1"
            marks.register(
                marks.LabEntry(lab, later.pid, "t", "engine", str(tmp_path), ("/x",), {"s1": "127.0.0.1:61"})
            )
            assert lab_sockets()["s1"] == Path("/x")
            monkeypatch.setattr(run, "_shares_network", lambda pid: pid == os.getpid())
            assert lab_sockets() == known
        finally:
            later.kill()
