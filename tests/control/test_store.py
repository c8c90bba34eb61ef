"""State survives a restart: numbers, shadows with their marks, the ledger; and the schema is Alembic's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from control_helpers import MONITOR
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.exc import IntegrityError

from control.capacity import Loads
from control.clock import Moment
from control.errors import CapacityError, StoreError
from control.ledger import Ledger
from control.memory import fingerprint, recall_numbers, recall_shadows, remember, rows_of
from control.paths import Avoid, Network
from control.plan import GroupKey
from control.spm import IdPool, ShadowManager
from control.state_schema import HEAD, METADATA, MIGRATIONS, bring_up_to_date
from control.store import FlipRecord, Store
from control.threats import Cause, ThreatBook
from control.tse import Side, SteeringEngine
from topo.builtin import abilene, diamond


def record(number: int, kind: str = "flip") -> FlipRecord:
    return FlipRecord(
        time_s=100.0 + number,
        kind=kind,
        switch="s1",
        destination="h4",
        group_id=4,
        element="s1-s2",
        cause="prediction",
        mode="link_failure",
        probability=0.9,
        reasons=["receive power -17 dBm", "errors rising"],
        explanation="because",
        verified=True,
        lost=0,
    )


def test_ledger_lines_come_back_as_they_were(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "control.db")
    store.add_flips([record(1), record(2, "revert")])
    store.close()
    again = Store(tmp_path / "state" / "control.db")
    found = again.ledger()
    assert [line.id for line in found] == [1, 2]
    assert found[0].reasons == ["receive power -17 dBm", "errors rising"] and found[0].verified is True
    assert [line.kind for line in again.ledger(kind="revert")] == ["revert"]
    assert [line.id for line in again.ledger(since_id=1)] == [2]
    assert [line.id for line in again.ledger(since_s=102.0)] == [2]


def alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def migrated(path: Path, revision: str) -> Engine:
    """A database that Alembic brought to a revision."""
    engine = create_engine(f"sqlite:///{path}")
    config = alembic()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def described(engine: Engine) -> dict[str, list[str]]:
    """Each table's columns and indices, as the database tells them."""
    found = inspect(engine)
    return {
        name: [
            *(f"{c['name']} {c['type']} {c['nullable']}" for c in found.get_columns(name)),
            f"key {found.get_pk_constraint(name)['constrained_columns']}",
            *(f"{i['name']} {i['column_names']}" for i in found.get_indexes(name)),
        ]
        for name in found.get_table_names()
    }


def test_a_new_database_has_exactly_the_schema_that_the_migrations_make(tmp_path: Path) -> None:
    assert ScriptDirectory.from_config(alembic()).get_current_head() == HEAD
    old = migrated(tmp_path / "migrated.db", "head")
    with old.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    path = tmp_path / "control.db"
    Store(path).close()
    engine = create_engine(f"sqlite:///{path}")
    assert described(engine) == described(old)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == HEAD
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("revision", ["0001", HEAD])
def test_an_older_database_is_migrated_and_keeps_its_lines(tmp_path: Path, revision: str) -> None:
    path = tmp_path / "control.db"
    engine = migrated(path, revision)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO flips (time_s, kind, switch, destination, group_id, element, cause, mode, probability,"
            " reasons, explanation, path, cost_ms, transport, outcome) VALUES"
            " (5, 'flip', 's1', 'h4', 4, 's1-s2', 'prediction', 'link_failure', 1, '[]', 'why', '', 0, '', 'done')"
        )
    store = Store(path)
    (line,) = store.ledger()
    assert (line.time_s, line.explanation, line.timings_ms, line.struck) == (5.0, "why", {}, None)
    store.close()
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == HEAD


def test_a_start_that_was_cut_short_leaves_a_file_that_the_next_one_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'control.db'}")
    monkeypatch.setattr("control.state_schema.HEAD", None)  # what is written last fails
    with pytest.raises(IntegrityError):
        bring_up_to_date(engine)
    assert described(engine) == {}
    monkeypatch.undo()
    bring_up_to_date(engine)
    assert "flips" in described(engine)


