"""The running network at a glance, until Ctrl-C: what ``make run`` shows on a terminal after the scoreboard."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from control.scoreboard.service import ServiceProcess

_PERIOD_S = 0.5
_MOST = 8


def watch(console: Console, service: ServiceProcess) -> None:
    """Redraw twice a second; returns on Ctrl-C."""
    with Live(console=console, refresh_per_second=4, screen=False) as live:
        try:
            while True:
                live.update(view(service.get("/status"), service.get("/forecasts")))
                time.sleep(_PERIOD_S)
        except KeyboardInterrupt:
            return


def view(status: dict[str, Any], forecasts: list[dict[str, Any]]) -> RenderableType:
    """A picture of ``GET /status`` and ``GET /forecasts``."""
    head = Text.assemble(
        (f"{status['topology']}", "bold"),
        f"  strategy {status['strategy']}  groups {status['groups']}, {status['shadowed']} with a shadow  ",
        (f"flipped {len(status['flipped'])}", "bold yellow" if status["flipped"] else "green"),
        f"  telemetry {status['telemetry']['received']:,} samples",
    )
    switches = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("switch", "state", "transport", "entries", "telemetry"):
        switches.add_column(column)
    for item in status["switches"]:
        good = item["state"] == "ready"
        switches.add_row(
            item["name"],
            Text(item["state"], style="green" if good else "red"),
            item["transport"] or "·",
            str(item["entries"]),
            item["telemetry"],
        )
    threats = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("element", "mode", "probability", "because"):
        threats.add_column(column)
    for item in forecasts[:_MOST]:
        because = "; ".join(reason["text"] for reason in item["reasons"][:2])
        probability = item["probability"]
        style = "bold red" if probability > 0.5 else "yellow" if probability > 0.1 else "dim"
        threats.add_row(item["element"], item["mode"], Text(f"{probability:.3f}", style=style), because)
    foot = Text("`make shell SWITCH=s1` in another terminal talks to a switch; Ctrl-C takes the lab down", style="dim")
    return Group(head, "", switches, "", threats, "", foot)
