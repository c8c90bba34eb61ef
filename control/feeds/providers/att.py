"""AT&T: labels in the text, the customer's circuits in an attached workbook."""

from __future__ import annotations

from collections.abc import Iterator

from control.feeds.announcement import Announcement, circuits
from control.feeds.mail import Mail
from control.feeds.page import key
from control.feeds.providers.registry import provider
from control.feeds.providers.words import first, impact_in, moment, status_in
from control.feeds.sheet import from_xlsx


@provider("att", "att.com")
def att(mail: Mail) -> Iterator[Announcement]:
    page = mail.page
    account, ids = _assets(mail)
    told = [page.value("Summary"), page.value("Customer Impact Description"), page.value("Description")]
    yield Announcement(
        "att",
        maintenance_id=page.value("Event ID"),
        account=account,
        summary=f"{told[0]}: {told[1]} {told[2]}" if all(told) else next((item for item in told if item), None),
        status=status_in(f"{mail.title} {told[1]}"),
        start=moment(first(r"Start Time:\s*(.+?)(?:,\s*End Time|\n|$)", page.text)),
        end=moment(first(r"End Time:\s*([^\n]+)", page.text)),
        circuits=circuits(ids, impact_in(page.value("Business Risk") or "")),
    )


def _assets(mail: Mail) -> tuple[str | None, list[str]]:
    """The customer and the circuits of the first workbook that has them."""
    for attachment in mail.attachments:
        if not attachment.name.lower().endswith(".xlsx"):
            continue
        rows = from_xlsx(attachment.data)
        titles = [key(cell) for cell in rows[0]] if rows else []
        asset = next((place for place, name in enumerate(titles) if "circuit" in name), None)
        owner = next((place for place, name in enumerate(titles) if "customer" in name and place != asset), None)
        if asset is not None:
            body = [row for row in rows[1:] if len(row) > asset]
            named = [row[owner] for row in body if owner is not None and len(row) > owner and row[owner]]
            return next(iter(named), None), [row[asset] for row in body]
    return None, []
