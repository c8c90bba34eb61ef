"""Folders, mailbox exports and HTTP servers, for real: files on disk and a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mailbox
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from control.feeds.errors import FeedError
from control.feeds.sources import FolderSource, HttpSource, MailboxSource


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked: list[tuple[str, str | None]] = self.server.asked  # type: ignore[attr-defined]
        asked.append((self.path, self.headers.get("If-None-Match")))
        if self.path == "/moved":
            self._answer(302, {"Location": "/data"})
        elif self.path == "/away":
            self._answer(302, {"Location": "http://localhost.example/data"})
        elif self.path == "/loop":
            self._answer(302, {"Location": "/loop"})
        elif self.path == "/data" and self.headers.get("If-None-Match") == '"1"':
            self._answer(304, {})
        elif self.path == "/data":
            self._answer(200, {"ETag": '"1"', "Last-Modified": "Sun, 01 Mar 2026 00:00:00 GMT"}, b"hello")
        elif self.path == "/big":
            self._answer(200, {}, b"x" * 5000)
        elif self.path == "/slow":
            self.server.stop.wait(5)  # type: ignore[attr-defined]
        elif self.path in ("/drops", "/dripping-headers"):
            self._drip()
        else:
            self._answer(404, {})

    def _drip(self) -> None:
        """A byte now and then, as long as somebody listens: never silent, never done."""
        if self.path == "/drops":
            self.send_response(200)
            self.end_headers()
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with contextlib.suppress(OSError):
            while not self.server.stop.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b"a")

    def _answer(self, code: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.asked, found.stop = [], threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.stop.set()  # type: ignore[attr-defined]
    found.shutdown()
    thread.join()
    found.server_close()


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}{path}"


def test_http_asks_with_the_tag_it_was_given(server: ThreadingHTTPServer) -> None:
    source = HttpSource(url(server, "/data"))
    assert list(source.poll().fresh.values()) == [b"hello"]
    assert source.poll().fresh == {}
    assert [tag for _, tag in server.asked] == [None, '"1"']  # type: ignore[attr-defined]
    source.forget()
    assert list(source.poll().fresh.values()) == [b"hello"]


def test_http_redirects_within_the_host_only(server: ThreadingHTTPServer) -> None:
    assert list(HttpSource(url(server, "/moved")).poll().fresh.values()) == [b"hello"]
    for path, words in (("/away", "another host"), ("/loop", "more than 3 redirects"), ("/none", "HTTP 404")):
        with pytest.raises(FeedError, match=words):
            HttpSource(url(server, path)).poll()


def test_http_bounds_size_and_time(
    server: ThreadingHTTPServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FeedError, match="more than 1000 bytes"):
        HttpSource(url(server, "/big"), most_bytes=1000).poll()
    monkeypatch.setattr("control.feeds.sources.STEPS", 1000)  # one bound at a time, however slow the machine is
    with pytest.raises(FeedError, match=r"Timeout: nothing within 0\.1 s"):
        HttpSource(url(server, "/slow"), timeout_s=0.1).poll()
    monkeypatch.setattr("control.feeds.sources.STEPS", 0.02)
    for path in ("/drops", "/dripping-headers"):
        with pytest.raises(FeedError, match=r"longer than 0\.6 s"):
            HttpSource(url(server, path), timeout_s=30.0).poll()
    monkeypatch.undo()
    with pytest.raises(FeedError, match="more than 3 bytes"):
        HttpSource(url(server, "/drops"), most_bytes=3).poll()
    gc.collect()
    assert "Task was destroyed" not in caplog.text  # nothing of an answer that was left is still waiting
    port = server.server_address[1]
    with pytest.raises(FeedError, match="https://"):  # speaks no TLS
        HttpSource(f"https://127.0.0.1:{port}/data", timeout_s=1).poll()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with pytest.raises(FeedError, match="Connection refused"):
            HttpSource(f"http://127.0.0.1:{taken.getsockname()[1]}/").poll()


def test_a_slow_resolver_and_a_full_file_table_are_errors_of_the_feed(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(*_arguments: object, **_more: object) -> None:
        asked.set()
        answer.wait(20)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", slow)
        with pytest.raises(FeedError, match=r"ConnectTimeout: nothing within 0\.1 s"):
            HttpSource("http://feeds.example/x", timeout_s=0.1).poll()
        assert asked.is_set() and not answer.is_set()  # nobody waited for the resolver
        answer.set()
    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "new_event_loop", refuse)
        with pytest.raises(FeedError, match="PermissionError: not now"):
            HttpSource(url(server, "/data")).poll()
    assert list(HttpSource(url(server, "/data")).poll().fresh.values()) == [b"hello"]


def test_a_folder_tells_what_is_new_and_gone(tmp_path: Path) -> None:
    (tmp_path / "a.ics").write_text("1")
    (tmp_path / ".b.ics").write_text("hidden")
    (tmp_path / "c.exe").write_text("no")
    source = FolderSource(tmp_path)
    assert source.poll().fresh == {"a.ics": b"1"}
    assert source.poll() == type(source.poll())()
    (tmp_path / "a.ics").write_text("22")
    assert source.poll().fresh == {"a.ics": b"22"}
    (tmp_path / "a.ics").unlink()
    assert source.poll().gone == {"a.ics"}
    with pytest.raises(FeedError, match="No such file"):
        FolderSource(tmp_path / "none").poll()


def refuse(*_arguments: object, **_more: object) -> None:
    raise PermissionError("not now")


@pytest.mark.parametrize("kind", [FolderSource, MailboxSource])
def test_what_cannot_be_read_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """What it said before holds, and it is read as soon as it can be, changed or not."""
    path = tmp_path / "a.eml"
    path.write_text("Subject: one\n\nx\n")
    source = kind(tmp_path)
    assert list(source.poll().fresh) == ["a.eml"]
    path.write_text("Subject: two\n\nxx\n")
    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", refuse)
        found = source.poll()
        assert list(found.errors) == ["a.eml"] and not found.fresh and not found.gone
    assert source.poll().fresh["a.eml"].startswith(b"Subject: two")
    assert not source.poll().fresh


def test_an_mbox_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "box"
    box = mailbox.mbox(path)
    for name in ("one", "two"):
        box.add(f"Subject: {name}\n\nFrom here on\n")
    box.flush()
    source = MailboxSource(path)
    first = source.poll().fresh
    assert [data.split(b"\n")[0] for data in first.values()] == [b"Subject: one", b"Subject: two"]
    assert all(key.startswith("box:") for key in first) and b"\nFrom here on" in next(iter(first.values()))
    assert not source.poll().fresh
    box.add("Subject: three\n\nx\n")
    box.flush()
    os.utime(path, ns=(1, 1))
    later = source.poll()
    assert [data.split(b"\n")[0] for data in later.fresh.values()] == [b"Subject: three"] and not later.gone
    box.close()


def test_a_maildir_and_a_folder_of_mails(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "maildir")
    key = box.add("Subject: one\n\nx\n")
    source = MailboxSource(tmp_path / "maildir")
    assert len(source.poll().fresh) == 1
    box.remove(key)
    assert len(source.poll().gone) == 1
    (tmp_path / "one.eml").write_text("Subject: one\n\nx\n")
    assert MailboxSource(tmp_path).poll().fresh == {"one.eml": b"Subject: one\n\nx\n"}
