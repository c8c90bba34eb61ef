"""How fast links are scored: features and probabilities of both port modes for all links, in one process.

Targets: 1,000 links within 0.5 ms, 10,000 within 5 ms (99 of 100 times). Learning is measured beside it, one
sample at a time and in batches, because telemetry comes in between.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np

from bench._common import Result, quantile, write
from ml.features import PortBank
from ml.hazard import load_all
from ml.schema import Mode

WARM_UP = 60  # samples that every link has behind it


def raw(rng: np.random.Generator, count: int, i: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Telemetry of ``count`` links, a tenth of them in trouble."""
    values = np.empty((count, len(PortBank.INPUTS)))
    sick = np.arange(count) % 10 == 0
    fall = np.where(sick, 0.1 * i, 0.0)
    values[:, 0] = -8.0 - fall + rng.normal(0.0, 0.1, count)
    values[:, 1] = 1e-8 * 1.2 ** np.minimum(fall * 10, 70)
    values[:, 2] = rng.integers(0, 20, count)
    values[:, 3] = rng.lognormal(5.0, 0.3, count)
    values[:, 4], values[:, 5] = 1e9, 1.0
    values[:, 6:9] = np.nan
    values[:, 9:] = 0.0
    values[:, 11] = 2e6 * i
    return values


def times(work: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of ``count`` calls, after a few unmeasured ones."""
    for _ in range(20):
        work()
    found = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(count):
            start = time.perf_counter_ns()
            work()
            found.append((time.perf_counter_ns() - start) / 1e6)
    finally:
        gc.enable()
    return found


def main() -> None:
    models = load_all()
    link, congestion = models[Mode.LINK_FAILURE], models[Mode.CONGESTION]
    results = []
    for count, target in ((1_000, "<= 0.5"), (10_000, "<= 5")):
        rng = np.random.default_rng(1)
        bank = PortBank(count)
        for i in range(WARM_UP):
            bank.learn_many(slice(None), 0.05 * i, raw(rng, count, i))

        def score(bank: PortBank = bank) -> None:
            x, y = bank.features()
            link.probability(x)
            congestion.probability(y)

        found = times(score, 2_000 if count == 1_000 else 400)
        note = "link failure and congestion, all features"
        results.append(
            Result(f"score {count:,} links, p99", "ms", quantile(found, 0.99), target, samples=len(found), notes=note)
        )
        results.append(Result(f"score {count:,} links, p50", "ms", quantile(found, 0.5), samples=len(found)))
        step = iter(range(WARM_UP, 10**9))
        block = raw(rng, count, WARM_UP)

        def learn(bank: PortBank = bank, block: np.ndarray = block, step: object = step) -> None:
            block[:, 11] += 2e6
            bank.learn_many(slice(None), 0.05 * next(step), block)  # type: ignore[call-overload]

        found = times(learn, 300)
        rate = 1e3 * count / quantile(found, 0.5)
        results.append(Result(f"learn in batches of {count:,}", "samples/s", rate, ">= 50000", samples=len(found)))
    bank = PortBank(8)
    values = tuple(raw(np.random.default_rng(2), 8, 1)[0].tolist())
    clock = iter(range(10**9))
    found = times(lambda: bank.learn_one(3, 0.05 * next(clock), values), 5_000)
    results.append(Result("learn one sample, p50", "µs", 1e3 * quantile(found, 0.5), samples=len(found)))
    results.append(Result("learn one sample, p99", "µs", 1e3 * quantile(found, 0.99), samples=len(found)))
    write("scoring", results)


if __name__ == "__main__":
    main()
