"""Telemetry Report v2.0 and INT-MD as bytes: the specification's layout, round trips, and any bytes at all."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control.inband import int_md
from control.inband.int_md import HopMetadata, IntError, IntHeader
from control.inband.report import MEMBERS, FlowEvent, FlowFlag, ReportError, decode
from control.inband.telemetry_report import (
    IndividualReport,
    InnerType,
    ReportType,
    TelemetryReport,
    TelemetryReportError,
    coalesce,
    encode,
)
from control.inband.telemetry_report import decode as decode_report
from tests.p4 import telemetry as t

words32 = st.integers(0, (1 << 32) - 1)
whole_words = st.integers(0, 40).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))


def example_of_the_specification() -> bytes:
    """Section "Example with Embedded INT-MD in a TCP Packet", written word by word; node ids and queues are ours."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 88, 0, 0, 62, 17, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 1, 2)))
    udp = struct.pack("!HHHH", 1000, 5000, 68, 0)
    shim = struct.pack("!BBBB", 0x18, 7, 0, 6)  # type 1, NPT 2, protocol TCP
    md = struct.pack("!IHHHH", 2 << 28 | 2 << 8 | 6, 0x9000, 0, 0, 0)
    stack = struct.pack("!IIII", 2, 22, 1, 11)
    tcp = struct.pack("!HHIIHHHH", 1000, 2000, 0, 0, 5 << 12, 0, 0, 0)
    inner = ip + udp + shim + md + stack + tcp
    head = struct.pack("!II", 2 << 28 | 5 << 22 | 77, 3)
    individual = struct.pack("!BBBB", 0x14, 23, 1, 0x20)
    main = struct.pack("!HHHHI", 0x1000, 0, 0, 0, 3 << 24 | 33)
    return head + individual + main + inner


def test_example_of_the_specification() -> None:
    data = example_of_the_specification()
    report = decode_report(data)
    assert (report.node_id, report.sequence, report.hardware_id) == (3, 77, 5)
    (one,) = report.reports
    assert (one.report_type, one.inner_type, one.tracked, one.congested) == (
        ReportType.INT,
        InnerType.IPV4,
        True,
        False,
    )
    assert one.metadata_bits == 0x1000 and len(one.inner) == 20 * 4
    assert one.hop() == HopMetadata(queue_id=3, queue=33)
    assert one.stack() is None  # announced by a UDP port, with another protocol behind: not what we speak
    assert encode(report) == data


def individual_reports() -> st.SearchStrategy[IndividualReport]:
    flags = {name: st.booleans() for name in ("dropped", "congested", "tracked", "intermediate")}
    numbers = {name: st.integers(0, 0xFFFF) for name in ("domain", "domain_bits", "domain_status")}

    def with_metadata(bits: int) -> st.SearchStrategy[IndividualReport]:
        size = int_md.words(bits) * 4
        metadata = st.binary(min_size=size, max_size=size)
        return st.builds(
            IndividualReport,
            report_type=st.just(1),
            inner_type=st.integers(0, 15),
            metadata_bits=st.just(bits),
            metadata=metadata,
            inner=whole_words,
            **flags,
            **numbers,
        )

    plain = st.builds(
        IndividualReport,
        report_type=st.sampled_from([0, 2, 9]),
        inner_type=st.integers(0, 15),
        inner=whole_words,
        **flags,
    )
    return st.integers(0, 0xFFFF).flatmap(with_metadata) | plain


@given(
    words32,
    st.integers(0, (1 << 22) - 1),
    st.integers(0, 63),
    st.lists(individual_reports(), min_size=1, max_size=5).map(tuple),
)
def test_round_trip(node: int, sequence: int, hardware: int, reports: tuple[IndividualReport, ...]) -> None:
    made = TelemetryReport(node, sequence, hardware, reports)
    assert decode_report(encode(made)) == made


def test_long_report_runs_to_the_end() -> None:
    long = IndividualReport(report_type=0, inner_type=3, inner=bytes(range(256)) * 8)
    made = TelemetryReport(1, 2, reports=(IndividualReport(report_type=0), long))
    data = encode(made)
    assert data[13] == 0xFF
    assert decode_report(data) == made
    with pytest.raises(TelemetryReportError, match="last"):
        encode(TelemetryReport(1, 2, reports=(long, IndividualReport(report_type=0))))


@given(st.binary(max_size=400))
@example(example_of_the_specification()[:-1])
@example(struct.pack("!II", 2 << 28, 1))
def test_any_bytes_are_a_report_or_an_error(data: bytes) -> None:
    read(data)


@given(st.binary(max_size=200), st.integers(0, 15), st.integers(0, 255), st.integers(0, 255))
def test_any_bytes_behind_a_group_header(data: bytes, kind: int, length: int, metadata: int) -> None:
    read(struct.pack("!IIBBB", 2 << 28, 1, 1 << 4 | kind, length, metadata) + data)


@given(st.data())
def test_damaged_reports(data: st.DataObject) -> None:
    whole = bytearray(example_of_the_specification())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def read(data: bytes) -> None:
    """Everything a reader may ask of what came off the wire: an answer or the one documented error."""
    try:
        report = decode_report(data)
    except TelemetryReportError:
        return
    assert encode(report)[:8] == data[:8]
    for one in report.reports:
        assert len(one.metadata) + len(one.inner) <= len(data)
        one.drop_reason()
        if one.report_type == ReportType.INT:
            one.hop()
        stack = one.stack()
        if stack is not None:
            stack.hops()


