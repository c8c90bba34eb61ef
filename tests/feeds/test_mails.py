"""Mails of every build and providers' forms, with samples of our own."""

from __future__ import annotations

import base64
import io
import quopri
import zipfile
from email.message import EmailMessage

import pytest

from control.feeds.announcement import Circuit, Impact, Status
from control.feeds.errors import FeedError, NotUnderstood
from control.feeds.mail import body_mail, read_mails
from control.feeds.page import from_html, from_text
from control.feeds.reading import read
from control.feeds.sheet import from_csv, from_xlsx

GMT = 1772326800.0  # 2026-03-01T01:00Z


def mail(body: str, *, sender: str, subject: str = "Work", html: bool = False) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["Subject"], message["Date"] = sender, subject, "Sun, 01 Feb 2026 10:00:00 +0000"
    message.set_content("see below") if html else message.set_content(body)
    if html:
        message.add_alternative(body, subtype="html")
    return message


VERIZON = """<html><head><style>td {x: y}</style></head><body><p>Dear Wholesale Customer,</p>
<p>Attention: This request has been rescheduled.</p>
<table><tr><td>Maintenance Date/Time (GMT):</td><td>Mar 1 2026 01:00 GMT - Mar 1 2026 03:30 GMT</td></tr>
<tr><td>Description of Maintenance:</td><td>New   cable &amp; splice</td></tr>
<tr><td>Verizon MASTARS Request number:</td><td>4711-1</td></tr></table>
<table><tr><th>Company Name</th><th>Circuit ID</th><th>A End</th></tr>
<tr><td>Us</td><td>U0001</td><td>x</td></tr><tr><td>Us</td><td>U0002</td><td>y</td></tr></table></body></html>"""


def test_html_with_tables() -> None:
    reading = read(mail(VERIZON, sender="gemc@verizon.com", html=True).as_bytes(), "v.eml")
    (found,) = reading.announcements
    assert (found.provider, found.maintenance_id, found.account) == ("verizon", "4711-1", "Wholesale Customer")
    assert found.status is Status.RE_SCHEDULED and found.summary == "New cable & splice"
    assert (found.start, found.end) == (GMT, GMT + 9000)
    assert found.circuits == (Circuit("U0001"), Circuit("U0002"))
    assert found.stamp == 1769940000.0 and found.organizer == "gemc@verizon.com"


@pytest.mark.parametrize("coding", ["quoted-printable", "base64", "8bit"])
def test_transfer_encodings(coding: str) -> None:
    body = VERIZON.encode()
    coded = {"quoted-printable": quopri.encodestring(body), "base64": base64.encodebytes(body), "8bit": body}[coding]
    head = f"From: a@verizon.com\nSubject: x\nContent-Type: text/html\nContent-Transfer-Encoding: {coding}\n\n".encode()
    assert read(head + coded, "v.eml").announcements[0].maintenance_id == "4711-1"


def test_forwarded_inline_and_attached() -> None:
    inline = "<p>---------- Forwarded message ---------<br>From: NOC &lt;noc@verizon.com&gt;</p>" + VERIZON
    message = mail(inline, sender="boss@ours.example", html=True)
    assert read(message.as_bytes(), "f.eml").announcements[0].provider == "verizon"
    outer = mail("see attached", sender="boss@ours.example", subject="Fwd: work")
    outer.add_attachment(mail(VERIZON, sender="gemc@verizon.com", html=True))
    assert read(outer.as_bytes(), "f.eml").announcements[0].maintenance_id == "4711-1"


