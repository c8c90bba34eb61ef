"""Ids, shadows and the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "numbers",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.create_table(
        "shadows",
        sa.Column("switch", sa.String, primary_key=True),
        sa.Column("destination", sa.String, primary_key=True),
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("disjoint", sa.String, nullable=False),
        sa.Column("mark", sa.String, nullable=False),
        sa.Column("element", sa.String, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("changed_s", sa.Float, nullable=False),
    )
    op.create_table(
        "flips",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time_s", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("switch", sa.String, nullable=False),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("element", sa.String, nullable=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("reasons", sa.String, nullable=False),
        sa.Column("explanation", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("cost_ms", sa.Float, nullable=False),
        sa.Column("lost", sa.Integer, nullable=True),
        sa.Column("duration_ms", sa.Float, nullable=True),
        sa.Column("telemetry_ms", sa.Float, nullable=True),
        sa.Column("transport", sa.String, nullable=False),
        sa.Column("verified", sa.Integer, nullable=True),
        sa.Column("outcome", sa.String, nullable=False),
    )
    op.create_index("ix_flips_time_s", "flips", ["time_s"])


def downgrade() -> None:
    for table in ("flips", "shadows", "numbers", "meta"):
        op.drop_table(table)
