"""Banks: one row and many rows agree, bad input is refused and told, features stay within their bounds."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.bank import ABSURD, BACK, JUMPED, LATE, RESET, Bank
from ml.features import FEATURES, DeviceBank, PortBank
from ml.profiles import OPERATIONS
from ml.schema import DeviceSample, Mode, PortSample

anything = st.one_of(st.floats(width=64), st.sampled_from([nan, inf, -inf, -8.0, 1e-8, 0.0, 2.0**32, 2.0**64, 1e300]))
samples = st.lists(
    st.tuples(
        st.floats(-3.0, 3.0) | st.sampled_from([0.05, nan, inf, 1e18]),
        st.lists(anything, min_size=len(PortBank.INPUTS), max_size=len(PortBank.INPUTS)),
    ),
    min_size=1,
    max_size=25,
)


def feed(bank: PortBank, count: int, start_s: float = 100.0, step_s: float = 0.05, **fields: float) -> float:
    """Steady samples into row 0; a field given as ``name=slope`` starts at its usual value and moves."""
    time = start_s
    for i in range(count):
        time = start_s + i * step_s
        usual = {"rx_power_dbm": -8.0, "pre_fec_ber": 1e-8, "rate_bps": 1e8, "tx_bytes_total": 2e5 * i}
        usual |= {"queue_max_packets": 1.0, "heartbeat_rtt_us": 100.0, "heartbeat_lost_total": 0.0}
        moved = {name: usual.get(name, 0.0) + slope * i for name, slope in fields.items()}
        bank.learn_one(0, time, PortBank.values(PortSample("s1:1", time, **{**usual, **moved})))
    return time


def features(bank: PortBank, mode: Mode) -> dict[str, float]:
    link, congestion = bank.features()
    row = (link if mode is Mode.LINK_FAILURE else congestion)[0]
    return dict(zip([f.name for f in FEATURES[mode]], row.tolist(), strict=True))


@settings(max_examples=60)
@given(samples=samples)
def test_one_by_one_is_the_same_as_many_at_once(samples: list[tuple[float, list[float]]]) -> None:
    single, many = PortBank(3), PortBank(3)
    time = 1000.0
    for gap, values in samples:
        time = time + gap if abs(gap) < 100 else time
        at = time if abs(gap) < 100 else gap
        faults = [single.learn_one(row, at, values) for row in (2, 0)]
        assert many.learn_many(np.array([2, 0]), at, np.array([values, values])).tolist() == faults
    assert np.allclose(single.newest, many.newest)
    assert single.samples.tolist() == many.samples.tolist()
    for a, b in zip(single.features(), many.features(), strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-6)


@settings(max_examples=60)
@given(samples=samples)
def test_features_are_always_within_their_bounds(samples: list[tuple[float, list[float]]]) -> None:
    bank, devices = PortBank(2), DeviceBank(2)
    time = 1000.0
    for gap, values in samples:
        time = time + gap if abs(gap) < 100 else time
        bank.learn_one(0, time, values)
        devices.learn_one(0, time, values[:4])
    link, congestion = bank.features()
    found = {Mode.LINK_FAILURE: link, Mode.CONGESTION: congestion, Mode.DEVICE_OVERLOAD: devices.features()}
    for mode, x in found.items():
        bounds = [f.bound for f in FEATURES[mode]]
        assert x.shape == (2, len(bounds))
        assert (x >= 0.0).all() and (x <= np.array(bounds)).all()


def test_feature_lists_match_the_columns() -> None:
    link, congestion = PortBank(1).features()
    assert link.shape == (1, len(FEATURES[Mode.LINK_FAILURE]))
    assert congestion.shape == (1, len(FEATURES[Mode.CONGESTION]))
    assert DeviceBank(1).features().shape == (1, len(FEATURES[Mode.DEVICE_OVERLOAD]))


def test_a_healthy_port_has_no_feature() -> None:
    bank = PortBank(1)
    feed(bank, 80)
    assert all(value < 0.01 for name, value in features(bank, Mode.LINK_FAILURE).items())
    assert all(value < 0.7 for name, value in features(bank, Mode.CONGESTION).items())


def test_falling_power_without_an_error_ratio_still_counts() -> None:
    bank = PortBank(1)
    feed(bank, 40)
    for i in range(20):
        bank.learn_one(0, 102.0 + 0.05 * i, PortBank.values(PortSample("s1:1", 102.0, rx_power_dbm=-8.0 - 0.2 * i)))
    found = features(bank, Mode.LINK_FAILURE)
    assert found["power_drop"] > 2.0
    assert found["margin_falling"] == 0.0  # the error ratio was known, and it is silent now, not steady
    blind = PortBank(1)
    for i in range(60):
        power = -8.0 - max(0.0, 0.2 * (i - 40))
        blind.learn_one(0, 100.0 + 0.05 * i, PortBank.values(PortSample("s1:1", 0.0, rx_power_dbm=power)))
    assert features(blind, Mode.LINK_FAILURE)["margin_falling"] > 1.0


def test_utilization_needs_a_line_rate_and_remembers_it() -> None:
    bank = PortBank(1)
    for i in range(30):
        rate = 1e8 if i == 3 else nan
        sample = PortSample("s1:1", 0.0, tx_bytes_total=6.25e5 * i, rate_bps=rate)  # 6.25e5 B / 50 ms = 1e8 bit/s
        bank.learn_one(0, 5.0 + 0.05 * i, PortBank.values(sample))
        if i < 3:
            assert np.isnan(bank.trend.score_one(0).level[2])
    assert features(bank, Mode.CONGESTION)["load_slow"] == pytest.approx(0.3)


@pytest.mark.parametrize("late_s", [6.0, 11.0])
def test_a_late_stamp_in_operations_is_no_jump_of_the_load(late_s: float) -> None:
    """A sample that is stamped late reads low and the next one high; the lines do not move for it."""
    bank = PortBank(1, OPERATIONS.unit_s, taus=OPERATIONS.taus)
    for i in range(60):
        time_s = 22.0 * i
        sample = PortSample("s1:1", time_s, rate_bps=1e9, tx_bytes_total=0.85 * 1e9 / 8.0 * time_s)
        bank.learn_one(0, time_s + (late_s if i == 40 else 0.0), PortBank.values(sample))
    signal = bank.SIGNALS.index("utilization")
    levels = bank.lines().level[signal :: len(bank.SIGNALS), 0]
    assert levels == pytest.approx(0.85, abs=0.02)


def test_time_is_counted_in_units() -> None:
    lab, field = PortBank(1, unit_s=1.0), PortBank(1, unit_s=60.0)
    for i in range(50):
        sample = PortSample("s1:1", 0.0, rx_power_dbm=-8.0 - 0.1 * i, pre_fec_ber=1e-8 * 1.3**i)
        lab.learn_one(0, 0.05 * i, PortBank.values(sample))
        field.learn_one(0, 3.0 * i, PortBank.values(sample))
    assert np.allclose(lab.features()[0], field.features()[0])
    assert field.describe(0, "rx_power_dbm")[1] == pytest.approx(lab.describe(0, "rx_power_dbm")[1] / 60.0)


@pytest.mark.parametrize("unit", [0.0, -1.0, nan, inf])
def test_a_unit_of_time_must_be_one(unit: float) -> None:
    with pytest.raises(ValueError, match="unit_s"):
        PortBank(1, unit_s=unit)


@pytest.mark.parametrize(
    "field", [{"rx_power_dbm": 200.0}, {"pre_fec_ber": 0.9}, {"pre_fec_ber": -1.0}, {"tx_bytes_total": -5.0}]
)
@pytest.mark.parametrize("value", [None, inf])
def test_absurd_values_are_refused_and_the_rest_of_the_sample_is_kept(
    field: dict[str, float], value: float | None
) -> None:
    bank = PortBank(1)
    feed(bank, 20)
    before = bank.base.score_one(0)
    odd = field if value is None else dict.fromkeys(field, value)
    sample = PortSample("s1:1", 0.0, queue_max_packets=1.0, **odd)
    assert bank.learn_one(0, 101.0, PortBank.values(sample)) == ABSURD
    assert bank.base.score_one(0).level[:2].tolist() == before.level[:2].tolist()
    assert bank.newest[0] == 101.0


@pytest.mark.parametrize("time", [nan, inf, -inf, 1e18])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    bank = PortBank(1)
    feed(bank, 20)
    newest = bank.newest.copy()
    values = PortBank.values(PortSample("s1:1", time, rx_power_dbm=-8.0))
    assert bank.learn_one(0, time, values) == ABSURD
    assert bank.learn_many(np.array([0]), time, np.array([values])).tolist() == [ABSURD]
    assert bank.newest.tolist() == newest.tolist()


def test_a_sample_that_comes_twice_or_late_is_refused() -> None:
    bank = PortBank(1)
    last = feed(bank, 20)
    values = PortBank.values(PortSample("s1:1", last, rx_power_dbm=-20.0))
    before = bank.trend.state.copy()
    assert bank.learn_one(0, last, values) == LATE
    assert bank.learn_one(0, last - 0.5, values) == LATE
    assert np.array_equal(bank.trend.state, before)


def test_a_sample_without_any_measurement_is_no_fault() -> None:
    bank = PortBank(1)
    assert bank.learn_one(0, 1.0, PortBank.values(PortSample("s1:1", 1.0))) == 0
    assert bank.samples[0] == 0


def test_digests_and_polls_may_interleave_out_of_order() -> None:
    bank = PortBank(1)
    for i in range(20):
        poll = PortSample("s1:1", 0.0, rx_power_dbm=-8.0, pre_fec_ber=1e-8)
        digest = PortSample("s1:1", 0.0, heartbeat_rtt_us=90.0, heartbeat_lost_total=0.0)
        assert bank.learn_one(0, 1.0 + 0.05 * i, PortBank.values(poll)) == 0
        assert bank.learn_one(0, 0.97 + 0.05 * i, PortBank.values(digest)) == 0


def test_a_clock_that_jumped_back_is_noticed_after_a_few_samples() -> None:
    bank = PortBank(1)
    feed(bank, 40)
    faults = []
    for i in range(30):
        values = PortBank.values(PortSample("s1:1", 0.0, rx_power_dbm=-8.0))
        faults.append(bank.learn_one(0, 100.0 - 2 * BACK + 0.05 * i, values))
    assert faults[:3] == [LATE, LATE, JUMPED]
    assert set(faults[3:]) == {0}
    assert bank.samples[0] == 28


def test_one_timestamp_from_the_far_future_does_not_silence_a_port() -> None:
    bank = PortBank(1)
    feed(bank, 20)
    bank.learn_one(0, 1e9, PortBank.values(PortSample("s1:1", 0.0, rx_power_dbm=-8.0)))
    feed(bank, 20, start_s=101.0)
    assert bank.newest[0] < 200.0


def test_a_counter_that_is_reset_is_told() -> None:
    bank = PortBank(1)
    feed(bank, 20)
    values = PortBank.values(PortSample("s1:1", 0.0, tx_bytes_total=10.0))
    assert bank.learn_one(0, 101.0, values) == RESET


@pytest.mark.parametrize("bank", [PortBank, DeviceBank])
def test_every_input_has_limits(bank: type[Bank]) -> None:
    inputs = len(bank.INPUTS)
    assert len(bank.LOW) == len(bank.HIGH) == len(bank.TOLD) == inputs
    assert len(bank.JUMP) == len(bank.JUMP_RATE) == len(bank.FLOOR) == len(bank.SIGNALS)


def test_values_follow_the_inputs() -> None:
    port = PortSample("s1:1", 0.0, **{n: float(i) for i, n in enumerate(PortBank.INPUTS) if n != "up"}, up=False)
    expected = [0.0 if n == "up" else float(i) for i, n in enumerate(PortBank.INPUTS)]
    assert list(PortBank.values(port)) == expected
    device = DeviceSample("s1", 0.0, **{n: float(i) for i, n in enumerate(DeviceBank.INPUTS)})
    assert list(DeviceBank.values(device)) == [float(i) for i in range(len(DeviceBank.INPUTS))]
