"""Rates, room, observed loss, gNMI decoding and the bounded inbox."""

from __future__ import annotations

import asyncio
import math

import pytest
from control_helpers import MONITOR, make_topology
from finsy.proto import gnmi
from hypothesis import given
from hypothesis import strategies as st

from control.capacity import Loads, Rate
from control.degradation import DegradationDetector
from control.paths import Network
from control.plan import GroupKey
from control.spm import ShadowManager
from control.telemetry import Decoder, Inbox
from ml.schema import DeviceSample, PortSample
from topo.spec import Endpoint


def test_a_rate_follows_the_counter_and_survives_a_restart() -> None:
    rate = Rate()
    for step in range(50):
        rate.update(step * 12_500, step * 0.1)  # 1 Mbit/s
    assert rate.bps == pytest.approx(1e6, rel=1e-3)
    rate.update(0.0, 6.0)
    assert rate.bps == 0.0
    rate.update(0.0, 6.0)  # the same time twice is no division by zero
    rate.update(25_000, 6.2)
    assert rate.bps == pytest.approx(1e6)


def test_growth_is_carried_on_and_decline_is_not_trusted() -> None:
    rate = Rate()
    for step in range(50):
        time_s = step * 0.1
        rate.update(1e6 / 8 * time_s**2 / 2, time_s)  # grows by 1 Mbit/s each second
    assert rate.growth == pytest.approx(1e6, rel=0.01)
    assert rate.ahead(2.0) == pytest.approx(rate.bps + 2e6, rel=0.01)
    for step in range(20):
        rate.update(1e6 / 8 * 4.9**2 / 2, 5.0 + step * 0.1)
    assert rate.ahead(2.0) == rate.bps == 0.0


def test_room_counts_cross_traffic_but_not_the_group_itself_twice() -> None:
    net = Network(make_topology([(1, 2), (2, 4), (1, 3), (3, 4)], rate_mbps=10.0))
    plan = ShadowManager(net).build(MONITOR)
    group = plan.groups[GroupKey("s1", "h4")]
    assert group.shadow is not None
    path, loads = group.shadow.path, Loads(net)
    for second in range(20):
        loads.observe_group(group.key, second * 5e6 / 8, float(second))
        for hop in path.hops:
            loads.observe_port(hop.out, second * 5e6 / 8, float(second))
    assert not loads.room(group, path, ()).fits
    assert loads.room(group, path, [hop.out for hop in path.hops]).fits
    assert loads.utilization(path.hops[0].out) == pytest.approx(0.5, rel=1e-3)
    loads.line_rate[path.hops[0].out] = 100e6  # telemetry cannot raise what the topology says
    assert loads.capacity(path.hops[0].out) == 10e6
    loads.line_rate[path.hops[0].out] = 4e6
    assert loads.capacity(path.hops[0].out) == 4e6


def test_unlimited_or_unmeasured_is_not_refused() -> None:
    net = Network(make_topology([(1, 2), (2, 3), (1, 3)]))
    group = ShadowManager(net).build(MONITOR).groups[GroupKey("s1", "h3")]
    assert group.shadow is not None
    assert Loads(net).room(group, group.shadow.path, ()).fits
    assert Loads(net).capacity(Endpoint("s1", 1)) == 0.0


def sample(element: str = "s1:2", time_s: float = 0.0, **fields: float) -> PortSample:
    return PortSample(element, time_s, **fields)


def test_rising_errors_are_evidence_at_once() -> None:
    detector = DegradationDetector()
    assert detector.observe(sample(rx_errors_total=100, uncorrected_total=3)) == []
    (errors,) = detector.observe(sample(time_s=1, rx_errors_total=112, uncorrected_total=3))
    assert (errors.mode, errors.lost) == ("link_failure", 12) and "12 frames" in errors.text
    (words,) = detector.observe(sample(time_s=3, uncorrected_total=4))
    assert "uncorrectable" in words.text
    assert detector.lost({"s1:2"}, 0.5) == 12 and detector.lost({"s1:2"}, 1.5) == 0


def test_drops_are_evidence_when_they_last_or_are_many() -> None:
    detector = DegradationDetector()
    detector.observe(sample(tx_dropped_total=0))
    assert detector.observe(sample(time_s=1.0, tx_dropped_total=200)) == []  # the burst after a stall
    assert detector.observe(sample(time_s=2.0, tx_dropped_total=210)) == []
    (drops,) = detector.observe(sample(time_s=2.05, tx_dropped_total=230))
    assert drops.mode == "congestion" and drops.lost == 30
    assert detector.observe(sample(time_s=9.0, tx_dropped_total=730))  # more than a stall explains
    assert detector.observe(PortSample("s1:2", 9.05, tx_dropped_total=2000, up=False)) == []  # no carrier
    detector.observe(DeviceSample("s1", 0.0, dropped_total=1))
    assert detector.observe(DeviceSample("s1", 1.0, dropped_total=8)) == []
    (full,) = detector.observe(DeviceSample("s1", 1.1, dropped_total=18))
    assert full.mode == "device_overload" and detector.lost({"s1"}, 0.5) == 17


