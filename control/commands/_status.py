"""How ``shadowplane status`` shows what the service says of itself."""

from __future__ import annotations

import time
from typing import Any

from control.commands._common import Output, show

SWITCHES = ("name", "address", "state", "transport", "telemetry", "entries", "error")
SECTIONS = (
    (
        "recommendations",
        ("flow", "prio", "element", "mode", "prob", "horizon_s", "expected_loss", "shadow", "state"),
    ),
    ("maintenance", ("id", "element", "state", "start", "end", "summary")),
    ("threats", ("element", "cause", "mode", "probability", "active")),
    ("anomalies", ("element", "signal", "oddity", "text")),
    ("feeds", ("name", "kind", "state", "age_s", "failures", "problem")),
    ("sources", ("element", "url", "polls", "failures", "error")),
)
MOST_FLOWS = 20  # with in-band telemetry that are shown; JSON has all


def show_status(found: dict[str, Any], output: Output) -> None:
    """The whole of ``GET /status`` as JSON, or what a person wants to know of it."""
    if output is Output.JSON:
        show(found, output)
        return
    flipped = ", ".join(found["flipped"]) or "none"
    print(f"{found['topology']}: strategy {found['strategy']}, {found['role']}, on their shadow: {flipped}")
    show(found["switches"], output, keys=SWITCHES)
    told = found | {
        "recommendations": [_recommendation(item) for item in found["recommendations"]],
        "maintenance": [_work(item) for item in found["maintenance"]],
    }
    for name, keys in SECTIONS:
        if told.get(name):
            show(told[name], output, title=name, keys=keys)
        if name == "recommendations":
            _show_reasons(told[name])
    for text in found["notice_errors"].values():
        print(f"notice not used: {text}")
    if found["unjudged"]:
        rows = [{"element": element, "why": why} for element, why in sorted(found["unjudged"].items())]
        show(rows, output, title="not judged")
    if found["inband"] is not None:
        _show_inband(found["inband"], output)
    _show_models(found)
    _show_history(found["history"])


def _recommendation(item: dict[str, Any]) -> dict[str, Any]:
    """Short names for narrow terminals; ``expected_loss`` in packets where their size is known."""
    packets = item["expected_loss_packets"]
    loss = f"{item['expected_loss_bytes'] / 1000:,.1f} kB" if packets is None else f"{packets:,.0f} packets"
    return item | {"expected_loss": loss, "prio": item["priority"], "prob": item["probability"]}


def _show_reasons(items: list[dict[str, Any]]) -> None:
    """Once per element and mode: the flows of one threat have the same."""
    told = {(item["element"], item["mode"]): item["reasons"] for item in items}
    for (element, mode), reasons in told.items():
        print(f"why {element} ({mode.replace('_', ' ')}): {'; '.join(reasons)}")


def _work(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"start": _when(item["start_s"]), "end": _when(item["end_s"])}


def _when(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time_s))


def _show_inband(found: dict[str, Any], output: Output) -> None:
    wrong = ", ".join(f"{found[name]} {name}" for name in ("missing", "stale", "malformed", "absurd") if found[name])
    print(f"in-band: {found['reports']} reports" + (f" ({wrong})" if wrong else ""), end="")
    if found["standing_in"]:
        print(f"; standing in for polling of {', '.join(found['standing_in'])}", end="")
    if found["exported"] or found["export_dropped"]:
        print(f"; {found['exported']} exported, {found['export_dropped']} dropped", end="")
    print()
    rows = [item | {"path": " ".join(item["path"])} for item in found["flows"][:MOST_FLOWS]]
    if rows:
        keys = ("flow", "path", "event", "latency_us", "queue_packets", "rate_bps")
        more = len(found["flows"]) - len(rows)
        show(rows, output, title="flows with telemetry" + (f" ({more} more)" if more else ""), keys=keys)


def _show_models(found: dict[str, Any]) -> None:
    models, share = found["models"], found["control_share"]
    print(f"models {models['profile']} {models['version']}, drift: {'; '.join(models['drift']) or 'none'}")
    if share["share"] or share["labelled"]:
        known = "not known yet" if share["precision"] is None else f"{share['precision']:.2f}"
        text = f"control share {share['share']:.1%} (priority up to {share['up_to_priority']})"
        print(f"{text}: {share['withheld']} withheld with known outcome, precision {known}")


def _show_history(found: dict[str, Any]) -> None:
    if found.get("error"):
        print(f"history is not written: {found['error']}")
    elif found["folder"]:
        print(f"history in {found['folder']}: {found['written']:,} rows written, {found['dropped']:,} dropped")
