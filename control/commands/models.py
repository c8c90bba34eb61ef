"""Commands about the health models: evaluation. (Training is in :mod:`control.commands.training`.)"""

from __future__ import annotations

import typer

from control.commands._common import delegate

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def evaluate(context: typer.Context) -> None:
    """Evaluate the health models (flags of `python -m ml.evaluate`)."""
    delegate("ml.evaluate", context.args)
