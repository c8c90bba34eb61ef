"""What survives a restart: ids, shadows with their marks, sides, and the ledger of every flip.

SQLite in WAL mode (one writer, readers never wait); the schema is Alembic's (``control/migrations``). Calls are
synchronous and quick; the service makes them from one writer thread. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Float, Integer, String, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from control.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"


class Base(DeclarativeBase):
    """The schema's registry."""


class MetaRow(Base):
    """Facts about the database itself, for instance which topology it belongs to."""

    __tablename__ = "meta"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[str] = mapped_column(String)


class NumberRow(Base):
    """A number given to a name: kind "group" (destination) or "label" (path)."""

    __tablename__ = "numbers"
    kind: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str] = mapped_column(String, primary_key=True)
    number: Mapped[int] = mapped_column(Integer)


class ShadowRow(Base):
    """The shadow of one steering group. ``mark``: "standby" (installed, proven) or "active" (carries traffic)."""

    __tablename__ = "shadows"
    switch: Mapped[str] = mapped_column(String, primary_key=True)
    destination: Mapped[str] = mapped_column(String, primary_key=True)
    group_id: Mapped[int] = mapped_column(Integer)
    path: Mapped[str] = mapped_column(String)
    label: Mapped[int] = mapped_column(Integer)
    disjoint: Mapped[str] = mapped_column(String)
    mark: Mapped[str] = mapped_column(String)
    element: Mapped[str] = mapped_column(String, default="")
    cause: Mapped[str] = mapped_column(String, default="")
    changed_s: Mapped[float] = mapped_column(Float)


class FlipRow(Base):
    """One decision that was carried out, or refused."""

    __tablename__ = "flips"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    time_s: Mapped[float] = mapped_column(Float, index=True)
    kind: Mapped[str] = mapped_column(String)
    switch: Mapped[str] = mapped_column(String)
    destination: Mapped[str] = mapped_column(String)
    group_id: Mapped[int] = mapped_column(Integer)
    element: Mapped[str] = mapped_column(String)
    cause: Mapped[str] = mapped_column(String)
    mode: Mapped[str] = mapped_column(String)
    probability: Mapped[float] = mapped_column(Float)
    reasons: Mapped[str] = mapped_column(String)
    explanation: Mapped[str] = mapped_column(String)
    path: Mapped[str] = mapped_column(String)
    cost_ms: Mapped[float] = mapped_column(Float)
    lost: Mapped[int | None] = mapped_column(Integer, nullable=True)
    duration_ms: Mapped[float | None] = mapped_column(Float, nullable=True)
    telemetry_ms: Mapped[float | None] = mapped_column(Float, nullable=True)
    transport: Mapped[str] = mapped_column(String)
    verified: Mapped[int | None] = mapped_column(Integer, nullable=True)
    outcome: Mapped[str] = mapped_column(String)
    timings_ms: Mapped[str] = mapped_column(String, default="{}")
    horizon_s: Mapped[float] = mapped_column(Float, default=0.0)
    struck: Mapped[int | None] = mapped_column(Integer, nullable=True)


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
                from sqlalchemy.pool import StaticPool

                self._engine = create_engine(
                    "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
                )
                Base.metadata.create_all(self._engine)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
                event.listen(self._engine, "connect", _pragmas)
                migrate(self._engine)
        except (SQLAlchemyError, OSError) as error:
            raise StoreError(f"cannot use the state database {path}: {error}") from error

    def close(self) -> None:
        self._engine.dispose()

    def meta(self, name: str) -> str | None:
        with Session(self._engine) as session:
            row = session.get(MetaRow, name)
            return row.value if row is not None else None

    def set_meta(self, name: str, value: str) -> None:
        with Session(self._engine) as session, session.begin():
            session.merge(MetaRow(name=name, value=value))

    def numbers(self, kind: str) -> dict[str, int]:
        with Session(self._engine) as session:
            rows = session.scalars(select(NumberRow).where(NumberRow.kind == kind))
            return {row.name: row.number for row in rows}

    def set_numbers(self, kind: str, numbers: Mapping[str, int]) -> None:
        """Replace all numbers of a kind."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(NumberRow).where(NumberRow.kind == kind))
            if numbers:
                rows = [{"kind": kind, "name": name, "number": number} for name, number in numbers.items()]
                session.execute(insert(NumberRow), rows)

    def shadows(self) -> list[StoredShadow]:
        with Session(self._engine) as session:
            names = StoredShadow.__dataclass_fields__
            rows = session.scalars(select(ShadowRow).order_by(ShadowRow.switch, ShadowRow.destination))
            return [StoredShadow(**{name: getattr(row, name) for name in names}) for row in rows]

    def set_shadows(self, shadows: Iterable[StoredShadow]) -> None:
        """Replace all remembered shadows."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(ShadowRow))
            rows = [asdict(shadow) for shadow in shadows]
            if rows:
                session.execute(insert(ShadowRow), rows)

    def mark(
        self, keys: Sequence[tuple[str, str]], mark: str, time_s: float, element: str = "", cause: str = ""
    ) -> None:
        """Set the mark of some groups' shadows, by (switch, destination)."""
        with Session(self._engine) as session, session.begin():
            for switch, destination in keys:
                session.execute(
                    update(ShadowRow)
                    .where(ShadowRow.switch == switch, ShadowRow.destination == destination)
                    .values(mark=mark, element=element, cause=cause, changed_s=time_s)
                )

    def add_flips(self, records: Sequence[FlipRecord]) -> list[int]:
        """Append to the ledger; returns the new ids."""
        with Session(self._engine) as session, session.begin():
            rows = []
            for record in records:
                values = asdict(record)
                if not record.id:
                    values.pop("id")
                values["reasons"] = json.dumps(record.reasons)
                values["timings_ms"] = json.dumps(record.timings_ms)
                values["struck"] = None if record.struck is None else int(record.struck)
                values["verified"] = None if record.verified is None else int(record.verified)
                rows.append(FlipRow(**values))
            session.add_all(rows)
            session.flush()
            return [row.id for row in rows]

    def label(self, ids: Sequence[int], struck: bool) -> None:
        """Enter whether what these lines predicted came."""
        with Session(self._engine) as session, session.begin():
            session.execute(update(FlipRow).where(FlipRow.id.in_(ids)).values(struck=int(struck)))

    def ledger(
        self, *, since_id: int = 0, since_s: float = 0.0, limit: int = 1000, kind: str | None = None
    ) -> list[FlipRecord]:
        """Ledger lines, newest last."""
        query = select(FlipRow).where(FlipRow.id > since_id, FlipRow.time_s >= since_s)
        if kind is not None:
            query = query.where(FlipRow.kind == kind)
        with Session(self._engine) as session:
            rows = list(session.scalars(query.order_by(FlipRow.id.desc()).limit(limit)))
        return [_record(row) for row in reversed(rows)]


def _record(row: FlipRow) -> FlipRecord:
    values: dict[str, Any] = {name: getattr(row, name) for name in FlipRecord.__dataclass_fields__}
    values["reasons"] = json.loads(row.reasons)
    values["timings_ms"] = json.loads(row.timings_ms)
    values["struck"] = None if row.struck is None else bool(row.struck)
    values["verified"] = None if row.verified is None else bool(row.verified)
    return FlipRecord(**values)


def _pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # durable over a crash of the process; WAL keeps it consistent
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def migrate(engine: Engine) -> None:
    """Bring the schema up to date."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