def test_a_calendar_is_preferred_to_words() -> None:
    message = mail(VERIZON, sender="gemc@verizon.com", html=True)
    calendar = (
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\nDTSTART:20260301T010000Z\n"
        "DTEND:20260301T020000Z\nDTSTAMP:20260201T000000Z\nX-MAINTNOTE-PROVIDER:p.example\n"
        "X-MAINTNOTE-MAINTENANCE-ID:W9\nX-MAINTNOTE-STATUS:TENTATIVE\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    message.add_attachment(calendar.encode(), maintype="text", subtype="calendar", filename="w.ics")
    (found,) = read(message.as_bytes(), "v.eml").announcements
    assert (found.provider, found.maintenance_id, found.status) == ("p.example", "W9", Status.TENTATIVE)


def test_plain_text_and_addresses_as_circuits() -> None:
    text = (
        "Peer.example (AS64500),\n\nNetflix (AS2906) will be performing scheduled maintenance in Somewhere, at "
        "2026-03-01 01:00:00+00:00 UTC.\nExpected downtime will be approximately 2 hours.\nYour IPs:\n"
        "192.0.2.9\n2001:db8::9\n"
    )
    (found,) = read(mail(text, sender="cdnetops@netflix.com").as_bytes(), "n.eml").announcements
    assert found.account == "AS64500" and found.start == GMT and found.end == GMT + 7200
    assert [item.id for item in found.circuits] == ["192.0.2.9", "2001:db8::9"]


def test_the_same_window_has_the_same_digest_as_its_cancellation() -> None:
    planned = (
        "Planned maintenance has been scheduled on a router from Sun, 01 Mar 2026 01:00:00 GMT to "
        "Sun, 01 Mar 2026 03:00:00 GMT for 2 hours.\n\ndxcon-0abcdef1\n"
    )
    ended = planned.replace("has been scheduled on a router", "on a router").replace("for 2", "has been cancelled, 2")
    first, second = (read(mail(t, sender="x@amazon.com").as_bytes(), "a").announcements[0] for t in (planned, ended))
    assert first.maintenance_id == second.maintenance_id and second.status is Status.CANCELLED


def test_windows_in_table_rows_and_impact_per_circuit() -> None:
    body = (
        "<p>Maintenance Notification</p><p>Dear Ours,</p><p>Ticket Number: CM1</p>"
        "<table><tr><td>2/28/2026</td><td>8:00 PM</td><td>2/28/2026</td><td>10:00 PM</td><td>Eastern</td></tr>"
        "<tr><td>3/1/2026</td><td>1:00 AM</td><td>3/1/2026</td><td>3:00 AM</td><td>GMT</td></tr></table>"
        "<p>Work Description:</p><p>Splicing.</p>"
        "<table><tr><td>Circuit ID</td><td>Active Product</td><td>Impact</td></tr>"
        "<tr><td>C1</td><td>Fibre</td><td>None</td></tr><tr><td>C2</td><td>Fibre</td><td>2 hours</td></tr></table>"
    )
    (found,) = read(mail(body, sender="f@crowncastle.com", html=True).as_bytes(), "c.eml").announcements
    assert found.start == GMT and found.summary == "Splicing."
    assert found.circuits == (Circuit("C1", Impact.NO_IMPACT), Circuit("C2", Impact.OUTAGE))


def test_forms_without_samples() -> None:
    """Three providers whose form is known, but of which no public sample was at hand."""
    equinix = (
        "<p><b>SPAN:</b> 28-FEB-2026 - 01-MAR-2026</p><p><b>UTC:</b> SATURDAY, 28 FEB 22:00 - SUNDAY, 01 MAR 01:00</p>"
        "<p><b>IMPACT:</b> No impact to your service</p><table><tr><th>Account #</th><th>Product</th>"
        "<th>Service Serial #</th></tr><tr><td>77</td><td>Port</td><td>S-1</td></tr></table>"
    )
    message = mail(equinix, sender="no@equinix.com", subject="COMPLETED - Upgrade [5-21]", html=True)
    (found,) = read(message.as_bytes(), "e.eml").announcements
    assert (found.maintenance_id, found.account, found.status) == ("5-21", "77", Status.COMPLETED)
    assert (found.start, found.end) == (GMT - 3 * 3600, GMT) and found.circuits == (Circuit("S-1", Impact.NO_IMPACT),)
    lumen = (
        "<p>Scheduled Maintenance #: 12-1</p><p>Summary: Card swap</p><p>Updates: This maintenance is scheduled.</p>"
        "<table><tr><td>Start</td><td>End</td></tr><tr><td>2026-03-01 01:00 GMT</td><td>2026-03-01 05:00 GMT</td></tr>"
        "</table><table><tr><td>Customer Name</td><td>Circuit ID</td><td>Impact Type</td></tr>"
        "<tr><td>Us</td><td>L-1</td><td>Outage</td></tr></table>"
    )
    (found,) = read(mail(lumen, sender="c@lumen.com", html=True).as_bytes(), "l.eml").announcements
    assert (found.maintenance_id, found.summary, found.start) == ("12-1", "Card swap", GMT)
    assert found.circuits == (Circuit("L-1"),)
    zayo = (
        "<p>Maintenance Ticket #: TTN-9</p><p>Customer: Us</p><p>Reason for Maintenance: Splice</p>"
        "<p>28-Feb-2026 18:00 to 28-Feb-2026 22:00 ( Mountain )</p>"
        "<p>01-Mar-2026 01:00 to 01-Mar-2026 05:00 ( GMT )</p>"
        "<p>02-Mar-2026 01:00 to 02-Mar-2026 05:00 ( GMT )</p>"
        "<table><tr><th>Circuit Id</th><th>Expected Impact</th></tr><tr><td>/OG/1</td><td>Hard Down</td></tr></table>"
    )
    (found,) = read(mail(zayo, sender="mr@zayo.com", html=True).as_bytes(), "z.eml").announcements
    assert (found.maintenance_id, found.account, found.start) == ("TTN-9", "Us", GMT)
    assert found.end == GMT + 28 * 3600 and found.circuits == (Circuit("/OG/1"),)


def test_a_saved_body_needs_its_provider_named() -> None:
    body = VERIZON.encode()
    with pytest.raises(NotUnderstood, match="no address tells whose form it is"):
        read(body, "saved.html")
    assert read(body, "saved.html", "verizon").announcements[0].maintenance_id == "4711-1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"4711-1": ""}, "no notice in a mail that looks like verizon's"),
        ({"Mar 1 2026 03:30 GMT": "later"}, "no date in 'later'"),
        ({"Mar 1 2026 03:30": "Feb 1 2026 03:30"}, "its end is not after its start"),
        ({"Maintenance Date/Time (GMT)": "When"}, "no start, no end"),
    ],
)
def test_errors_name_the_source_and_the_reason(change: dict[str, str], words: str) -> None:
    body = VERIZON
    for old, new in change.items():
        body = body.replace(old, new)
    with pytest.raises(FeedError) as caught:
        read(mail(body, sender="gemc@verizon.com", html=True).as_bytes(), "v.eml")
    assert str(caught.value).startswith("v.eml") and words in str(caught.value)


