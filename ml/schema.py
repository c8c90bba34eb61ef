"""What is measured, per port and per device: the one schema that every model reads. Imports nothing of ours.

Units are in the names. Cumulative counters are named ``*_total``. ``nan`` marks what was not measured;
a gap is the absence of a sample, never a repeated old value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import nan


class Mode(StrEnum):
    """Failure modes that are predicted, and the one that is announced."""

    LINK_FAILURE = "link_failure"
    DEVICE_OVERLOAD = "device_overload"
    CONGESTION = "congestion"
    MAINTENANCE = "maintenance"  # never modelled: a notice makes it certain


@dataclass(frozen=True, slots=True)
class PortSample:
    """One reading of one switch port. ``element`` is ``"s1:2"``."""

    element: str
    time_s: float
    rx_power_dbm: float = nan
    pre_fec_ber: float = nan
    corrected_total: float = nan
    uncorrected_total: float = nan
    rx_errors_total: float = nan
    tx_bytes_total: float = nan
    tx_packets_total: float = nan
    tx_dropped_total: float = nan
    rate_bps: float = nan  # line rate, nan or 0: unknown
    queue_max_packets: float = nan
    heartbeat_rtt_us: float = nan
    heartbeat_lost_total: float = nan
    up: bool = True
    laser_bias_ma: float = nan
    temperature_c: float = nan  # of the transceiver
    queue_limit_packets: float = nan  # room of the queue, nan: unknown
    queue_mean_packets: float = nan  # this and what follows: as packets with in-band telemetry met it
    hop_latency_us: float = nan  # largest time in the switch, queue included
    link_delay_us: float = nan  # largest delay of the link that the port sends into, above the link's own least
    watched_bps: float = nan  # rate of the watched flows through the port


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """One reading of one device. ``element`` is ``"s1"``."""

    element: str
    time_s: float
    cpu_utilization: float = nan  # 0..1
    memory_utilization: float = nan  # 0..1
    backlog_packets: float = nan
    dropped_total: float = nan


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known from outside about one port's link or one device; ``nan`` is not known.

    ``rain_fade_db`` is the attenuation that the rain ought to cause on this link (ITU-R P.838 or the like; 0 or nan
    for fibre), ``alert_severity`` 0 (none) to 4 (extreme).
    """

    element: str
    time_s: float
    rain_mm_per_h: float = nan
    rain_fade_db: float = nan
    gust_m_per_s: float = nan
    alert_severity: float = nan
    maintenance_reduced_redundancy: float = nan  # 1: work is going on that leaves less redundancy


@dataclass(frozen=True, slots=True)
class Reason:
    """One signal that moved a probability, strongest first in a list."""

    signal: str  # for example "rx_power_dbm"
    value: float
    text: str  # for people: "receive power -17.2 dBm, falling 2.1 dB/s, 6.0 sigma under its baseline"
    weight: float  # contribution to the log odds


@dataclass(frozen=True, slots=True)
class Forecast:
    """Probability that ``mode`` strikes ``element`` within ``horizon_s``."""

    element: str  # "s1:2" (port: its link) or "s1" (device)
    mode: Mode
    probability: float
    horizon_s: float
    time_s: float
    reasons: tuple[Reason, ...] = field(default=())
