"""``feeds.yaml``: which feeds there are, how circuits map to the topology, what is believed. Unknown keys are errors.

::

    feeds:
      - {name: mails, mailbox: /var/mail/maintenance.mbox}
      - {name: drop, folder: notices.d, poll_s: 5}
      - {name: carrier, url: "https://noc.example.net/maintenance.ics", poll_s: 300, ca_file: carrier-ca.pem}
      - {name: forecast, kind: weather, url: "https://weather.example.net/forecast.json", poll_s: 900}
    circuits: {IC-111111: s1-s2}
    limits: {drain_share: 0.3}
    confirmed: ["carrier/WO-17"]

Relative paths count from the file's folder.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from control.feeds.errors import FeedError
from control.feeds.limits import Limits
from control.feeds.providers import PROVIDERS
from control.feeds.sources import FolderSource, HttpSource, MailboxSource, Source

MOST_BYTES = 4 * 1024 * 1024


class Kind(StrEnum):
    MAINTENANCE = "maintenance"
    WEATHER = "weather"


class FeedConfig(BaseModel):
    """One feed: exactly one of ``folder``, ``mailbox``, ``url``. ``max_age_s``: silent for longer, it is believed no
    more (default: a week for maintenance, 6 hours for weather)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    kind: Kind = Kind.MAINTENANCE
    folder: Path | None = None
    mailbox: Path | None = None
    url: str | None = None
    provider: str | None = None
    poll_s: float = Field(60.0, ge=0.1, le=86_400)
    max_age_s: float | None = Field(None, gt=0)
    timeout_s: float = Field(10.0, gt=0, le=300)
    most_bytes: int = Field(8 * 1024 * 1024, gt=0, le=64 * 1024 * 1024)
    ca_file: Path | None = None

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in PROVIDERS:
            raise ValueError(f"unknown provider {value!r} (known: {', '.join(PROVIDERS)})")
        return value

    @field_validator("url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError(f"{value!r} is no http or https URL")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> FeedConfig:
        if sum(item is not None for item in (self.folder, self.mailbox, self.url)) != 1:
            raise ValueError("exactly one of folder, mailbox and url is needed")
        return self

    @property
    def age_limit_s(self) -> float:
        usual = 7 * 86_400.0 if self.kind is Kind.MAINTENANCE else 6 * 3600.0
        return self.max_age_s if self.max_age_s is not None else usual

    def source(self, base: Path) -> Source:
        if self.folder is not None:
            return FolderSource(base / self.folder)
        if self.mailbox is not None:
            return MailboxSource(base / self.mailbox)
        assert self.url is not None
        ca_file = base / self.ca_file if self.ca_file is not None else None
        return HttpSource(self.url, self.timeout_s, self.most_bytes, ca_file)


class FeedsConfig(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feeds: tuple[FeedConfig, ...] = ()
    circuits: dict[str, str | list[str]] = Field(default_factory=dict)
    limits: Limits = Limits()
    confirmed: frozenset[str] = frozenset()
    base: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _names_once(self) -> FeedsConfig:
        names = [item.name for item in self.feeds]
        if len(set(names)) != len(names):
            raise ValueError("two feeds have the same name")
        return self


def load_config(path: Path) -> FeedsConfig:
    """Read the file; raises :class:`FeedError` naming file and key."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FeedError(f"{path}: larger than {MOST_BYTES} bytes")
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise FeedError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(document, dict):
        raise FeedError(f"{path}: a mapping with the key 'feeds' is expected")
    if "base" in document:
        raise FeedError(f"{path}: unknown key 'base'")
    try:
        return FeedsConfig.model_validate({**document, "base": path.resolve().parent})
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        text = {"extra_forbidden": "unknown key", "missing": "missing key"}.get(detail["type"])
        message = f"{text} {key!r}" if text else f"{key}: {detail['msg'].removeprefix('Value error, ')}".lstrip(": ")
        raise FeedError(f"{path}: {message}") from error
