"""Two ways of life: a lab in compressed time, and a network in operation. Models of one say nothing about the other."""

from __future__ import annotations

from dataclasses import dataclass

from ml.bank import Taus

DEFAULT_TAUS = Taus()


@dataclass(frozen=True, slots=True)
class Profile:
    """``unit_s``: the network's unit of time (:mod:`ml.bank`); ``edges``: horizons of the hazards, in units;
    ``confirm_s``: a flip score (:class:`ml.cascade.Judgement`) must be high over this much of time and
    ``confirm_samples`` samples before it is an alarm: the newest at least at the mode's threshold, those before at
    least at ``confirm_at``, where that is lower; ``act_s``: an alarm
    later than this before the first loss comes too late to count; ``soon_s``: an alarm that nothing follows within this
    is false. ``roomy``: share of its processor below which a device is not taken for one that will be overloaded,
    unless something else than its processor says so (:class:`control.pha.HealthAnalyzer`)."""

    name: str
    unit_s: float
    edges: tuple[float, ...]
    confirm_s: float
    act_s: float
    soon_s: float
    confirm_samples: int = 2
    taus: Taus = DEFAULT_TAUS
    confirm_at: float = 1.0
    roomy: float = 0.0

    @property
    def horizon_s(self) -> float:
        return self.edges[-1] * self.unit_s


# Traffic that begins takes a processor from 2 to 13 % within two readings, which is as steep as the steepest ramp. One
# that goes on leaves more than half a second at 30 %, and a flip takes milliseconds.
LAB = Profile("lab", 1.0, (0.5, 1.0, 1.5), 0.04, 0.3, 10.0, roomy=0.3)
# Horizons of 10 and 60 minutes. Flips take milliseconds, so they are decided late, on a score of their own that two
# samples confirm. One must come 10 s early to count: a thousand decision latencies of 10 ms, or the shortest sampling
# interval of 5 s and five hundred of them.
OPERATIONS = Profile(
    "operations",
    60.0,
    (10.0, 60.0),
    confirm_s=0.0,
    act_s=10.0,
    soon_s=7200.0,
    confirm_samples=2,
    confirm_at=0.1,  # readings of load waver: near a threshold two in a row above it come too late
    taus=Taus(quick=0.5, slow=2.0, base=20.0, long=20.0, deep=300.0, steady=0.25),
)
PROFILES = {profile.name: profile for profile in (LAB, OPERATIONS)}
WARM_UP = 8  # samples before an element is judged
