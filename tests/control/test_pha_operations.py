"""The health analyzer in a network in operation: hours instead of seconds, conditions, clocks, drift."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import numpy as np

from control.pha import HealthAnalyzer, Settings
from ml.physics import ber
from ml.schema import Conditions, Forecast, Mode, PortSample
from tests.control.pha_lab import QUIET_Q, START, STEP, Lab
from topo.builtin import diamond


def operations(seed: int = 1) -> tuple[HealthAnalyzer, np.random.Generator]:
    return HealthAnalyzer(diamond(), Settings.operations(sample_s=15.0)), np.random.default_rng(seed)


def drive(
    analyzer: HealthAnalyzer, rng: np.random.Generator, steps: range, fade: Callable[[str, int], float], **extra: float
) -> list[tuple[int, Forecast]]:
    """Samples each 15 s of every link port; ``fade`` gives dB of light lost."""
    ends = [str(end) for link in diamond().links for end in (link.a, link.b)]
    found = []
    for i in steps:
        now = START + 15.0 * i
        for end in ends:
            level = -fade(end, i) + float(rng.normal(0.0, 0.05))
            ratio = float(ber(QUIET_Q * 10 ** (level / 20)))
            analyzer.observe(
                PortSample(
                    end, now, rx_power_dbm=-8.0 + level, pre_fec_ber=ratio, rate_bps=1e9, queue_max_packets=2.0,
                    tx_bytes_total=5e8 * i, heartbeat_rtt_us=100.0, heartbeat_lost_total=0.0, **extra,
                )
            )  # fmt: skip
        found += [(i, forecast) for forecast in analyzer.alarms(now)]
    return found


def test_a_fade_over_an_hour_is_foreseen_with_minutes_to_spare_and_others_left_alone() -> None:
    analyzer, rng = operations()
    sick = str(diamond().links[1].a)
    found = drive(analyzer, rng, range(340), lambda e, i: 8.0 * max(0, i - 100) / 240 if e == sick else 0.0)
    assert {(f.element, f.mode) for _, f in found} == {(sick, Mode.LINK_FAILURE)}
    first, forecast = found[0]
    assert first < 340 - 8  # the margin is gone at step 340: two minutes and more
    assert forecast.horizon_s == 3600.0
    assert any("dB" in reason.text for reason in forecast.reasons)


def test_conditions_are_taken_in_aged_out_and_refused_for_strangers() -> None:
    analyzer, rng = operations()
    end = str(diamond().links[0].a)
    row = 0
    analyzer.conditions(Conditions(end, START, rain_mm_per_h=20.0, rain_fade_db=nan, gust_m_per_s=-3.0))
    assert analyzer._ports.context[row].tolist() == [20.0, 0.0, 0.0, 0.0, 0.0]
    drive(analyzer, rng, range(3), lambda _e, _i: 0.0)
    assert analyzer._ports.context[row, 0] == 20.0
    analyzer.alarms(START + 1000.0)
    assert analyzer._ports.context[row, 0] == 0.0
    analyzer.conditions(Conditions("s99:1", START, rain_mm_per_h=1.0))
    assert any("s99:1" in note for note in analyzer.notes())


def test_an_element_whose_samples_are_all_refused_is_unjudged_with_both_reasons() -> None:
    analyzer = HealthAnalyzer(diamond())
    end = str(diamond().links[0].a)
    for i in range(10):
        analyzer.observe(PortSample(end, START + 0.05 * i, rx_power_dbm=500.0, pre_fec_ber=inf))
    why = analyzer.unjudged(START + 0.5)[end]
    assert "no sample yet" in why and "absurd" in why


def test_a_clock_that_runs_ahead_is_no_ground_for_a_judgement() -> None:
    analyzer = HealthAnalyzer(diamond())
    end = str(diamond().links[0].a)
    for i in range(30):
        analyzer.observe(PortSample(end, START + 60.0 + 0.05 * i, rx_power_dbm=-8.0, pre_fec_ber=1e-8))
    assert "ahead" in analyzer.unjudged(START)[end]


def test_a_port_without_load_and_queue_is_not_judged_for_congestion() -> None:
    analyzer = HealthAnalyzer(diamond())
    end = str(diamond().links[0].a)
    for i in range(30):
        analyzer.observe(PortSample(end, START + 0.05 * i, rx_power_dbm=-8.0, pre_fec_ber=1e-8))
    assert analyzer.unjudged(START + 1.5)[end].startswith("congestion not judged")


def test_an_alarm_still_comes_after_a_clock_jumped_back() -> None:
    lab = Lab()
    lab.play(2.0)
    lab.now -= 100.0
    sick = str(lab.topology.links[1].a)
    start = lab.now - START
    while lab.now < START + start + 6.0:
        time = lab.now - START - start
        lab.play(
            lab.now - START + STEP / 2, attenuation=lambda e, _t, t=time: 4.0 * max(0.0, t - 3.0) if e == sick else 0.0
        )
    assert (sick, Mode.LINK_FAILURE) in lab.alarmed


def test_drift_is_reported_from_outcomes() -> None:
    analyzer = HealthAnalyzer(diamond())
    assert analyzer.drift() == []
    for _ in range(60):
        analyzer.outcome(Mode.CONGESTION, 0.95, False)
    assert "congestion" in analyzer.drift()[0]
