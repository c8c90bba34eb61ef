"""Where a feed's bytes come from: a folder, a mailbox export, a URL. The only module of feeds that touches the world.

Each source is polled, blocking, and tells what is new and what is gone since the last poll; what did not change is not
read again. An error that concerns one file is told beside the others' contents; one that concerns all is raised.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import httpx

from control.feeds.errors import FeedError

MOST_FILE_BYTES = 32 * 1024 * 1024
MOST_FILES = 20_000
STEPS = 3  # as many time-outs of a single step may an answer over HTTP take
SUFFIXES = (".ics", ".ical", ".eml", ".txt", ".html", ".htm", ".json", ".geojson", ".xml", ".cap", ".yaml", ".yml")
Stamp = tuple[int, int]
_NEVER: Stamp = (-1, -1)  # no file has it


@dataclass(slots=True)
class Delta:
    """What changed. ``fresh``: name -> contents; ``gone``: names; ``errors``: name -> why it could not be read."""

    fresh: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)


class Source(Protocol):
    """``lasting``: what stops being listed is not withdrawn by that. ``forget``: what came was of no use, so that it
    has to be asked for as if for the first time."""

    lasting: bool

    def poll(self) -> Delta: ...

    def forget(self) -> None: ...


@dataclass(slots=True)
class FolderSource:
    """The files of one folder, or one file. Hidden files and unknown suffixes are passed over (not for one file)."""

    path: Path
    lasting: bool = False
    _known: dict[str, Stamp] = field(default_factory=dict)

    def poll(self) -> Delta:
        delta, present = Delta(), set()
        for path in self._files():
            present.add(path.name)
            try:
                stat = path.stat()
                stamp = (stat.st_mtime_ns, stat.st_size)
                if self._known.get(path.name) == stamp:
                    continue
                self._known[path.name] = stamp
                delta.gone.add(path.name)  # its former contents
                delta.fresh[path.name] = _read(path)
            except FileNotFoundError:
                present.discard(path.name)
            except (OSError, FeedError) as error:
                self._known[path.name] = _NEVER  # it may become readable without being changed
                delta.gone.discard(path.name)
                delta.errors[path.name] = str(error)
        delta.gone |= {name for name in self._known if name not in present}
        self._known = {name: stamp for name, stamp in self._known.items() if name in present}
        return delta

    def forget(self) -> None:
        """Files tell by their stamps whether they have changed."""

    def _files(self) -> list[Path]:
        try:
            if self.path.is_file():
                return [self.path]
            found = [item for item in self.path.iterdir() if _wanted(item)]
        except OSError as error:
            raise FeedError(f"{self.path}: {error.strerror or error}") from error
        if len(found) > MOST_FILES:
            raise FeedError(f"{self.path}: more than {MOST_FILES} files")
        return sorted(found)


@dataclass(slots=True)
class MailboxSource:
    """A mailbox as mail programs and IMAP tools export it: an mbox file, a Maildir, or a folder of ``.eml`` files."""

    path: Path
    lasting: bool = False
    _stamps: dict[str, Stamp] = field(default_factory=dict)
    _known: dict[str, bytes] = field(default_factory=dict)  # message -> digest

    def poll(self) -> Delta:
        delta = Delta()
        stamps: dict[str, Stamp] = {}
        present: set[str] = set()
        for path in self._files():
            name = path.name
            try:
                stat = path.stat()
                stamps[name] = (stat.st_mtime_ns, stat.st_size)
                if self._stamps.get(name) == stamps[name]:
                    present |= self._messages_of(name)
                    continue
                data = _read(path)
                for key, message in messages(data, name):
                    present.add(key)
                    digest = hashlib.sha256(message).digest()
                    if self._known.get(key) != digest:
                        delta.gone |= {key} & self._known.keys()
                        self._known[key] = digest
                        delta.fresh[key] = message
            except FileNotFoundError:
                continue
            except (OSError, FeedError) as error:
                stamps[name] = _NEVER
                present |= self._messages_of(name)  # what it said before holds
                delta.errors[name] = str(error)
        delta.gone |= self._known.keys() - present
        self._known = {key: digest for key, digest in self._known.items() if key in present}
        self._stamps = stamps
        return delta

    def forget(self) -> None:
        """Files tell by their stamps whether they have changed."""

    def _messages_of(self, name: str) -> set[str]:
        return {key for key in self._known if key == name or key.startswith(f"{name}:")}

    def _files(self) -> list[Path]:
        try:
            if self.path.is_file():
                return [self.path]
            if (self.path / "cur").is_dir():
                folders = [self.path / "cur", self.path / "new"]
                found = [item for folder in folders if folder.is_dir() for item in folder.iterdir() if item.is_file()]
            else:
                found = [item for item in self.path.iterdir() if item.suffix in (".eml", ".mbox") and item.is_file()]
        except OSError as error:
            raise FeedError(f"{self.path}: {error.strerror or error}") from error
        if len(found) > MOST_FILES:
            raise FeedError(f"{self.path}: more than {MOST_FILES} files")
        return sorted(found)


def messages(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """The messages of an mbox file as ``name:line``, which appending does not change; anything else is one message."""
    if not data.startswith(b"From "):
        yield name, data
        return
    starts = [0] + [match.start() + 1 for match in re.finditer(rb"\n(?=From [^\n]*\d\d:\d\d)", data)]
    starts = [at for at in starts if at == 0 or data[max(0, at - 2) : at].endswith(b"\n\n")
              or data[max(0, at - 4) : at] == b"\r\n\r\n"]  # fmt: skip
    line = 1
    for place, begin in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else len(data)
        part = data[begin:end]
        body = part.partition(b"\n")[2]
        yield f"{name}:{line}", re.sub(rb"(?m)^>(>*From )", rb"\1", body)
        line += part.count(b"\n")


@dataclass(slots=True)
class HttpSource:
    """One URL. Asks with ETag and Last-Modified, follows redirects on the same host only, reads a bounded answer.

    ``timeout_s`` is for each step (connecting, one read), :data:`STEPS` of them for all: a server that sends a byte now
    and then keeps nobody waiting. So the question is asked in an event loop of its own, which can end it anywhere."""

    url: str
    timeout_s: float = 10.0
    most_bytes: int = 8 * 1024 * 1024
    ca_file: Path | None = None
    lasting: bool = True
    _tags: dict[str, str] = field(default_factory=dict)
    _verify: ssl.SSLContext | None = None

    def poll(self) -> Delta:
        try:
            if self._verify is None:
                self._verify = _authorities(self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise FeedError(f"{self.ca_file}: {error}") from error
        try:
            return _run(self._bounded(self._verify))
        except httpx.TimeoutException as error:  # says nothing of its own
            raise FeedError(f"{self.url}: {type(error).__name__}: nothing within {self.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:  # OSError: no file descriptors left
            raise FeedError(f"{self.url}: {type(error).__name__}: {_reason(error)}") from error

    def forget(self) -> None:
        """Ask without a tag: "not modified" would pass for good news."""
        self._tags = {}

    async def _bounded(self, verify: ssl.SSLContext) -> Delta:
        most_s = STEPS * self.timeout_s
        try:
            async with (
                asyncio.timeout(most_s),
                httpx.AsyncClient(timeout=self.timeout_s, verify=verify, trust_env=False) as client,
            ):
                return await self._ask(client)
        except TimeoutError as error:
            raise FeedError(f"{self.url}: answer takes longer than {most_s:g} s") from error

    async def _ask(self, client: httpx.AsyncClient) -> Delta:
        url = self.url
        for _ in range(4):
            async with client.stream("GET", url, headers={"User-Agent": "shadowplane", **self._tags}) as reply:
                if reply.status_code == 304:
                    return Delta()
                if reply.is_redirect:
                    url = self._same_host(url, reply.headers.get("location", ""))
                    continue
                if reply.status_code != 200:
                    raise FeedError(f"{self.url}: HTTP {reply.status_code} {reply.reason_phrase}")
                data = await self._body(reply)
                names = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
                self._tags = {ask: reply.headers[told] for told, ask in names if told in reply.headers}
                return Delta(fresh={self.url: data})
        raise FeedError(f"{self.url}: more than 3 redirects")

    async def _body(self, reply: httpx.Response) -> bytes:
        pieces, size = [], 0
        async for piece in reply.aiter_bytes():
            size += len(piece)
            if size > self.most_bytes:
                raise FeedError(f"{self.url}: answer of more than {self.most_bytes} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _same_host(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        old, new = urlsplit(url), urlsplit(target)
        if new.hostname != old.hostname or new.scheme not in ("http", "https"):
            raise FeedError(f"{self.url}: redirect to another host, {target[:200]}")
        if old.scheme == "https" and new.scheme != "https":
            raise FeedError(f"{self.url}: redirect from https to http")
        return target


def _run(waiting: Coroutine[Any, Any, Delta]) -> Delta:
    """``asyncio.run`` that does not wait for a resolver: its thread, which nothing can end, is left to itself."""
    try:
        loop = asyncio.new_event_loop()
    except OSError:
        waiting.close()
        raise
    try:
        return loop.run_until_complete(waiting)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())  # of an answer that was not read to its end
        loop.close()


def _authorities(file: Path | None) -> ssl.SSLContext:
    """Those of a file, or else the system's and certifi's: a bare machine may have none of its own."""
    if file is not None:
        return ssl.create_default_context(cafile=str(file))
    found = httpx.create_ssl_context(trust_env=False)
    found.load_default_certs()
    return found


def _reason(error: BaseException) -> str:
    """What the system said, "Connection refused", where libraries say "All connection attempts failed"."""
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, BaseExceptionGroup):
            one = one.exceptions[0]
        if isinstance(one, ConnectionError) and one.errno is not None:
            return os.strerror(one.errno)
        one = one.__cause__ or one.__context__
    return str(error)


def _wanted(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MOST_FILE_BYTES + 1)
    if len(data) > MOST_FILE_BYTES:
        raise FeedError(f"{path.name}: larger than {MOST_FILE_BYTES} bytes")
    return data
