"""In-band telemetry in the running service: what goes to a switch in finsy's real encodings, and what comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from finsy import P4Schema
from pydantic import ValidationError

from control.errors import InputError
from control.inband.report import decode
from control.inband.runtime import InbandConfig, InbandTelemetry
from tests.inband.inband_net import MEMBERS, report_values
from tests.p4.program import P4INFO_PATH
from topo.load import load

SCHEMA = P4Schema(P4INFO_PATH)
TOPOLOGY = load("diamond")


class Client:
    """What a finsy switch does with reads and writes of table entries, in a dictionary of encoded entities."""

    def __init__(self) -> None:
        self.table: dict[bytes, object] = {}
        self.writes = 0

    def key(self, entity: object) -> bytes:
        message = type(entity)()  # p4r.Entity
        message.CopyFrom(entity)  # type: ignore[attr-defined]
        message.table_entry.ClearField("action")  # type: ignore[attr-defined]
        return message.SerializeToString(deterministic=True)  # type: ignore[no-any-return,attr-defined]

    async def write(self, updates: list[object]) -> None:
        for update in updates:
            raw = update.encode_update(SCHEMA)  # type: ignore[attr-defined]
            if raw.entity.WhichOneof("entity") != "table_entry":
                continue
            self.writes += 1
            key = self.key(raw.entity)
            kind = raw.Type.Name(raw.type)
            assert (key in self.table) == (kind != "INSERT"), kind
            if kind == "DELETE":
                del self.table[key]
            else:
                self.table[key] = raw.entity

    async def read(self, entities: object) -> object:
        from finsy import P4TableEntry

        for entity in list(self.table.values()):
            yield P4TableEntry.decode(entity, SCHEMA)  # type: ignore[arg-type]


def telemetry(**changes: object) -> InbandTelemetry:
    return InbandTelemetry(TOPOLOGY, InbandConfig(**changes), SCHEMA)  # type: ignore[arg-type]


def test_restore_writes_what_differs_and_nothing_else() -> None:
    client = Client()
    first, other = telemetry(), telemetry(latency_us=7, priority=4)

    def restore(which: InbandTelemetry) -> int:
        return asyncio.run(which.restore("s1", client))  # type: ignore[arg-type]

    wanted = len(first.entries("s1"))
    assert restore(first) == wanted == len(client.table)
    assert restore(first) == 0
    assert restore(other) > 0
    assert len(client.table) == len(other.entries("s1"))
    assert restore(other) == 0
    assert restore(telemetry(flows=[])) == wanted - 2 * len(TOPOLOGY.ports("s1"))


def member_list(seq: int) -> list[bytes]:
    """From h1's port of s1 over s2 to a host of s4."""
    values = report_values(TOPOLOGY, ("h1", "s1", "s2", "s4", "h4"), seq=seq, depths=(0, 3, 0), latencies=(0, 9, 0))
    return [values.get(name, 0).to_bytes(16, "big").lstrip(b"\0") or b"\0" for name, _ in MEMBERS]


def digest_of(*items: list[bytes]) -> object:
    from finsy.proto import p4r

    digest = p4r.DigestList(digest_id=SCHEMA.digests["flow_report_t"].id)
    for values in items:
        data = digest.data.add()
        for value in values:
            data.struct.members.add().bitstring = value
    return digest


def test_digests_are_counted_kept_and_passed_on() -> None:
    made = telemetry(export="127.0.0.1:32766")
    digest = digest_of(member_list(1), member_list(2), [b"\0"], [b"\0" * 17] * len(MEMBERS), member_list(5))
    assert made.takes(digest.digest_id)  # type: ignore[attr-defined]
    made.on_digest("s4", digest)  # type: ignore[arg-type]
    made.take(1.0)
    assert (made.counts.reports, made.counts.malformed, made.counts.missing) == (3, 2, 2)
    assert made.exporter is not None and made.exporter.waiting == 3
    (line,) = made.status()["flows"]
    assert (line["path"], line["queue_packets"], line["seq"]) == (["s1", "s2", "s4"], 3, 5)
    assert decode(member_list(5)).max_latency_us == 9


def test_more_reports_than_can_wait_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.inband.runtime.MOST_REPORTS", 3)
    made = telemetry()
    for seq in range(1, 7):
        made.on_digest("s4", digest_of(member_list(seq)))  # type: ignore[arg-type]
    made.take(1.0)
    assert (made.counts.reports, made.counts.dropped) == (3, 3)


def test_every_pair_is_watched_unless_flows_are_named() -> None:
    pairs = [(a, b) for a in TOPOLOGY.hosts for b in TOPOLOGY.hosts if a.switch != b.switch]
    assert len(InbandConfig().watched(TOPOLOGY)) == len(pairs)
    named = InbandConfig(flows=[{"id": 9, "source": "h1", "destination": "h2", "port": 80}])  # type: ignore[list-item]
    assert [flow.flow_id for flow in named.watched(TOPOLOGY)] == [9]


@pytest.mark.parametrize(
    "wrong",
    [{"one_in": 0}, {"hop_limit": 0}, {"flow": []}, {"flows": [{"id": 0, "source": "h1", "destination": "h2"}]}],
)
def test_unknown_and_impossible_keys_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InbandConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["9", "host", "host:0", "host:70000", ":1"])
def test_wrong_collectors_are_errors(address: str) -> None:
    with pytest.raises(InputError):
        InbandConfig(export=address).collector()


def test_configuration_file(tmp_path: Path) -> None:
    from control import inventory

    file = tmp_path / "c.yaml"
    file.write_text("inband:\n  one_in: 3\n  export: 127.0.0.1:32766\n")
    found = inventory.load(file).inband
    assert found is not None and (found.one_in, found.collector()) == (3, ("127.0.0.1", 32766))
    file.write_text("gnmi: off\n")
    assert inventory.load(file).gnmi is False and inventory.Config().gnmi is True
    file.write_text("inband:\n  one_inn: 3\n")
    with pytest.raises(InputError, match="one_inn"):
        inventory.load(file)


def test_without_polling_port_reports_tell_the_traffic_and_reports_what_packets_met(tmp_path: Path) -> None:
    from control.service import Service
    from control.settings import Settings
    from control.telemetry import SWITCHED_OFF

    file = tmp_path / "c.yaml"
    file.write_text("gnmi: off\ninband: {interval_ms: 20}\n")
    service = Service(TOPOLOGY, Settings(config=file))

    async def run() -> None:
        task = asyncio.create_task(service.run())
        while any(source.state != SWITCHED_OFF for source in service.sources.values()):
            assert not task.done()
            await asyncio.sleep(0.01)
        assert not any(item.get_name().startswith("gnmi") for item in asyncio.all_tasks())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 60))
    assert service.silent_on_gnmi() == {switch.name for switch in TOPOLOGY.switches}
    assert service.inband is not None and service.inband.interval_s == 0.02
