"""How well anomalies are found without labels: NAB's score beside the published ones, and faults of real routers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from ml.anomaly import Oddity, play
from ml.datasets import nab, telemetry
from ml.datasets.errors import DataError
from ml.datasets.reading import find
from ml.estimators.base import Floats
from ml.evaluate_rows import Events, Rows
from ml.nab_score import PROFILES, PUBLISHED, Score, probation, score, score_at

DAY_S = 86_400.0
ALL_SERIES = 58  # of the published benchmark
GAUSS_WINDOW, GAUSS_STEP = 6400, 150  # samples: the published Windowed Gaussian's settings

# Router archives hold minutes, not weeks: everything learns faster.
ROUTER_WARM, ROUTER_FAST, ROUTER_MID, ROUTER_FADE = 12, 3.0, 8.0, 50.0  # samples
ROUTER_SIGMAS = 4.0  # a series this odd is unusual ...
ROUTER_SHARE, ROUTER_SERIES = 0.05, 3  # ... and a device with this share, and number, of unusual series is told
ROUTER_SPAN_S = 10.0  # one collection
ROUTER_DELAY_S = 120.0  # an alarm later than this after a fault is not its alarm
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class NabReport:
    """``ours`` etc. by profile. ``folders``: standard score of each folder at our one threshold. ``honest``: our
    standard score when the threshold for each folder is the best one of all *other* folders."""

    series: int
    windows: int
    ours: list[Score]
    gaussian: list[Score]  # the published Windowed Gaussian, run by us on the same series
    honest: float
    folders: dict[str, float]
    published: dict[str, tuple[float, float, float]]
    missing: int  # series of the published benchmark that are not there


def evaluate_nab(folder: Path, say: Say = lambda _: None) -> tuple[NabReport, list[Rows]]:
    """Score all series below a folder. Raises :class:`DataError`."""
    corpus = nab.load(folder)
    if not any(item.windows for item in corpus):
        raise DataError(f"{folder}: no labelled window in {len(corpus)} series")
    say(f"{len(corpus)} series, {sum(len(item.value) for item in corpus):,} samples")
    odd = play([(item.time_s, item.value) for item in corpus], Oddity(len(corpus), period=DAY_S))
    gaussian = [windowed_gaussian(item.value) for item in corpus]
    ours = [score(corpus, odd, profile) for profile in PROFILES]
    places = [item.name.partition("/")[0] for item in corpus]
    folders, honest, total = {}, 0.0, 0
    for place in dict.fromkeys(places):
        own = [k for k, name in enumerate(places) if name == place]
        rest = [k for k in range(len(corpus)) if k not in own]
        mine = [corpus[k] for k in own]
        windows = sum(len(item.windows) for item in mine)
        folders[place] = score_at(mine, [odd[k] for k in own], PROFILES[0], ours[0].threshold).score
        if any(corpus[k].windows for k in rest):
            limit = score([corpus[k] for k in rest], [odd[k] for k in rest], PROFILES[0]).threshold
            honest += windows * score_at(mine, [odd[k] for k in own], PROFILES[0], limit).score
            total += windows
        if not windows:  # nothing to find: what counts is how many false alarms there were
            folders.pop(place)
    report = NabReport(
        len(corpus),
        ours[0].windows,
        ours,
        [score(corpus, gaussian, profile) for profile in PROFILES],
        honest / total if total else float("nan"),
        folders,
        PUBLISHED,
        max(ALL_SERIES - len(corpus), 0),
    )
    return report, [_rows(corpus, odd, gaussian)]


def windowed_gaussian(value: Floats) -> Floats:
    """The benchmark's baseline: how far out in the normal distribution of the last samples, 0 to 1."""
    found = np.zeros(len(value))
    known = np.nan_to_num(value)
    start, filled = 0, 0
    for i in range(1, len(known)):
        if filled < GAUSS_WINDOW:
            filled = i
        elif i - start - GAUSS_WINDOW >= GAUSS_STEP:
            start += GAUSS_STEP
        if i == 1 or filled < GAUSS_WINDOW or i - start - GAUSS_WINDOW == 0:
            window = known[start : start + filled]
            mean, sigma = float(window.mean()), float(window.std()) or 1e-6
        found[i] = ndtr(abs(known[i] - mean) / sigma)
    return found


def _rows(corpus: Sequence[nab.Series], odd: Sequence[Floats], gaussian: Sequence[Floats]) -> Rows:
    """All samples after the probation, as rows; an event is a labelled window."""
    kept = [np.arange(probation(len(item.value)), len(item.value)) for item in corpus]
    element = np.concatenate([np.full(len(k), i, dtype=np.intp) for i, k in enumerate(kept)])
    time = np.concatenate([item.time_s[k] for item, k in zip(corpus, kept, strict=True)])
    windows = [(i, item.time_s[a], item.time_s[b]) for i, item in enumerate(corpus) for a, b in item.windows]
    table = np.array(windows, dtype=np.float64).reshape(-1, 3)
    outcome = np.concatenate([nab.inside(item)[k] for item, k in zip(corpus, kept, strict=True)]).astype(np.float64)
    baselines = {
        "level": np.concatenate([g[k] for g, k in zip(gaussian, kept, strict=True)]),
        "base rate": np.full(len(time), float(outcome.mean())),
    }
    return Rows(
        "NAB series",
        "labelled anomaly",
        "streaming, no labels",
        time,
        element,
        np.concatenate([o[k] for o, k in zip(odd, kept, strict=True)]),
        outcome,
        Events.detected(table[:, 0].astype(np.intp), table[:, 1], table[:, 2]),
        float(sum(item.time_s[k[-1]] - item.time_s[k[0]] for item, k in zip(corpus, kept, strict=True) if len(k))),
        3600.0,
        baselines,
        calibrated=False,
        detects=True,
        notes="Level is the Windowed Gaussian on the value. A window is centred on its anomaly, so a delay counts from "
        "its start; an episode is told once, so most samples inside a window are not, and average precision is low.",
    )


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    device: str
    interface: str
    delay_s: float  # nan: not noticed within ROUTER_DELAY_S
    told: tuple[tuple[str, float], ...]  # (device, share of its series that are unusual), strongest first
    series: tuple[str, ...]  # the oddest series then, "device sensor key leaf"
    named: bool  # the labelled interface is among the unusual series of the labelled device


