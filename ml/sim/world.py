"""What a simulated network is like: ranges from which each element draws its own nature.

Two worlds matter: :data:`FAMILIAR`, which models are trained on, and :data:`UNSEEN`, whose devices differ from all
of those in sampling, noise, limits and gaps. A model is judged on the second as well, and reported apart;
:data:`FURTHER` lies beyond it. The flip's ensemble also learns from :data:`TEMPTING`: the same devices as the familiar
ones, but trouble that stops later. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import Flags, Floats

Span: TypeAlias = tuple[float, float]
Names: TypeAlias = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Scale:
    """How fast a group of elements lives. ``precursor_s``: from the first sign to the first loss (drawn uniformly
    in its logarithm); ``interval_s``: between samples."""

    name: str
    precursor_s: Span
    interval_s: Span
    steps: int


SCALES = (
    Scale("minutes", (240.0, 1_800.0), (5.0, 12.0), 1_400),
    Scale("hours", (1_800.0, 10_800.0), (15.0, 30.0), 1_100),
    Scale("half-days", (10_800.0, 43_200.0), (40.0, 60.0), 1_300),
)


@dataclass(frozen=True, slots=True)
class World:
    """``stretch`` multiplies sampling intervals; the rest are ranges per element unless said otherwise."""

    name: str
    stretch: Span = (0.8, 1.2)
    jitter: float = 0.10  # of the interval
    lost_samples: Span = (0.0, 0.01)  # share
    lost_values: Span = (0.0, 0.01)
    outage_of_telemetry: float = 0.15  # probability per run of one gap of 5 to 30 intervals
    stamped_late: float = 0.5  # share of elements whose samples are stamped late now and then
    power_noise_db: Span = (0.02, 0.20)
    noisy_db: Span = (0.15, 0.50)  # of links that are noisy, but healthy
    margin_db: Span = (6.5, 8.8)
    radio_margin_db: Span = (18.0, 32.0)
    limit_spread: float = 0.03  # sigma of the log of each receiver's real error-correction limit
    burstiness: Span = (0.005, 0.03)  # sigma of the log of the load as read between two samples
    queue_packets: Span = (128.0, 1024.0)
    queue_told: float = 0.95  # share of ports that tell their queue's room
    full_at: Span = (0.99, 1.01)  # share of the line rate that a link really carries
    within: Span = (0.50, 0.87)  # where ramps stop that stop in time
    stops: Span = (0.05, 0.45)  # share of the margin at which fades stop that stop
    showers: Span = (0.05, 0.60)  # share of a radio's margin that showers take which it survives
    bursts: Span = (0.30, 0.90)  # load at which bursts peak
    incast: Span = (0.20, 0.60)  # share of the queue at which bursts stop growing that stop
    cpu_noise: Span = (0.004, 0.03)
    backlog_packets: Span = (512.0, 4096.0)
    memory_fails_at: Span = (0.97, 1.0)
    temperature_swing_c: Span = (1.0, 8.0)
    forecast_error: float = 0.35  # sigma of the log of the rain fade that weather data imply
    blind: float = 0.05  # share of elements without one signal, for each of three signals
    resets: float = 0.03  # share of elements whose counters start anew once
    shapes: dict[str, float] = field(default_factory=dict)  # changes to the shares of kinds


FAMILIAR = World("familiar")
UNSEEN = World(
    "unseen",
    stretch=(1.2, 1.6),
    jitter=0.2,
    lost_samples=(0.01, 0.04),
    lost_values=(0.01, 0.03),
    outage_of_telemetry=0.3,
    stamped_late=0.8,
    power_noise_db=(0.05, 0.30),
    noisy_db=(0.25, 0.60),
    margin_db=(5.5, 9.5),
    radio_margin_db=(15.0, 38.0),
    limit_spread=0.08,
    burstiness=(0.01, 0.045),
    queue_packets=(80.0, 2000.0),
    queue_told=0.9,
    full_at=(0.97, 1.01),
    within=(0.50, 0.89),
    stops=(0.05, 0.55),
    cpu_noise=(0.008, 0.045),
    backlog_packets=(256.0, 8192.0),
    memory_fails_at=(0.95, 1.0),
    temperature_swing_c=(2.0, 12.0),
    forecast_error=0.5,
    blind=0.08,
    resets=0.06,
)
FURTHER = World(
    "further",
    stretch=(1.6, 2.0),
    jitter=0.25,
    lost_samples=(0.03, 0.06),
    lost_values=(0.02, 0.05),
    outage_of_telemetry=0.4,
    stamped_late=1.0,
    power_noise_db=(0.10, 0.40),
    noisy_db=(0.35, 0.70),
    margin_db=(4.5, 10.5),
    radio_margin_db=(12.0, 42.0),
    limit_spread=0.12,
    burstiness=(0.02, 0.06),
    queue_packets=(48.0, 4000.0),
    queue_told=0.85,
    full_at=(0.96, 1.01),
    within=(0.50, 0.90),
    stops=(0.05, 0.60),
    cpu_noise=(0.015, 0.06),
    backlog_packets=(128.0, 16_384.0),
    memory_fails_at=(0.93, 1.0),
    temperature_swing_c=(3.0, 16.0),
    forecast_error=0.7,
    blind=0.11,
    resets=0.10,
)
# Familiar devices that look worse than those that are reported on: what stops does so anywhere up to just before it
# fails. Flips learn from them to wait for as long as waiting costs nothing.
TEMPTING = replace(
    FAMILIAR,
    name="tempting",
    stops=(0.20, 0.62),
    within=(0.70, 0.94),
    showers=(0.30, 0.75),
    bursts=(0.60, 0.94),
    incast=(0.40, 0.72),
)


@dataclass(frozen=True, slots=True)
class Draw:
    """What every shape is given: the elements of one kind. ``time``: (steps, elements) since the run's start;
    ``onset`` and ``length`` (s) of the precursor, ``margin`` (dB) per element."""

    rng: np.random.Generator
    world: World
    time: Floats
    onset: Floats
    length: Floats
    margin: Floats

    @property
    def count(self) -> int:
        return len(self.onset)

    def uniform(self, low: float, high: float) -> Floats:
        """One number per element."""
        drawn: Floats = self.rng.uniform(low, high, self.count)
        return drawn

    def span(self, span: Span) -> Floats:
        return self.uniform(*span)

    def noise(self, sigma: float | Floats = 1.0) -> Floats:
        """One number per sample."""
        drawn: Floats = self.rng.normal(0.0, 1.0, self.time.shape) * sigma
        return drawn

    def progress(self, power: float | Floats = 1.0) -> Floats:
        """0 before the onset, 1 when the precursor is over, growing on beyond; ``power`` bends it."""
        share: Floats = np.maximum(self.time - self.onset, 0.0) / self.length
        curve: Floats = np.where(share < 1.0, share**power, 1.0 + power * (share - 1.0))
        return curve

    def since(self, moment: Floats, window: float | Floats = 1.0) -> Floats:
        """What a mean over the last ``window`` (a share) of each sampling interval sees of a step at ``moment``: 0
        before it, 1 after it, and anything between in the interval in which it falls."""
        seen: Floats = np.clip((self.time - moment) / (np.diff(self.time, axis=0, prepend=0.0) * window), 0.0, 1.0)
        return seen

    def some(self, share: float) -> Flags:
        chosen: Flags = self.rng.random(self.count) < share
        return chosen

    def moments(self, count: int) -> Floats:
        """``count`` sorted times per element within the run, shape (count, elements)."""
        sorted_: Floats = np.sort(self.rng.uniform(0.03, 1.0, (count, self.count)), axis=0) * self.time[-1]
        return sorted_


def kinds(rng: np.random.Generator, count: int, shares: dict[str, float]) -> Names:
    """A kind per element."""
    weights = np.array(list(shares.values()))
    drawn: Names = rng.choice(np.array(list(shares)), size=count, p=weights / weights.sum())
    return drawn


def clock(rng: np.random.Generator, world: World, scale: Scale, count: int) -> tuple[Floats, Floats]:
    """(true, told) sample times of shape (steps, elements): jitter, stamps that are late, one long gap."""
    interval = rng.uniform(*scale.interval_s, count) * rng.uniform(*world.stretch, count)
    gaps = rng.normal(1.0, world.jitter, (scale.steps, count)).clip(0.3, 3.0) * interval
    true: Floats = np.cumsum(gaps, axis=0)
    late = np.abs(rng.normal(0.0, 0.02, true.shape)) * interval
    late += (rng.random(true.shape) < 0.03) * rng.uniform(0.0, 0.5, true.shape) * interval
    late *= rng.random(count) < world.stamped_late
    told: Floats = np.maximum.accumulate(true + late, axis=0) + 1e-6 * np.arange(scale.steps)[:, None]
    return true, told


def dropouts(rng: np.random.Generator, world: World, steps: int, count: int) -> Flags:
    """Samples that never arrive, (steps, elements): single ones, and one longer gap in some runs."""
    lost: Flags = rng.random((steps, count)) < rng.uniform(*world.lost_samples, count)
    start, length = rng.integers(10, steps - 30, count), rng.integers(5, 30, count)
    row = np.arange(steps)[:, None]
    gap = (row >= start) & (row < start + length) & (rng.random(count) < world.outage_of_telemetry)
    return lost | gap
