"""Pictures of an evaluation: small PNGs that read on light and on dark ground."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")  # no display, and none needed

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from ml.evaluate_anomaly import ROUTER_SHARE, ROUTER_SPAN_S, NabReport, RouterReport
from ml.evaluate_rows import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, OURS, LEVEL, PALE = "#808890", "#2f81d7", "#d9822b", "#a0a8b0"
DPI, COLOURS = 88, 96
STYLE: Any = {
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "legend.frameon": False,
    "axes.titlesize": 10, "axes.grid": True, "grid.color": INK, "grid.alpha": 0.2,
}  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with transparent ground and few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, transparent=True)
    plt.close(figure)
    buffer.seek(0)
    with Image.open(buffer) as image:
        small = image.convert("RGBA").quantize(COLOURS, method=Image.Quantize.FASTOCTREE)
        path.parent.mkdir(parents=True, exist_ok=True)
        small.save(path, optimize=True)


def verdict(item: Verdict, path: Path) -> None:
    """Precision and recall, recall against false alarms, reliability, lead times."""
    panels: list[Callable[[Axes, Verdict], None]] = [_curve, _false]
    panels += [_reliability] if item.reliability else []
    panels += [_leads] if item.leads_s else []
    _panels(item, panels, path)


def _panels(item: Any, panels: Sequence[Callable[[Axes, Any], None]], path: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 2.7), squeeze=False)
        for axis, draw in zip(axes[0], panels, strict=True):
            draw(axis, item)
        figure.tight_layout(pad=0.6)
        save(figure, path)


def _curve(axis: Axes, item: Verdict) -> None:
    axis.plot(*_columns(item.curve), color=OURS, label="model")
    if item.level_curve:
        axis.plot(*_columns(item.level_curve), color=LEVEL, label="level")
    axis.axhline(item.base_rate, color=PALE, linestyle=":", label="base rate")
    axis.set(xlabel="recall of rows", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="precision and recall")
    axis.legend(loc="best")


def _false(axis: Axes, item: Verdict) -> None:
    least = item.at[0].allowed / 10.0
    for points, colour, name in ((item.recall_by_false, OURS, "model"), (item.level_recall_by_false, LEVEL, "level")):
        if points:
            false, recall = _columns(points)
            axis.step(np.maximum(false, least), recall, color=colour, label=name, where="post")
    axis.set_xscale("log")
    for at in item.at:
        axis.axvline(at.allowed, color=PALE, linestyle=":", linewidth=0.8)
    axis.set(xlabel="false alarms per element-day", ylabel="recall of events", ylim=(0, 1.02), title="events found")
    axis.set_xlim(least, 40.0 * item.at[-1].allowed)
    axis.legend(loc="lower right")


def _reliability(axis: Axes, item: Verdict) -> None:
    axis.plot([0, 1], [0, 1], color=PALE, linestyle=":")
    said, came, rows = (np.array(column, dtype=np.float64) for column in zip(*item.reliability, strict=True))
    axis.plot(said, came, color=OURS, alpha=0.6)
    axis.scatter(said, came, s=12 + 60 * np.sqrt(rows / rows.max()), color=OURS, zorder=3)
    axis.set(xlabel="probability said", ylabel="share that came", xlim=(0, 1), ylim=(0, 1.02), title="reliability")


def _leads(axis: Axes, item: Verdict) -> None:
    leads = np.array(item.leads_s) * (-1.0 if item.detects else 1.0)
    unit, name = (3600.0, "h") if np.abs(leads).max() > 7200 else (60.0, "min")
    if np.abs(leads).max() <= 300:
        unit, name = 1.0, "s"
    axis.hist(leads / unit, bins=20, color=OURS)
    axis.axvline(float(np.median(leads)) / unit, color=LEVEL, label="median")
    told = "delay" if item.detects else "lead"
    axis.set(xlabel=f"{told}, {name}", ylabel="events", title=f"{told} of the first alarm in time")
    axis.legend(loc="upper right")


def nab(report: NabReport, path: Path) -> None:
    """Our standard score among the published ones."""
    bars = [(name, values[0], PALE) for name, values in report.published.items() if values[0] > 0]
    bars += [
        ("this project", report.ours[0].score, OURS),
        ("Windowed Gaussian, same series", report.gaussian[0].score, LEVEL),
    ]
    bars.sort(key=lambda bar: bar[1])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.2, 0.24 * len(bars) + 0.7))
        axis.barh([bar[0] for bar in bars], [bar[1] for bar in bars], color=[bar[2] for bar in bars])
        for k, bar in enumerate(bars):
            axis.text(bar[1] + 0.6, k, f"{bar[1]:.1f}", va="center", fontsize=8)
        axis.set(xlabel="NAB score, standard profile", xlim=(0, 100))
        figure.tight_layout(pad=0.6)
        save(figure, path)


def routers(reports: Sequence[RouterReport], path: Path) -> None:
    """How unusual the most unusual device is, over the time of each archive."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(reports), figsize=(4.4 * len(reports), 2.4), squeeze=False)
        for axis, report in zip(axes[0], reports, strict=True):
            axis.plot(np.arange(len(report.timeline)) * ROUTER_SPAN_S, report.timeline, color=OURS)
            axis.axhline(ROUTER_SHARE, color=PALE, linestyle=":", label="alarm")
            for k, time in enumerate(report.fault_times_s):
                axis.axvline(time, color=LEVEL, label="fault" if k == 0 else None)
            axis.set(xlabel="s", ylabel="unusual series of a device", title=report.name[:40], ylim=(0, None))
            axis.legend(loc="upper left")
        figure.tight_layout(pad=0.6)
        save(figure, path)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[Any, Any]:
    table = np.array(points, dtype=np.float64)
    return table[:, 0], table[:, 1]
