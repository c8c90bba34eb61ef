"""The Predictive Health Analyzer: telemetry and maintenance notices in, probabilities with reasons out.

A thin, pure wrapper over :mod:`ml`: it maps elements to the links and devices of a topology, joins both ends
of a link, adds planned work (:mod:`control.planned`), and applies thresholds with hysteresis. It performs no I/O and
reads no clock: every time is the caller's, in seconds of one epoch (samples, notices and ``now_s`` alike).

Use::

    analyzer = HealthAnalyzer(topology)
    analyzer.observe(PortSample("s1:2", time_s, rx_power_dbm=-8.1, ...))   # per sample, from gNMI or digests
    for forecast in analyzer.alarms(now_s): ...                           # every few ms: flip away from .element
    analyzer.forecasts(now_s)                                             # all probabilities, for people and APIs

Elements in forecasts: ``LINK_FAILURE`` names a link by its end ``a`` (``str(link.a)``, whichever end saw it);
``CONGESTION`` names the transmitting port that fills up; ``DEVICE_OVERLOAD`` names the switch; ``MAINTENANCE``
names a link by its end ``a`` or a switch. Ports to hosts are accepted and ignored: nothing can be steered
around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from control.ends import Ends
from control.hysteresis import Threshold, Watch
from control.planned import MaintenanceNotice, PlannedWork
from ml.bank import ABSURD, CONTEXT, JUMPED, LATE, RESET, Bank
from ml.boosted import BoostedModel
from ml.cascade import PORTS, Judgement
from ml.drift import Drift
from ml.estimators.base import Floats
from ml.features import LOAD_FULL, DeviceBank, PortBank
from ml.hazard import HazardModel
from ml.neighbours import Neighbours
from ml.physics import FEC_LIMIT_BER
from ml.profiles import LAB, WARM_UP
from ml.reasons import reasons
from ml.schema import Conditions, DeviceSample, Forecast, Mode, PortSample, Reason
from ml.store import ModelSet, packaged
from topo.spec import Endpoint, Link, Topology

IDLE = 0.05  # share of the stale time for which a judgement without new samples stays as it is
FEW_NEWS = 8  # ports with news at a time: for so many, room is made beforehand
GROWING = 0.05  # of a device's memory in a unit of time
MOST_PENDING = 8192  # samples kept for the next judgement before they are worked off anyway
Pending: TypeAlias = tuple[int, float, tuple[float, ...]]  # row, time, inputs of the bank
NOTHING_OUTSIDE = np.zeros(len(CONTEXT))
FAULTS = {
    ABSURD: "absurd values (out of range or not finite), skipped",
    LATE: "samples that are late or come twice, skipped",
    RESET: "a counter went back without wrapping, taken as a reset",
    JUMPED: "the clock jumped back, started anew",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """``stale_s``: an element silent for longer is unjudged (its alarms stand as they are). ``drain_lead_s``: a
    maintenance window is forecast (with certainty) from this long before its start until its end.
    ``profile`` chooses the packaged models and with them the unit of time (:mod:`ml.profiles`); ``unit_s`` overrides
    the latter: how long the network's failures take to announce themselves, over a few. ``thresholds`` of modes that
    are not named are the models' own. Conditions outside are forgotten after ``conditions_stale_s``."""

    thresholds: Mapping[Mode, Threshold] = field(default_factory=dict)
    stale_s: float = 1.0
    drain_lead_s: float = 2.0
    report_floor: float = 0.02
    profile: str = LAB.name
    unit_s: float | None = None
    fec_limit_ber: float = FEC_LIMIT_BER
    conditions_stale_s: float = 900.0

    @classmethod
    def operations(cls, sample_s: float = 30.0) -> Settings:
        """For a network in operation that is read every ``sample_s`` seconds."""
        return cls(profile="operations", stale_s=4.0 * sample_s, drain_lead_s=300.0)


