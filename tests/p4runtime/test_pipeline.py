"""SetForwardingPipelineConfig in all its modes, and GetForwardingPipelineConfig."""

from __future__ import annotations

import json
from collections.abc import Callable

import grpc
import pytest

from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import (
    DIGEST,
    INSERT,
    MODIFY,
    SAMPLE,
    TIMEOUT_S,
    RawClient,
    Stream,
    config_of,
    exact,
    forward,
    prefix,
    register,
    served,
)


def sample() -> p4i.P4Info:
    copy = p4i.P4Info()
    copy.CopyFrom(SAMPLE)
    return copy


def test_nothing_works_before_a_pipeline(raw: RawClient) -> None:
    raw.become_primary()
    for attempt in (
        lambda: raw.read(table_entry=p4r.TableEntry()),
        lambda: raw.insert(exact(1)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            attempt()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "No forwarding pipeline config set"
    assert not raw.get_config_response().HasField("config")


def test_get_returns_what_was_asked_for(raw: RawClient, primary: Stream) -> None:
    whole = raw.get_config("ALL")
    assert whole == config_of(SAMPLE)
    cookie = raw.get_config("COOKIE_ONLY")
    assert (cookie.cookie.cookie, cookie.HasField("p4info"), cookie.p4_device_config) == (7, False, b"")
    info = raw.get_config("P4INFO_AND_COOKIE")
    assert info.p4info == SAMPLE and info.cookie.cookie == 7 and not info.p4_device_config
    device = raw.get_config("DEVICE_CONFIG_AND_COOKIE")
    assert device.p4_device_config == whole.p4_device_config and not device.HasField("p4info")


def test_verify_changes_nothing(raw: RawClient, backend: FakeBackend) -> None:
    raw.become_primary()
    raw.set_config(config_of(SAMPLE), "VERIFY")
    assert backend.loads == 0
    assert not raw.get_config_response().HasField("config")


def test_save_then_commit(raw: RawClient, backend: FakeBackend) -> None:
    raw.become_primary()
    with pytest.raises(grpc.RpcError) as caught:
        raw.set_config(None, "COMMIT")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    raw.set_config(config_of(SAMPLE, 3), "VERIFY_AND_SAVE")
    assert backend.loads == 0
    raw.set_config(None, "COMMIT")
    assert raw.get_config("COOKIE_ONLY").cookie.cookie == 3
    with pytest.raises(grpc.RpcError):  # a saved config is committed once
        raw.set_config(None, "COMMIT")


def test_commit_starts_from_nothing(raw: RawClient, primary: Stream) -> None:
    raw.insert(exact(1))
    raw.set_config(config_of(SAMPLE))
    assert raw.read(table_entry=p4r.TableEntry()) == []


def test_reconcile_keeps_everything_when_nothing_changed(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    raw.insert(exact(1), prefix(0x0A000000, 8))
    raw.write((MODIFY, register(5, b"\1")))
    raw.set_config(config_of(SAMPLE, 99), "RECONCILE_AND_COMMIT")
    assert backend.loads == 1
    assert len(raw.read(table_entry=p4r.TableEntry())) == 2
    assert raw.get_config("COOKIE_ONLY").cookie.cookie == 99


def test_reconcile_keeps_unchanged_objects_only(raw: RawClient, primary: Stream, backend: FakeBackend) -> None:
    group = p4r.MulticastGroupEntry(multicast_group_id=4, replicas=[p4r.Replica(egress_port=1, instance=1)])
    raw.write(
        (INSERT, {"table_entry": exact(1, metadata=b"m", counter_data=p4r.CounterData(packet_count=3))}),
        (INSERT, {"table_entry": prefix(0x0A000000, 8)}),
        (MODIFY, register(5, b"\1")),
        (INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}),
        (INSERT, {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(multicast_group_entry=group)}),
    )
    changed = sample()
    changed.tables[1].size = 10  # lpm_t
    changed.tables.add().CopyFrom(changed.tables[1])
    changed.tables[5].preamble.id, changed.tables[5].preamble.name = 0x02000009, "new_t"
    changed.actions.add().preamble.id = 0x01000009
    changed.actions[3].preamble.name = "unused"
    order = [changed.actions[3], changed.actions[0], changed.actions[1], changed.actions[2]]
    copies = [p4i.Action.FromString(action.SerializeToString()) for action in order]
    del changed.actions[:]
    changed.actions.extend(copies)  # other program indices for the same actions
    raw.set_config(config_of(changed), "RECONCILE_AND_COMMIT")
    assert backend.loads == 2
    wanted = p4r.TableEntry(counter_data=p4r.CounterData())
    (kept,) = (entity.table_entry for entity in raw.read(table_entry=wanted))
    assert (kept.match, kept.metadata, kept.counter_data.packet_count) == (exact(1).match, b"m", 3)
    assert kept.action == forward()
    (cell,) = raw.read(register_entry=register(5, b"")["register_entry"])
    assert cell.register_entry.data.bitstring == b"\1"
    assert len(raw.read(digest_entry=p4r.DigestEntry())) == 1
    assert len(raw.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())) == 1


def test_a_failed_reconciliation_leaves_everything_as_it_was(
    raw: RawClient, primary: Stream, backend: FakeBackend
) -> None:
    """The new program says that its unchanged table takes no entries."""
    raw.insert(exact(1, metadata=b"m"), prefix(0x0A000000, 8))
    changed = sample()
    changed.registers[1].size = 17
    config = config_of(changed)
    program = json.loads(config.p4_device_config)
    program["tables"][0]["size"] = 0
    config.p4_device_config = json.dumps(program).encode()
    with pytest.raises(grpc.RpcError) as caught:
        raw.set_config(config, "RECONCILE_AND_COMMIT")
    assert "exact_t" in caught.value.details()
    assert raw.get_config() == config_of(SAMPLE)
    entries = [entity.table_entry for entity in raw.read(table_entry=p4r.TableEntry())]
    assert len(entries) == 2 and entries[0].metadata == b"m"
    raw.insert(exact(2))


def _width(info: p4i.P4Info) -> None:
    info.tables[0].match_fields[0].bitwidth = 31


def _kind(info: p4i.P4Info) -> None:
    info.tables[1].match_fields[0].match_type = p4i.MatchField.EXACT


def _table(info: p4i.P4Info) -> None:
    info.tables[0].preamble.name = "renamed_t"


def _param(info: p4i.P4Info) -> None:
    info.actions[0].params[1].bitwidth = 47


def _register(info: p4i.P4Info) -> None:
    info.registers[1].size = 17


def _digest(info: p4i.P4Info) -> None:
    del info.type_info.structs["report_t"].members[1]


def _header(info: p4i.P4Info) -> None:
    info.controller_packet_metadata[0].metadata[1].bitwidth = 27


def _double(info: p4i.P4Info) -> None:
    info.tables[1].preamble.id = info.tables[0].preamble.id


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_width, "exact_t: match field a is bit<31> in the P4Info and bit<32>"),
        (_kind, "lpm_t: match field dst is exact"),
        (_table, "table renamed_t"),
        (_param, "action forward: parameter mac is bit<47>"),
        (_register, "register seen has 17 cells, the program's has 16"),
        (_digest, "digest report_t has 1 fields"),
        (_header, "controller header packet_in has 5 bytes"),
        (_double, "id 0x02000001 is used by exact_t and by lpm_t"),
    ],
)
def test_a_mismatch_is_refused_by_name_and_changes_nothing(
    raw: RawClient, primary: Stream, backend: FakeBackend, change: Callable[[p4i.P4Info], None], named: str
) -> None:
    raw.insert(exact(1))
    config = config_of(SAMPLE)
    change(config.p4info)
    for action in ("VERIFY", "VERIFY_AND_COMMIT", "VERIFY_AND_SAVE", "RECONCILE_AND_COMMIT"):
        with pytest.raises(grpc.RpcError) as caught:
            raw.set_config(config, action)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert named in caught.value.details()
    assert backend.loads == 1
    assert len(raw.read(table_entry=p4r.TableEntry())) == 1


