"""The tables of the state database, and how a file gets them.

Changes of the schema are Alembic's (``control/migrations``). A new file gets the newest schema straight away, and one
that has it is used as it is: Alembic is loaded for files of an older version only, which spares each start a quarter of
a second. :data:`HEAD` and these tables therefore say the same as the newest migration, which tests compare.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, Engine, Float, Integer, MetaData, String, Table, inspect, select

HEAD = "0002"  # the newest migration
MIGRATIONS = Path(__file__).parent / "migrations"
METADATA = MetaData()

# Facts about the database itself, for instance which topology it belongs to.
META = Table(
    "meta",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

# Numbers given to names: kind "group" (destination) or "label" (path).
NUMBERS = Table(
    "numbers",
    METADATA,
    Column("kind", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False),
)

# The shadow of each steering group. ``mark``: "standby" (installed, proven) or "active" (carries traffic).
SHADOWS = Table(
    "shadows",
    METADATA,
    Column("switch", String, primary_key=True),
    Column("destination", String, primary_key=True),
    Column("group_id", Integer, nullable=False),
    Column("path", String, nullable=False),
    Column("label", Integer, nullable=False),
    Column("disjoint", String, nullable=False),
    Column("mark", String, nullable=False),
    Column("element", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("changed_s", Float, nullable=False),
)

# Decisions that were carried out, or refused.
FLIPS = Table(
    "flips",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time_s", Float, index=True, nullable=False),
    Column("kind", String, nullable=False),
    Column("switch", String, nullable=False),
    Column("destination", String, nullable=False),
    Column("group_id", Integer, nullable=False),
    Column("element", String, nullable=False),
    Column("cause", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("probability", Float, nullable=False),
    Column("reasons", String, nullable=False),
    Column("explanation", String, nullable=False),
    Column("path", String, nullable=False),
    Column("cost_ms", Float, nullable=False),
    Column("lost", Integer, nullable=True),
    Column("duration_ms", Float, nullable=True),
    Column("telemetry_ms", Float, nullable=True),
    Column("transport", String, nullable=False),
    Column("verified", Integer, nullable=True),
    Column("outcome", String, nullable=False),
    Column("timings_ms", String, nullable=False, server_default="{}"),
    Column("horizon_s", Float, nullable=False, server_default="0"),
    Column("struck", Integer, nullable=True),
)

# Alembic's own, as it makes it: which migration a file is at.
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


class UnknownVersion(Exception):
    """The database has a schema that this version does not know."""


def bring_up_to_date(engine: Engine) -> None:
    """Give a database the newest schema; raises SQLAlchemy's errors and :class:`UnknownVersion`."""
    with engine.begin() as connection:
        # Python's sqlite3 begins no transaction for CREATE TABLE: without one, a start cut short leaves half a schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        there = set(inspect(connection).get_table_names())
        if not there:
            METADATA.create_all(connection, checkfirst=False)
            _VERSION.create(connection)
            connection.execute(_VERSION.insert().values(version_num=HEAD))
            return
        if _VERSION.name in there and connection.scalars(select(_VERSION.c.version_num)).all() == [HEAD]:
            return
    with engine.begin() as connection:
        _migrate(connection)


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise UnknownVersion(
            f"it is of a newer version of Shadowplane ({error}); use that one, or another file"
        ) from None
