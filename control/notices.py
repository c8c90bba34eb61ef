"""Maintenance notices: a folder of small YAML or JSON files, one notice or a list of them per file.

::

    id: CHG-4711
    element: s1-s2          # a link, a port "s1:2", or a switch
    start: 2026-11-21T10:00:00Z   # or seconds since the epoch
    end: 1795255800
    summary: splice on fibre 7

The further fields of :class:`Notice` are those that providers' notices have (:mod:`control.feeds`); they may be given
here as well. Keys are strict: an unknown or mistyped one is an error that names the file and the key, and the notice is
not used. A file that disappears withdraws its notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from control.errors import NoticeError
from control.feeds.announcement import Impact, Status

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 256 * 1024
MISSING = ""  # key of the error that the folder itself is not there


class Notice(BaseModel):
    """One announced piece of work on one element. Times in seconds since the epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    element: str
    start: float
    end: float
    summary: str = ""
    provider: str = ""  # who announced it; empty: the operator
    status: Status = Status.CONFIRMED
    impact: Impact = Impact.OUTAGE
    sequence: int = 0  # of updates, as the provider counts them
    stamp: float = 0.0  # when the provider wrote it; 0: not known
    source: str = ""  # file, message or URL
    received: float = 0.0  # when we first saw it; 0: not known

    @property
    def key(self) -> str:
        """Unique among all notices: one piece of work may touch several elements."""
        return f"{self.provider}/{self.id}@{self.element}" if self.provider else self.id

    @property
    def drains(self) -> bool:
        """Whether traffic has to leave the element: work that is neither over nor tentative, and does harm."""
        return self.impact.drains and not self.status.over and self.status is not Status.TENTATIVE

    @field_validator("start", "end", "stamp", "received", mode="before")
    @classmethod
    def _epoch(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError("neither seconds since the epoch nor an ISO 8601 time") from None
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return value

    @field_validator("id", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _ordered(self) -> Notice:
        if not self.end > self.start:
            raise ValueError("its end is not after its start")
        return self


def parse(text: str, source: str) -> list[Notice]:
    """Notices of one document; raises :class:`NoticeError` naming the source and the key."""
    try:
        document = yaml.safe_load(text)  # JSON is YAML
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        raise NoticeError(f"{source}: not YAML or JSON: {_where(error)}") from error
    if document is None:
        return []
    found = []
    for index, item in enumerate(document if isinstance(document, list) else [document]):
        where = f"{source}[{index}]" if isinstance(document, list) else source
        if not isinstance(item, dict):
            raise NoticeError(f"{where}: a mapping with id, element, start, end is expected")
        try:
            found.append(Notice.model_validate(item))
        except ValidationError as error:
            raise NoticeError(f"{where}: {_first(error)}") from error
    return found


def _where(error: Exception) -> str:
    """What the parser says, with the line where it knows one."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _first(error: ValidationError) -> str:
    found = error.errors()
    detail = next((item for item in found if item["type"] == "extra_forbidden"), found[0])  # it explains a missing one
    key = ".".join(str(part) for part in detail["loc"])
    text = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(detail["type"], detail["msg"])
    return f"{text} {key!r}" if detail["type"] in ("extra_forbidden", "missing") else f"{key}: {text}".lstrip(": ")


@dataclass(slots=True)
class NoticeFolder:
    """Polls a folder and reports what came and went. ``errors``: file name -> what is wrong with it."""

    folder: Path
    errors: dict[str, str] = field(default_factory=dict)
    _known: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = field(default_factory=dict)

    def scan(self, accept: Callable[[Notice], None], withdraw: Callable[[str], object]) -> bool:
        """Read what changed since the last call; returns whether anything did.

        ``accept`` may raise :class:`NoticeError` (an element that does not exist); that file is then an error too.
        """
        changed = False
        present: set[str] = set()
        self.errors.pop(MISSING, None)
        for path in self._files():
            present.add(path.name)
            try:
                stat = path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size)
                if path.name in self._known and self._known[path.name][0] == stamp:
                    continue
                changed = True
                self._forget(path.name, withdraw)
                self._known[path.name] = (stamp, ())
                self.errors.pop(path.name, None)
                if stat.st_size > MAX_BYTES:
                    raise NoticeError(f"{path.name}: larger than {MAX_BYTES} bytes")
                ids = []
                for notice in parse(path.read_text(encoding="utf-8"), path.name):
                    accept(notice)
                    ids.append(notice.id)
                    self._known[path.name] = (stamp, tuple(ids))
            except FileNotFoundError:
                present.discard(path.name)
            except (NoticeError, OSError, UnicodeDecodeError) as error:
                self.errors[path.name] = str(error)
        for name in [name for name in self._known if name not in present]:
            changed = True
            self._forget(name, withdraw)
            del self._known[name]
            self.errors.pop(name, None)
        return changed

    def _forget(self, name: str, withdraw: Callable[[str], object]) -> None:
        for notice_id in self._known.get(name, ((0, 0), ()))[1]:
            withdraw(notice_id)

    def _files(self) -> Iterator[Path]:
        try:
            found = sorted(self.folder.iterdir())
        except OSError as error:  # it may come, or be back; until then nobody should think it is read
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            self.errors[MISSING] = f"{self.folder}: {'no such folder' if missing else error.strerror}"
            return
        for path in found:
            if path.suffix in SUFFIXES and not path.name.startswith("."):
                yield path
