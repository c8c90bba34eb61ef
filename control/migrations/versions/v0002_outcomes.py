"""Parts of a flip's latency, and what became of a prediction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("flips", sa.Column("timings_ms", sa.String, nullable=False, server_default="{}"))
    op.add_column("flips", sa.Column("horizon_s", sa.Float, nullable=False, server_default="0"))
    op.add_column("flips", sa.Column("struck", sa.Integer, nullable=True))


def downgrade() -> None:
    for name in ("timings_ms", "horizon_s", "struck"):
        op.drop_column("flips", name)
