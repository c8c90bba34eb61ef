"""Alembic's entry: runs the migrations on the connection that :mod:`control.state_schema` hands over."""

from __future__ import annotations

from alembic import context

from control.state_schema import METADATA


def run() -> None:
    """Apply the migrations in the caller's transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=METADATA, render_as_batch=True)
    context.run_migrations()


run()
