"""What the commands share: options, the client of the service's API, and how results and errors are shown.

Exit codes: 0 done, 1 failed (a gate, a switch, a service that is not there), 2 usage or input error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, NoReturn

import typer

DEFAULT_API = "http://127.0.0.1:8080"
LONGEST_WORD = 16  # in a table, that is never divided


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


class StrategyName(StrEnum):
    NONE = "none"
    REACTIVE = "reactive"
    DATAPLANE = "dataplane"
    PREDICTIVE = "predictive"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs")]
ApiOption = Annotated[str, typer.Option("--api", envvar="SHADOWPLANE_API", help="where the service listens")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would happen, change nothing")]
TopologyOption = Annotated[str, typer.Option("--topology", "-t", help="diamond, abilene, fattree4, or a file")]


def examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  shadowplane {line}" for line in lines)


def get(api: str, path: str, query: dict[str, Any] | None = None) -> Any:
    return call(api, "GET", path, query=query)


def call(
    api: str, method: str, path: str, *, query: dict[str, Any] | None = None, json_body: dict[str, Any] | None = None
) -> Any:
    import httpx

    url = api if "://" in api else f"http://{api}"
    try:
        reply = httpx.request(method, url + path, params=query, json=json_body, timeout=10.0, trust_env=False)
    except httpx.InvalidURL as error:
        fail(f"{api!r} is not an address: {error}", 2)
    except httpx.HTTPError as error:
        fail(f"no service at {url} ({error}); start one with `shadowplane serve`", 1)
    if reply.status_code == 422:
        fail(message(reply), 2)
    if reply.is_error:
        fail(message(reply), 1)
    try:
        return reply.json()
    except ValueError:
        fail(f"{url} answers, but it is no Shadowplane service; name the right one with --api", 1)


def message(reply: Any) -> str:
    try:
        found = reply.json()
    except ValueError:
        return f"the service answered {reply.status_code}"
    if isinstance(found, dict) and "error" in found:
        return str(found["error"])
    detail = found.get("detail") if isinstance(found, dict) else found
    if isinstance(detail, list) and detail:
        return "; ".join(f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in detail)
    return str(detail)


def show(data: Any, output: Output, *, title: str = "", keys: Sequence[str] | None = None) -> None:
    """JSON, or a table; colours only on a terminal (rich looks at the stream and at NO_COLOR)."""
    if output is Output.JSON:
        print(json.dumps(data, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    rows = data if isinstance(data, list) else [data]
    names = list(keys or (rows[0].keys() if rows else ()))
    if not rows:
        print(f"{title}: none" if title else "none")
        return
    table = Table(title=title or None, title_justify="left", header_style="bold")
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    console = Console(width=None if sys.stdout.isatty() else 200, soft_wrap=False)
    heads = [name.replace("_", " ") for name in names]
    least = [_longest_word([head, *column]) for head, column in zip(heads, zip(*cells, strict=True), strict=True)]
    roomy = sum(least) + 3 * len(names) + 1 <= console.width
    for name, head, width in zip(names, heads, least, strict=True):
        number = isinstance(rows[0].get(name), int | float) and not isinstance(rows[0].get(name), bool)
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(head, justify=justify, overflow="fold", min_width=width if roomy else None)
    for texts in cells:
        table.add_row(*texts)
    console.print(table)


def _longest_word(texts: Iterable[str]) -> int:
    """Letters of the longest word that a narrow terminal should not divide."""
    return max((len(word) for text in texts for word in text.split() if len(word) <= LONGEST_WORD), default=1)


def _text(value: Any) -> str:
    """A cell: numbers with the digits that say something."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.1f}" if abs(value) >= 1e4 else f"{value:.5g}"


def fail(error: object, code: int | None = None) -> NoReturn:
    """Print an error for people and leave: 2 for what was given wrong, 1 for what went wrong."""
    if code is None:
        from control.errors import InputError

        code = 2 if isinstance(error, InputError) else 1
    print(f"shadowplane: {error}", file=sys.stderr)
    raise typer.Exit(code)


def delegate(module: str, arguments: list[str]) -> NoReturn:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        fail(f"{module} is not part of this version", 2)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