def test_mail_about_something_else() -> None:
    with pytest.raises(NotUnderstood):
        read(mail("Lunch at noon?", sender="friend@example.org").as_bytes(), "l.eml")
    with pytest.raises(FeedError, match="more than"):
        read_mails(b"x" * 9_000_000, "big.eml")


def test_broken_html_gives_lines_and_rows() -> None:
    page = from_html("<table><tr><td>a<td>b<tr><td>c<table><tr><td>in<td>ner</table></table><p>x<br>y&amp;z<script>no")
    assert page.tables == [[["a", "b"]], [["in", "ner"]]]
    assert page.lines == ["a", "b", "c", "in", "ner", "x", "y&z"]
    assert from_text("One: 1\n\nTwo :\n 2\n").all_values("Two") == ["2"]
    assert from_html("<p>" * 50_000 + "deep").lines == ["deep"]
    assert from_html("<!DOCTYPE html><p>a<!-- no --><?x?><![if x]>b < c").lines == ["a b < c"]
    assert len(from_html("<!-- " * 50_000).lines) == 1  # took minutes once
    assert body_mail("<p>a=\n b =3D c</p>", "x").page.text == "a b = c"


def test_tables_as_attachments() -> None:
    rows = [["OCN", "Circuit ID"], ["7", "C-1"]]
    text = "\n".join("\t".join(row) for row in rows)
    assert from_csv(text.encode("utf-16")) == from_csv(text.encode()) == rows
    book = io.BytesIO()
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(book, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("xl/sharedStrings.xml", f"<sst {space}><si><t>OCN</t></si><si><t>Circuit ID</t></si></sst>")
        out.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet {space}><sheetData><row><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'
            f'<row><c r="A2"><v>7</v></c><c r="B2" t="inlineStr"><is><t>C-1</t></is></c></row></sheetData></worksheet>',
        )
    assert from_xlsx(book.getvalue()) == rows
    for bad in (b"PK", book.getvalue()[:-40], b""):
        with pytest.raises(FeedError):
            from_xlsx(bad)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("xl/worksheets/sheet1.xml", b"<a>" + b" " * 5_000_000 + b"</a>")
    with pytest.raises(FeedError, match="more than"):
        from_xlsx(bomb.getvalue())


