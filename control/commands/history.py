"""``shadowplane history``: what telemetry was recorded, and past telemetry from elsewhere."""

from __future__ import annotations

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from control.commands._common import Output, OutputOption, examples, fail, show

app = typer.Typer(help="Recorded telemetry: query, export, import.", no_args_is_help=True)
FolderOption = Annotated[Path, typer.Option("--dir", envvar="SHADOWPLANE_HISTORY", help="the history's folder")]
TableOption = Annotated[str, typer.Option("--table", help="ports, devices, gaps, events or flows")]
DEFAULT = Path("build/history")
TIMES = ("time_s", "end_s", "first_s", "last_s")  # seconds since the epoch


@app.command(
    epilog=examples(
        "history query --element s1:2 --since 2026-11-21T10:00:00Z --columns rx_power_dbm,pre_fec_ber",
        "history query --element s1:2 --rates --columns tx_bytes_total -o json",
        "history query --table gaps --export gaps.csv",
    )
)
def query(
    folder: FolderOption = DEFAULT,
    table: TableOption = "ports",
    element: Annotated[list[str] | None, typer.Option(help="a port (s1:2) or a switch; may be repeated")] = None,
    since: Annotated[str, typer.Option(help="seconds since the epoch or ISO 8601; without a zone UTC")] = "",
    until: Annotated[str, typer.Option(help="likewise; this moment is not part of it")] = "",
    columns: Annotated[str, typer.Option(help="comma-separated; all by default")] = "",
    rates: Annotated[bool, typer.Option("--rates", help="counters as growth per second")] = False,
    limit: Annotated[int, typer.Option(min=0, help="the newest so many rows; 0: all")] = 1000,
    export: Annotated[Path | None, typer.Option(help="write all rows to a .csv, .json or .parquet file")] = None,
    form: Annotated[str, typer.Option("--format", help="csv on standard output instead of --output")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Rows of the history, also while it is being written."""
    from control.errors import ControlError
    from control.history.reader import Query, Reader

    if form not in ("", "csv"):
        fail(f"--format {form}: only csv; --output gives table and json", 2)
    wanted = tuple(name.strip() for name in columns.split(",") if name.strip())
    try:
        reader = Reader(folder)
        asked = Query(
            table, tuple(element or ()), _time(since), _time(until), wanted, 0 if export is not None else limit, rates
        )
        if export is not None:
            print(f"{reader.export(asked, export)} rows in {export}")
            return
        rows = reader.rows(asked)
    except ControlError as error:
        fail(error)
    if form == "csv":
        _csv(rows)
        return
    if output is Output.JSON:
        show(rows, output)
        return
    filled = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    show([_dated(row) for row in rows], output, title=table, keys=[_undated(name) for name in filled])


@app.command(epilog=examples("history info", "history info --dir build/state/history -o json"))
def info(folder: FolderOption = DEFAULT, output: OutputOption = Output.TABLE) -> None:
    """Files, bytes, rows and times of each table."""
    from control.errors import ControlError
    from control.history.reader import Reader

    try:
        rows = Reader(folder).summary()
        show(rows if output is Output.JSON else [_dated(row) for row in rows], output, title=str(folder))
    except ControlError as error:
        fail(error)


@app.command(
    name="import",
    epilog=examples(
        "history import old.csv --element s1:2 --map when=time_s --map rx=rx_power_dbm",
        "history import cpu.parquet --table devices --map host=element --map load_percent=cpu_utilization*0.01",
    ),
)
def import_(
    file: Annotated[Path, typer.Argument(help="a .csv, .tsv, .csv.gz or .parquet file")],
    folder: FolderOption = DEFAULT,
    table: Annotated[str, typer.Option("--table", help="ports or devices")] = "ports",
    names: Annotated[list[str] | None, typer.Option("--map", help="THEIRS=OURS or THEIRS=OURS*FACTOR")] = None,
    element: Annotated[str, typer.Option(help="of all rows, where no column tells")] = "",
    source: Annotated[str, typer.Option(help="likewise; the file's name by default")] = "",
) -> None:
    """Append past telemetry. A file with an error is refused whole; the error names line and column."""
    from control.errors import ControlError
    from control.history.importer import load, mapping

    try:
        meanings = mapping(names or [])
        count = load(file, folder, table, names=meanings, element=element, source=source, tell=_warn)
    except ControlError as error:
        fail(error)
    print(f"{count} rows of {file} imported into {folder}")


def _time(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is neither seconds since the epoch nor an ISO 8601 time", 2)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _undated(name: str) -> str:
    return name.removesuffix("_s") if name in TIMES else name


def _dated(row: dict[str, Any]) -> dict[str, Any]:
    """For people: times as dates (UTC), without the unit in their names."""
    told = {}
    for name, value in row.items():
        if name in TIMES and value is not None:
            value = datetime.fromtimestamp(value, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00") + "Z"
        told[_undated(name)] = value
    return told


def _warn(text: str) -> None:
    print(f"shadowplane: {text}", file=sys.stderr)


def _csv(rows: list[dict[str, Any]]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
