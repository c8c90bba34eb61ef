"""Telemetry of a whole topology for the analyzer's tests, as the embedded switches would report it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from control.pha import HealthAnalyzer, Settings
from ml.physics import ber, q_factor
from ml.schema import DeviceSample, Forecast, Mode, PortSample
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
