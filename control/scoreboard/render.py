"""What a person sees: progress while the scenarios run, then the table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import HORIZONTALS
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from control.scoreboard.rows import CONTROL_RUN, Row, verdict
from control.settings import Strategy

_ORDER = {strategy.value: position for position, strategy in enumerate(Strategy)}
_BAR = 18
_WIDE, _MEDIUM = 130, 106  # columns from which there is room for the bars, and for everything but the bars


def table(rows: Sequence[Row], *, title: str = "", width: int = _WIDE) -> RenderableType:
    """The scoreboard: a block per scenario, a line per strategy, losses drawn to scale within the block.

    ``width`` is the console's, in characters; what there is no room for is left out, least important first.
    """
    shown = _columns(width)
    board = Table(
        title=title or None,
        title_justify="left",
        header_style="bold",
        border_style="dim",
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0) if width < _MEDIUM else (0, 1, 0, 0),
    )
    for column in shown:
        left = column in ("scenario", "strategy", "")
        board.add_column(column, justify="left" if left else "right", no_wrap=True, width=None if column else _BAR)
    for scenario in _scenarios(rows):
        block = sorted((row for row in rows if row.scenario == scenario), key=lambda row: _ORDER[row.strategy])
        worst = max((row.lost for row in block), default=0)
        names = _scenario_lines(block[0])
        for position, row in enumerate(block):
            cells = _cells(row, names[position] if position < len(names) else Text(), worst)
            board.add_row(*(cells[name] for name in shown))
        for name in names[len(block) :]:
            board.add_row(name)
        board.add_section()
    outcome = verdict(rows)
    mark, style = ("PASS", "bold green") if outcome.passed else ("FAIL", "bold red")
    return Group(board, Text.assemble((mark, style), f"  {outcome.text}"))


def show(console: Console, rows: Sequence[Row], *, title: str = "") -> None:
    """Print the scoreboard as wide as the console allows."""
    console.print(table(rows, title=title, width=console.width))


def _columns(width: int) -> list[str]:
    names = ["scenario", "strategy", "sent", "lost", "", "outage ms", "reord.", "dup.", "flips", "false", "lead s"]
    names.append("flip ms")
    if width < _WIDE:
        names.remove("")
    if width < _MEDIUM:
        for name in ("reord.", "dup.", "flip ms"):
            names.remove(name)
    return names


def _cells(row: Row, scenario: Text, worst: int) -> dict[str, Text | str]:
    """What stands in each column of a row."""
    predictive = row.strategy == Strategy.PREDICTIVE
    return {
        "scenario": scenario,
        "strategy": Text(row.strategy, style="bold cyan" if predictive else ""),
        "sent": f"{row.sent:,}",
        "lost": Text(f"{row.lost:,}", style=_loss_style(row)),
        "": Text("█" * _bar(row.lost, worst), style=_loss_style(row)),
        "outage ms": f"{row.outage_ms:,.1f}",
        "reord.": f"{row.reordered:,}" if row.reordered else "·",
        "dup.": f"{row.duplicated:,}" if row.duplicated else "·",
        "flips": f"{row.flips:,}" if row.flips else "·",
        "false": Text(f"{row.false_flips:,}", style="bold red") if row.false_flips else "·",
        "lead s": f"{row.lead_ms / 1000:+.2f}" if row.lead_ms is not None else "·",
        "flip ms": f"{row.flip_ms:.2f}" if row.flip_ms is not None else "·",
    }


def _scenarios(rows: Sequence[Row]) -> list[str]:
    """Foreseeable ones first, the control run last, otherwise as played."""
    seen = dict.fromkeys(row.scenario for row in rows)
    foreseeable = {row.scenario for row in rows if row.foreseeable}
    return sorted(seen, key=lambda name: (name == CONTROL_RUN, name not in foreseeable))


def _scenario_lines(row: Row) -> list[Text]:
    """The scenario's name and its kind, a line each."""
    if row.scenario == CONTROL_RUN:
        return [Text("no failure (floor)", style="dim")]
    kind = "foreseeable" if row.foreseeable else "cannot be foreseen"
    return [Text(row.scenario.replace("_", " "), style="bold"), Text(kind, style="dim")]


def _loss_style(row: Row) -> str:
    if row.excess == 0:
        return "green"
    return "red" if row.lost > row.sent * 0.01 else "yellow"


def _bar(lost: int, worst: int) -> int:
    """Length of a bar: proportional, but never empty where something was lost."""
    return max(1, round(_BAR * lost / worst)) if lost else 0
