"""The health analyzer's patience with bad input: each fault told once, and what cannot be judged is said."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.pha import HealthAnalyzer, Settings, Threshold
from ml.schema import DeviceSample, Mode, PortSample
from tests.control.pha_lab import START, Lab, ramp
from topo.builtin import diamond


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
