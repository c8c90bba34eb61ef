"""The health analyzer: early alarms for what fails, none for what only looks unwell."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from control.pha import HealthAnalyzer, Settings
from control.planned import MaintenanceNotice, NoticeError
from ml.profiles import LAB
from ml.schema import DeviceSample, Mode, PortSample
from ml.store import packaged
from tests.control.pha_lab import START, STEP, Lab, ramp
from topo.builtin import diamond


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


@pytest.mark.parametrize(("roomy", "alarmed"), [(0.0, True), (LAB.roomy, False)])
def test_traffic_that_begins_on_a_device_with_room_is_no_overload(roomy: float, alarmed: bool) -> None:
    """Steps as a switch's processor shows them: as steep as a ramp of a second and a half, but at a quarter of it."""
    models = packaged("lab")
    models = replace(models, profile=replace(models.profile, roomy=roomy))
    analyzer = HealthAnalyzer(diamond(), models=models)
    at = [0.0589, 0.1019, 0.1519, 0.2019, 0.2542, 0.2612, 0.3112, 0.3612, 0.4112, 0.4612, 0.5112, 0.5612]
    busy = [0.0065] * 7 + [0.1096, 0.2029, 0.2404, 0.2561, 0.2975]
    found = []
    for time_s, cpu in zip(at, busy, strict=True):
        analyzer.observe(DeviceSample("s2", START + time_s, cpu, 0.001, 0.0, 0.0))
        found += analyzer.alarms(START + time_s)
    assert bool(found) is alarmed


@pytest.mark.parametrize("sign", ["memory", "drops"])
def test_a_device_with_room_is_judged_by_whatever_else_runs_out(sign: str) -> None:
    analyzer = HealthAnalyzer(diamond())
    first = np.inf
    for i in range(60):
        worse = max(0.0, 0.05 * i - 1.0) / 1.5
        analyzer.observe(
            DeviceSample(
                "s2",
                START + 0.05 * i,
                0.1,
                min(1.0, 0.3 + worse) if sign == "memory" else 0.3,
                0.0,
                float(int(1e4 * worse)) if sign == "drops" else 0.0,
            )
        )
        if analyzer.alarms(START + 0.05 * i):
            first = min(first, 0.05 * i)
    assert first < 2.5, sign
