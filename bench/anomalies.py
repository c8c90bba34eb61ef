"""What anomaly detection without labels costs: keeping a sample, and one pass over all ports.

It runs beside the prediction, once a second: a pass over 1,000 ports should not be felt (a few milliseconds).
"""

from __future__ import annotations

import time

import numpy as np

from bench._common import Result, quantile, write
from ml.anomaly_watch import AnomalyWatch
from ml.schema import PortSample

PASSES = 60


def samples(rng: np.random.Generator, count: int, now_s: float) -> list[PortSample]:
    power, rtt = rng.normal(-8.0, 0.1, count), rng.lognormal(5.0, 0.3, count)
    return [
        PortSample(
            f"s{k}:1", now_s, rx_power_dbm=power[k], pre_fec_ber=1e-8, corrected_total=1e3 * now_s,
            uncorrected_total=0.0, rx_errors_total=0.0, tx_bytes_total=1e6 * now_s, tx_dropped_total=0.0,
            queue_max_packets=float(k % 7), heartbeat_rtt_us=rtt[k], heartbeat_lost_total=0.0,
        )
        for k in range(count)
    ]  # fmt: skip


def main() -> None:
    results = []
    for count, target in ((1_000, "<= 10"), (10_000, "")):
        rng = np.random.default_rng(1)
        watch = AnomalyWatch(warm=20)
        kept, passed = [], []
        for i in range(PASSES):
            batch = samples(rng, count, float(i))
            start = time.perf_counter()
            watch.observe_many(batch)
            middle = time.perf_counter()
            watch.tick(float(i))
            kept.append((middle - start) / count * 1e6)
            passed.append((time.perf_counter() - middle) * 1e3)
        passed = passed[10:]
        results.append(Result(f"keep a sample, {count:,} ports", "us", quantile(kept, 0.5), samples=PASSES))
        for q, reach in ((0.5, target), (0.99, "")):
            results.append(
                Result(f"pass over {count:,} ports, p{q * 100:.0f}", "ms", quantile(passed, q), reach,
                       samples=len(passed), notes="12 signals, 6 views each; once a second")
            )  # fmt: skip
    write("anomalies", results)


if __name__ == "__main__":
    main()
