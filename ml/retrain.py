"""Training as a routine: a candidate from simulator and recordings, compared with the present models, then promoted or
kept back with a written verdict.

Both are judged on the same held-out data: simulated worlds of later seeds, of the trained and of the unseen kind, and
the later part of recordings. A candidate is promoted when in no mode

* its flips are worth less, each set at its own thresholds: a failure told in time counts 1, a false flip
  :data:`PRICE` less. Recall may be given for fewer false flips and the other way round, at that price. Less is what
  both :data:`SLACK` per failure and chance (in pairs, run by run) leave behind;
* average precision of its probabilities is below the present one's by more than :data:`SLACK`;
* calibration error is above :data:`CALIBRATED`, unless it is better than now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan, nan
from typing import Any

import numpy as np

from ml import fit, heldout, recorded, train
from ml.boosted import FLIP_FROM, BoostedModel
from ml.cascade import Cascade
from ml.drift import reference
from ml.estimators.base import Floats
from ml.hazard import ModelError
from ml.metrics import average_precision, calibration_error
from ml.profiles import LAB, PROFILES, Profile
from ml.schema import Mode
from ml.sim.world import FAMILIAR, UNSEEN
from ml.store import LAB_RAISE_AT, ModelSet

SLACK = 0.01
CALIBRATED = 0.03
PRICE = fit.HARDER  # failures told in time that one false flip outweighs: as the flip is trained
CHANCE = 1.645  # standard errors of the difference in pairs: 95 %, one-sided
SEED_SPAN = 1_000  # seeds per purpose: fitting, choosing thresholds, comparing
FLIP_SEEDS = 300  # of those for fitting, the flip's begin here
PRECISE = 0.97  # share of alarms that have to be right, where two fifths of the elements fail ...
FALSE_FLIPS = 0.25  # ... and each mode flips at most this often per 1,000 days of a link that never fails
DAYS_PER_ELEMENT = 0.5  # link-days that are played for this, per simulated port of training
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one model set reaches in one mode on one world."""

    average_precision: float
    calibration_error: float
    precision: float
    recall: float
    recall_all: float
    lead_median_s: float
    events: int
    false: int
    worth: float = nan  # of the flips: failures told in time less PRICE for each false one, per foreseeable failure


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rows``: (world, mode, candidate's figures, present figures)."""

    promoted: bool
    reasons: list[str]
    rows: list[tuple[str, str, Figures, Figures | None]]

    def document(self) -> dict[str, Any]:
        return {
            "promoted": self.promoted,
            "reasons": self.reasons,
            "figures": [
                {"world": world, "mode": mode, "candidate": _plain(new), "present": _plain(old) if old else None}
                for world, mode, new, old in self.rows
            ],
        }


def _plain(figures: Figures) -> dict[str, float | None]:
    """For JSON, which has no nan."""
    return {name: None if isnan(value) else value for name, value in asdict(figures).items()}


def candidate(
    profile: Profile,
    *,
    seed: int,
    elements: int,
    version: str,
    recordings: Sequence[recorded.Part] = (),
    trees: int = fit.TREES,
    say: Say = lambda _text: None,
) -> ModelSet:
    """Fit a model set. Simulated populations of ``elements`` ports; recordings weigh as much as they have rows (for
    the flip: elements)."""
    for part in recordings:
        for mode, rows in part.learned.items():
            found = recorded.failures(rows, profile.edges[-1])
            say(f"{part.folder}: {len(rows):,} rows of {mode} before {found} failures to learn from")
    if profile is LAB:
        return _lab(seed, elements, version, recordings)
    parts: dict[Mode, list[fit.Rows]] = {}
    for k, population in enumerate(fit.populations(profile, FAMILIAR, seed, elements)):
        say(f"simulated part {k + 1}: {sum(len(rows) for rows in population.values()):,} rows")
        for mode, rows in population.items():
            parts.setdefault(mode, []).append(rows)
    models: dict[Mode, BoostedModel] = {}
    screens, about, known = {}, {}, {}
    for mode, several in parts.items():
        # Each source is split by its own clock: a recording is later than anything simulated.
        simulated = fit.join(several)
        learned = [part.learned[mode] for part in recordings if mode in part.learned]
        calibrated = [part.calibrated[mode] for part in recordings if mode in part.calibrated]
        earlier, later = fit.split(simulated, 0.7, 2.0 * profile.horizon_s)
        earlier, later = fit.join([earlier, *learned]), fit.join([later, *calibrated])
        rows = fit.join([simulated, *learned, *calibrated])
        model = fit.fit(mode, earlier, later, profile.edges, seed=seed, trees=trees)
        about[str(mode)] = {"fitted_rows": len(earlier), "calibration_rows": len(later)}
        models[mode] = replace(model, about=about[str(mode)])
        screens[mode] = fit.screen(model, rows)
        suspicious = screens[mode].score(list(rows.screen.T)) >= 0.0
        known[str(mode)] = reference(rows.x[suspicious], rows.weight[suspicious], model.features)
        say(f"{mode}: fitted on {len(earlier):,} rows, calibrated on {len(later):,} later ones")
    tempted: dict[Mode, list[fit.Rows]] = {}
    for population in fit.temptations(profile, Cascade(models, screens), seed + FLIP_SEEDS, elements):
        for mode, rows in population.items():
            tempted.setdefault(mode, []).append(rows)
    for mode, several in tempted.items():
        for own in (part.learned[mode] for part in recordings if mode in part.learned):
            possible = models[mode].probability(own.x) >= FLIP_FROM
            several.append(replace(own, screen=own.screen[:, :0]).pick(possible))
        rows = fit.join(several)
        models[mode] = replace(models[mode], flip=fit.flip(rows, mode, profile.edges[-1], seed=seed, trees=trees))
        about[str(mode)]["flip_rows"] = len(rows)
        say(f"{mode}: the flip tells {len(rows):,} rows apart")
    training = {
        "source": "ml.sim" if not recordings else "ml.sim and recordings",
        "world": asdict(FAMILIAR),
        "seed": seed,
        "elements": elements,
        "recordings": [str(part.folder) for part in recordings],
        "rows": about,
        "reference": known,
    }
    cascade = Cascade(models, screens)
    limits = thresholds(profile, cascade, seed + SEED_SPAN, max(elements, 60))
    say("alarms from " + ", ".join(f"{mode} {value:.2f}" for mode, value in limits.items()))
    return ModelSet(version, profile, models, screens, limits, training)


def _lab(seed: int, elements: int, version: str, recordings: Sequence[recorded.Part]) -> ModelSet:
    training = {
        "source": "ml.simulate" if not recordings else "ml.simulate and recordings",
        "seed": seed,
        "elements": elements,
        "recordings": [str(part.folder) for part in recordings],
    }
    more = [(recorded.tables(part.learned), recorded.tables(part.calibrated)) for part in recordings]
    return ModelSet(version, LAB, train.train(seed, elements, more), {}, dict(LAB_RAISE_AT), training)


def thresholds(profile: Profile, cascade: Cascade, seed: int, elements: int) -> dict[Mode, float]:
    """A threshold per mode, on familiar populations that neither fitting nor comparing sees (:func:`best`): alarms are
    :data:`PRECISE`, links that never fail flip no more than :data:`FALSE_FLIPS` allows."""
    played = heldout.play(
        profile.name,
        seed,
        elements,
        unseen=False,
        models=cascade,
        raise_at=dict.fromkeys(cascade.models, 0.5),
        baselines=False,
    )
    found = {}
    if profile is not LAB:
        days = heldout.healthy_days(
            max(int(elements * DAYS_PER_ELEMENT), 10),
            seed + SEED_SPAN // 2,
            profile.name,
            models=cascade,
            raise_at=dict.fromkeys(cascade.models, 0.5),
            unseen=False,
        )
        allowed = int(FALSE_FLIPS * days.link_days / 1e3)
        least = np.sort(days.strongest, axis=1)[:, -1 - allowed]  # a threshold has to lie above
    floors = {Mode.LINK_FAILURE: float(least[0]), Mode.CONGESTION: float(least[1])} if profile is not LAB else {}
    for mode, item in played.items():
        tallies = [heldout.tally(item, limit) for limit in heldout.LIMITS]
        found[mode] = best(tallies, floors.get(mode, 0.0))
    return found


def best(tallies: Sequence[heldout.Tally], floor: float = 0.0) -> float:
    """The threshold to use, of those that were tried above ``floor``: of the precise ones that at which flips are
    worth most (as candidates are compared), of equal ones the strictest; where none is precise, the one with the best
    F0.5."""
    allowed = [t for t in tallies if t.raise_at > floor] or [tallies[-1]]
    precise = [t for t in allowed if t.precision >= PRECISE]
    if precise:
        return max(precise, key=lambda t: (t.right - PRICE * t.false, t.raise_at)).raise_at
    score = [1.25 * t.precision * t.recall / max(0.25 * t.precision + t.recall, 1e-9) for t in allowed]
    return allowed[int(np.argmax(score))].raise_at


def figures(models: ModelSet, seed: int, elements: int, *, unseen: bool) -> dict[Mode, Figures]:
    """What a model set reaches on one held-out world."""
    return {mode: found for mode, (found, _) in _played(models, seed, elements, unseen=unseen).items()}


def _played(models: ModelSet, seed: int, elements: int, *, unseen: bool) -> dict[Mode, tuple[Figures, Floats]]:
    """Figures of each mode on one held-out world, and what its flips did for each run (:func:`ml.heldout.worth`)."""
    played = heldout.play(
        models.profile.name,
        seed,
        elements,
        unseen=unseen,
        models=models.cascade(),
        raise_at=models.raise_at,
        baselines=False,
    )
    found = {}
    for mode, item in played.items():
        score, label, _, _ = item.rows()
        counted, each = heldout.tally(item), heldout.worth(item, PRICE)
        reached = Figures(
            round(average_precision(score, label), 4),
            round(calibration_error(score, label), 4),
            round(counted.precision, 4),
            round(counted.recall, 4),
            round(counted.recall_all, 4),
            round(counted.lead_median_s, 1),
            counted.events,
            counted.false,
            round(float(each.sum()) / max(counted.events, 1), 4),
        )
        found[mode] = reached, each
    return found


def compare(
    new: ModelSet,
    old: ModelSet | None,
    seed: int,
    elements: int,
    *,
    recordings: Sequence[recorded.Part] = (),
    say: Say = lambda _text: None,
) -> Verdict:
    """Judge a candidate against the present models on the same held-out worlds, and on the last part of recordings."""
    if old is not None and old.profile is not new.profile:
        raise ModelError(f"{old.profile.name} models are no measure for {new.profile.name} models")
    rows, against, better = [], [], False
    worlds = [(UNSEEN.name, True)] if new.profile is LAB else [(FAMILIAR.name, False), (UNSEEN.name, True)]
    for name, unseen in worlds:
        say(f"comparing on the {name} world")
        candidates = _played(new, seed, elements, unseen=unseen)
        present = _played(old, seed, elements, unseen=unseen) if old is not None else {}
        for mode, (fresh, each) in candidates.items():
            former, before = present.get(mode, (None, None))
            rows.append((name, str(mode), fresh, former))
            doubts = worse(fresh, former)
            if former is not None and before is not None:
                doubts += worth_less(each, before, former.events)
                better |= fresh.worth > former.worth
            against += [f"{name} {mode}: {text}" for text in doubts]
            better |= former is None or fresh.average_precision > former.average_precision
    for mode in new.models if recordings else ():
        judged = [part.judged[mode] for part in recordings if mode in part.judged]
        found = recorded_figures(new, mode, judged)
        if found is None:
            say(f"recordings: fewer than {recorded.FEWEST} failures of {mode} in their last part, nothing is compared")
            continue
        former = recorded_figures(old, mode, judged) if old is not None else None
        rows.append(("recorded", str(mode), found, former))
        against += [f"recorded {mode}: {text}" for text in worse(found, former)]
        better |= former is None or found.average_precision > former.average_precision
    if not against and not better:
        against.append("no mode is any better than now")
    return Verdict(not against, against or ["nothing worse than now, and something better"], rows)


def recorded_figures(models: ModelSet, mode: Mode, judged: Sequence[fit.Rows]) -> Figures | None:
    """What a model set reaches on judged parts; alarms (nan) are for whole runs, and these are rows."""
    found = recorded.judge(models.cascade(), mode, judged)
    if found is None:
        return None
    precision, error = round(found["average_precision"], 4), round(found["calibration_error"], 4)
    return Figures(precision, error, nan, nan, nan, nan, found["events"], 0)


def worse(new: Figures, old: Figures | None) -> list[str]:
    """In what a mode's probabilities got worse."""
    found = []
    limit = CALIBRATED if old is None else max(CALIBRATED, old.calibration_error)
    if new.calibration_error > limit:
        found.append(f"calibration error {new.calibration_error:.3f}, above {limit:.3f}")
    if old is not None and new.average_precision < old.average_precision - SLACK:
        found.append(f"average precision {new.average_precision:.3f}, now {old.average_precision:.3f}")
    return found


def worth_less(new: Floats, old: Floats, events: int) -> list[str]:
    """Whether flips are worth less than now, in pairs: ``new`` and ``old`` are :func:`ml.heldout.worth` of the same
    runs, with so many foreseeable failures."""
    apart = new - old
    lost, chance = -float(apart.sum()), CHANCE * float(np.sqrt((apart**2).sum()))
    if lost <= max(SLACK * events, chance):
        return []
    count = max(events, 1)
    return [f"flips are worth {new.sum() / count:.3f} per failure, now {old.sum() / count:.3f}"]


def with_metrics(models: ModelSet, verdict: Verdict) -> ModelSet:
    """The model set with what it reached, for its manifest."""
    metrics: dict[str, Mapping[str, Any]] = {}
    for world, mode, new, _ in verdict.rows:
        metrics[f"{world} {mode}"] = _plain(new)
    return replace(models, metrics=metrics)


def profile_named(name: str) -> Profile:
    try:
        return PROFILES[name]
    except KeyError:
        raise ModelError(f"no profile {name!r}; there are {', '.join(PROFILES)}") from None
