"""One mail as data: subject, senders, texts, attachments. Any bytes give a :class:`Mail` or a :class:`FeedError`.

Forwarded mails are looked into: a message attached whole (``message/rfc822``) comes as a mail of its own, and the
``From:`` lines of one quoted in the text count as senders.
"""

from __future__ import annotations

import email
import email.policy
import math
import quopri
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError, MessageError
from email.header import decode_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from functools import cached_property

from control.feeds.errors import FeedError
from control.feeds.page import MOST_CHARACTERS, Page, from_html, from_text, squeeze

MOST_BYTES = 8 * 1024 * 1024
MOST_PARTS = 200
DEEPEST = 20
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,100}\.[A-Za-z]{2,10}")
_FORWARDED = re.compile(r"^[>*\s]{0,6}(?:From|Von|De)\s?:\*?\s?(.{0,200})$", re.MULTILINE)
_PREFIXES = re.compile(r"^\s*(?:(?:fwd?|re|wg|aw|tr)\s?:\s?|\[ external \]\s?|\[external\]\s?)+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    kind: str  # "text/csv"
    data: bytes


@dataclass(frozen=True)
class Mail:
    """One message. ``senders``: addresses, those of the envelope first, then those of quoted mails."""

    source: str
    subject: str = ""
    sent: float | None = None  # seconds since the epoch
    senders: tuple[str, ...] = ()
    text: str = ""
    html: str = ""
    attachments: tuple[Attachment, ...] = field(default=())

    @cached_property
    def page(self) -> Page:
        """The HTML's, where it says anything, else the plain text's."""
        found = from_html(self.html) if self.html else Page()
        return found if len(found.lines) > 2 else self.plain

    @cached_property
    def plain(self) -> Page:
        """The plain text's, where there is any, else the HTML's."""
        return from_text(self.text) if self.text.strip() else from_html(self.html)

    @cached_property
    def title(self) -> str:
        """The subject without what forwarding put before it."""
        return _PREFIXES.sub("", self.subject).strip()

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Domains of the senders, then of all other addresses in the text; the first are the best evidence."""
        found = [address.rpartition("@")[2].lower() for address in self.senders]
        found += [item.rpartition("@")[2].lower() for item in _ADDRESS.findall(self.page.text[:200_000])]
        return tuple(dict.fromkeys(found))


def read_mails(data: bytes, source: str) -> list[Mail]:
    """The mail and those attached to it, outermost first; raises :class:`FeedError`."""
    if len(data) > MOST_BYTES:
        raise FeedError(f"{source}: a mail of more than {MOST_BYTES} bytes")
    try:
        message = email.message_from_bytes(_with_boundary(data), policy=email.policy.compat32)
        return list(_mails(message, source))
    except (RecursionError, MessageError, LookupError, ValueError, AttributeError, TypeError) as error:
        # The standard library's parser is lenient, but its decoders raise these on some garbage.
        raise FeedError(f"{source}: not a mail: {type(error).__name__}: {error}") from error


def body_mail(body: str, source: str, *, subject: str = "", html: bool | None = None) -> Mail:
    """A mail of a bare body, such as a saved web page."""
    if html is None:
        html = looks_like_html(body)
    if html and re.search(r"=\r?\n|=3D", body):
        body = quopri.decodestring(body.encode("utf-8", "replace")).decode("utf-8", "replace")
    return Mail(source, subject=subject, html=body if html else "", text="" if html else body)


def looks_like_html(text: str) -> bool:
    return re.search(r"<(?:html|body|table|div|p|td|!doctype)\b", text[:20_000], re.IGNORECASE) is not None


def sent_at(text: str) -> float | None:
    """A ``Date:`` header in seconds since the epoch; None for what is no date."""
    try:
        value = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, OSError):
        return None
    return value if math.isfinite(value) else None


def _with_boundary(data: bytes) -> bytes:
    """Anonymised mails may have lost the boundary's name; the first line that looks like one is it."""
    head, _, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    if re.search(rb"(?im)^content-type:\s*multipart/", head) is None or b"boundary" in head.lower():
        return data
    match = re.search(rb"^--([!-~]{1,70})[ \t]*\nContent-", body[:4096], re.MULTILINE)
    if match is None:
        return data
    head = re.sub(rb"(?im)^(content-type:\s*multipart/[a-z]+)\s*;?", rb'\1; boundary="' + match[1] + rb'"', head)
    return head + b"\n\n" + body


def _mails(message: Message, source: str, depth: int = 0) -> Iterator[Mail]:
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    attachments: list[Attachment] = []
    inner: list[Message] = []
    for part in _parts(message):
        kind = part.get_content_type()
        if kind == "message/rfc822":
            payload = part.get_payload()
            inner += [item for item in payload if isinstance(item, Message)] if isinstance(payload, list) else []
            continue
        data = part.get_payload(decode=True)
        if not isinstance(data, bytes):
            continue
        name = _words(part.get_filename() or "")
        text = _decode(data, part) if kind in texts else ""
        if kind in texts and not name and not text.lstrip("\ufeff \t\r\n").startswith("BEGIN:VCALENDAR"):
            texts[kind].append(text)
        else:
            attachments.append(Attachment(name, kind, data))
    plain, html = "\n".join(texts["text/plain"]), "\n".join(texts["text/html"])
    yield Mail(
        source,
        subject=squeeze(_words(message.get("Subject", ""))),
        sent=sent_at(str(message.get("Date", ""))),
        senders=_senders(message, plain or from_html(html).text),
        text=plain[:MOST_CHARACTERS],
        html=html[:MOST_CHARACTERS],
        attachments=tuple(attachments),
    )
    if depth < DEEPEST:
        for message in inner:
            yield from _mails(message, source, depth + 1)


def _parts(message: Message) -> Iterator[Message]:
    """Leaves and attached messages, in order; bounded in number, and in depth by the parser's own recursion."""
    waiting = [message]
    for _ in range(MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop()
        payload = part.get_payload()
        if isinstance(payload, list) and part.get_content_maintype() == "multipart":
            waiting += [item for item in reversed(payload) if isinstance(item, Message)]
        else:
            yield part


def _senders(message: Message, text: str) -> tuple[str, ...]:
    found = []
    for name in ("From", "Reply-To", "Sender", "Return-Path"):
        found += [address for _, address in getaddresses([_words(value) for value in message.get_all(name, [])])]
    for line in _FORWARDED.findall(text[:100_000]):
        found += _ADDRESS.findall(line)
    return tuple(dict.fromkeys(address for address in found if "@" in address))


def _decode(data: bytes, part: Message) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        return data.decode(charset, "replace")
    except (LookupError, ValueError, UnicodeError):
        return data.decode("utf-8", "replace")


def _words(value: object) -> str:
    """A header's text with encoded words decoded, however broken."""
    text = str(value)
    try:
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "utf-8", "replace")
            for piece, charset in decode_header(text)
        )
    except (HeaderParseError, LookupError, ValueError):
        return text
