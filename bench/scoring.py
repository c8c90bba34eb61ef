"""How fast links are scored by the cascade: all links screened, the suspicious ones judged by the boosted hazards.

Targets: 1,000 links within 0.5 ms, 10,000 within 5 ms (99 of 100 times), with one link in fifty in trouble, which is
many for a network; one in ten is reported beside it. Both modes of a port are scored. The same state scored again and
again shows the work alone; rounds, in which all links have new samples and others are suspicious each time, show what a
service would see. Learning is measured too, because telemetry comes in between, and what a lab's analyzer takes from a
sample to its answer. All that with the compiled code; what numpy takes without it is reported beside it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench._common import Result, quantile, write
from control.kernels import build, install
from control.pha import HealthAnalyzer
from ml import kernels, wide
from ml.boosted import BoostedModel
from ml.cascade import PORTS, Cascade, Judgement
from ml.features import PortBank
from ml.neighbours import Neighbours
from ml.profiles import PROFILES
from ml.schema import Mode, PortSample
from ml.screen import screen_ports
from ml.store import packaged
from topo.builtin import abilene

WARM_UP = 60  # samples that every link has behind it
STEP_S = {"operations": 20.0, "lab": 0.05}


def raw(
    rng: np.random.Generator, count: int, i: int, one_in: int, step_s: float, depth: NDArray[np.float64] | float = 1.0
) -> NDArray[np.float64]:
    """Telemetry of ``count`` links at 40 % load, one in ``one_in`` fading by 8 dB (by ``depth``) over the warm-up."""
    values = np.empty((count, len(PortBank.INPUTS)))
    sick = np.arange(count) % one_in == 0
    fall = np.where(sick, 7.0 * min(i / WARM_UP, 1.0) * depth, 0.0)
    values[:, 0] = -8.0 - fall + rng.normal(0.0, 0.05, count)
    values[:, 1] = 1e-8 * 10 ** np.minimum(fall * 0.8, 5.9)
    values[:, 2] = rng.integers(0, 20, count)
    values[:, 3] = rng.lognormal(5.0, 0.3, count)
    values[:, 4], values[:, 5] = 1e9, 1.0
    values[:, 6], values[:, 7], values[:, 8] = rng.normal(40.0, 0.1, count), 35.0, 512.0
    values[:, 9:] = 0.0
    values[:, 11] = 0.4 * 1e9 / 8 * step_s * i
    return values


class Taken(NamedTuple):
    """Milliseconds of each call: of the clock on the wall, and of this thread on a processor."""

    wall: list[float]
    cpu: list[float]

    def results(self, name: str, target: str = "", notes: tuple[str, str] = ("", ""), middle: str = "") -> list[Result]:
        """p99 (with ``target``) and p50 (with ``middle``) of both. What the wall has more than the processor, others
        on the machine took."""
        count = len(self.wall)
        return [
            Result(f"{name}, p99", "ms", quantile(self.wall, 0.99), target, samples=count, notes=notes[0]),
            Result(f"{name}, p50", "ms", quantile(self.wall, 0.5), middle, samples=count, notes=notes[1]),
            Result(f"{name}, processor time, p99", "ms", quantile(self.cpu, 0.99), samples=count),
            Result(f"{name}, processor time, p50", "ms", quantile(self.cpu, 0.5), samples=count),
        ]


def times(work: Callable[[], object], count: int) -> Taken:
    """Time of each of ``count`` calls, after a few unmeasured ones."""
    for _ in range(20):
        work()
    found = Taken([], [])
    gc.collect()
    gc.disable()
    try:
        for _ in range(count):
            used, start = time.thread_time_ns(), time.perf_counter_ns()
            work()
            found.wall.append((time.perf_counter_ns() - start) / 1e6)
            found.cpu.append((time.thread_time_ns() - used) / 1e6)
    finally:
        gc.enable()
    return found


def grown(count: int, one_in: int, profile: str) -> tuple[PortBank, Cascade]:
    """A bank with its history, and the packaged cascade; four ports share a risk."""
    life, step_s = PROFILES[profile], STEP_S[profile]
    rng = np.random.default_rng(1)
    bank = PortBank(count, life.unit_s, taus=life.taus)
    for i in range(WARM_UP):
        bank.learn_many(slice(None), step_s * i, raw(rng, count, i, one_in, step_s))
    groups = np.arange(count).reshape(-1, 4).tolist()
    cascade = packaged(profile).cascade()
    return bank, Cascade(cascade.models, cascade.screens, Neighbours(count, groups))


def scoring(profile: str, count: int, one_in: int, target: str, how: str = "") -> list[Result]:
    """All links judged anew."""
    bank, cascade = grown(count, one_in, profile)
    judged = [len(item.rows) for item in cascade.ports(bank)]
    found = times(lambda: cascade.ports(bank), 2_000 if count == 1_000 else 500)
    name = f"{profile}: score {count:,} links, one in {one_in} unwell{how}"
    note = f"second stage: {judged[0]} rows for link failure, {judged[1]} for congestion"
    return found.results(name, target, (note, shares(bank, cascade)))


def rounds(profile: str, count: int, one_in: int, target: str) -> list[Result]:
    """Between two scorings all links have new samples. Sick ones, twice as many, fade and recover, each in its time."""
    bank, cascade = grown(count, one_in, profile)
    rng, step_s, passed = np.random.default_rng(2), STEP_S[profile], []
    phase, found = rng.random(count), Taken([], [])
    for i in range(WARM_UP, WARM_UP + (2_000 if count == 1_000 else 500)):
        depth = 0.5 + 0.5 * np.sin(2.0 * np.pi * (i / 100.0 + phase))
        bank.learn_many(slice(None), step_s * i, raw(rng, count, i, one_in // 2, step_s, depth))
        used, start = time.thread_time_ns(), time.perf_counter_ns()
        both = cascade.ports(bank)
        found.wall.append((time.perf_counter_ns() - start) / 1e6)
        found.cpu.append((time.thread_time_ns() - used) / 1e6)
        passed.append(sum(len(item.rows) for item in both))
    note = f"second stage: {min(passed)} to {max(passed)} rows, both modes" if cascade.screens else ""
    name = f"{profile}: score {count:,} links, one in {one_in} unwell, all with new samples"
    return found.results(name, target, (note, ""))


def shares(bank: PortBank, cascade: Cascade) -> str:
    """Where the time goes: median of each stage for both modes, in per cent of their sum."""
    parts: dict[str, list[float]] = {"screen": [], "lines": [], "features": [], "models": []}
    for _ in range(200):
        marks = [time.perf_counter_ns()]
        if cascade.screens:
            columns = dict(zip(PORTS, screen_ports(bank), strict=True))
            rows = {mode: np.flatnonzero(cascade.screens[mode].score(columns[mode]) >= 0.0) for mode in PORTS}
            marks.append(time.perf_counter_ns())
            marks.append(marks[-1])
            made = {Mode.LINK_FAILURE: wide.link_ports, Mode.CONGESTION: wide.congestion_ports}
            x = {mode: made[mode](bank, own, cascade.neighbours) for mode, own in rows.items() if len(own)}
            marks.append(time.perf_counter_ns())
            for mode, own in x.items():
                cascade.models[mode].probability(own)
        else:
            together = cascade.together
            assert together is not None
            marks += [marks[0], marks[0]]
            every = bank.narrow()
            marks.append(time.perf_counter_ns())
            together(every)
        marks.append(time.perf_counter_ns())
        for part, start, end in zip(parts.values(), marks, marks[1:], strict=False):
            part.append(end - start)
    middle = {name: quantile(part, 0.5) for name, part in parts.items()}
    whole = sum(middle.values())
    return ", ".join(f"{name} {100 * part / whole:.0f} %" for name, part in middle.items() if part)


def few_news(count: int) -> list[Result]:
    """One link in a hundred has a new sample: only those, and who shares a risk with them, are judged again."""
    found = []
    for profile in STEP_S:
        bank, cascade = grown(count, 50, profile)
        before = cascade.ports(bank)
        changed = np.arange(0, count, 100)

        def again(
            bank: PortBank = bank,
            cascade: Cascade = cascade,
            before: tuple[Judgement, Judgement] = before,
            changed: NDArray[np.intp] = changed,
        ) -> None:
            cascade.ports(bank, before, changed)

        found += times(again, 500).results(f"{profile}: score {len(changed)} of {count:,} links that have news")
    return found


def trees() -> list[Result]:
    """The second stage's trees beside LightGBM's own predictor: same trees, same rows, one thread, same run."""
    import lightgbm

    bank, cascade = grown(1_000, 50, "operations")
    link = cascade.ports(bank)[0]
    model = cascade.models[Mode.LINK_FAILURE]
    assert isinstance(model, BoostedModel)
    boosters = [lightgbm.Booster(model_str=text) for text in model.texts]
    found = []
    for rows in (1, len(link.rows)):
        x = np.ascontiguousarray(link.x[:rows])

        def theirs(x: NDArray[np.float64] = x) -> None:
            for booster in boosters:
                booster.predict(x, raw_score=True, num_threads=1)

        def ours(x: NDArray[np.float64] = x) -> None:
            model.raw(x)

        mine, other = quantile(times(ours, 2_000).wall, 0.5), quantile(times(theirs, 500).wall, 0.5)
        anchor = f"LightGBM's predictor: {1e3 * other / rows:.1f} µs a row ({other / mine:.0f} times ours)"
        found.append(Result(f"trees for {rows} rows, p50", "µs/row", 1e3 * mine / rows, anchor=anchor, samples=2_000))
    return found


def learning(count: int) -> Result:
    bank, _ = grown(count, 50, "operations")
    block = raw(np.random.default_rng(1), count, WARM_UP, 50, 20.0)
    steps: Iterator[int] = iter(range(WARM_UP, 10**9))

    def learn() -> None:
        block[:, 11] += 1e9
        bank.learn_many(slice(None), 20.0 * next(steps), block)

    found = times(learn, 200).wall
    rate = 1e3 * count / quantile(found, 0.5)
    return Result(f"learn in batches of {count:,}", "samples/s", rate, ">= 50000", samples=len(found))


def one_sample() -> list[Result]:
    """One sample learned, and from one sample to the alarms of a lab: all well, and while a link fades."""
    bank, _ = grown(8, 4, "lab")
    values = tuple(raw(np.random.default_rng(2), 8, 1, 4, 0.05)[0].tolist())
    clock = iter(range(WARM_UP, 10**9))
    learned = times(lambda: bank.learn_one(3, 0.05 * next(clock), values), 5_000)
    found = learned.results("learn one sample of 12 measurements")
    for name, fading, target in (("all well", False, "<= 0.15"), ("one link fades, one is in alarm", True, "")):
        topology = abilene()
        analyzer = HealthAnalyzer(topology)
        ends = [str(end) for link in topology.links for end in (link.a, link.b)]
        ticks = iter(range(10**9))

        def answer(
            analyzer: HealthAnalyzer = analyzer, ends: list[str] = ends, ticks: Iterator[int] = ticks,
            fading: bool = fading,
        ) -> None:  # fmt: skip
            tick = next(ticks)
            port = tick % len(ends)
            now = 1e6 + 0.05 * (tick // len(ends)) + 1e-4 * port
            lost = {0: 7.0, 2: 1.5}.get(port, 0.0) * min(tick / 2_000, 1.0) if fading else 0.0
            sample = PortSample(ends[port], now, rx_power_dbm=-8.0 - lost, pre_fec_ber=1e-8 * 10 ** (0.8 * lost))
            analyzer.observe(sample)
            analyzer.alarms(now)

        found += times(answer, 5_000).results(f"lab (abilene), {name}: sample in, alarms out", middle=target)
    return found


def main() -> None:
    results = []
    if install():  # else there is only numpy's
        kernels.use(None)
        for profile in STEP_S:
            results += scoring(profile, 1_000, 50, "", ", without compiled code")
        kernels.use(build())
    for count, target in ((1_000, "<= 0.5"), (10_000, "<= 5")):
        results += scoring("operations", count, 50, target)
        results += scoring("operations", count, 10, "")
        results += scoring("lab", count, 50, target)
        results += scoring("lab", count, 10, "")
        for profile in STEP_S:
            results += rounds(profile, count, 50, target)
        results.append(learning(count))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    results.append(Result("load average at the end", "processes", os.getloadavg()[0], notes=f"1, 5, 15 min: {load}"))
    write("scoring", results + few_news(10_000) + trees() + one_sample())


if __name__ == "__main__":
    main()
