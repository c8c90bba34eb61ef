"""Bytes of any known form to announcements: iCalendar, a mail with what it carries, or a saved body.

A mail's Maint-Note calendar is preferred to its words. Otherwise the parsers of the providers whose addresses the mail
names are tried in order; those that find nothing are passed over. Of a provider that is not known, the usual labels are
looked for. A mail about something else is
:class:`~control.feeds.errors.NotUnderstood`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from control.feeds.announcement import Announcement
from control.feeds.calendar import is_calendar, read_calendar
from control.feeds.errors import FeedError, NotUnderstood
from control.feeds.mail import Mail, body_mail, read_mails
from control.feeds.providers import PROVIDERS, Provider, candidates
from control.feeds.providers.generic import unproven
from control.feeds.sheet import decode

_HEADER = re.compile(rb"\A(?:From [^\n]*\n)?(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*){2,}", re.MULTILINE)

CALENDARS = (".ics", ".ical")
_MAIL_ONLY = re.compile(rb"(?im)^(from|to|subject|date|received|mime-version):")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file or message said. ``errors``: what of it could not be used, each naming the source."""

    source: str
    announcements: tuple[Announcement, ...] = ()
    errors: tuple[str, ...] = ()


def read(data: bytes, source: str, provider: str | None = None) -> Reading:
    """Everything usable in ``data``; raises :class:`FeedError` if nothing is.

    ``provider`` fixes whose form it is (a name of :data:`PROVIDERS`).
    """
    if is_calendar(data):
        return Reading(source, tuple(item.checked(source) for item in read_calendar(data, source)))
    if source.lower().endswith(CALENDARS):
        raise FeedError(f"{source}: no iCalendar: it does not begin with BEGIN:VCALENDAR")
    if is_mail(data):
        return _read_mails(read_mails(data, source), source, provider)
    mail = body_mail(decode(data), source)
    return _read_mails([mail], source, provider)


def is_mail(data: bytes) -> bool:
    """Whether it begins with header lines, at least one of which only mails have."""
    match = _HEADER.match(data[:65536].replace(b"\r\n", b"\n"))
    return match is not None and _MAIL_ONLY.search(match[0]) is not None


def _read_mails(mails: Iterable[Mail], source: str, provider: str | None) -> Reading:
    found: list[Announcement] = []
    errors: list[str] = []
    other = True
    for mail in mails:
        try:
            found += [item.checked(source) for item in understand(mail, provider)]
        except NotUnderstood as error:
            errors.append(str(error))
        except FeedError as error:
            other = False
            errors.append(str(error))
    if not found:
        raise (NotUnderstood if other else FeedError)(errors[0] if errors else f"{source}: no message")
    return Reading(source, tuple(found), () if other else tuple(errors))


def understand(mail: Mail, provider: str | None = None) -> list[Announcement]:
    """What one mail announces, unchecked; raises :class:`FeedError`."""
    calendars = [item for item in mail.attachments if is_calendar(item.data)]
    for item in calendars:
        try:
            return [_dated(found, mail) for found in read_calendar(item.data, f"{mail.source}: {item.name}")]
        except NotUnderstood:
            continue  # an invitation without the draft's properties: the words count
    known = [PROVIDERS[provider]] if provider is not None else candidates(mail)
    problem: FeedError | None = None
    for one in known:
        try:
            announced = apply(one, mail)
        except FeedError as error:
            problem = problem or error
            continue
        if any(found.maintenance_id for found in announced):
            return [_dated(found, mail) for found in announced]
    if problem is not None:
        raise problem
    if not known:
        announced = [unproven(_dated(found, mail)) for found in apply(PROVIDERS["generic"], mail)]
        if announced:
            return announced
        raise NotUnderstood(f"{mail.source}: {_unknown(mail)}")
    raise NotUnderstood(f"{mail.source}: no notice in a mail that looks like {known[0].name}'s")


def _unknown(mail: Mail) -> str:
    if mail.domains:
        return f"no known provider among {', '.join(mail.domains[:5])}"
    begins = repr(" ".join((mail.text or mail.html)[:200].split())[:40]) if mail.text or mail.html else "nothing"
    return f"no calendar, and no address tells whose form it is (`provider` would); it begins with {begins}"


def apply(provider: Provider, mail: Mail) -> list[Announcement]:
    """One parser on one mail; raises :class:`FeedError` naming source and provider."""
    try:
        return list(provider.parse(mail))
    except FeedError as error:
        raise type(error)(f"{mail.source}: {provider.name}: {error}") from error


def _dated(found: Announcement, mail: Mail) -> Announcement:
    return found.filled(stamp=mail.sent, organizer=mail.senders[0] if mail.senders else None)
