"""Device overload and the transceiver model."""

from __future__ import annotations

import ctypes
import math
from itertools import pairwise
from typing import Any

import pytest

from engine.dataplane import Client
from tests.engine.switchd_support import Rig, burst, eventually, functions_of, number_of, numbered

HEALTHY_DBM = -8.0
FEC_LIMIT = 1.25e-2


@pytest.fixture(scope="module")
def optics() -> Any:
    library = functions_of("optics")
    for name in ("optics_ber", "optics_word_error", "optics_jitter_ns"):
        function = getattr(library, name)
        function.restype = ctypes.c_double
        function.argtypes = [ctypes.c_double]
    library.optics_frame_loss.restype = ctypes.c_double
    library.optics_frame_loss.argtypes = [ctypes.c_double, ctypes.c_uint32]
    return library


def frame_loss(optics: Any, attenuation: float, size: int = 1400) -> float:
    word = optics.optics_word_error(optics.optics_ber(HEALTHY_DBM - attenuation))
    return float(optics.optics_frame_loss(word, size))


def test_a_healthy_receiver(optics: Any) -> None:
    assert optics.optics_ber(HEALTHY_DBM) == pytest.approx(1e-8, rel=0.02)
    assert optics.optics_jitter_ns(1e-8) == 0


def test_bit_errors_follow_the_error_function(optics: Any) -> None:
    for tenth in range(0, 120, 5):
        quality = 5.612 * 10 ** (-tenth / 10 / 20)
        assert optics.optics_ber(HEALTHY_DBM - tenth / 10) == pytest.approx(math.erfc(quality / math.sqrt(2)) / 2)


def test_limit_is_reached_at_eight_decibels(optics: Any) -> None:
    assert optics.optics_ber(HEALTHY_DBM - 7.9) < FEC_LIMIT < optics.optics_ber(HEALTHY_DBM - 8.0)


def test_no_frame_is_lost_below_the_limit(optics: Any) -> None:
    assert all(frame_loss(optics, tenth / 10) == 0 for tenth in range(80))


def test_loss_rises_to_one_above_the_limit(optics: Any) -> None:
    losses = [frame_loss(optics, tenth / 10) for tenth in range(80, 111)]
    assert all(later >= earlier for earlier, later in pairwise(losses))
    assert losses[0] < 1e-9
    assert 0.2 < frame_loss(optics, 9.0) < 0.8
    assert frame_loss(optics, 10.0) > 0.9999
    assert frame_loss(optics, 9.0, 64) < frame_loss(optics, 9.0, 1400)  # fewer code words


def test_readings_of_a_port(switch: tuple[Rig, Client]) -> None:
    _, client = switch
    first = client.device_state().ports[0]
    assert first.rx_power_dbm == pytest.approx(HEALTHY_DBM, abs=0.2)
    assert 2e-9 < first.pre_fec_ber < 5e-8
    assert first.uncorrected == 0
    grown = eventually(lambda: client.device_state().ports[0].corrected > first.corrected + 20, "corrected bits")
    assert grown

    client.impair(1, {"attenuation_db": [(0, 5)]})
    faded = eventually(
        lambda: next((p for p in client.device_state().ports if p.port == 1 and p.rx_power_dbm < -12.5), None), "fading"
    )
    assert faded.rx_power_dbm == pytest.approx(HEALTHY_DBM - 5, abs=0.2)
    assert 6e-4 < faded.pre_fec_ber < 1.1e-3
    assert faded.uncorrected == 0
    other = client.device_state().ports[1]
    assert other.rx_power_dbm == pytest.approx(HEALTHY_DBM, abs=0.2)


def test_fading_within_the_margin_loses_nothing(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(1, {"attenuation_db": [(0, 7.5)], "power_noise_db": [(0, 0.05)]})
    burst(rig_.host[1], 1000, size=1000)
    assert [number_of(data) for data, _ in rig_.host[2].receive(1000)] == list(range(1000))
    assert client.device_state().ports[0].rx_errors == 0


def test_a_dark_fibre_is_dead_without_loss_of_carrier(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(1, {"attenuation_db": [(0, 12)]})
    eventually(lambda: client.device_state().ports[0].uncorrected > 0, "lost code words")
    burst(rig_.host[1], 100)
    assert rig_.host[2].silent()
    state = client.device_state().ports[0]
    assert state.up
    assert state.rx_errors == 100
    client.impair(1, clear=True)
    eventually(lambda: client.device_state().ports[0].rx_power_dbm > -9, "light")
    rig_.host[1].send(numbered(5))
    assert [number_of(data) for data, _ in rig_.host[2].receive()] == [5]


def test_noise_shows_in_the_readings(switch: tuple[Rig, Client]) -> None:
    _, client = switch
    client.impair(1, {"power_noise_db": [(0, 1.0)]})
    readings: set[float] = set()

    def spread() -> bool:
        readings.add(client.device_state().ports[0].rx_power_dbm)
        return len(readings) >= 20

    eventually(spread, "twenty readings")
    assert max(readings) - min(readings) > 0.5


def test_overload_drops_what_the_backlog_cannot_hold(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(None, {"capacity_pps": [(0, 500)], "backlog_packets": [(0, 50)]})
    count = 300
    sent = burst(rig_.host[1], count)

    def left() -> bool:
        state = client.device_state()
        return state.ports[1].tx_packets + state.dropped == count

    eventually(left, "the end of the backlog")
    received = rig_.host[2].receive(client.device_state().ports[1].tx_packets)
    state = client.device_state()
    assert state.dropped == count - len(received)
    assert 51 <= len(received) < count
    assert received[-1][1] - sent[0] >= (len(received) - 1) * 2_000_000 * 0.9  # 2 ms each
    assert state.backlog == 0
    client.impair(None, clear=True)
    burst(rig_.host[1], count)
    assert len(rig_.host[2].receive(count)) == count


def test_load_shows_before_anything_is_lost(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(None, {"capacity_pps": [(0, 2000)], "base_load": [(0, 0.6)], "memory": [(0, 0.7)]})
    assert client.device_state().memory_utilization == pytest.approx(0.7)
    assert client.device_state().cpu_utilization >= 0.6

    def busy() -> bool:
        burst(rig_.host[1], 40)
        return client.device_state().cpu_utilization > 0.8

    eventually(busy, "load")
    client.impair(None, {"capacity_pps": None})
    assert client.device_state().dropped == 0


def test_backlog_is_visible(switch: tuple[Rig, Client]) -> None:
    rig_, client = switch
    client.impair(None, {"capacity_pps": [(0, 20)]})
    burst(rig_.host[1], 30)
    eventually(lambda: client.device_state().backlog > 10, "a backlog")
    client.impair(None, {"capacity_pps": None})
    burst(rig_.host[1], 10, first=30)
    assert [number_of(data) for data, _ in rig_.host[2].receive(40)] == list(range(40))
