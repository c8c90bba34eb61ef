"""The models on simulated worlds that they were not trained on: one more data set of :mod:`ml.evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ml.estimators.base import Floats
from ml.evaluate_rows import Events, Rows
from ml.heldout import HealthyDays, Played, Tally, at_recall, healthy_days, play, tally
from ml.metrics import Interval, average_precision, calibration_error, calibration_interval
from ml.offpolicy import wilson
from ml.report import Figure, held
from ml.schema import Mode
from ml.sim.world import FAMILIAR, FURTHER, UNSEEN, World

WORLDS: dict[str, World] = {world.name: world for world in (FAMILIAR, UNSEEN, FURTHER)}
SUSPICIOUS = 0.06  # probability above which a row counts for the second calibration error: most rows are calm
FALSE_FLIPS = 1.0  # per 1,000 link-days, at most
DECISION_S = 0.010  # a decision's latency at most; a lead counts in hundreds of it
MOST_ROWS = 400_000  # rows of one mode that are judged; more are thinned evenly
# False alarms per element-day at which recall is given; in the lab a day is 86,400 s of compressed time, 17,000 runs.
RATES = {"lab": (20.0, 100.0, 500.0), "operations": (0.01, 0.1, 1.0)}
Say = Callable[[str], None]


def evaluate(
    profile: str, seed: int, count: int, link_days: int, say: Say = lambda _: None, world: str = UNSEEN.name
) -> tuple[list[Rows], list[Figure]]:
    """Rows and figures of all modes of one profile. ``link_days``: of healthy links, for false flips (0: none).
    ``world``: of :data:`WORLDS` (the lab has one only); targets are those of unseen devices."""
    say(f"{profile}: {count} ports and half as many devices, seed {seed}, {world} devices")
    played = play(profile, seed, count, world=WORLDS[world])
    found: list[Rows] = []
    figures: list[Figure] = []
    for mode, item in played.items():
        if not (np.isfinite(item.event) & item.foreseeable).any():
            continue
        devices = UNSEEN.name if profile == "lab" else world
        found += [rows(item, foreseeable=True, devices=devices), rows(item, foreseeable=False, devices=devices)]
        figures += _figures(mode, item, world)
    if link_days and profile != "lab":
        figures.append(_quiet(_days(link_days, seed, profile, world, say), world))
    if world != UNSEEN.name:
        figures = [replace(figure, target="", holds=None) for figure in figures]
    return found, figures


def _days(link_days: int, seed: int, profile: str, world: str, say: Say) -> HealthyDays:
    def progress(days: int) -> None:
        say(f"{profile}: {min(days, link_days):,} of {link_days:,} days of links that never fail")

    progress(0)
    return healthy_days(link_days, seed, profile, world=WORLDS[world], progress=progress)


def rows(item: Played, *, foreseeable: bool, devices: str = UNSEEN.name) -> Rows:
    """As rows; ``foreseeable``: without the elements whose failure nothing announces."""
    keep, label = item.known()
    if foreseeable:
        keep &= (item.foreseeable | ~np.isfinite(item.event))[None, :]
    moment, element = np.nonzero(keep)
    step = max(len(moment) // MOST_ROWS, 1)
    moment, element = moment[::step], element[::step]
    time, outcome = item.time[moment, element], label[moment, element].astype(np.float64)
    judged = np.flatnonzero(keep.any(axis=0) & np.isfinite(item.event))
    onset = item.event[judged]
    events = Events.forecast(judged, onset, onset + item.horizon_s, horizon_s=item.soon_s, act_s=item.act_s)
    baselines = {
        "level": np.nan_to_num(item.level[moment, element]),
        "line": np.nan_to_num(item.line[moment, element]),
        "persistence": np.zeros(len(moment)),  # not failing now, so: never
        "base rate": np.full(len(moment), float(outcome.mean())),
        "clock only": _clock(time, outcome, element, item.horizon_s),
    }
    span = np.where(keep, item.time, np.nan)
    with np.errstate(invalid="ignore"):
        watched = np.nansum(np.nanmax(span, axis=0, initial=-np.inf, where=keep) - item.time[0], where=keep.any(axis=0))
    return Rows(
        f"simulator, {item.profile}",
        str(item.mode).replace("_", " "),
        f"unseen seeds{' and' if devices == UNSEEN.name else f', {devices}'} devices, "
        f"{'foreseeable' if foreseeable else 'all'} failures",
        time,
        element,
        item.probability[moment, element],
        outcome,
        events,
        float(watched),
        item.horizon_s,
        baselines,
        notes=f"Failure within {item.horizon_s:g} s; alarms count from {item.soon_s:g} s to {item.act_s:g} s before.",
        rates=RATES[item.profile],
    )


def _clock(time: Floats, outcome: Floats, element: np.ndarray[tuple[int], np.dtype[np.intp]], bin_s: float) -> Floats:
    """Share of failures at this time since the start, learned from the other half of the elements."""
    place = np.maximum(time // bin_s, 0).astype(np.intp)
    found = np.zeros(len(time))
    for half in (0, 1):
        other = element % 2 != half
        count = np.bincount(place[other], minlength=int(place.max()) + 1)
        came = np.bincount(place[other], outcome[other], minlength=len(count))
        mine = ~other
        found[mine] = (came / np.maximum(count, 1))[place[mine]]
    return found


def _figures(mode: Mode, item: Played, world: str) -> list[Figure]:
    operations = item.profile == "operations"
    where = f"simulator, {item.profile}" + ("" if world == UNSEEN.name or not operations else f", {world} devices")
    name = f"{where}: {str(mode).replace('_', ' ')}"
    best, usual = at_recall(item), tally(item)
    score, label, _, element = item.rows()
    high = score >= SUSPICIOUS
    events = int(np.isfinite(item.event).sum())
    lead = _lead(item, usual)
    precision, recall = _shares(usual.right, usual.right + usual.false), _shares(usual.hits, usual.events)
    recall_all = _shares(usual.right, events)
    return [
        held(
            f"{name}, precision at recall 0.90", "", _shares(best.right, best.right + best.false), ">= 0.95",
            samples=best.right + best.false,
            notes=f"95 % interval; threshold {best.raise_at:.3f} chosen on these runs, recall {best.recall:.3f} of "
            f"{best.events} foreseeable events",
        ),
        held(
            f"{name}, recall of foreseeable failures", "", recall, ">= 0.90" if operations else "",
            samples=usual.events, notes=f"95 % interval; at the alarm threshold {usual.raise_at:.3f}",
        ),
        held(
            f"{name}, precision", "", precision, ">= 0.95" if operations else "", samples=usual.right + usual.false,
            notes=f"95 % interval; at the alarm threshold {usual.raise_at:.3f}",
        ),
        held(
            f"{name}, recall of all failures", "", recall_all, samples=events,
            notes=f"95 % interval; abrupt ones included, at the alarm threshold {usual.raise_at:.3f}",
        ),
        held(
            f"{name}, median lead", "s", lead, ">= 30" if operations else "", samples=usual.hits,
            notes=f"95 % interval; {lead.value / DECISION_S:,.0f} decision latencies; at the alarm threshold",
        ),
        held(f"{name}, p10 lead", "s", usual.lead_p10_s, samples=usual.hits),
        held(
            f"{name}, calibration error", "", calibration_interval(score, label, element), "<= 0.03",
            samples=len(label), notes="95 % interval by element",
        ),
        held(
            f"{name}, calibration error of suspicious rows", "", calibration_error(score[high], label[high]),
            samples=int(high.sum()), notes=f"probability from {SUSPICIOUS:g}",
        ),
        held(f"{name}, average precision", "", average_precision(score, label), samples=len(label)),
    ]  # fmt: skip


def _shares(hits: int, count: int) -> Interval:
    """A share of events with its 95 % interval; elements are independent, so each is drawn once."""
    if not count:
        return Interval(float("nan"), float("nan"), float("nan"))
    found, share = wilson(hits, count), hits / count
    return Interval(share, min(found.low, share), max(found.high, share))  # at 0 and 1 they meet but for rounding


def _lead(item: Played, usual: Tally) -> Interval:
    at = item.alarms(usual.raise_at)
    lead = item.event - np.where(np.isfinite(at), at, np.nan)
    known = lead[np.isfinite(lead) & (lead >= item.act_s) & (lead <= item.soon_s) & item.foreseeable]
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"))
    draws = np.random.default_rng(1).integers(0, len(known), (200, len(known)))
    low, high = np.quantile(np.median(known[draws], axis=1), [0.025, 0.975])
    return Interval(float(np.median(known)), float(low), float(high))


def _quiet(days: HealthyDays, world: str) -> Figure:
    kinds = ", ".join(f"{name} {count}" for name, count in days.by_kind.items()) or "none"
    where = "simulator, operations" + ("" if world == UNSEEN.name else f", {world} devices")
    # Few days show nothing: a rate of 0 in 30 of them may well be 100 in a thousand.
    return held(
        f"{where}: false flips per 1,000 link-days", "", Interval(days.per_1000, days.low, days.high),
        f"<= {FALSE_FLIPS:g}", samples=int(days.link_days),
        notes=f"95 % interval; {days.false} in {days.link_days:,.0f} link-days ({kinds})",
    )  # fmt: skip
