"""``shadowplane feeds``: what a file, folder, mailbox or URL says, and how it maps to the topology."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control.commands._common import Output, OutputOption, TopologyOption, examples, fail, show

if TYPE_CHECKING:
    from control.feeds.manager import FeedManager

app = typer.Typer(no_args_is_help=True, help="Maintenance notices and weather: what feeds say.", rich_markup_mode=None)

Circuits = Annotated[Path | None, typer.Option("--circuits", help="feeds.yaml with the circuits to map with")]


class What(StrEnum):
    MAINTENANCE = "maintenance"
    WEATHER = "weather"


@app.command(
    epilog=examples(
        "feeds check notice.eml", "feeds check notices.mbox -t net.yaml --circuits feeds.yaml -o json",
        "feeds check https://noc.example.net/maintenance.ics", "feeds check --kind weather forecast.json -t net.yaml",
    )
)  # fmt: skip
def check(
    place: Annotated[str, typer.Argument(help="a file, a folder, a mailbox (mbox, Maildir), or an http(s) URL")],
    topology: TopologyOption = "diamond",
    circuits: Circuits = None,
    kind: Annotated[What, typer.Option(help="what it is about")] = What.MAINTENANCE,
    provider: Annotated[str | None, typer.Option(help="whose form the mails have (default: by their senders)")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Parse, show what was understood and what it maps to. Exit code 2 if anything could not be used."""
    from control.errors import InputError
    from control.feeds.config import FeedConfig, FeedsConfig, Kind, load_config

    try:
        base = load_config(circuits) if circuits is not None else FeedsConfig()
        settings: dict[str, Any] = {"name": "check", "kind": Kind(kind.value), "provider": provider, **_place(place)}
        config = base.model_copy(update={"feeds": (_validated(FeedConfig, settings),), "base": Path.cwd()})
        manager = _polled(topology, config)
    except InputError as error:
        fail(error)
    feed = manager.feeds["check"]
    rows = _weather_rows(manager) if kind is What.WEATHER else _entry_rows(manager)
    if output is Output.TABLE:
        rows = [{key: _cell(value) for key, value in row.items()} for row in rows]
    show(rows, output, title=f"{place}: understood")
    problems = list(dict.fromkeys([feed.problem, *feed.errors.values(), *(text for _, text in manager.reports())]))
    _tell([text for text in problems if text])
    if feed.other:
        what = "1 message is" if len(feed.other) == 1 else f"{len(feed.other)} messages are"
        print(f"{what} about something else", file=sys.stderr)
    raise typer.Exit(2 if feed.problem or feed.errors or feed.lies or manager.book.complaint("check") else 0)


@app.command(name="show", epilog=examples("feeds show feeds.yaml -t net.yaml", "feeds show feeds.yaml -o json"))
def show_feeds(
    feeds: Annotated[Path, typer.Argument(help="feeds.yaml")],
    topology: TopologyOption = "diamond",
    output: OutputOption = Output.TABLE,
) -> None:
    """Poll every feed of a configuration once and show how it is; exit code 1 if one is not ok."""
    from control.errors import InputError
    from control.feeds.config import load_config

    try:
        manager = _polled(topology, load_config(feeds))
    except InputError as error:
        fail(error)
    status = manager.status(_now())
    weather = _weather_rows(manager) if any(item["kind"] == "weather" for item in status["feeds"]) else []
    if output is Output.JSON:
        show(status | {"weather": weather}, output)
    else:
        show(status["feeds"], output, title="feeds", keys=("name", "kind", "state", "failures", "problem"))
        keys = ("provider", "id", "element", "start", "end", "status", "impact", "drains", "summary")
        rows = [item | {"start": _time(item["start"]), "end": _time(item["end"])} for item in status["notices"]]
        show(rows, output, title="notices", keys=keys)
        if weather:
            show([{key: _cell(value) for key, value in row.items()} for row in weather], output, title="weather")
        _tell([text for _, text in manager.reports()])
    raise typer.Exit(0 if all(item["state"] == "ok" for item in status["feeds"]) else 1)


def _place(place: str) -> dict[str, Any]:
    if place.startswith(("http://", "https://")):
        return {"url": place}
    path = Path(place)
    if not path.exists():
        fail(f"{place}: no such file or folder", 2)
    mailbox = (path / "cur").is_dir() or path.suffix == ".mbox" or _is_mbox(path)
    return {"mailbox": path.absolute()} if mailbox else {"folder": path.absolute()}


def _is_mbox(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(5) == b"From "


def _validated(model: Any, settings: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from control.feeds.errors import FeedError

    try:
        return model.model_validate(settings)
    except ValidationError as error:
        raise FeedError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _polled(topology: str, config: Any) -> FeedManager:
    from control.feeds.errors import FeedError
    from control.feeds.manager import FeedManager
    from topo.load import load
    from topo.spec import TopologyError

    try:
        network = load(topology)
    except (TopologyError, OSError) as error:
        raise FeedError(str(error)) from error
    manager = FeedManager(network, config)
    for name in manager.feeds:
        manager.poll(name, _now())
    manager.notices(_now())  # finds circuits that map to nothing
    return manager


def _now() -> float:
    import time

    return time.time()


def _entry_rows(manager: FeedManager) -> list[dict[str, Any]]:
    rows = []
    for item in manager.book.entries.values():
        told = item.found
        elements = [name for one in told.circuits for name in manager.book.circuits.elements(one.id)]
        rows.append(
            {
                "provider": told.provider,
                "id": told.maintenance_id,
                "status": told.status.value if told.status is not None else "",
                "start": _time(told.start),
                "end": _time(told.end),
                "circuits": [f"{one.id} {one.impact.value}" for one in told.circuits],
                "elements": list(dict.fromkeys(elements)),
                "account": told.account or "",
                "summary": (told.summary or "")[:200],
                "source": item.source,
            }
        )
    return rows


def _weather_rows(manager: FeedManager) -> list[dict[str, Any]]:
    rows = []
    for link in manager.topology.links:
        told = manager.weather_on(link, _now())
        row: dict[str, Any] = {"link": manager.topology.link_name(link)}
        for name in ("rain_mm_per_h", "gust_m_per_s", "visibility_m", "rain_fade_db", "alert_severity"):
            value = getattr(told, name)
            row[name] = None if value != value else round(value, 2)  # nan is not itself
        rows.append({**row, "alerts": list(told.alerts), "gaps": list(told.gaps)})
    return rows


def _time(seconds: float | None) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds is not None else ""


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _tell(lines: list[str]) -> None:
    for text in lines:
        print(f"shadowplane: {text}", file=sys.stderr)
