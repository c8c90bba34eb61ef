"""How much of a folder of sample notices is parsed to just what is expected: ``python -m control.feeds.measure DIR``.

The folder has one folder per provider with samples (mails, calendars, saved bodies, subjects, tables) and, beside
each, ``NAME_result.json`` or ``NAME_<part>_result.json``: a list of announcements, of which any field may be left
out. Compared are circuits with impact, status, start, end, id, account and summary, as far as the result names them;
white space does not count, nor case in account and summary.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.feeds.announcement import Announcement
from control.feeds.calendar import is_calendar, read_calendar
from control.feeds.errors import FeedError
from control.feeds.mail import Attachment, Mail, body_mail, read_mails
from control.feeds.providers import PROVIDERS
from control.feeds.reading import apply, is_mail, understand
from control.feeds.sheet import decode

COMPARED = ("circuits", "status", "start", "end", "maintenance_id", "account", "summary")
_PARTS = re.compile(r"(?:_e2e|_text|_html|_xlsx|_subject_parser(?:_\d)?|_parser|_text_parser|_html_parser)*_result$")


@dataclass(slots=True)
class Tally:
    """One provider's samples. ``wrong``: sample -> what differs."""

    exact: int = 0
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.exact + len(self.wrong)


def measure(folder: Path) -> dict[str, Tally]:
    """Tallies by provider; samples without a source beside their result are left out."""
    found: dict[str, Tally] = {}
    for result, source in pairs(folder):
        tally = found.setdefault(result.parent.name, Tally())
        try:
            got = announced(source, result.parent.name, result.stem)
        except FeedError as error:
            tally.wrong[result.stem] = str(error)
            continue
        difference = compare(json.loads(result.read_text(encoding="utf-8")), got)
        if difference:
            tally.wrong[result.stem] = difference
        else:
            tally.exact += 1
    return found


def pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each expected result with its sample."""
    for result in sorted(folder.glob("*/*.json")):
        base = _PARTS.sub("", result.stem)
        names = [base, f"{base}1", result.stem.removesuffix("_result")]
        if not isinstance(json.loads(result.read_text(encoding="utf-8")), list):
            continue
        files = [path for path in sorted(result.parent.iterdir()) if path.suffix != ".json" and path.is_file()]
        wanted = ".xlsx" if "_xlsx" in result.stem else None
        for name in names:
            found = [path for path in files if path.stem == name and (wanted is None or path.suffix == wanted)]
            found.sort(key=lambda path: path.suffix == ".xlsx")
            if found:
                yield result, found[0]
                break


def announced(sample: Path, provider: str, result: str = "") -> list[Announcement]:
    """What a sample says, or only its subject if the result is about that."""
    data = sample.read_bytes()
    if is_calendar(data) and provider not in PROVIDERS:
        return read_calendar(data, sample.name)
    if is_calendar(data):
        try:
            return read_calendar(data, sample.name)
        except FeedError:
            return apply(PROVIDERS[provider], Mail(sample.name, attachments=(Attachment(sample.name, "", data),)))
    if is_mail(data):
        mail = read_mails(data, sample.name)[0]
        if "_parser" in result and "_subject" in result:
            return apply(PROVIDERS[provider], Mail(sample.name, subject=mail.subject))
        return understand(mail, provider if provider in PROVIDERS else None)
    if sample.suffix in (".xlsx", ".csv"):
        mail = Mail(sample.name, attachments=(Attachment(sample.name, "", data),))
    elif "subject" in sample.stem:
        mail = Mail(sample.name, subject=decode(data).strip())
    else:
        beside = sample.with_name(f"{sample.stem}_email_subject")
        subject = decode(beside.read_bytes()).strip() if beside.exists() else ""
        mail = body_mail(decode(data), sample.name, subject=subject)
    return apply(PROVIDERS[provider], mail)


def compare(expected: list[dict[str, Any]], got: list[Announcement]) -> str:
    """What differs, empty if nothing does."""
    if len(expected) != len(got):
        return f"{len(got)} announcements, expected {len(expected)}"
    differences = []
    for wanted, found in zip(expected, got, strict=True):
        for name in COMPARED:
            if wanted.get(name, "") != "" and _plain(name, wanted[name]) != _plain(name, getattr(found, name)):
                differences.append(
                    f"{name}: {_plain(name, getattr(found, name))!r}, not {_plain(name, wanted[name])!r}"
                )
    return "; ".join(differences)


def _plain(name: str, value: Any) -> Any:
    """A field in a form that can be compared. Results write 0 and 1 for a window that is not known."""
    if name == "circuits":
        items = [(item["circuit_id"], item["impact"]) if isinstance(item, dict) else (item.id, item.impact.value)
                 for item in value]  # fmt: skip
        return sorted((" ".join(one.split()), other) for one, other in items)
    if name in ("start", "end"):
        return None if value in (None, 0, 1) else int(value)
    text = "".join(str(value).split()) if value else ""
    return text.casefold() if name in ("account", "summary") else text


def main(folder: Path) -> int:
    tallies = measure(folder)
    for name, tally in tallies.items():
        print(f"{name:20} {tally.exact:3} of {tally.total:3}")
        for sample, text in tally.wrong.items():
            print(f"    {sample}: {text[:300]}")
    exact, total = sum(item.exact for item in tallies.values()), sum(item.total for item in tallies.values())
    print(f"{'all':20} {exact:3} of {total:3} = {exact / max(total, 1):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
