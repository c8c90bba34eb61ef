"""VERIFY_AND_SAVE and COMMIT: reads and writes in between refer to the saved config, and packets to the running one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format

from engine.api import Code, DatapathError, PacketIn
from engine.codec import Command
from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    DELETE,
    DIGEST,
    EXACT,
    INSERT,
    LPM,
    MODIFY,
    SAMPLE,
    RawClient,
    Stream,
    config_of,
    exact,
    prefix,
    register,
    served,
)
from tests.p4runtime.library_backend import LibraryBackend

PROGRAMS = Path(__file__).parents[1] / "engine" / "programs"


def entries(raw: RawClient) -> list[p4r.TableEntry]:
    return [entity.table_entry for entity in raw.read(table_entry=p4r.TableEntry())]


def code_of(attempt: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        attempt()
    return caught.value.code()


def in_effect(backend: FakeBackend) -> int:
    """How many entries the packets meet."""
    return sum(len(table.entries) for table in backend.switch.tables)


def test_what_is_written_takes_effect_with_the_commit(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    raw.insert(exact(1), exact(2))
    raw.write((MODIFY, register(5, b"\1")))
    raw.set_config(config_of(SAMPLE, 8), "VERIFY_AND_SAVE")
    assert entries(raw) == [], "the saved config has none yet"
    group = p4r.MulticastGroupEntry(multicast_group_id=4, replicas=[p4r.Replica(egress_port=1, instance=1)])
    replication = p4r.PacketReplicationEngineEntry(multicast_group_entry=group)
    raw.insert(exact(3, metadata=b"m"))
    raw.write(
        (INSERT, {"table_entry": prefix(0x0A000000, 8)}),
        (INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}),
        (INSERT, {"packet_replication_engine_entry": replication}),
    )
    raw.write((MODIFY, register(6, b"\1")))
    written = entries(raw)
    assert len(written) == 2
    assert raw.get_config("COOKIE_ONLY").cookie.cookie == 7
    assert in_effect(backend) == 2 and backend.loads == 1
    assert code_of(lambda: raw.write((DELETE, {"table_entry": exact(1)}))) is grpc.StatusCode.UNKNOWN, "not there"
    raw.set_config(None, "COMMIT")
    assert raw.get_config("COOKIE_ONLY").cookie.cookie == 8 and backend.loads == 2
    assert entries(raw) == written and in_effect(backend) == 2
    cells = [raw.read(register_entry=register(n, b"")["register_entry"])[0].register_entry for n in (5, 6)]
    assert [cell.data.bitstring for cell in cells] == [b"\0", b"\1"]
    kept = raw.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())
    assert [entity.packet_replication_engine_entry for entity in kept] == [replication]
    assert len(raw.read(digest_entry=p4r.DigestEntry(digest_id=DIGEST))) == 1
    raw.insert(exact(9))
    assert in_effect(backend) == 3


def test_fields_are_those_of_the_saved_config(raw: RawClient, primary: Stream) -> None:
    changed = p4i.P4Info()
    changed.CopyFrom(SAMPLE)
    lpm = next(table for table in changed.tables if table.preamble.id == LPM)
    lpm.preamble.id = 0x02000077
    raw.set_config(config_of(changed), "VERIFY_AND_SAVE")
    assert code_of(lambda: raw.insert(prefix(0x0A000000, 8))) is grpc.StatusCode.UNKNOWN
    entry = prefix(0x0A000000, 8)
    entry.table_id = 0x02000077
    raw.insert(entry)
    assert [one.table_id for one in entries(raw)] == [0x02000077]


def test_packets_and_their_messages_are_the_running_program_s(
    raw: RawClient, primary: Stream, backend: FakeBackend
) -> None:
    raw.set_config(config_of(SAMPLE), "VERIFY_AND_SAVE")
    backend.emit(PacketIn(b"\1\5packet"))
    assert primary.next("packet").payload == b"packet"


def test_without_a_running_program(raw: RawClient, backend: FakeBackend) -> None:
    stream = raw.become_primary()
    raw.set_config(config_of(SAMPLE), "VERIFY_AND_SAVE")
    raw.insert(exact(1))
    stream.send(packet=p4r.PacketOut(payload=b"x"))
    assert stream.next("error").canonical_code == Code.FAILED_PRECONDITION
    raw.set_config(None, "COMMIT")
    assert len(entries(raw)) == in_effect(backend) == 1


@pytest.mark.parametrize("action", ["VERIFY_AND_COMMIT", "RECONCILE_AND_COMMIT"])
def test_another_commit_ends_it(raw: RawClient, primary: Stream, action: str) -> None:
    raw.insert(exact(1))
    raw.set_config(config_of(SAMPLE), "VERIFY_AND_SAVE")
    raw.insert(exact(2), exact(3))
    raw.set_config(config_of(SAMPLE), action)
    assert len(entries(raw)) == (1 if action == "RECONCILE_AND_COMMIT" else 0)
    assert code_of(lambda: raw.set_config(None, "COMMIT")) is grpc.StatusCode.NOT_FOUND


def test_a_second_save_begins_anew(raw: RawClient, primary: Stream) -> None:
    for _ in range(2):
        raw.set_config(config_of(SAMPLE), "VERIFY_AND_SAVE")
        raw.insert(exact(1))
    assert len(entries(raw)) == 1


def test_a_commit_that_fails_changes_nothing(
    raw: RawClient, primary: Stream, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.insert(exact(1), exact(2))
    raw.set_config(config_of(SAMPLE, 8), "VERIFY_AND_SAVE")
    raw.insert(exact(3))
    plain, failed = backend.switch.command, []

    def command(op: int, payload: bytes) -> bytes:
        if op == Command.TABLE_WRITE and not failed:
            failed.append(op)
            raise DatapathError(Code.RESOURCE_EXHAUSTED, "out of memory")
        return plain(op, payload)

    with monkeypatch.context() as patch:
        patch.setattr(backend.switch, "command", command)
        assert code_of(lambda: raw.set_config(None, "COMMIT")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert in_effect(backend) == 2 and raw.get_config("COOKIE_ONLY").cookie.cookie == 7
    assert len(entries(raw)) == 1, "it is still saved"
    raw.set_config(None, "COMMIT")
    assert in_effect(backend) == 1


def test_a_new_server_finds_the_saved_config_but_not_what_was_written_to_it(backend: FakeBackend) -> None:
    with served(backend) as (_serving, address):
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE, 7))
        raw.insert(exact(1))
        raw.set_config(config_of(SAMPLE, 8), "VERIFY_AND_SAVE")
        raw.insert(exact(2), exact(3))
        raw.close()
    with served(backend) as (_serving, address):
        raw = RawClient(address)
        raw.become_primary()
        assert entries(raw) == [] and in_effect(backend) == 1
        raw.insert(exact(4))
        raw.set_config(None, "COMMIT")
        assert raw.get_config("COOKIE_ONLY").cookie.cookie == 8
        (entry,) = entries(raw)
        assert entry.table_id == EXACT and entry.match[0].exact.value == b"\4"
        raw.close()


def test_on_the_native_data_plane() -> None:
    """The ``ranges`` program: an entry answers from the commit on, not before."""
    p4info = text_format.Parse((PROGRAMS / "ranges.p4info.txtpb").read_text(), p4i.P4Info())
    config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=(PROGRAMS / "ranges.json").read_bytes())
    table = next(table for table in p4info.tables if table.preamble.name == "alone")
    action = next(action for action in p4info.actions if action.preamble.name == "reply")
    entry = p4r.TableEntry(table_id=table.preamble.id, priority=1)
    entry.match.add(field_id=1).range.low = b"\2"
    entry.match[0].range.high = b"\4"
    entry.action.action.action_id = action.preamble.id
    entry.action.action.params.add(param_id=1, value=b"\7")

    def answer() -> int:
        assert backend.switch is not None
        ((_port, data),) = backend.switch.process(1, b"\0" + (3).to_bytes(25, "big") + bytes(17 + 2 + 64 + 4), 0)
        return int.from_bytes(data[-4:], "big")

    backend = LibraryBackend()
    with served(backend) as (_serving, address):  # type: ignore[arg-type]
        raw = RawClient(address)
        raw.become_primary()
        raw.set_config(config)
        raw.set_config(config, "VERIFY_AND_SAVE")
        raw.insert(entry)
        assert answer() == 0xFFFFFFFF
        raw.set_config(None, "COMMIT")
        assert answer() == 7
        raw.close()
    assert backend.switch is not None
    backend.switch.close()