def test_one_missing_heartbeat_is_no_evidence_two_on_a_link_are() -> None:
    detector = DegradationDetector(lambda element: "s1-s2")
    for element in ("s1:2", "s2:1"):
        detector.observe(sample(element, heartbeat_lost_total=0))
    assert detector.observe(sample(time_s=0.1, heartbeat_lost_total=1)) == []
    assert detector.observe(sample(time_s=5.0, heartbeat_lost_total=2)) == []
    (gaps,) = detector.observe(sample("s2:1", time_s=5.1, heartbeat_lost_total=1))
    assert gaps.element == "s2:1" and "2 heartbeats" in gaps.text


@given(st.lists(st.floats(0, 1e12), max_size=20))
def test_a_counter_that_restarts_is_never_evidence_of_loss(values: list[float]) -> None:
    detector = DegradationDetector()
    falling = sorted(values, reverse=True)
    for index, value in enumerate(falling):
        assert detector.observe(sample(time_s=index, rx_errors_total=value)) == []


def note(**values: object) -> gnmi.Notification:
    """Paths by a short name; values as JSON."""
    import json

    optics = "components/component[name=2]/transceiver"
    paths = {
        "oper": "interfaces/interface[name=2]/state/oper-status",
        "octets": "interfaces/interface[name=2]/state/counters/out-octets",
        "errors": "interfaces/interface[name=2]/state/counters/in-errors",
        "speed": "interfaces/interface[name=2]/ethernet/state/port-speed",
        "power": f"{optics}/physical-channels/channel[index=0]/state/input-power/instant",
        "ber": f"{optics}/state/pre-fec-ber/instant",
        "corrected": f"{optics}/state/fec-corrected-bits",
        "queue": "qos/interfaces/interface[interface-id=2]/output/queues/queue[name=0]/state/max-queue-len",
        "cpu": "system/cpus/cpu[index=ALL]/state/total/instant",
        "used": "system/memory/state/used",
        "physical": "system/memory/state/physical",
        "strange": "something/else[name=2]/state/x",
    }
    found = gnmi.Notification(timestamp=1_000_000_000_000)
    for name, value in values.items():
        update = found.update.add()
        for part in paths[name].split("/"):
            elem, _, key = part.partition("[")
            item = update.path.elem.add(name=elem)
            if key:
                left, _, right = key.rstrip("]").partition("=")
                item.key[left] = right
        update.val.json_ietf_val = json.dumps(value).encode()
    return found


def test_gnmi_becomes_samples() -> None:
    items = Decoder("s1").decode(
        note(oper="UP", octets="123", errors=4, speed=40e6, power=-8.1, ber=1e-8, corrected="77", queue=3, cpu=25,
             used=1, physical=4, strange=1),
        1001.0,
    )  # fmt: skip
    port, device = items
    assert isinstance(port, PortSample) and isinstance(device, DeviceSample)
    assert port.element == "s1:2" and port.time_s == 1000.0 and port.up
    assert (port.tx_bytes_total, port.rx_errors_total, port.rate_bps) == (123, 4, 40e6)
    assert (port.rx_power_dbm, port.pre_fec_ber, port.corrected_total, port.queue_max_packets) == (-8.1, 1e-8, 77, 3)
    assert math.isnan(port.heartbeat_rtt_us)
    assert (device.cpu_utilization, device.memory_utilization) == (0.25, 0.25)


def test_malformed_values_are_left_out_and_counted() -> None:
    decoder = Decoder("s1")
    found = note(octets="123", power=-8.1, cpu="a lot", used=[1], physical=4)
    found.update[0].val.json_ietf_val = b"{"
    port, device = decoder.decode(found, 1001.0)
    assert isinstance(port, PortSample) and isinstance(device, DeviceSample)
    assert decoder.malformed == 1 and math.isnan(port.tx_bytes_total) and port.rx_power_dbm == -8.1
    assert math.isnan(device.cpu_utilization) and math.isnan(device.memory_utilization)


def test_an_implausible_time_is_replaced_by_the_time_of_arrival() -> None:
    (port,) = Decoder("s1").decode(note(oper="DOWN"), 5000.0)
    assert isinstance(port, PortSample) and port.time_s == 5000.0 and not port.up


def test_the_inbox_is_bounded_drops_the_oldest_and_counts() -> None:
    inbox = Inbox(limit=3)
    for second in range(5):
        inbox.put(sample(time_s=float(second)))
    assert (inbox.received, inbox.dropped) == (5, 2)
    assert [item.time_s for item in inbox.take()[1]] == [2.0, 3.0, 4.0]
    assert inbox.take()[1] == []

    async def waits() -> None:
        await inbox.wait(0.001)  # nothing comes: returns
        inbox.wake()
        await inbox.wait(60)

    asyncio.run(waits())


@pytest.mark.parametrize("steps", range(4))
def test_a_cancellation_that_comes_with_a_sample_is_not_lost(steps: int) -> None:
    async def scenario() -> None:
        inbox = Inbox()
        task = asyncio.create_task(inbox.wait(60))
        for _ in range(3):
            await asyncio.sleep(0)
        inbox.put(sample())
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.cancel():  # False: it was through already
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
