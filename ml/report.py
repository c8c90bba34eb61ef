"""An evaluation for people and for programs: a table, JSON, and one page that needs nothing else."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.evaluate_rows import Verdict
from ml.metrics import Interval

if TYPE_CHECKING:  # their libraries take a second to load
    from ml.datasets.kddi import Report as FaultReport
    from ml.evaluate_anomaly import NabReport, RouterReport

STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6670;--line:#d5dbe1;--back:#fff;--good:#17803d;--bad:#c0392b}
@media(prefers-color-scheme:dark){:root{--ink:#dfe5ea;--soft:#98a4af;--line:#343c44;--back:#15191d;--good:#4cc38a;
--bad:#ff7b6b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:70rem;margin:2rem auto;
padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin-bottom:.3rem}p,figcaption{color:var(--soft)}figure{margin:.5rem 0;overflow-x:auto}
img{max-width:100%;height:auto}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.2rem .9rem .2rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}.yes{color:var(--good);font-weight:600}.no{color:var(--bad);font-weight:600}
.range{color:var(--soft);font-size:.85em}
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside what it has to reach, as benchmarks write it; ``low`` and ``high``: 90 % interval by event."""

    metric: str
    unit: str
    value: float
    target: str = ""  # a comparison such as ">= 0.9"
    anchor: str = ""
    samples: int = 1
    notes: str = ""
    low: float | None = None
    high: float | None = None
    holds: bool | None = None


@dataclass(slots=True)
class Evaluation:
    """Everything that was judged; ``errors``: data sets that could not be."""

    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    faults: FaultReport | None = None
    nab: NabReport | None = None
    routers: list[RouterReport] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def held(metric: str, unit: str, value: float | Interval, target: str = "", **more: Any) -> Figure:
    """A figure with its verdict on the target (``>=`` or ``<=``), the same for all figures: it holds (True) where the
    whole interval is on the right side, is missed (False) where the value is on the wrong one, and is not shown (None)
    where the value is on the right side and its interval is not. Without an interval the value decides alone; a value
    that is nan shows nothing.

    >>> held("recall", "share", Interval(0.93, 0.91, 0.95), ">= 0.9").holds
    True
    >>> print(held("recall", "share", Interval(0.93, 0.89, 0.95), ">= 0.9").holds)
    None
    >>> held("recall", "share", Interval(0.89, 0.87, 0.91), ">= 0.9").holds
    False
    """
    found = value if isinstance(value, Interval) else Interval(value, value, value)
    if isinstance(value, Interval):
        more |= {"low": value.low, "high": value.high}
    holds = None
    if target and not math.isnan(found.value):
        sign, text = target.split()
        limit, side = float(text), {">=": 1.0, "<=": -1.0}[sign]
        worst = found.low if side > 0 else found.high
        holds = False if side * (found.value - limit) < 0 else True if side * (worst - limit) >= 0 else None
    return Figure(metric, unit, found.value, target, holds=holds, **more)


def number(value: float | None, digits: int = 3) -> str:
    """For people.

    >>> number(0.12345), number(float("nan")), number(1234.5)
    ('0.123', '-', '1,234')
    """
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """For people.

    >>> duration(0.5), duration(90), duration(7200), duration(float("nan"))
    ('0.50 s', '90 s', '120 min', '-')
    """
    if math.isnan(seconds):
        return "-"
    size = abs(seconds)
    seconds += 0.0  # no minus before a zero
    if size < 10:
        return f"{seconds:.2f} s"
    return (
        f"{seconds:.0f} s" if size < 300 else f"{seconds / 60:.0f} min" if size < 10_800 else f"{seconds / 3600:.1f} h"
    )


def interval(item: Interval | None) -> str:
    return "-" if item is None or math.isnan(item.value) else f"{item.value:.3f} [{item.low:.3f}, {item.high:.3f}]"


def slug(*parts: str) -> str:
    """A name for a file.

    >>> slug("router faults", "bgp 1")
    'router-faults-bgp-1'
    """
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def document(found: Evaluation, machine: dict[str, Any]) -> dict[str, Any]:
    """For programs: ``results`` as in benchmarks, the rest in full; what is not a number is null."""
    content = {
        "name": "evaluate",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "results": [asdict(item) for item in found.figures],
        "verdicts": [asdict(item) for item in found.verdicts],
        "router_faults": asdict(found.faults) if found.faults else None,
        "nab": asdict(found.nab) if found.nab else None,
        "routers": [asdict(item) for item in found.routers],
        "errors": found.errors,
    }
    clean: dict[str, Any] = _finite(content)
    return clean


