"""Drawing concrete faults: a scenario, a topology, a seed and the protected paths give a :class:`FaultPlan`.

The same arguments always give the same plan. Times are in seconds from the start of the traffic. Struck are only
elements that carry protected traffic and that all of it can be moved away from. The analyzer never sees a plan.

Scenarios are the YAML files of this folder (:mod:`topo.scenarios`); :mod:`topo.faults.draw` says where they may strike,
:mod:`topo.faults.links`, :mod:`topo.faults.loads` and :mod:`topo.faults.planned` draw one kind of fault a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from topo.faultplan import CarrierChange, FaultPlan, Impairment, Notice, Points
from topo.faults.draw import Draw
from topo.faults.links import FEC_LIMIT_DB, abrupt_cut, carrier_loss, flapping, gray_link, gray_link_with_loss
from topo.faults.loads import BACKGROUND_PORT, congestion, overload
from topo.faults.planned import maintenance, with_decoys
from topo.scenarios import FaultError, Range, Scenario, load_scenario, names, parse_scenario
from topo.spec import Topology
from topo.traffic import FlowSpec

__all__ = [
    "BACKGROUND_PORT",
    "FEC_LIMIT_DB",
    "CarrierChange",
    "FaultError",
    "FaultPlan",
    "Impairment",
    "Notice",
    "Points",
    "Range",
    "Scenario",
    "load_scenario",
    "names",
    "parse_scenario",
    "plan",
]


def _none(_draw: Draw, empty: FaultPlan) -> FaultPlan:
    return replace(empty, detail="nothing fails")


#: By the scenario's kind; the same kinds as :data:`topo.scenarios.KINDS`.
_KINDS: Mapping[str, Callable[[Draw, FaultPlan], FaultPlan]] = {
    "none": _none,
    "gray_link": gray_link,
    "gray_link_with_loss": gray_link_with_loss,
    "abrupt_cut": abrupt_cut,
    "carrier_loss": carrier_loss,
    "flapping": flapping,
    "maintenance": maintenance,
    "overload": overload,
    "congestion": congestion,
}


def plan(
    scenario: Scenario,
    topology: Topology,
    seed: int,
    paths: Mapping[str, Sequence[str]],
    flows: Sequence[FlowSpec] = (),
    *,
    heartbeat_interval_us: int = 10_000,
    primaries: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> FaultPlan:
    """Draw place, onset and slope.

    ``paths``: flow name to the switches of its primary path. ``flows``: their rates and sizes (1,000 packets/s of
    200 bytes for those not listed). ``primaries``: the network's path from a switch to a host, where the background
    traffic's way should not be guessed (it matters where shortest paths are many, as in a fat tree).
    Raises :class:`FaultError` when nothing on the paths can be struck.
    """
    draw = Draw(scenario, topology, seed, paths, flows, heartbeat_interval_us, primaries or {})
    empty = FaultPlan(
        scenario=scenario.name,
        kind=scenario.kind,
        topology=topology.name,
        seed=seed,
        foreseeable=scenario.foreseeable,
        duration_s=scenario.duration_s,
        elements=(),
        onset_s=None,
        first_loss_s=None,
        end_s=None,
    )
    return with_decoys(draw, _KINDS[scenario.kind](draw, empty))
