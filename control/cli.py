"""The command ``shadowplane``. Heavy imports happen inside the commands, so that ``--help`` is quick.

Each family of commands is a module of :mod:`control.commands` with a ``typer.Typer`` called ``app``; one with
subcommands of its own (``shadowplane history query``) is named in the list below, the others' commands stand alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from control.commands import history, models, run, steer, training
from control.feeds import cli as feeds

app = typer.Typer(
    name="shadowplane",
    help="Moves traffic on to precomputed shadow paths before the network fails.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for _family, _name in (
    (run.app, None),
    (steer.app, None),
    (history.app, "history"),
    (feeds.app, "feeds"),
    (models.app, None),
    (training.app, None),
    (training.models, "models"),
):
    app.add_typer(_family, name=_name)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    # Matrices here are small: OpenBLAS's threads only wait for each other, and on a busy machine they do so for
    # milliseconds. It reads this when numpy is loaded, which is later.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code: int | str | None = 0
    try:
        try:
            app(args=list(arguments) if arguments is not None else None, prog_name="shadowplane")
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()  # here, not at the interpreter's end, where nobody could catch what is wrong with it
    except BrokenPipeError:  # the reader of our pipe left; nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