@pytest.mark.parametrize("blob", [b"", b"not json", b"{", b"\x08\x01\x1a\x05hello", b"\xff" * 100])
def test_a_device_config_that_is_none(raw: RawClient, blob: bytes) -> None:
    raw.become_primary()
    with pytest.raises(grpc.RpcError) as caught:
        raw.set_config(p4r.ForwardingPipelineConfig(p4info=SAMPLE, p4_device_config=blob))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_tutorials_wrapping_of_the_json_is_understood(raw: RawClient) -> None:
    raw.become_primary()
    config = config_of(SAMPLE)
    body = config.p4_device_config
    length = len(body).to_bytes(3, "little")
    size = bytes([length[0] & 127 | 128, (len(body) >> 7) & 127 | 128, len(body) >> 14])
    config.p4_device_config = b"\x08\x01" + b"\x1a" + size + body
    raw.set_config(config)
    assert raw.get_config().p4_device_config == config.p4_device_config


def test_the_action_must_be_given(raw: RawClient) -> None:
    raw.become_primary()
    with pytest.raises(grpc.RpcError) as caught:
        raw.set_config(config_of(SAMPLE), "UNSPECIFIED")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_capabilities_name_the_version(raw: RawClient) -> None:
    method = raw.call("Capabilities", "unary_unary", p4r.CapabilitiesResponse)
    assert method(p4r.CapabilitiesRequest(), timeout=TIMEOUT_S).p4runtime_api_version.startswith("1.4")


def test_a_restarted_server_finds_everything_in_the_data_plane(backend: FakeBackend) -> None:
    """The first server is abandoned, not stopped: nothing may depend on a farewell."""
    session = p4r.CloneSessionEntry(session_id=9, replicas=[p4r.Replica(port=b"\2", instance=1)])
    with served(backend) as (_serving, first):
        raw = RawClient(first)
        raw.become_primary()
        raw.set_config(config_of(SAMPLE, 42))
        raw.write(
            (INSERT, {"table_entry": exact(1, metadata=b"note")}),
            (MODIFY, register(3, b"\1")),
            (INSERT, {"digest_entry": p4r.DigestEntry(digest_id=DIGEST)}),
            (
                INSERT,
                {"packet_replication_engine_entry": p4r.PacketReplicationEngineEntry(clone_session_entry=session)},
            ),
        )
        before = raw.read(table_entry=p4r.TableEntry())
        with served(backend) as (_again, second):
            late = RawClient(second)
            assert late.get_config() == config_of(SAMPLE, 42)
            assert late.read(table_entry=p4r.TableEntry()) == before
            assert before[0].table_entry.metadata == b"note"
            assert len(late.read(digest_entry=p4r.DigestEntry())) == 1
            (clone,) = late.read(packet_replication_engine_entry=p4r.PacketReplicationEngineEntry())
            assert clone.packet_replication_engine_entry.clone_session_entry == session
            late.become_primary(1)
            late.insert(exact(2))
            late.close()
        raw.close()
