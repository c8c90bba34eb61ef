"""The health analyzer: early alarms for what fails, none for what only looks unwell, and patience with bad input."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.pha import HealthAnalyzer, MaintenanceNotice, NoticeError, Settings, Threshold
from ml.physics import ber, q_factor
from ml.schema import Conditions, DeviceSample, Forecast, Mode, PortSample
from topo.builtin import diamond
from topo.spec import Topology

START = 1_790_000_000.0  # seconds of the epoch
STEP = 0.05
QUIET_Q = float(q_factor(1e-8))
Shape = Callable[[str, float], float]


def nothing(_element: str, _time: float) -> float:
    return 0.0


class Lab:
    """Plays telemetry of a whole topology into an analyzer, as the embedded switches would report it."""

    def __init__(self, seed: int = 1, settings: Settings | None = None, topology: Topology | None = None) -> None:
        self.topology = topology or diamond()
        self.analyzer = HealthAnalyzer(self.topology, settings)
        self.rng = np.random.default_rng(seed)
        self.ends = [str(end) for link in self.topology.links for end in (link.a, link.b)]
        self.now = START
        self.bytes = dict.fromkeys(self.ends, 0.0)
        self.alarms: list[tuple[float, Forecast]] = []

    def play(
        self,
        until: float,
        *,
        attenuation: Shape = nothing,
        noise: Shape = nothing,
        load: Shape = nothing,
        cpu: Shape = nothing,
        rtt_us: Shape = lambda _element, _time: 100.0,
        lost: Shape = nothing,
        silent: Shape = nothing,
    ) -> None:
        """Go on until ``until`` seconds after the start; shapes give values per element and time."""
        while self.now < START + until:
            self.now += STEP
            time = self.now - START
            for end in self.ends:
                self.bytes[end] += (0.3 + load(end, time)) * 1e8 / 8 * STEP
                if silent(end, time):
                    continue
                level = self.rng.normal(0.0, 0.02 + noise(end, time)) - attenuation(end, time)
                error_ratio = float(ber(QUIET_Q * 10 ** (level / 20)))
                self.analyzer.observe(
                    PortSample(
                        end,
                        self.now,
                        rx_power_dbm=-8.0 + level,
                        pre_fec_ber=error_ratio,
                        uncorrected_total=0.0,
                        rx_errors_total=0.0,
                        tx_bytes_total=self.bytes[end],
                        tx_dropped_total=0.0,
                        rate_bps=1e8,
                        queue_max_packets=1.0,
                        heartbeat_rtt_us=rtt_us(end, time),
                        heartbeat_lost_total=lost(end, time),
                    )
                )
            for switch in self.topology.switches:
                busy = 0.2 + cpu(switch.name, time) + self.rng.normal(0.0, 0.01)
                self.analyzer.observe(DeviceSample(switch.name, self.now, min(max(busy, 0.0), 1.0), 0.3, 0.0, 0.0))
            self.alarms += [(time, forecast) for forecast in self.analyzer.alarms(self.now)]

    def first(self, mode: Mode, element: str) -> float:
        return min((t for t, f in self.alarms if f.mode is mode and f.element == element), default=inf)

    @property
    def alarmed(self) -> set[tuple[str, Mode]]:
        return {(f.element, f.mode) for _, f in self.alarms}


def ramp(element: str, onset: float, length: float, height: float) -> Shape:
    return lambda e, t: height * max(0.0, t - onset) / length if e == element else 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [2.0, 3.0])
@pytest.mark.parametrize("which", [0, 1])
def test_a_gray_link_is_foreseen_from_either_end_with_time_to_act(seed: int, length: float, which: int) -> None:
    lab = Lab(seed)
    link = lab.topology.links[1]
    sick = str((link.a, link.b)[which])
    lab.play(2.0 + length, attenuation=ramp(sick, 2.0, length, 8.0))
    assert lab.alarmed == {(str(link.a), Mode.LINK_FAILURE)}
    assert 2.0 < lab.first(Mode.LINK_FAILURE, str(link.a)) <= 2.0 + length - 0.4
    forecast = lab.alarms[-1][1]
    assert forecast.probability > 0.9
    assert f"{sick} error-correction margin" in forecast.reasons[0].text
    assert "falling" in forecast.reasons[0].text


@pytest.mark.parametrize("seed", range(3))
def test_congestion_is_foreseen_on_the_port_that_fills(seed: int) -> None:
    lab = Lab(seed)
    full = lab.ends[2]
    lab.play(5.0, load=ramp(full, 2.0, 3.0, 0.8))  # 30 % + 80 %: the line rate is reached at 4.6 s
    assert lab.alarmed == {(full, Mode.CONGESTION)}
    assert 2.5 < lab.first(Mode.CONGESTION, full) <= 4.6 - 0.3
    assert any("of the line rate" in reason.text for reason in lab.alarms[-1][1].reasons)


@pytest.mark.parametrize("seed", range(3))
def test_overload_is_foreseen_on_the_device(seed: int) -> None:
    lab = Lab(seed)
    lab.play(5.0, cpu=ramp("s2", 2.0, 3.0, 0.9))  # all of the CPU is taken at 4.7 s
    assert lab.alarmed == {("s2", Mode.DEVICE_OVERLOAD)}
    assert 2.5 < lab.first(Mode.DEVICE_OVERLOAD, "s2") <= 4.7 - 0.2
    assert lab.alarms[-1][1].reasons[0].text.startswith("s2 ")


@pytest.mark.parametrize("seed", range(6))
def test_noisy_but_healthy_links_never_raise_an_alarm(seed: int) -> None:
    lab = Lab(seed)
    rng = np.random.default_rng(seed)
    sigma = {end: rng.uniform(0.0, 0.45) for end in lab.ends}
    step = {end: rng.uniform(0.0, 2.5) for end in lab.ends}
    at = {end: rng.uniform(0.5, 7.0) for end in lab.ends}
    lab.play(
        8.0,
        noise=lambda end, _t: sigma[end],
        attenuation=lambda end, t: step[end] if t > at[end] else 0.0,
    )
    assert lab.alarms == []


@pytest.mark.parametrize("seed", range(4))
def test_bursts_within_capacity_never_raise_an_alarm(seed: int) -> None:
    lab = Lab(seed)
    rng = np.random.default_rng(seed)
    at = {end: rng.uniform(0.5, 6.0) for end in [*lab.ends, "s1", "s2", "s3", "s4"]}
    wide = {end: rng.uniform(0.05, 2.0) for end in at}
    tall = {end: rng.uniform(0.1, 0.5) for end in at}

    def burst(element: str, t: float) -> float:
        return tall[element] if at[element] < t < at[element] + wide[element] else 0.0

    lab.play(8.0, load=burst, cpu=burst)
    assert lab.alarms == []


@pytest.mark.parametrize("seed", range(4))
def test_round_trip_times_alone_never_raise_an_alarm(seed: int) -> None:
    lab = Lab(seed)
    wild = np.random.default_rng(seed)
    lab.play(8.0, rtt_us=lambda _e, t: float(100.0 * 10 ** wild.uniform(0.0, 3.0 if t > 2.0 else 0.5)))
    assert lab.alarms == []


def test_a_link_that_begins_with_loss_is_an_alarm_soon() -> None:
    lab = Lab()
    link = lab.topology.links[0]
    sick = str(link.b)
    lab.play(5.0, lost=lambda e, t: float(int(max(0.0, t - 3.0) * 50)) if e == sick else 0.0)
    assert lab.alarmed == {(str(link.a), Mode.LINK_FAILURE)}
    assert 3.0 < lab.first(Mode.LINK_FAILURE, str(link.a)) < 3.6


def test_an_alarm_is_cleared_only_after_a_calm_while() -> None:
    lab = Lab()
    link = lab.topology.links[0]
    sick, element = str(link.a), str(link.a)
    lab.play(4.0, attenuation=ramp(sick, 2.0, 2.2, 8.0))
    assert lab.first(Mode.LINK_FAILURE, element) < 4.0
    lab.play(4.8)  # repaired at once: still standing, the calm has been too short
    assert lab.alarms[-1][0] > 4.75
    lab.play(9.0)
    assert lab.alarms[-1][0] < 8.0
    assert lab.analyzer.alarms(lab.now) == []


def test_a_single_odd_sample_never_raises_an_alarm() -> None:
    lab = Lab()
    odd = lab.ends[0]
    lab.play(6.0, attenuation=lambda e, t: 7.5 if e == odd and 3.0 < t < 3.0 + 1.4 * STEP else 0.0)
    assert lab.alarms == []


def test_forecasts_show_what_is_below_the_threshold() -> None:
    lab = Lab(settings=Settings(report_floor=0.0))
    lab.play(2.0)
    found = lab.analyzer.forecasts(lab.now)
    links = {f.element for f in found if f.mode is Mode.LINK_FAILURE}
    assert links == {str(link.a) for link in lab.topology.links}
    assert {f.element for f in found if f.mode is Mode.CONGESTION} == set(lab.ends)
    assert {f.element for f in found if f.mode is Mode.DEVICE_OVERLOAD} == {s.name for s in lab.topology.switches}
    assert [f.probability for f in found] == sorted((f.probability for f in found), reverse=True)
    assert all(0.0 <= f.probability < 0.2 and f.horizon_s > 0 and f.time_s == lab.now for f in found)


def test_link_of_finds_the_link_of_a_forecast() -> None:
    lab = Lab()
    link = lab.topology.links[2]
    assert lab.analyzer.link_of(str(link.b)) == link
    assert lab.analyzer.link_of("s1") is None
    assert lab.analyzer.link_of("s1:99") is None


def test_compressed_and_real_time_give_the_same_judgement() -> None:
    fast, slow = HealthAnalyzer(diamond()), HealthAnalyzer(diamond(), Settings(unit_s=60.0, stale_s=60.0))
    element = str(diamond().links[0].a)
    for i in range(60):
        values = {"rx_power_dbm": -8.0 - 0.1 * max(0, i - 20), "pre_fec_ber": 1e-8 * 1.35 ** max(0, i - 20)}
        fast.observe(PortSample(element, 100.0 + 0.05 * i, **values))
        slow.observe(PortSample(element, 6000.0 + 3.0 * i, **values))
        a, b = fast.forecasts(100.0 + 0.05 * i), slow.forecasts(6000.0 + 3.0 * i)
        assert [f.probability for f in a] == pytest.approx([f.probability for f in b], abs=1e-6)
    assert a and b[0].horizon_s == pytest.approx(60.0 * a[0].horizon_s)


# Maintenance notices


def notice(element: str = "s1-s2", start: float = 10.0, end: float = 20.0, name: str = "M1") -> MaintenanceNotice:
    return MaintenanceNotice(name, element, START + start, START + end, "fibre splice")


@pytest.mark.parametrize("form", ["s1-s2", "s2-s1", "end a", "end b"])
def test_a_notice_is_certain_from_before_its_start_to_its_end(form: str) -> None:
    analyzer = HealthAnalyzer(diamond(), Settings(drain_lead_s=2.0))
    link = next(link for link in diamond().links if link.name == "s1-s2")
    analyzer.notice(notice({"end a": str(link.a), "end b": str(link.b)}.get(form, form)))
    assert analyzer.alarms(START + 7.9) == []
    for at in (8.0, 15.0, 19.9):
        (found,) = analyzer.alarms(START + at)
        assert (found.element, found.mode, found.probability) == (str(link.a), Mode.MAINTENANCE, 1.0)
        assert "fibre splice" in found.reasons[0].text
    assert analyzer.alarms(START + 20.0) == []


def test_a_notice_for_a_device_replacement_and_withdrawal() -> None:
    analyzer = HealthAnalyzer(diamond())
    analyzer.notice(notice("s3"))
    analyzer.notice(notice("s2"))  # same id: a correction
    assert [f.element for f in analyzer.alarms(START + 12)] == ["s2"]
    assert analyzer.withdraw("M1")
    assert not analyzer.withdraw("M1")
    assert analyzer.alarms(START + 12) == []


def test_reset_keeps_notices_and_forgets_the_rest() -> None:
    lab = Lab()
    lab.play(4.0, attenuation=ramp(lab.ends[0], 2.0, 2.0, 8.0))
    lab.analyzer.notice(notice())
    assert lab.analyzer.alarms(lab.now)
    lab.analyzer.reset()
    assert lab.analyzer.alarms(lab.now) == []
    assert [f.mode for f in lab.analyzer.alarms(START + 12)] == [Mode.MAINTENANCE]
    assert set(lab.analyzer.unjudged(lab.now).values()) == {"no sample yet"}


@pytest.mark.parametrize("odd", [notice("s1-s9"), notice("x"), notice(start=5.0, end=5.0), notice(start=nan)])
def test_a_notice_that_makes_no_sense_is_refused(odd: MaintenanceNotice) -> None:
    analyzer = HealthAnalyzer(diamond())
    with pytest.raises(NoticeError, match="M1"):
        analyzer.notice(odd)
    assert analyzer.alarms(START + 12) == []


# Bad input


def test_each_fault_is_noted_once_per_element() -> None:
    lab = Lab()
    lab.play(1.0)
    assert lab.analyzer.notes() == []
    for i in range(20):
        lab.analyzer.observe(PortSample(lab.ends[0], lab.now + 0.05 * i, rx_power_dbm=1e6))
        lab.analyzer.observe(PortSample(lab.ends[1], lab.now - 1.0, rx_power_dbm=-8.0))
        lab.analyzer.observe(PortSample("s1:77", lab.now, rx_power_dbm=-8.0))
        lab.analyzer.observe(DeviceSample("s99", lab.now))
    found = lab.analyzer.notes()
    assert len(found) == 4
    assert [sum(part in text for text in found) for part in ("absurd", "late", "s1:77", "s99")] == [1, 1, 1, 1]
    assert lab.analyzer.notes() == []


def test_host_ports_are_ignored_in_silence() -> None:
    lab = Lab()
    host = lab.topology.hosts[0]
    lab.analyzer.observe(PortSample(f"{host.switch}:{host.port}", START, rx_power_dbm=-30.0))
    assert lab.analyzer.notes() == []


def test_what_cannot_be_judged_is_listed_with_the_reason() -> None:
    lab = Lab()
    gone, blind = lab.ends[0], lab.ends[1]
    lab.play(2.0, silent=lambda e, t: float((e == gone and t > 1.0) or e == blind))
    for i in range(12):
        lab.analyzer.observe(PortSample(blind, lab.now + 0.001 * i, tx_bytes_total=1000.0 * i))
    assert lab.analyzer.unjudged(lab.now + 0.5) == {
        gone: "silent for 1.5 s",
        blind: "link failure not judged: no receive power, error ratio or heartbeats",
    }
    fresh = Lab()
    assert set(fresh.analyzer.unjudged(START)) == {*fresh.ends, "s1", "s2", "s3", "s4"}
    fresh.play(0.2)
    assert "of the 8 samples" in fresh.analyzer.unjudged(fresh.now)["s1"]


def test_an_element_that_goes_silent_raises_nothing_and_clears_nothing() -> None:
    calm = Lab()
    calm.play(2.0)
    assert calm.analyzer.alarms(calm.now + 60.0) == []
    lab = Lab()
    sick = lab.ends[0]
    lab.play(4.2, attenuation=ramp(sick, 2.0, 2.0, 8.0))
    (before,) = lab.analyzer.alarms(lab.now)
    (after,) = lab.analyzer.alarms(lab.now + 60.0)
    assert (after.element, after.mode) == (before.element, before.mode)
    assert "went silent" in after.reasons[0].text
    assert lab.analyzer.forecasts(lab.now + 60.0) == []


def test_a_restarted_switch_with_counters_at_zero_is_no_failure() -> None:
    lab = Lab()
    lab.play(3.0)
    lab.bytes = dict.fromkeys(lab.ends, 0.0)
    lab.play(6.0)
    assert lab.alarms == []
    assert any("reset" in text for text in lab.analyzer.notes())


anything = st.one_of(st.floats(width=64), st.sampled_from([nan, inf, -inf, 0.0, -8.0, 1e300]))
fields = st.fixed_dictionaries(
    {},
    optional={
        name: anything
        for name in PortSample.__dataclass_fields__
        if name not in ("element", "time_s", "up", "corrected_total", "tx_packets_total")
    },
)


@settings(max_examples=50, deadline=None)
@given(
    samples=st.lists(
        st.tuples(st.sampled_from(["s1:3", "s1:4", "s2:1", "s9:9", "", "s1:x"]), anything, fields), max_size=30
    ),
    now=st.floats(0, 2e9),
)
def test_no_sample_whatsoever_breaks_the_analyzer(
    samples: list[tuple[str, float, dict[str, float]]], now: float
) -> None:
    analyzer = HealthAnalyzer(diamond(), Settings(report_floor=0.0))
    for element, time, values in samples:
        analyzer.observe(PortSample(element, time, **values))
        analyzer.observe(DeviceSample(element.partition(":")[0], time, *list(values.values())[:4]))
        for forecast in analyzer.forecasts(now):
            assert 0.0 <= forecast.probability <= 1.0
        analyzer.unjudged(now)
        assert all(isinstance(text, str) for text in analyzer.notes())


def test_samples_are_taken_in_order_however_they_are_batched() -> None:
    one, many = Lab(seed=5), Lab(seed=5)
    shape = ramp(one.ends[0], 1.0, 2.0, 6.0)
    one.play(2.5, attenuation=shape)
    many.analyzer.alarms = lambda now_s: []  # type: ignore[method-assign]  # nothing is judged, so all piles up
    many.play(2.5, attenuation=shape)
    a, b = one.analyzer.forecasts(one.now), many.analyzer.forecasts(many.now)
    assert [f.element for f in a] == [f.element for f in b]
    assert [f.probability for f in a] == pytest.approx([f.probability for f in b])


def test_thresholds_can_be_set_per_mode() -> None:
    strict = {mode: Threshold(raise_at=1.1) for mode in Mode}
    lab = Lab(settings=Settings(thresholds=strict))
    lab.play(4.5, attenuation=ramp(lab.ends[0], 2.0, 2.0, 8.0))
    assert lab.alarms == []


# A network in operation


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
