"""What a person sees: progress while the scenarios run, then the table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from control.scoreboard.rows import CONTROL_RUN, Row, verdict
from control.settings import Strategy

_ORDER = {strategy.value: position for position, strategy in enumerate(Strategy)}
_BAR = 18


def table(rows: Sequence[Row], *, title: str = "") -> RenderableType:
    """The scoreboard: a block per scenario, a line per strategy, losses drawn to scale within the block."""
    board = Table(title=title or None, title_justify="left", header_style="bold", border_style="dim", pad_edge=False)
    board.add_column("scenario", no_wrap=True)
    board.add_column("strategy", no_wrap=True)
    board.add_column("sent", justify="right")
    board.add_column("lost", justify="right")
    board.add_column("", no_wrap=True, width=_BAR)
    board.add_column("outage", justify="right")
    board.add_column("reord.", justify="right")
    board.add_column("dup.", justify="right")
    board.add_column("flips", justify="right")
    board.add_column("false", justify="right")
    board.add_column("lead", justify="right")
    board.add_column("flip", justify="right")
    for scenario in _scenarios(rows):
        block = sorted((row for row in rows if row.scenario == scenario), key=lambda row: _ORDER[row.strategy])
        worst = max((row.lost for row in block), default=0)
        for position, row in enumerate(block):
            board.add_row(
                _scenario_cell(row) if position == 0 else "",
                Text(row.strategy, style="bold cyan" if row.strategy == Strategy.PREDICTIVE else ""),
                f"{row.sent:,}",
                Text(f"{row.lost:,}", style=_loss_style(row)),
                Text("█" * _bar(row.lost, worst), style=_loss_style(row)),
                f"{row.outage_ms:,.1f} ms",
                f"{row.reordered:,}" if row.reordered else "·",
                f"{row.duplicated:,}" if row.duplicated else "·",
                f"{row.flips:,}" if row.flips else "·",
                Text(f"{row.false_flips:,}", style="bold red") if row.false_flips else "·",
                f"{row.lead_ms / 1000:+.2f} s" if row.lead_ms is not None else "·",
                f"{row.flip_ms:.2f} ms" if row.flip_ms is not None else "·",
                end_section=position == len(block) - 1,
            )
    outcome = verdict(rows)
    mark, style = ("PASS", "bold green") if outcome.passed else ("FAIL", "bold red")
    return Group(board, Text.assemble((mark, style), f"  {outcome.text}"))


def show(console: Console, rows: Sequence[Row], *, title: str = "") -> None:
    console.print(table(rows, title=title))


def _scenarios(rows: Sequence[Row]) -> list[str]:
    """Foreseeable ones first, the control run last, otherwise as played."""
    seen = dict.fromkeys(row.scenario for row in rows)
    foreseeable = {row.scenario for row in rows if row.foreseeable}
    return sorted(seen, key=lambda name: (name == CONTROL_RUN, name not in foreseeable))


def _scenario_cell(row: Row) -> Text:
    if row.scenario == CONTROL_RUN:
        return Text("no failure (floor)", style="dim")
    kind = "foreseeable" if row.foreseeable else "cannot be foreseen"
    return Text.assemble((row.scenario.replace("_", " "), "bold"), (f"\n{kind}", "dim"))


def _loss_style(row: Row) -> str:
    if row.excess == 0:
        return "green"
    return "red" if row.lost > row.sent * 0.01 else "yellow"


def _bar(lost: int, worst: int) -> int:
    """Length of a bar: proportional, but never empty where something was lost."""
    return max(1, round(_BAR * lost / worst)) if lost else 0
