"""Types that controllers see translated: strings (``sdn_string``) and other widths (``sdn_bitwidth``)."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import text_format

from engine.api import Digest, PacketIn
from engine.p4rt.errors import P4Error, Rpc
from engine.p4rt.names import Names
from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.fake import FakeBackend, program_of
from tests.p4runtime.harness import INSERT, MODIFY, RawClient, config_of, errors_of, served

PORT, VRF = 0x02000001, 0x02000002
INFO = """
pkg_info { arch: "v1model" }
tables {
  preamble { id: 0x02000001 name: "by_port" alias: "by_port" }
  match_fields { id: 1 name: "port" bitwidth: 9 match_type: EXACT type_name { name: "port_t" } }
  match_fields { id: 2 name: "vrf" bitwidth: 10 match_type: OPTIONAL type_name { name: "vrf_t" } }
  action_refs { id: 0x01000001 } size: 64
}
actions {
  preamble { id: 0x01000001 name: "send" alias: "send" }
  params { id: 1 name: "port" bitwidth: 9 type_name { name: "port_t" } }
  params { id: 2 name: "wide" bitwidth: 9 type_name { name: "wide_t" } }
}
digests { preamble { id: 0x17000001 name: "seen_t" alias: "seen_t" } type_spec { struct { name: "seen_t" } } }
controller_packet_metadata {
  preamble { id: 0x04000001 name: "packet_in" alias: "packet_in" }
  metadata { id: 1 name: "port" bitwidth: 9 type_name { name: "port_t" } } metadata { id: 2 name: "_pad" bitwidth: 7 }
}
controller_packet_metadata {
  preamble { id: 0x04000002 name: "packet_out" alias: "packet_out" }
  metadata { id: 1 name: "port" bitwidth: 9 type_name { name: "port_t" } } metadata { id: 2 name: "_pad" bitwidth: 7 }
}
type_info {
  structs { key: "seen_t" value { members { name: "port" type_spec { bitstring { bit { bitwidth: 9 } } } } } }
  new_types { key: "port_t" value { translated_type { uri: "example.org/port" sdn_string {} } } }
  new_types { key: "wide_t" value { translated_type { uri: "example.org/wide" sdn_bitwidth: 32 } } }
  new_types { key: "vrf_t" value {
    translated_type { uri: "" sdn_string {} }
    annotations: "@p4runtime_translation_mappings({ {\\"default\\", 7}, {\\"blue\\", 0x10} })"
  } }
}
"""


def config() -> p4r.ForwardingPipelineConfig:
    """The device part has real widths, the P4Info what ``p4c`` writes: none for strings, or the controller's."""
    made = config_of(text_format.Parse(INFO, p4i.P4Info()))
    for field in made.p4info.tables[0].match_fields:
        field.bitwidth = 0
    made.p4info.actions[0].params[0].bitwidth = 0
    made.p4info.actions[0].params[1].bitwidth = 32
    made.p4info.type_info.structs["seen_t"].members[0].type_spec.new_type.name = "port_t"
    return made


def test_the_fake_has_the_program_s_widths() -> None:
    program = program_of(text_format.Parse(INFO, p4i.P4Info()))
    assert [key.width for key in program.tables[0].key] == [9, 10]


def entry(port: bytes, out: bytes = b"eth7", wide: bytes = b"\0\0\1\2", vrf: bytes | None = None) -> p4r.TableEntry:
    made = p4r.TableEntry(table_id=PORT, match=[p4r.FieldMatch(field_id=1, exact=p4r.FieldMatch.Exact(value=port))])
    if vrf is not None:
        made.match.add(field_id=2).optional.value = vrf
    made.priority = 1
    made.action.action.action_id = 0x01000001
    made.action.action.params.add(param_id=1, value=out)
    made.action.action.params.add(param_id=2, value=wide)
    return made


@pytest.fixture
def client(raw: RawClient) -> RawClient:
    raw.become_primary()
    raw.set_config(config())
    return raw