LABELLED = """Dear customer,
{id_label}: CHG-4711
{begin_label}: {begin}
{end_label}: {end}
{circuit_label}: IC-100, IC-200
Impact: {impact}
"""
WORDS = {"id_label": "Ticket Number", "begin_label": "Start Date/Time", "begin": "1 Mar 2026 01:00 UTC",
         "end_label": "End Date/Time", "end": "1 Mar 2026 03:30 UTC", "circuit_label": "Affected circuits",
         "impact": "loss of service"}  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"id_label": "Wartungsnummer", "begin_label": "Beginn", "begin": "01. März 2026, 02:00 Uhr MEZ",
         "end_label": "Ende", "end": "01. März 2026, 04:30 Uhr MEZ"},
        {"begin_label": "Inicio", "begin": "1 de marzo de 2026 01:00 UTC", "end_label": "Fin"},
        {"begin_label": "Maintenance window", "begin": "2026-03-01 01:00 to 2026-03-01 03:30 UTC",
         "end_label": "Contact"},
    ],
)  # fmt: skip
def test_a_provider_nobody_knows_is_understood_by_its_labels_and_only_shown(other: dict[str, str]) -> None:
    sent = mail(LABELLED.format(**{**WORDS, **other}), sender="noc@carrier.example", subject="Planned work").as_bytes()
    (found,) = read(sent, "x").announcements
    assert (found.provider, found.maintenance_id, found.status) == ("carrier.example", "CHG-4711", Status.TENTATIVE)
    assert (found.start, found.end) == (GMT, GMT + 2.5 * 3600)
    assert found.circuits == (Circuit("IC-100", Impact.OUTAGE), Circuit("IC-200", Impact.OUTAGE))
    (vouched,) = read(sent, "x", provider="generic").announcements  # the operator says whose form it is
    assert vouched.status is Status.CONFIRMED


def test_an_unknown_provider_may_call_its_work_off_and_must_say_what_is_concerned() -> None:
    off = mail(LABELLED.format(**WORDS), sender="noc@carrier.example", subject="Cancelled: planned work")
    assert read(off.as_bytes(), "x").announcements[0].status is Status.CANCELLED
    vague = {**WORDS, "circuit_label": "Affected", "begin": "soon"}
    with pytest.raises(NotUnderstood, match="no known provider"):
        read(mail(LABELLED.format(**vague), sender="noc@carrier.example").as_bytes(), "x")


def test_circuits_of_an_unknown_provider_in_a_table_with_their_impact() -> None:
    body = """<html><body><p>Maintenance ID: M-1</p><p>Start: 2026-03-01 01:00 GMT</p><p>End: 2026-03-01 03:30 GMT</p>
<table><tr><th>Circuit ID</th><th>Expected Impact</th></tr><tr><td>AB/12</td><td>At risk</td></tr>
<tr><td>AB/13</td><td>down</td></tr></table></body></html>"""
    (found,) = read(mail(body, sender="noc@carrier.example", html=True).as_bytes(), "x").announcements
    assert found.circuits == (Circuit("AB/12", Impact.REDUCED_REDUNDANCY), Circuit("AB/13", Impact.OUTAGE))
