"""P4Runtime on the embedded engine in this process: ranges over more than 128 bits."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format

from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.harness import RawClient, errors_of, served
from tests.p4runtime.library_backend import LibraryBackend

PROGRAMS = Path(__file__).parents[1] / "engine" / "programs"
P4INFO = text_format.Parse((PROGRAMS / "ranges.p4info.txtpb").read_text(), p4i.P4Info())
TABLES = {t.preamble.name: t.preamble.id for t in P4INFO.tables}
ACTIONS = {a.preamble.name: a.preamble.id for a in P4INFO.actions}
WIDTH = 200
TOP = (1 << WIDTH) - 1


def entry(low: int, high: int, answer: int = 7, priority: int = 1) -> p4r.TableEntry:
    made = p4r.TableEntry(table_id=TABLES["alone"], priority=priority)
    match = made.match.add(field_id=1)
    for name, value in (("low", low), ("high", high)):
        setattr(match.range, name, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
    made.action.action.action_id = ACTIONS["reply"]
    made.action.action.params.add(param_id=1, value=bytes([answer]))
    return made


def answer_to(backend: LibraryBackend, a: int) -> int:
    assert backend.switch is not None
    ((_port, data),) = backend.switch.process(1, b"\0" + a.to_bytes(25, "big") + bytes(17 + 2 + 64 + 4), 0)
    return int.from_bytes(data[-4:], "big")


def test_wide_ranges_are_written_read_and_matched() -> None:
    backend = LibraryBackend()
    config = p4r.ForwardingPipelineConfig(p4info=P4INFO, p4_device_config=(PROGRAMS / "ranges.json").read_bytes())
    with served(backend) as (_serving, address):  # type: ignore[arg-type]
        raw = RawClient(address)
        try:
            raw.become_primary()
            raw.set_config(config)
            wanted = [entry(1 << 128, 1 << 199), entry(5, (1 << 192) - 1, 9, 2), entry(0, 3, 11, 3)]
            raw.insert(*wanted)
            found = [one.table_entry for one in raw.read(table_entry=p4r.TableEntry(table_id=TABLES["alone"]))]
            assert sorted(map(str, found)) == sorted(map(str, wanted))  # in canonical form, as they were written
            asked = [0, 3, 4, 5, (1 << 192) - 1, 1 << 192, 1 << 199, (1 << 199) + 1, TOP]
            missed = 0xFFFFFFFF
            assert [answer_to(backend, a) for a in asked] == [11, 11, missed, 9, 9, 7, 7, missed, missed]
            for low, high in ((2, 1), (0, TOP), (0, 1 << WIDTH)):  # empty, everything, too wide
                with pytest.raises(grpc.RpcError) as caught:
                    raw.insert(entry(low, high, priority=9))
                (error,) = errors_of(caught.value)
                assert error.canonical_code in (3, 11)  # INVALID_ARGUMENT, OUT_OF_RANGE
        finally:
            raw.close()
            if backend.switch is not None:
                backend.switch.close()