class HealthAnalyzer:
    """Probabilities per link, port and device of one topology."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings | None = None,
        models: ModelSet | Mapping[Mode, HazardModel] | None = None,
    ) -> None:
        self.topology = topology
        self.settings = settings or Settings()
        if isinstance(models, ModelSet):
            self.model_set = models
        else:
            self.model_set = packaged(self.settings.profile)
            if models is not None:
                self.model_set = replace(self.model_set, models=dict(models), screens={})
        self.models = self.model_set.models
        self.unit_s = self.settings.unit_s or self.model_set.profile.unit_s
        self._risks: list[list[int]] = []
        self._ends = [end for link in topology.links for end in (link.a, link.b)]  # row of a port: its place here
        self._switches = [switch.name for switch in topology.switches]
        self._end_names = [str(end) for end in self._ends]
        self._port_row = {str(end): row for row, end in enumerate(self._ends)}
        self._device_row = {name: row for row, name in enumerate(self._switches)}
        self._ignored = {f"{host.switch}:{host.port}" for host in topology.hosts}
        self._planned = PlannedWork(topology)
        self._notes: list[str] = []
        groups: dict[str, list[str]] = {}
        for link in topology.links:
            for name in link.srlgs:
                groups.setdefault(name, []).extend((str(link.a), str(link.b)))
        self.reset()
        self.share_risk(groups.values())

    def observe(self, sample: PortSample | DeviceSample) -> None:
        """Take in one sample; never raises on bad values (see :meth:`notes`). Fields that are nan are skipped,
        so gNMI readings and digests of the same port may come as separate samples."""
        if isinstance(sample, PortSample):
            row = self._port_row.get(sample.element)
            if row is None:
                if sample.element not in self._ignored:
                    self._note(sample.element, "is no port of the topology, skipped")
                return
            self._pending_ports.append((row, sample.time_s, PortBank.values(sample)))
        else:
            row = self._device_row.get(sample.element)
            if row is None:
                self._note(sample.element, "is no switch of the topology, skipped")
                return
            self._pending_devices.append((row, sample.time_s, DeviceBank.values(sample)))
        if len(self._pending_ports) + len(self._pending_devices) >= MOST_PENDING:
            self._learn()

    def observe_many(self, samples: Iterable[PortSample | DeviceSample]) -> None:
        """Take in many samples."""
        for sample in samples:
            self.observe(sample)

    def port_rows(self, elements: Sequence[str]) -> NDArray[np.intp]:
        """The row of each port for :meth:`observe_ports`; -1 for host ports and unknown ones."""
        return np.array([self._port_row.get(element, -1) for element in elements], dtype=np.intp)

    def observe_ports(self, rows: NDArray[np.intp], time_s: Floats, columns: Mapping[str, Floats]) -> None:
        """Take in one sample of each of ``rows`` (no row twice; all ports are up), as columns by field name: for
        reports that come by the ten thousand."""
        self._learn()
        values = np.full((len(rows), len(PortBank.INPUTS)), np.nan)
        values[:, PortBank.INPUTS.index("up")] = 1.0
        for name, column in columns.items():
            if name in PortBank.INPUTS:
                values[:, PortBank.INPUTS.index(name)] = column
        faults = self._ports.learn_many(rows, time_s, values)
        self._ports_judged_s = -np.inf
        if faults.any() or self._refused:
            for row, bits in zip(rows.tolist(), faults.tolist(), strict=True):
                self._report(str(self._ends[row]), bits)

    def conditions(self, item: Conditions) -> None:
        """Take in weather and work around a port's link or a device; the newest of an element counts. Values that are
        not finite or negative are not known."""
        ports, devices = self._port_row.get(item.element), self._device_row.get(item.element)
        bank, row = (self._ports, ports) if ports is not None else (self._devices, devices)
        if row is None:
            if item.element not in self._ignored:
                self._note(item.element, "is nothing of the topology, its conditions are skipped")
            return
        values = np.array([getattr(item, name) for name in CONTEXT], dtype=np.float64)
        bank.told(row, np.where(np.isfinite(values) & (values >= 0.0), values, 0.0))
        self._told[item.element] = item.time_s

    def share_risk(self, groups: Iterable[Sequence[str]]) -> None:
        """Ports that share a risk beyond the topology's own groups (the links of a duct, a line card, a path): what
        happens to the others of a group is evidence for each."""
        for group in groups:
            rows = [self._port_row[name] for name in group if name in self._port_row]
            if len(rows) > 1:
                self._risks.append(rows)
        self._ports.touched[:] = True  # all of it anew
        self._ports_judged_s = -np.inf
        self._cascade = replace(self.model_set.cascade(), neighbours=Neighbours(max(len(self._ends), 1), self._risks))

    def outcome(self, mode: Mode, probability: float, struck: bool) -> None:
        """What became of a prediction whose horizon is over, for :meth:`drift`; only such as nothing prevented."""
        self._drift.outcomes[mode].add(probability, struck)

    def drift(self) -> list[str]:
        """In which way the network is no longer the one that the models were trained on, in words."""
        return self._drift.report()

    def notice(self, notice: MaintenanceNotice) -> None:
        """Take in a notice; one with a known id replaces it. Raises :class:`control.planned.NoticeError`."""
        self._planned.enter(notice)

    def withdraw(self, notice_id: str) -> bool:
        """Forget a notice; False if there was none."""
        return self._planned.withdraw(notice_id)

    def planned(self, now_s: float) -> list[tuple[MaintenanceNotice, str, bool]]:
        """Work that is not over yet, the soonest first: the notice, the element's name, whether it is drained now."""
        return self._planned.standing(now_s, self.settings.drain_lead_s)

    def forecasts(self, now_s: float) -> list[Forecast]:
        """Every probability of at least ``report_floor``, most probable first."""
        self._evaluate(now_s)
        found = self._planned.forecasts(now_s, self.settings.drain_lead_s)
        for mode, watch in self._watches.items():
            floor = max(self.settings.report_floor, self._calm(mode))
            shown = np.flatnonzero(np.nan_to_num(watch.probability, nan=-1.0) >= floor)
            found += [self._forecast(mode, int(key), now_s) for key in shown]
        return sorted(found, key=lambda item: -item.probability)

    def alarms(self, now_s: float, *, explained: bool = True) -> list[Forecast]:
        """The forecasts whose flip score stands above its threshold, hysteresis applied: what steering acts on. The
        others of :meth:`forecasts` are there to be prepared for. Not ``explained``, they come without the models'
        reasons: a flip needs none, and asking again with them costs only the words."""
        self._evaluate(now_s)
        found = self._planned.forecasts(now_s, self.settings.drain_lead_s)
        for mode, watch in self._watches.items():
            found += [self._forecast(mode, int(key), now_s, explained) for key in np.flatnonzero(watch.raised)]
        return sorted(found, key=lambda item: -item.probability)

    def unjudged(self, now_s: float) -> dict[str, str]:
        """Elements without a judgement, each with the reason ("no sample yet", "silent for 3.2 s", ...)."""
        self._evaluate(now_s)
        found: dict[str, str] = {}
        for names, bank in (([str(end) for end in self._ends], self._ports), (self._switches, self._devices)):
            silent = bank.silent_s(now_s)
            for row, name in enumerate(names):
                if bank.samples[row] == 0:
                    found[name] = "no sample yet"
                elif silent[row] > self.settings.stale_s:
                    found[name] = f"silent for {silent[row]:.1f} s"
                elif silent[row] < -self.settings.stale_s:
                    found[name] = f"its clock is {-silent[row]:.1f} s ahead"
                elif bank.samples[row] < WARM_UP:
                    found[name] = f"{bank.samples[row]} of the {WARM_UP} samples that a first judgement needs"
                elif bank is self._ports and not self._joined.sighted[row]:
                    found[name] = "link failure not judged: no receive power, error ratio or heartbeats"
                elif bank is self._ports and not self._joined.metered[row]:
                    found[name] = "congestion not judged: neither load (bytes and line rate) nor queue"
                if name in found and name in self._refused:
                    found[name] += f"; what comes is refused: {self._refused[name]}"
        return found

    def notes(self) -> list[str]:
        """What was wrong with the input since the last call; each kind of fault once per element."""
        self._learn()
        taken = self._notes
        self._notes = []
        return taken

    def link_of(self, element: str) -> Link | None:
        """The link that a port element of a forecast belongs to; None for a device or host port."""
        switch, _, port = element.partition(":")
        return self.topology.link_at(Endpoint(switch, int(port))) if port.isdecimal() else None

    def reset(self) -> None:
        """Forget what was learned and every alarm; notices stay."""
        settings = self.settings
        ports, devices = max(len(self._ends), 1), max(len(self._switches), 1)
        profile = self.model_set.profile
        self._ports = PortBank(ports, self.unit_s, settings.fec_limit_ber, profile.taus)
        self._devices = DeviceBank(devices, self.unit_s, profile.taus)
        counts = {
            Mode.LINK_FAILURE: len(self.topology.links),
            Mode.CONGESTION: len(self._ends),
            Mode.DEVICE_OVERLOAD: len(self._switches),
        }
        self._watches = {mode: Watch(count, self.threshold(mode)) for mode, count in counts.items()}
        self._judged: dict[Mode, Judgement] = {}
        self._said: dict[tuple[Mode, int], tuple[tuple[int, int], Floats, tuple[Reason, ...]]] = {}
        self._told: dict[str, float] = {}  # when conditions of an element were told
        features = {mode: model.features for mode, model in self.models.items()}
        self._drift = Drift(features, self.model_set.training.get("reference", {}))
        self._drift_due = -np.inf
        self._ports.prepare(FEW_NEWS)
        self._devices.prepare(1)
        self._joined = Ends(self._ports, len(self._ends), settings.stale_s)
        self._refused: dict[str, str] = {}  # elements whose newest sample was refused, at least in part
        self._notes = []
        self._noted: set[tuple[str, str]] = set()
        self._pending_ports: list[Pending] = []
        self._pending_devices: list[Pending] = []
        self._ports_judged_s = self._devices_judged_s = -np.inf

    def threshold(self, mode: Mode) -> Threshold:
        """The threshold of a mode: the settings', or the models' own."""
        if mode in self.settings.thresholds:
            return self.settings.thresholds[mode]
        scale = self.unit_s / self.model_set.profile.unit_s
        confirm_s = self.model_set.profile.confirm_s * scale
        samples = self.model_set.profile.confirm_samples
        least = self.model_set.profile.confirm_at
        return Threshold(self.model_set.raise_at[mode], 0.3, confirm_s, max(self.unit_s, confirm_s), samples, least)

    def _calm(self, mode: Mode) -> float:
        """Just above what elements are given that the screen finds unsuspicious; 0 without a screen."""
        screen = self._cascade.screens.get(mode)
        return 0.0 if screen is None else float(np.nextafter(screen.floor, 1.0))

    def _age(self, now_s: float) -> None:
        """Conditions that nobody has confirmed for long are not known any more."""
        for element in [e for e, at in self._told.items() if now_s - at > self.settings.conditions_stale_s]:
            del self._told[element]
            if element in self._port_row:
                self._ports.told(self._port_row[element], NOTHING_OUTSIDE)
            else:
                self._devices.told(self._device_row[element], NOTHING_OUTSIDE)

    def _learn(self) -> None:
        """Feed the banks what came in, many elements at a time: a batch costs little more than one sample."""
        for bank, names, pending in (
            (self._ports, self._end_names, self._pending_ports),
            (self._devices, self._switches, self._pending_devices),
        ):
            while pending:
                batch: dict[int, Pending] = {}
                rest = [item for item in pending if batch.setdefault(item[0], item) is not item]
                pending[:] = rest
                if len(batch) == 1:
                    ((row, time_s, values),) = batch.values()
                    self._report(names[row], bank.learn_one(row, time_s, values))
                    continue
                rows, times, many = zip(*batch.values(), strict=True)
                faults = bank.learn_many(np.array(rows), np.array(times), np.array(many, dtype=np.float64))
                if faults.any() or self._refused:
                    for row, bits in zip(rows, faults.tolist(), strict=True):
                        self._report(names[row], bits)

    def _report(self, element: str, faults: int) -> None:
        if faults & (ABSURD | LATE):
            self._refused[element] = FAULTS[ABSURD if faults & ABSURD else LATE]
        elif element in self._refused:
            del self._refused[element]
        for bit, text in FAULTS.items():
            if faults & bit:
                self._note(element, text)

    def _note(self, element: str, text: str) -> None:
        if (element, text) not in self._noted:
            self._noted.add((element, text))
            self._notes.append(f"{element}: {text}")

    def _evaluate(self, now_s: float) -> None:
        """Bring the probabilities up to date; free for a moment when nothing came in."""
        ports = bool(self._pending_ports) or self._due(self._ports_judged_s, now_s)
        devices = bool(self._pending_devices) or self._due(self._devices_judged_s, now_s)
        if not ports and not devices:
            return
        self._learn()
        self._age(now_s)
        if ports:
            self._ports_judged_s = now_s
            self._judge_ports(now_s)
        if devices:  # what brought nothing new is not judged anew: most samples are of one kind
            self._devices_judged_s = now_s
            self._judge_devices(now_s)
        if now_s >= self._drift_due or now_s < self._drift_due - 4.0 * self.unit_s:
            self._drift_due = now_s + self.unit_s
            for mode, item in self._judged.items():
                self._drift.features[mode].learn(item.x)

    def _due(self, judged_s: float, now_s: float) -> bool:
        """Whether a judgement is so old that silence may have become news."""
        return not 0.0 <= now_s - judged_s < IDLE * self.settings.stale_s

    def _judge_ports(self, now_s: float) -> None:
        changed = self._ports.changed()
        link, congestion = (self._judged.get(mode) for mode in PORTS)
        before = None if link is None or congestion is None else (link, congestion)
        if before is None or len(changed):
            self._judged.update(zip(PORTS, self._cascade.ports(self._ports, before, changed), strict=True))
        self._joined.look(now_s)
        for mode, join in zip(PORTS, (self._joined.links, self._joined.ports), strict=True):
            item = self._judged[mode]
            self._watches[mode].update(*join(item.probability, self._flip_of(mode)))

    def _judge_devices(self, now_s: float) -> None:
        changed, before = self._devices.changed(), self._judged.get(Mode.DEVICE_OVERLOAD)
        if before is None or len(changed):
            self._judged[Mode.DEVICE_OVERLOAD] = self._cascade.devices(self._devices, before, changed)
        switches, bank = len(self._switches), self._devices
        ready = (bank.samples >= WARM_UP) & (np.abs(bank.silent_s(now_s)) <= self.settings.stale_s)
        item, flip = self._judged[Mode.DEVICE_OVERLOAD], self._flip_of(Mode.DEVICE_OVERLOAD)
        busy = np.where(ready, item.probability, np.nan)[:switches]
        soon = (np.where(ready, item.probability, 0.0) if flip is None else np.where(ready, flip, 0.0))[:switches]
        watch = self._watches[Mode.DEVICE_OVERLOAD]
        high = np.flatnonzero(soon >= watch.least)
        soon[high[self._roomy(high)]] = 0.0
        newest = bank.newest[:switches] * self.unit_s
        watch.update(busy, newest, soon)

    def _roomy(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Which devices have so much of their processor left that a flip can wait, and nothing else runs out."""
        floor = self.model_set.profile.roomy
        if not floor or not len(rows):
            return np.zeros(len(rows), dtype=bool)
        level, slope = self._devices.heading(rows)
        drops = np.array([self._devices.recent(row, "dropped_total") for row in rows.tolist()])
        (cpu, memory, backlog), growing = level, slope[1] > GROWING
        short = (cpu >= floor) | (memory >= LOAD_FULL) | growing | (backlog > 0.0) | (drops > 0.0)  # nan: unknown
        return np.asarray(~short, dtype=bool)

    def _flip_of(self, mode: Mode) -> Floats | None:
        """The scores that flips are decided on; None where the probability is it."""
        return self._judged[mode].flip if isinstance(self.models[mode], BoostedModel) else None

    def _forecast(self, mode: Mode, key: int, now_s: float, explained: bool = True) -> Forecast:
        """The forecast of one key, with its reasons; an unjudged one keeps its alarm at the threshold."""
        probability = float(self._watches[mode].probability[key])
        if mode is Mode.LINK_FAILURE:
            row = 2 * key + int(self._joined.worse[key])
            element, where = str(self.topology.links[key].a), f"{self._ends[row]} "
        elif mode is Mode.CONGESTION:
            row, element, where = key, str(self._ends[key]), f"{self._ends[key]} "
        else:
            row, element, where = key, self._switches[key], f"{self._switches[key]} "
        x = self._judged[mode].features_of(row) if mode in self._judged else None
        if np.isnan(probability):
            probability = max(self.threshold(mode).raise_at, self.threshold(mode).clear_at)
            why: tuple[Reason, ...] = (Reason("silence", np.nan, where + "went silent while threatened", 0.0),)
        elif x is None:
            why = (Reason("calm", probability, where + "looks well again, the alarm has yet to clear", 0.0),)
        else:
            why = self._reasons(mode, key, row, x, where) if explained else ()
        return Forecast(element, mode, probability, self.models[mode].horizon * self.unit_s, now_s, why)

    def _reasons(self, mode: Mode, key: int, row: int, x: Floats, where: str) -> tuple[Reason, ...]:
        """Why an element is threatened; as said before, while nothing about it has changed."""
        bank: Bank = self._devices if mode is Mode.DEVICE_OVERLOAD else self._ports
        stamp, known = (row, int(bank.samples[row])), self._said.get((mode, key))
        if known is None or known[0] != stamp or not np.array_equal(known[1], x):
            known = stamp, x.copy(), reasons(self.models[mode], bank, row, x, prefix=where)
            self._said[mode, key] = known
        return known[2]