def _finite(item: Any) -> Any:
    if isinstance(item, float):
        return float(f"{item:.7g}") if math.isfinite(item) else None
    if isinstance(item, tuple) and hasattr(item, "_asdict"):  # intervals and bins keep their names
        item = item._asdict()
    if isinstance(item, dict):
        return {key: _finite(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_finite(value) for value in item]
    return item


def write(found: Evaluation, folder: Path, machine: dict[str, Any]) -> list[Path]:
    """``evaluate.json``, ``plots/*.png`` and ``index.html``; returns the files."""
    from ml import report_plots  # matplotlib takes a second to load

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluate.json"
    path.write_text(json.dumps(document(found, machine), indent=1, allow_nan=False) + "\n")
    plots: dict[str, Path] = {}
    for item in found.verdicts:
        name = slug(item.data, item.mode, item.split)
        plots[name] = folder / "plots" / f"{name}.png"
        report_plots.verdict(item, plots[name])
    if found.nab:
        plots["nab-scores"] = folder / "plots" / "nab-scores.png"
        report_plots.nab(found.nab, plots["nab-scores"])
    if found.routers:
        plots["router-archives"] = folder / "plots" / "router-archives.png"
        report_plots.routers(found.routers[:4], plots["router-archives"])
    page_path = folder / "index.html"
    page_path.write_text(page(found, plots, machine))
    return [page_path, path, *plots.values()]


def page(found: Evaluation, plots: dict[str, Path], machine: dict[str, Any]) -> str:
    """The page: no scripts, no links outward, pictures inside."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>Shadowplane: evaluation</title><style>{STYLE}</style>",
        "<h1>How good the predictions are</h1>",
        f"<p>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. All figures are of data that was not learned from. Numbers in "
        "brackets are 90 % intervals, drawn by event, unless a note says 95 %. “Level” is the plainest forecast there "
        "is: the signal now. A target holds where the whole interval is on its right side; it is not shown where only "
        "the value is, and missed where the value is not.</p>",
    ]
    parts += [f"<p class=no>{escape(text)}</p>" for text in found.errors]
    if found.figures:
        parts += ["<h2>Figures and targets</h2>", _figures(found.figures)]
    for data in dict.fromkeys(item.data for item in found.verdicts):
        parts.append(f"<h2>{escape(data[:1].upper() + data[1:])}</h2>")
        if found.faults and data == "router faults":
            parts.append(_faults(found.faults))
        if found.nab and data == "NAB series":
            parts.append(_nab(found.nab, plots.get("nab-scores")))
        parts += [_verdict(v, plots.get(slug(v.data, v.mode, v.split))) for v in found.verdicts if v.data == data]
    if found.routers:
        parts += ["<h2>Router telemetry</h2>", _routers(found.routers, plots.get("router-archives"))]
    about = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts.append(f"<p>{escape(about)}</p></html>")
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    rest = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    return f"<div class=wide><table><tr>{top}</tr>{rest}</table></div>"


def _range(item: Interval | None) -> str:
    if item is None or math.isnan(item.value):
        return "-"
    return f"{item.value:.3f} <span class=range>[{item.low:.3f}, {item.high:.3f}]</span>"


def _figures(figures: Sequence[Figure]) -> str:
    body = []
    for item in figures:
        mark = {True: "<span class=yes>yes</span>", False: "<span class=no>no</span>", None: "not shown"}[item.holds]
        mark = mark if item.target else ""
        value = f"{number(item.value)} {escape(item.unit)}"
        if item.low is not None and item.high is not None:
            value += f" <span class=range>[{number(item.low)}, {number(item.high)}]</span>"
        cells = (escape(item.metric), value, escape(item.target), mark, escape(item.anchor), escape(item.notes))
        body.append(cells)
    return _table(("figure", "value", "target", "holds", "beside", "notes"), body)


def _image(path: Path | None, text: str) -> str:
    if path is None or not path.is_file():
        return ""
    inside = base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img alt="{escape(text)}" src="data:image/png;base64,{inside}"></figure>'


def _verdict(item: Verdict, plot: Path | None) -> str:
    title = f"{item.mode}, {item.split}"
    others = ", ".join(f"{name} {value:.3f}" for name, value in item.baselines.items())
    rows = [
        ("average precision", _range(item.average_precision)),
        ("of simpler forecasts", escape(others)),
        ("more than level by", _range(item.gain)),
        ("Brier skill", _range(item.brier_skill)),
        ("calibration error", number(item.calibration_error, 4)),
        ("judged", f"{item.rows:,} rows, {item.elements:,} elements, {item.element_days:,.2f} element-days, "
         f"{item.events:,} events, base rate {item.base_rate:.4f}"),
    ]  # fmt: skip
    told = "delay" if item.detects else "lead"
    sign = -1.0 if item.detects else 1.0
    at = [
        (
            f"at most {a.allowed:g}", number(a.false_per_day, 2), _range(a.recall), number(a.level_recall),
            duration(sign * a.lead_median_s), duration(sign * a.lead_p10_s), number(a.threshold, 4),
        )
        for a in item.at
    ]  # fmt: skip
    head = ("false alarms per element-day", "were", "events found in time", "by level", f"{told} median",
            f"{told} worst of 10" if item.detects else f"{told} p10", "threshold")  # fmt: skip
    note = f"<p>{escape(item.notes)}</p>" if item.notes else ""
    body = _table(("", ""), rows)
    return f"<h3>{escape(title)}</h3>{note}{body}{_image(plot, title)}{_table(head, at)}"


def _faults(report: FaultReport) -> str:
    head = ("true class", *(escape(name) for name in report.classes), "F1")
    all_names = ("normal", "bgp 1", "bgp 2", "node down", "interface down", "loss or delay")
    places = [all_names.index(name) for name in report.classes]
    rows = [
        (escape(name), *(str(report.confusion[i][j]) for j in places), f"{report.f1[name]:.3f}")
        for name, i in zip(report.classes, places, strict=True)
    ]
    return (
        f"<p>Macro-F1 {_range(report.macro_f1)}, accuracy {_range(report.accuracy)}; saying what was true a minute ago "
        f"has macro-F1 {report.persistence_f1:.3f}, always normal accuracy {report.majority_accuracy:.3f}.</p>"
        + _table(head, rows)
    )


def _nab(report: NabReport, plot: Path | None) -> str:
    rows = [
        (item.profile, f"{item.score:.1f}", f"{other.score:.1f}", f"{item.found} of {item.windows}", f"{item.false}")
        for item, other in zip(report.ours, report.gaussian, strict=True)
    ]
    folders = ", ".join(f"{escape(name)} {value:.1f}" for name, value in report.folders.items())
    return (
        f"<p>{report.series} series, {report.missing} of the published benchmark are not here, so published scores "
        f"(of all) are no exact comparison; the Windowed Gaussian run on the same series is. With the threshold taken "
        f"from other folders only: {report.honest:.1f}. By folder: {folders}.</p>"
        + _table(("profile", "score", "Windowed Gaussian, same series", "windows found", "false samples"), rows)
        + _image(plot, "NAB scores")
    )


def _routers(reports: Sequence[RouterReport], plot: Path | None) -> str:
    rows = []
    for report in reports:
        for fault in report.faults:
            where = " ".join(part for part in (fault.device, fault.interface) if part)
            told = ", ".join(f"{name} {share:.0%}" for name, share in fault.told[:4])
            rows.append(
                (
                    escape(report.name), escape(f"{fault.name} {where}"), duration(fault.delay_s), escape(told),
                    escape("; ".join(fault.series[:2])), f"{report.false} in {report.device_hours:.2f} device-hours",
                )
            )  # fmt: skip
    head = ("archive", "fault", "noticed after", "devices told (unusual series)", "oddest series", "false alarms")
    return (
        "<p>Faults set off by hand, nothing announces them: the hazard models have nothing to foretell here, so "
        "noticing counts.</p>" + _table(head, rows) + _image(plot, "unusual series over time")
    )