def test_a_database_that_is_none_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    path.write_bytes(b"this is no database, but it is long enough to be read as one" * 20)
    with pytest.raises(StoreError, match=r"control\.db"):
        Store(path)


def test_a_database_of_a_newer_version_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    engine = migrated(path, HEAD)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"control\.db: it is of a newer version"):
        Store(path)


def test_restart_finds_numbers_paths_and_sides(tmp_path: Path) -> None:
    topology = abilene()
    network = Network(topology)
    spm = ShadowManager(network)
    plan = spm.build(MONITOR)
    link = topology.links[0]
    plan = spm.replan(plan, Avoid(links=frozenset({link})))  # paths that a fresh plan would not choose
    tse = SteeringEngine(ThreatBook(network), Loads(network), spm.carrying)
    key = next(key for key, group in plan.groups.items() if group.shadow is not None and group.shadow.label)
    tse.adopt(key, Side.SHADOW, 50.0, "s1-s2", Cause.PREDICTION)
    store = Store(tmp_path / "control.db")
    numbers = {"group": spm.group_ids.taken, "label": spm.labels.taken}
    remember(store, topology, rows_of(plan, tse, Moment(3660.0, 60.0)), numbers)
    store.close()

    store = Store(tmp_path / "control.db")
    fresh = ShadowManager(network)
    assert recall_numbers(store, topology, fresh)
    restored, active = recall_shadows(store, fresh.build(MONITOR), network)
    assert restored.entries() == plan.entries()
    assert set(active) == {key} and active[key].element == "s1-s2"
    assert active[key].changed_s == 3650.0, "ten seconds before, in time of the epoch: the monotonic clock begins anew"
    assert not recall_numbers(store, diamond(), ShadowManager(Network(diamond())))
    assert fingerprint(diamond()) != fingerprint(topology)


def test_a_remembered_path_that_became_the_primary_is_ignored(tmp_path: Path) -> None:
    network = Network(diamond())
    spm = ShadowManager(network)
    plan = spm.build(MONITOR)
    tse = SteeringEngine(ThreatBook(network), Loads(network), spm.carrying)
    rows = rows_of(plan, tse, Moment(1.0, 1.0))
    link = plan.groups[GroupKey("s1", "h4")].primary
    assert link is not None
    store = Store(tmp_path / "control.db")
    remember(store, diamond(), rows, {"group": spm.group_ids.taken, "label": spm.labels.taken})
    turned = spm.reroute(plan, Avoid(links=frozenset({link.link})))
    restored, _ = recall_shadows(store, turned, network)
    group = restored.groups[GroupKey("s1", "h4")]
    remembered = next(row for row in rows if (row.switch, row.destination) == ("s1", "h4"))
    assert group.primary is not None and remembered.path.startswith(str(group.primary.out))
    assert group.shadow is None  # the only other way is the one being avoided


def test_the_ledger_answers_at_once_and_the_database_follows(tmp_path: Path) -> None:
    async def scenario() -> None:
        ledger = Ledger(Store(tmp_path / "control.db"))
        ledger.add([record(1), record(2)])
        assert [line.id for line in ledger.lines()] == [1, 2]
        await ledger.flush()
        assert [line.id for line in ledger.store.ledger()] == [1, 2]
        ledger.close()
        again = Ledger(Store(tmp_path / "control.db"))
        again.add([record(3)])
        assert [line.id for line in again.lines()] == [1, 2, 3]
        again.close()

    asyncio.run(scenario())


def test_a_ledger_that_cannot_keep_up_counts_what_it_drops() -> None:
    ledger = Ledger(Store(None), limit=0)
    ledger.add([record(1)])
    assert ledger.dropped == 1
    ledger.close()


def test_numbers_are_stable_and_reused_last() -> None:
    pool = IdPool(16, 19, "path label")
    assert [pool.take(name) for name in "abcab"] == [16, 17, 18, 16, 17]
    with pytest.raises(CapacityError, match="no path label left"):
        pool.take("d")
    assert pool.release_all_but("bc") == ["a"]
    assert pool.take("d") == 16 and pool.take("b") == 17
