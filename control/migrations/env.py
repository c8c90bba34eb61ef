"""Alembic's entry: runs the migrations on the connection that :func:`control.store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from control.store import Base


def run() -> None:
    """Apply the migrations in the caller's transaction."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    context.run_migrations()


run()
