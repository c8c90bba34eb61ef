"""P4Runtime on the embedded engine in this process: direct meters, and what they do to packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from engine.p4rt.stubs import p4i, p4r
from tests.p4runtime.harness import DELETE, INSERT, MODIFY, RawClient, errors_of, served
from tests.p4runtime.library_backend import LibraryBackend

PROGRAMS = Path(__file__).parents[1] / "engine" / "programs"
P4INFO = text_format.Parse((PROGRAMS / "meters.p4info.txtpb").read_text(), p4i.P4Info())
TABLES = {t.preamble.name: t.preamble.id for t in P4INFO.tables}
ACTIONS = {a.preamble.name: a.preamble.id for a in P4INFO.actions}
CONFIG = p4r.MeterConfig(cir=1_000, cburst=2, pir=2_000, pburst=4)
ROLLBACK = 1


@pytest.fixture
def backend() -> Iterator[LibraryBackend]:
    made = LibraryBackend()
    yield made
    if made.switch is not None:
        made.switch.close()


@pytest.fixture
def raw(backend: LibraryBackend) -> Iterator[RawClient]:
    with served(backend) as (_serving, address):  # type: ignore[arg-type]
        client = RawClient(address)
        client.become_primary()
        client.set_config(config())
        yield client
        client.close()


def config(info: p4i.P4Info = P4INFO) -> p4r.ForwardingPipelineConfig:
    return p4r.ForwardingPipelineConfig(p4info=info, p4_device_config=(PROGRAMS / "meters.json").read_bytes())


def entry(a: int, meter: p4r.MeterConfig | None = None, action: str = "paint") -> p4r.TableEntry:
    made = p4r.TableEntry(table_id=TABLES["metered"], meter_config=meter)
    made.match.add(field_id=1).exact.value = bytes([a])
    made.action.action.action_id = ACTIONS[action]
    return made


def direct(a: int, meter: p4r.MeterConfig | None = None) -> dict[str, Any]:
    wanted = entry(a)
    wanted.ClearField("action")
    return {"direct_meter_entry": p4r.DirectMeterEntry(table_entry=wanted, config=meter)}


def code(raw: RawClient, *updates: tuple[int, dict[str, Any]], atomicity: int = 0) -> int:
    with pytest.raises(grpc.RpcError) as caught:
        raw.write(*updates, atomicity=atomicity)
    return next(e.canonical_code for e in errors_of(caught.value) if e.canonical_code not in (0, 10))


def meter_of(raw: RawClient, a: int) -> p4r.MeterConfig | None:
    (found,) = raw.read(**direct(a))
    read = found.direct_meter_entry
    return read.config if read.HasField("config") else None


def colours(backend: LibraryBackend, a: int, count: int) -> list[int]:
    assert backend.switch is not None
    frame = b"\0" + a.to_bytes(4, "big") + b"\0\0"
    return [backend.switch.process(1, frame, 0)[0][1][5] for _ in range(count)]


def test_written_with_the_entry_and_by_itself(raw: RawClient, backend: LibraryBackend) -> None:
    raw.write((INSERT, {"table_entry": entry(1, CONFIG)}), (INSERT, {"table_entry": entry(2)}))
    assert colours(backend, 1, 6) == [0, 0, 1, 1, 2, 2]
    assert colours(backend, 2, 6) == [0] * 6
    assert (meter_of(raw, 1), meter_of(raw, 2)) == (CONFIG, None)
    raw.write((MODIFY, direct(2, CONFIG)), (MODIFY, direct(1)))
    assert colours(backend, 2, 6) == [0, 0, 1, 1, 2, 2]
    assert colours(backend, 1, 6) == [0] * 6
    found = raw.read(direct_meter_entry=p4r.DirectMeterEntry())
    assert sorted(e.direct_meter_entry.HasField("config") for e in found) == [False, True]
    asked = p4r.TableEntry(table_id=TABLES["metered"], meter_config=p4r.MeterConfig())
    tables = {e.table_entry.match[0].exact.value: e.table_entry for e in raw.read(table_entry=asked)}
    assert tables[b"\2"].meter_config == CONFIG
    assert not tables[b"\1"].HasField("meter_config")


def test_a_modified_entry_starts_afresh(raw: RawClient) -> None:
    raw.write((INSERT, {"table_entry": entry(1, CONFIG)}))
    raw.write((MODIFY, {"table_entry": entry(1)}))
    assert meter_of(raw, 1) is None
    raw.write((MODIFY, {"table_entry": entry(1, CONFIG)}))
    assert meter_of(raw, 1) == CONFIG


def test_a_failed_batch_leaves_meters_as_they_were(raw: RawClient) -> None:
    raw.write((INSERT, {"table_entry": entry(1, CONFIG)}), (INSERT, {"table_entry": entry(2, CONFIG)}))
    other = p4r.MeterConfig(cir=1, cburst=1, pir=1, pburst=1)
    batch = [
        (MODIFY, {"table_entry": entry(1, other)}),
        (DELETE, {"table_entry": entry(2)}),
        (DELETE, {"table_entry": entry(9)}),
    ]
    assert code(raw, *batch, atomicity=ROLLBACK) == 5
    assert (meter_of(raw, 1), meter_of(raw, 2)) == (CONFIG, CONFIG)


def test_errors(raw: RawClient) -> None:
    raw.write((INSERT, {"table_entry": entry(1)}))
    assert code(raw, (INSERT, direct(1, CONFIG))) == 3
    assert code(raw, (MODIFY, direct(9, CONFIG))) == 5
    assert code(raw, (MODIFY, direct(1, p4r.MeterConfig(cir=2, pir=1)))) == 3
    assert code(raw, (MODIFY, {"table_entry": entry(1, p4r.MeterConfig(cir=-1))})) == 3
    with pytest.raises(grpc.RpcError) as caught:
        raw.read(**direct(9))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_meters_survive_a_reconciliation(raw: RawClient) -> None:
    raw.write((INSERT, {"table_entry": entry(1, CONFIG)}))
    changed = p4i.P4Info()
    changed.CopyFrom(P4INFO)
    changed.pkg_info.version = "2"
    raw.set_config(config(changed), "RECONCILE_AND_COMMIT")
    assert meter_of(raw, 1) == CONFIG