def test_strings_are_read_as_they_were_written(client: RawClient, backend: FakeBackend) -> None:
    client.insert(entry(b"Ethernet0", vrf=b"blue"), entry(b"3", b"Ethernet0"), entry(b"17", vrf=b"red"))
    read = {e.table_entry.match[0].exact.value: e.table_entry for e in client.read(table_entry=p4r.TableEntry())}
    assert set(read) == {b"Ethernet0", b"3", b"17"}
    assert read[b"Ethernet0"].match[1].optional.value == b"blue"
    assert [p.value for p in read[b"3"].action.action.params] == [b"Ethernet0", b"\1\2"]
    keys = {key for key, _priority in backend.switch.tables[0].entries}
    assert bytes([0, 3]) in {key[:2] for key in keys}, "a decimal string is its number"
    assert bytes([0, 0x10]) in {key[2:4] for key in keys}, "the annotation's mapping"
    assert bytes([1, 255]) in {key[:2] for key in keys}, "the largest free number"


def test_numbers_of_another_width_must_fit_the_data_plane(client: RawClient) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.insert(entry(b"1", wide=b"\0\0\2\0"))
    (error,) = errors_of(caught.value)
    assert error.canonical_code == Rpc.OUT_OF_RANGE


@pytest.mark.parametrize("bad", [b"", b"x" * 1025])
def test_strings_that_cannot_be(client: RawClient, bad: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.insert(entry(bad))
    assert errors_of(caught.value)[0].canonical_code == Rpc.INVALID_ARGUMENT


def test_packets_and_digests_carry_strings(client: RawClient, backend: FakeBackend) -> None:
    stream = client.streams[0]
    client.insert(entry(b"uplink"))
    client.write((INSERT, {"digest_entry": p4r.DigestEntry(digest_id=0x17000001)}))
    stream.send(packet=p4r.PacketOut(payload=b"x", metadata=[p4r.PacketMetadata(metadata_id=1, value=b"uplink")]))
    backend_sent(backend)
    assert backend.sent == [(511 << 7).to_bytes(2, "big") + b"x"]
    backend.emit(PacketIn((511 << 7).to_bytes(2, "big") + b"y"))
    assert stream.next("packet").metadata[0].value == b"uplink"
    backend.emit(Digest(0, (bytes([0, 5]),), 1))
    assert stream.next("digest").data[0].struct.members[0].bitstring == b"5"


def backend_sent(backend: FakeBackend) -> None:
    from tests.engine.switchd_support import eventually

    eventually(lambda: backend.sent, "the packet-out")


def test_a_restarted_server_knows_the_strings(backend: FakeBackend) -> None:
    with served(backend) as (_serving, address):
        first = RawClient(address)
        first.become_primary()
        first.set_config(config())
        first.insert(entry(b"left"), entry(b"right"))
        first.close()
    with served(backend) as (_serving, address):
        second = RawClient(address)
        second.become_primary()
        read = {e.table_entry.match[0].exact.value for e in second.read(table_entry=p4r.TableEntry())}
        assert read == {b"left", b"right"}
        second.write((MODIFY, {"table_entry": entry(b"left", b"other")}))
        second.set_config(config(), "RECONCILE_AND_COMMIT")
        assert len(second.read(table_entry=p4r.TableEntry())) == 2
        second.close()


def test_types_of_strings_need_exact_or_optional_fields(raw: RawClient) -> None:
    raw.become_primary()
    made = config()
    made.p4info.tables[0].match_fields[1].match_type = p4i.MatchField.TERNARY
    device = text_format.Parse(INFO, p4i.P4Info())
    device.tables[0].match_fields[1].match_type = p4i.MatchField.TERNARY
    made.p4_device_config = config_of(device).p4_device_config
    with pytest.raises(grpc.RpcError) as caught:
        raw.set_config(made)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_names_never_collide() -> None:
    names = Names("t", 3, [(b"fixed", 7)])
    assert names.number(b"a", "x") == 6
    assert names.string(1) == b"1"
    assert names.number(b"6", "x") == 5, "its own number is taken"
    with pytest.raises(P4Error) as caught:
        for n in range(8):
            names.number(f"more{n}".encode(), "x")
    assert caught.value.code is Rpc.RESOURCE_EXHAUSTED
    assert len({number for _string, number in names.items()}) == len(names.items())