def test_drop_reason() -> None:
    one = IndividualReport(dropped=True, metadata_bits=0x4001, metadata=struct.pack("!HHBBH", 1, 2, 7, 80, 0))
    assert one.drop_reason() == (7, 80)
    assert (one.hop().ingress_port, one.hop().egress_port) == (1, 2)
    assert IndividualReport().drop_reason() is None


@pytest.mark.parametrize(
    "wrong",
    [
        TelemetryReport(1, 1 << 22),
        TelemetryReport(1 << 32, 0),
        TelemetryReport(1, 0, 64),
        TelemetryReport(1, 0, reports=(IndividualReport(inner=b"abc"),)),
        TelemetryReport(1, 0, reports=(IndividualReport(metadata_bits=1 << 16),)),
        TelemetryReport(1, 0, reports=(IndividualReport(report_type=16),)),
        TelemetryReport(1, 0, reports=(IndividualReport(report_type=0, metadata=bytes(4)),)),
        TelemetryReport(1, 0, reports=(IndividualReport(report_type=0, inner=bytes(65504)),)),
    ],
)
def test_what_has_no_room_is_refused(wrong: TelemetryReport) -> None:
    with pytest.raises(TelemetryReportError):
        encode(wrong)


def test_groups_stay_within_the_limit() -> None:
    items = [IndividualReport(report_type=0, inner=bytes(4 * n)) for n in (100, 100, 100, 250, 3, 400, 1)]
    groups = coalesce(items, 1400)
    assert [one for group in groups for one in group] == items
    for group in groups:
        assert len(encode(TelemetryReport(1, 0, reports=tuple(group)))) <= 1400 or len(group) == 1


# -- INT-MD ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 0xFFFF), st.lists(st.binary(min_size=76, max_size=76), max_size=4))
def test_hops_of_any_bitmap(bits: int, raw: list[bytes]) -> None:
    size = int_md.words(bits)
    if size > 31:
        return
    stack = b"".join(one[: size * 4] for one in raw)
    header = IntHeader(bits, size, 8, stack=stack)
    found, used = int_md.parse(header.pack() + b"tail")
    assert (found, used) == (header, 16 + len(stack))
    hops = found.hops()
    assert len(hops) == (len(raw) if size else 0)
    again = b"".join(int_md.pack_hop(bits & 0xFF80, int_md.unpack_hop(bits & 0xFF80, one)) for one in raw)
    short = int_md.words(bits & 0xFF80) * 4
    # What is all ones in part of a pair cannot be told from a value, so only whole ones change nothing either way.
    assert again == b"".join(one[:short] for one in raw)


def test_all_ones_mean_unknown() -> None:
    assert int_md.unpack_hop(0xFFFF, b"\xff" * 76) == HopMetadata()
    assert int_md.pack_hop(0xFFFF, HopMetadata()) == b"\xff" * 76


@given(st.binary(max_size=80))
def test_any_bytes_are_int_or_an_error(data: bytes) -> None:
    try:
        header, used = int_md.parse(data)
    except IntError:
        return
    assert used <= len(data)
    header.hops()


@pytest.mark.parametrize(
    "wrong",
    [IntHeader(0, 32, 0), IntHeader(0, 0, 256), IntHeader(0, 0, 0, stack=bytes(1012)), IntHeader(1 << 16, 0, 0)],
)
def test_headers_that_have_no_room(wrong: IntHeader) -> None:
    with pytest.raises(IntError):
        wrong.pack()


def test_written_as_the_program_writes_it() -> None:
    words = t.hop(7, (1, 2), 30, 3 << 24 | 4, (5, 35))
    theirs = t.Stack(words=words, dscp=46, remaining=7).pack()
    header, used = int_md.parse(theirs)
    assert used == len(theirs) and header.pack() == theirs and header.original_dscp == 46
    assert header.hops() == [
        HopMetadata(7, 1, 2, 30, 3, 4, ingress_time=5, egress_time=35),
    ]


# -- digests -----------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20), min_size=0, max_size=40))
def test_any_members_are_a_report_or_an_error(values: list[bytes]) -> None:
    try:
        decode(values)
    except ReportError:
        return
    assert len(values) == MEMBERS


@given(st.lists(st.integers(0, 255).map(lambda n: bytes([n])), min_size=MEMBERS, max_size=MEMBERS))
def test_any_small_members(values: list[bytes]) -> None:
    try:
        report = decode(values)
    except ReportError:
        return
    assert len(report.hops) == values[6][0] <= 8
    assert report.event in FlowEvent and isinstance(report.flags, FlowFlag)


def test_members_too_long_are_refused() -> None:
    values: list[Any] = [b"\0"] * MEMBERS
    values[6] = b"\x01"
    for position, size in ((10, 5), (20, 17), (21, 17)):
        wrong = list(values)
        wrong[position] = b"\x01" * size
        with pytest.raises(ReportError):
            decode(wrong)
