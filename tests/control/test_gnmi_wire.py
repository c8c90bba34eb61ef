"""Telemetry read from its bytes means what protobuf reads from them, whatever the bytes."""

from __future__ import annotations

from typing import Any

import pytest
from finsy.proto import gnmi
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from control.gnmi_wire import Template
from control.telemetry import LEAVES, Decoder, parse_path
from engine.p4rt.stubs import gnmi as served

PATHS = [leaf.replace("*", port) for port in ("1", "2", "30") for leaf in LEAVES]
NOW = 1_700_000_000.0
Reading = tuple[str, Any]

numbers = st.one_of(st.integers(0, 127), st.integers(0, (1 << 64) - 1))
values = st.one_of(
    numbers.map(lambda n: gnmi.TypedValue(uint_val=n)),
    st.floats().map(lambda x: gnmi.TypedValue(double_val=x)),
    st.sampled_from(["UP", "DOWN", "", "x" * 200]).map(lambda text: gnmi.TypedValue(string_val=text)),
    st.integers(-5, 5).map(lambda n: gnmi.TypedValue(int_val=n)),
    st.sampled_from([b'"UP"', b"12", b'"12"', b"nonsense"]).map(lambda text: gnmi.TypedValue(json_ietf_val=text)),
)
readings = st.lists(st.tuples(st.sampled_from(PATHS), values), min_size=1, max_size=12)


def response(given_readings: list[Reading], timestamp: int = 1_700_000_000_000_000_000) -> bytes:
    note = gnmi.Notification(timestamp=timestamp)
    for path, value in given_readings:
        note.update.add(path=parse_path(path), val=value)
    data: bytes = gnmi.SubscribeResponse(update=note).SerializeToString(deterministic=True)
    return data


def plainly(data: bytes) -> str:
    """What a decoder without any memory says."""
    return repr(Decoder("s1").decode(gnmi.SubscribeResponse.FromString(data).update, NOW))


@settings(deadline=None)
@given(readings, st.lists(st.lists(values, min_size=12, max_size=12), max_size=4), readings)
def test_repeated_notifications_read_as_single_ones(
    first: list[Reading], later: list[list[Any]], other: list[Reading]
) -> None:
    decoder = Decoder("s1")
    again = [[(path, new) for (path, _), new in zip(first, row, strict=False)] for row in later]
    for each in (first, first, *again, other, first, first[:-1], first):
        data = response(each)
        assert repr(decoder.decode_bytes(data, NOW)) == plainly(data)


@settings(deadline=None, max_examples=400)
@given(readings, st.data())
def test_what_the_template_reads_is_what_protobuf_reads(first: list[Reading], data: st.DataObject) -> None:
    message = bytearray(response(first))
    template = Template(gnmi.SubscribeResponse.FromString(bytes(message)).update)
    template.read(bytes(message))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    found = template.read(bytes(message))
    try:
        parsed = gnmi.SubscribeResponse.FromString(bytes(message))
    except DecodeError:
        return  # read or not: nothing that a server of ours or others sends
    if found is not None:
        assert parsed.update.timestamp & (1 << 64) - 1 == found[0]
        expected = []
        for update in parsed.update.update:
            kind = update.val.WhichOneof("value")
            value = getattr(update.val, kind) if kind else None
            expected.append(value if isinstance(value, str) else float(value if value is not None else "nan"))
        assert repr(found[1]) == repr(expected)


def test_the_switches_own_notifications_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.api import DeviceState, PortState
    from engine.gnmi import Tree, _Group
    from engine.gnmi_paths import elements

    count = 0
    fields = dict.fromkeys(PortState.__dataclass_fields__, 7) | {"name": "s1-eth1", "up": True, "enabled": True}

    def state() -> DeviceState:
        nonlocal count
        count += 1_000_000
        ports = [PortState(**fields | {"port": port, "tx_bytes": count, "rx_power_dbm": -5.5}) for port in (1, 2)]
        return DeviceState(0, 0.25, 0.5, count, 0, tuple(ports))

    tree = Tree(lambda _keep: state())
    paths = [served.Path.FromString(parse_path(leaf).SerializeToString()) for leaf in LEAVES]
    group = _Group([elements(served.Path(), path) for path in paths], 50_000_000, False, served.PROTO)
    decoder = Decoder("s1")
    first = group.report(tree, state())
    assert first is not None and decoder.decode_bytes(first, NOW)
    monkeypatch.setattr(gnmi.SubscribeResponse, "FromString", None)  # not needed from now on
    for _ in range(3):
        data = group.report(tree, state())
        assert data is not None
        samples = decoder.decode_bytes(data, NOW)
        assert samples is not None and [sample.element for sample in samples] == ["s1:1", "s1:2", "s1"]
        assert samples[0].tx_bytes_total == count  # type: ignore[union-attr]


def test_what_is_no_notification_is_skipped_and_nonsense_counted() -> None:
    decoder = Decoder("s1")
    assert decoder.decode_bytes(gnmi.SubscribeResponse(sync_response=True).SerializeToString(), NOW) is None
    assert decoder.malformed == 0
    assert decoder.decode_bytes(b"\xff\xff\xff", NOW) is None and decoder.malformed == 1


@pytest.mark.parametrize(
    "value",
    [gnmi.TypedValue(uint_val=1), gnmi.TypedValue(double_val=1.0), gnmi.TypedValue(json_ietf_val=b"true"),
     gnmi.TypedValue(json_ietf_val=b'"1"')],
)  # fmt: skip
def test_a_status_that_is_no_word_is_no_loss_of_carrier(value: Any) -> None:
    path = parse_path("interfaces/interface[name=1]/state/oper-status")
    note = gnmi.Notification()
    note.update.add(path=path, val=value)
    data = gnmi.SubscribeResponse(update=note).SerializeToString()
    decoder = Decoder("s1")
    for count in (1, 2):  # plainly, then by the template
        assert decoder.decode_bytes(data, NOW) == [] and decoder.malformed == count


def test_an_item_without_a_value_is_not_read_as_zero() -> None:
    (path,) = LEAVES[2:3]
    whole = response([(path.replace("*", "1"), gnmi.TypedValue(uint_val=7))])
    note = gnmi.SubscribeResponse.FromString(whole).update
    # The value's tag is there, its length and itself are not: four bytes less, in three lengths.
    item = note.update[0].SerializeToString()[:-3]
    inner = note.SerializeToString()
    head = inner[: inner.index(item) - 1] + bytes([len(item)]) + item
    cut = whole[:1] + bytes([len(head)]) + head
    template = Template(note)
    assert template.read(cut) is None
    assert template.read(whole) is not None
    with pytest.raises(DecodeError):
        gnmi.SubscribeResponse.FromString(cut)