@dataclass(frozen=True, slots=True)
class RouterReport:
    """False alarms are spans of :data:`ROUTER_SPAN_S` with an alarm of a device, outside of faults."""

    name: str
    devices: int
    series: int
    seconds: float
    faults: list[Fault]
    false: int
    device_hours: float
    timeline: list[float]  # highest share of unusual series of a device, each ROUTER_SPAN_S from the start
    fault_times_s: list[float]  # from the start


def evaluate_router(path: Path, say: Say = lambda _: None) -> RouterReport:
    """Play one archive through the detector. Raises :class:`DataError`."""
    recording = telemetry.load(path)
    start, end = recording.span_s
    live, series = [], []
    for metric in recording.metrics:
        time, value = telemetry.rate(metric)
        if len(value) > ROUTER_WARM and np.nanmax(value) > np.nanmin(value):
            live.append(metric)
            series.append((time, value))
    if not live:
        raise DataError(f"{path}: no series that changes and is longer than {ROUTER_WARM} samples")
    say(f"{recording.name}: {len(recording.devices)} devices, {len(live):,} series that change")
    odd = play(series, Oddity(len(series), warm=ROUTER_WARM, fast=ROUTER_FAST, mid=ROUTER_MID, fade=ROUTER_FADE))
    devices = recording.devices
    spans = int((end - start) // ROUTER_SPAN_S) + 1
    unusual, count = np.zeros((spans, len(devices))), np.zeros(len(devices))
    for metric, (time, _), value in zip(live, series, odd, strict=True):
        k = devices.index(metric.device)
        count[k] += 1
        at = np.unique(((time - start) // ROUTER_SPAN_S).astype(int)[value >= ROUTER_SIGMAS])
        unusual[at, k] += 1
    share = unusual / np.maximum(count, 1)
    told = (share >= ROUTER_SHARE) & (unusual >= ROUTER_SERIES)
    faults, excused = [], np.zeros(spans, dtype=np.bool_)
    for event in recording.events:
        first = int((event.time_s - start) // ROUTER_SPAN_S)
        if not event.fault or not 0 <= first < spans:
            continue
        reach = slice(first, first + int(ROUTER_DELAY_S // ROUTER_SPAN_S) + 1)
        excused[reach] = True
        noticed = np.flatnonzero(told[reach].any(axis=1))
        place = first + int(noticed[0]) if len(noticed) else first
        since = start + place * ROUTER_SPAN_S
        strongest = sorted(((devices[k], float(share[place, k])) for k in np.flatnonzero(told[place])), key=_share)
        faults.append(_fault(event, live, series, odd, since, bool(len(noticed)), tuple(strongest)))
    false = int(told[~excused].sum())
    hours = float((~excused).sum()) * len(devices) * ROUTER_SPAN_S / 3600.0
    shown = [e.time_s - start for e in recording.events if e.fault and start <= e.time_s <= end]
    timeline = share.max(axis=1).round(4).tolist()
    return RouterReport(recording.name, len(devices), len(live), end - start, faults, false, hours, timeline, shown)


def _share(item: tuple[str, float]) -> float:
    return -item[1]


def _fault(
    event: telemetry.Event,
    live: Sequence[telemetry.Metric],
    series: Sequence[tuple[Floats, Floats]],
    odd: Sequence[Floats],
    since: float,
    noticed: bool,
    told: tuple[tuple[str, float], ...],
) -> Fault:
    """What was told about one fault: the delay is to the first odd sample of a told device that came after it."""
    names = {name for name, _ in told}
    found: list[tuple[float, float, telemetry.Metric]] = []
    for metric, (time, _), value in zip(live, series, odd, strict=True):
        inside = (time >= max(since, event.time_s)) & (time < since + ROUTER_SPAN_S) & (value >= ROUTER_SIGMAS)
        if metric.device in names and inside.any():
            k = int(np.flatnonzero(inside)[0])
            found.append((float(value[k]), float(time[k]), metric))
    found.sort(key=lambda item: -item[0])
    delay = min((time for _, time, _ in found), default=float("nan")) - event.time_s
    return Fault(
        event.name,
        event.device,
        event.interface,
        delay if noticed else float("nan"),
        told,
        tuple(f"{m.device} {m.sensor} {m.key} {m.leaf}".replace("  ", " ") for _, _, m in found[:5]),
        bool(event.interface) and any(m.device == event.device and m.key == event.interface for _, _, m in found),
    )


def evaluate_routers(path: Path, say: Say = lambda _: None) -> list[RouterReport]:
    """All archives of a folder, or one."""
    archives = find(path, "*.tar.gz", "*.tgz")
    if not archives:
        raise DataError(f"{path}: no .tar.gz")
    return [evaluate_router(one, say) for one in archives]
