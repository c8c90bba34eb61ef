"""Who understands whose mails. Each module of this package registers one form with :func:`provider`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from control.feeds.announcement import Announcement
from control.feeds.mail import Mail

#: Takes a mail to what it announces. What the mail does not say stays None; a mail about something else gives nothing.
Parser: TypeAlias = Callable[[Mail], Iterable[Announcement]]


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    domains: tuple[str, ...]  # of senders; subdomains count
    parse: Parser


PROVIDERS: dict[str, Provider] = {}


def provider(name: str, *domains: str) -> Callable[[Parser], Parser]:
    """Register a parser under a provider's name."""

    def register(parse: Parser) -> Parser:
        PROVIDERS[name] = Provider(name, domains, parse)
        return parse

    return register


def candidates(mail: Mail) -> list[Provider]:
    """The providers that may have written a mail, by its addresses, best evidence first."""
    found = []
    for domain in mail.domains:
        for item in PROVIDERS.values():
            known = any(domain == name or domain.endswith("." + name) for name in item.domains)
            if known and item not in found:
                found.append(item)
    return found
