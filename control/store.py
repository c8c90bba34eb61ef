"""What survives a restart: ids, shadows with their marks, sides, and the ledger of every flip.

SQLite in WAL mode (one writer, readers never wait), with the tables of :mod:`control.state_schema`. Calls are
synchronous and quick; the service makes them from one writer thread. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Row, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from control.errors import StoreError
from control.state_schema import FLIPS, META, METADATA, NUMBERS, SHADOWS, UnknownVersion, bring_up_to_date


@dataclass(slots=True)
class FlipRecord:
    """A ledger line.

    ``cost_ms``: delay that the new path adds, one way; ``lost``: packets that the threatened element is known to
    have lost between the signal and the flip; ``duration_ms``: from the decision to the switch's confirmation;
    ``telemetry_ms``: from the arrival of the sample that carried the news to the confirmation, and ``timings_ms`` its
    parts (docs/operations.md names them); ``verified``: read back equal; ``struck``: whether what was predicted came
    within ``horizon_s`` (None: not known yet, or not observable).
    """

    time_s: float
    kind: str
    switch: str
    destination: str
    group_id: int
    element: str
    cause: str
    mode: str
    probability: float
    reasons: list[str]
    explanation: str
    path: str = ""
    cost_ms: float = 0.0
    lost: int | None = None
    duration_ms: float | None = None
    telemetry_ms: float | None = None
    transport: str = ""
    verified: bool | None = None
    outcome: str = "done"
    timings_ms: dict[str, float] = field(default_factory=dict)
    horizon_s: float = 0.0
    struck: bool | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class StoredShadow:
    """A shadow as remembered."""

    switch: str
    destination: str
    group_id: int
    path: str
    label: int
    disjoint: str
    mark: str
    element: str
    cause: str
    changed_s: float


class Store:
    """The state database. ``path`` None: in memory, for tests and dry runs."""

    def __init__(self, path: Path | None) -> None:
        """Open and migrate; raises :class:`StoreError` naming the file."""
        self.path = path
        try:
            if path is None:
                self._engine = create_engine(
                    "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
                )
                METADATA.create_all(self._engine)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
                event.listen(self._engine, "connect", _pragmas)
                bring_up_to_date(self._engine)
        except (SQLAlchemyError, OSError, UnknownVersion) as error:
            raise StoreError(f"cannot use the state database {path}: {error}") from error

    def close(self) -> None:
        self._engine.dispose()

    def meta(self, name: str) -> str | None:
        with self._engine.connect() as connection:
            return connection.scalar(select(META.c.value).where(META.c.name == name))

    def set_meta(self, name: str, value: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(META).where(META.c.name == name))
            connection.execute(insert(META), {"name": name, "value": value})

    def numbers(self, kind: str) -> dict[str, int]:
        with self._engine.connect() as connection:
            rows = connection.execute(select(NUMBERS.c.name, NUMBERS.c.number).where(NUMBERS.c.kind == kind))
            return {row.name: row.number for row in rows}

    def set_numbers(self, kind: str, numbers: Mapping[str, int]) -> None:
        """Replace all numbers of a kind."""
        with self._engine.begin() as connection:
            connection.execute(delete(NUMBERS).where(NUMBERS.c.kind == kind))
            if numbers:
                rows = [{"kind": kind, "name": name, "number": number} for name, number in numbers.items()]
                connection.execute(insert(NUMBERS), rows)

    def shadows(self) -> list[StoredShadow]:
        columns = [SHADOWS.c[item.name] for item in fields(StoredShadow)]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(SHADOWS.c.switch, SHADOWS.c.destination))
            return [StoredShadow(*row) for row in rows]

    def set_shadows(self, shadows: Iterable[StoredShadow]) -> None:
        """Replace all remembered shadows."""
        with self._engine.begin() as connection:
            connection.execute(delete(SHADOWS))
            rows = [asdict(shadow) for shadow in shadows]
            if rows:
                connection.execute(insert(SHADOWS), rows)

    def mark(
        self, keys: Sequence[tuple[str, str]], mark: str, time_s: float, element: str = "", cause: str = ""
    ) -> None:
        """Set the mark of some groups' shadows, by (switch, destination)."""
        with self._engine.begin() as connection:
            for switch, destination in keys:
                connection.execute(
                    update(SHADOWS)
                    .where(SHADOWS.c.switch == switch, SHADOWS.c.destination == destination)
                    .values(mark=mark, element=element, cause=cause, changed_s=time_s)
                )

    def add_flips(self, records: Sequence[FlipRecord]) -> list[int]:
        """Append to the ledger; returns the new ids."""
        ids: list[int] = []
        with self._engine.begin() as connection:
            for record in records:
                values = asdict(record)
                if not record.id:
                    values.pop("id")
                values["reasons"] = json.dumps(record.reasons)
                values["timings_ms"] = json.dumps(record.timings_ms)
                values["struck"] = None if record.struck is None else int(record.struck)
                values["verified"] = None if record.verified is None else int(record.verified)
                key = connection.execute(insert(FLIPS), values).inserted_primary_key
                ids += key or ()
        return ids

    def label(self, ids: Sequence[int], struck: bool) -> None:
        """Enter whether what these lines predicted came."""
        with self._engine.begin() as connection:
            connection.execute(update(FLIPS).where(FLIPS.c.id.in_(ids)).values(struck=int(struck)))

    def ledger(
        self, *, since_id: int = 0, since_s: float = 0.0, limit: int = 1000, kind: str | None = None
    ) -> list[FlipRecord]:
        """Ledger lines, newest last."""
        query = select(FLIPS).where(FLIPS.c.id > since_id, FLIPS.c.time_s >= since_s)
        if kind is not None:
            query = query.where(FLIPS.c.kind == kind)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(FLIPS.c.id.desc()).limit(limit)).all()
        return [_record(row) for row in reversed(rows)]


def _record(row: Row[Any]) -> FlipRecord:
    values: dict[str, Any] = dict(row._mapping)
    values["reasons"] = json.loads(values["reasons"])
    values["timings_ms"] = json.loads(values["timings_ms"])
    values["struck"] = None if values["struck"] is None else bool(values["struck"])
    values["verified"] = None if values["verified"] is None else bool(values["verified"])
    return FlipRecord(**values)


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # durable over a crash of the process; WAL keeps it consistent
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
