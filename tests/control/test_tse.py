"""The steering state machine under a virtual clock."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from control_helpers import MONITOR, make_topology
from hypothesis import given, settings
from hypothesis import strategies as st

from control.capacity import Loads
from control.clock import VirtualClock
from control.paths import Network
from control.plan import GroupKey, Plan
from control.spm import ShadowManager
from control.threats import Cause, ThreatBook
from control.tse import RECOVERED, Decision, Kind, Side, SteeringEngine, Tuning
from ml.schema import Forecast, Mode, Reason
from topo.builtin import diamond
from topo.spec import Endpoint, Topology


class Rig:
    """Everything pure, wired together; decisions are confirmed as a switch would."""

    def __init__(self, topology: Topology | None = None, **tuning: float) -> None:
        self.clock = VirtualClock(1000.0)
        self.net = Network(topology or diamond())
        self.spm = ShadowManager(self.net)
        self.plan: Plan = self.spm.build(MONITOR)
        self.loads = Loads(self.net)
        self.book = ThreatBook(self.net, stable_s=5.0)
        self.tse = SteeringEngine(self.book, self.loads, self.spm.carrying, Tuning(**tuning))
        self.log: list[Decision] = []

    def step(self, alarms: Iterable[Forecast] = (), *, seconds: float = 0.05, ok: bool = True) -> list[Decision]:
        self.clock.advance(seconds)
        now = self.clock.time()
        self.book.predictions(now, alarms)
        self.book.tick(now)
        decisions = self.tse.decide(now, self.plan)
        for decision in decisions:
            if decision.kind is not Kind.REFUSE:
                self.tse.done(decision, now, ok)
        self.log += decisions
        return decisions

    def run(self, seconds: float, alarms: Iterable[Forecast] = ()) -> list[Decision]:
        found: list[Decision] = []
        for _ in range(round(seconds / 0.05)):
            found += self.step(list(alarms))
        return found

    def link(self, a: str, b: str) -> str:
        return f"{a}-{b}"

    def port(self, a: str, b: str) -> str:
        (link,) = self.net.resolve(f"{a}-{b}")
        return str(link.end(a))

    def forecast(self, element: str, probability: float = 0.93, mode: Mode = Mode.LINK_FAILURE) -> Forecast:
        reason = Reason("rx_power_dbm", -17.0, "receive power -17.0 dBm, falling", 3.0)
        return Forecast(element, mode, probability, 2.0, self.clock.time(), (reason,))


KEY = GroupKey("s1", "h4")


def threatened(rig: Rig) -> str:
    primary = rig.plan.groups[KEY].primary
    assert primary is not None
    return rig.port(primary.out.switch, primary.into.switch)


def test_prediction_flips_both_ends_once_with_an_explanation() -> None:
    rig = Rig()
    decisions = rig.step([rig.forecast(threatened(rig))])
    flips = [d for d in decisions if d.kind is Kind.FLIP]
    primary = rig.plan.groups[KEY].primary
    assert primary is not None
    ends = {primary.out.switch, primary.into.switch}
    assert {d.group.switch for d in flips} == ends
    expected = {k for k, g in rig.plan.groups.items() if g.primary is not None and g.primary.link == primary.link}
    assert {d.group for d in flips} == expected
    one = next(d for d in flips if d.group == KEY)
    assert one.cause is Cause.PREDICTION and one.probability == 0.93
    assert one.element == primary.link.name
    for word in ("s1>h4", "shadow", "0.93", "receive power"):
        assert word in one.explanation
    assert rig.run(1.0, [rig.forecast(threatened(rig))]) == []


def test_revert_needs_a_stable_period_and_a_relapse_restarts_it() -> None:
    rig = Rig()
    element = threatened(rig)
    rig.step([rig.forecast(element)])
    assert rig.tse.side(KEY) is Side.SHADOW
    assert rig.run(4.5) == []
    rig.step([rig.forecast(element)])  # relapse
    assert rig.run(4.8) == []
    reverts = rig.run(0.6)
    assert {d.kind for d in reverts} == {Kind.REVERT} and KEY in {d.group for d in reverts}
    assert all(d.cause is Cause.RECOVERY for d in reverts)
    assert rig.tse.flipped() == []


def test_hold_down_stops_a_weak_prediction_but_not_observed_loss() -> None:
    rig = Rig(hold_down_s=3.0)
    element = threatened(rig)
    rig.step([rig.forecast(element)])
    rig.run(5.3)
    assert rig.tse.side(KEY) is Side.PRIMARY
    refused = rig.step([rig.forecast(element, 0.85)])
    assert {d.kind for d in refused} == {Kind.REFUSE} and "hold-down" in refused[0].explanation
    rig.book.degradation(rig.clock.time(), element, "link_failure", "12 frames lost to bit errors")
    flips = rig.step()
    assert Kind.FLIP in {d.kind for d in flips}
    assert next(d for d in flips if d.group == KEY).cause is Cause.DEGRADATION


def test_flap_damping_keeps_a_flapping_group_on_its_shadow() -> None:
    rig = Rig(half_life_s=60.0, suppress_at=2.5, reuse_at=1.0, hold_down_s=0.0)
    element = threatened(rig)
    for _ in range(3):
        rig.step([rig.forecast(element)])
        rig.run(5.5)
    assert rig.tse.side(KEY) is Side.SHADOW
    assert any("changed sides too often" in d.explanation for d in rig.log)
    assert rig.run(30.0) == []
    reverts = rig.run(70.0)
    assert KEY in {d.group for d in reverts} and rig.tse.side(KEY) is Side.PRIMARY


def test_no_flip_on_to_a_threatened_shadow_and_a_replan_is_wanted() -> None:
    rig = Rig()
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    other = rig.port(shadow.path.nodes[1], shadow.path.nodes[2])
    decisions = rig.step([rig.forecast(threatened(rig)), rig.forecast(other)])
    mine = [d for d in decisions if d.group == KEY]
    assert [d.kind for d in mine] == [Kind.REFUSE] and "not healthy" in mine[0].explanation
    assert KEY in rig.tse.wanting
    again = rig.run(1.0, [rig.forecast(threatened(rig)), rig.forecast(other)])
    assert [d for d in again if d.group == KEY] == []  # explained once


def test_a_failing_shadow_sends_the_group_back_at_once() -> None:
    rig = Rig()
    rig.step([rig.forecast(threatened(rig))])
    rig.run(0.2)
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    other = rig.port(shadow.path.nodes[1], shadow.path.nodes[2])
    decisions = rig.step([rig.forecast(other)])
    assert [d.kind for d in decisions if d.group == KEY] == [Kind.REVERT]


def test_a_relieved_primary_is_not_returned_to_because_the_shadow_looks_bad() -> None:
    """It looks healthy only because the group left."""
    rig = Rig()
    rig.step([rig.forecast("s2", 0.95, Mode.DEVICE_OVERLOAD)])
    moved = rig.tse.flipped()
    assert KEY in moved or GroupKey("s4", "h1") in moved
    key = moved[0]
    shadow = rig.plan.groups[key].shadow
    assert shadow is not None
    rig.run(0.5)  # the overload is gone, the threat recovers
    weak = rig.forecast(str(shadow.path.hops[0].out), 0.85)
    assert [d.kind for d in rig.step([weak]) if d.group == key] == [Kind.REFUSE]
    rig.book.dead(rig.clock.time(), shadow.path.hops[0].out, certain=True)
    assert [d.kind for d in rig.step() if d.group == key] == [Kind.REVERT]  # certain loss is worse than that


def test_one_dead_report_does_not_count_against_a_shadow_in_use() -> None:
    rig = Rig()
    rig.step([rig.forecast(threatened(rig))])
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    rig.book.dead(rig.clock.time(), shadow.path.hops[0].out, clock_s=77.0)
    assert [d for d in rig.run(1.0) if d.group == KEY] == []
    rig.book.dead(rig.clock.time(), shadow.path.hops[0].out, clock_s=77.02)
    assert [d for d in rig.run(0.2) if d.group == KEY] == []
    rig.book.alive(rig.clock.time(), shadow.path.hops[0].out)
    assert rig.book.unhealthy(shadow.path) is None


def test_both_sides_threatened_stays_and_says_so() -> None:
    rig = Rig()
    alarm = rig.forecast(threatened(rig))
    rig.step([alarm])
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    other = rig.forecast(rig.port(shadow.path.nodes[1], shadow.path.nodes[2]))
    mine = [d for d in rig.step([alarm, other]) if d.group == KEY]
    assert [d.kind for d in mine] == [Kind.REFUSE] and "neither side" in mine[0].explanation
    assert rig.tse.side(KEY) is Side.SHADOW


def test_a_flip_that_would_congest_the_shadow_is_refused_and_explained() -> None:
    rig = Rig(make_topology([(1, 2), (2, 4), (1, 3), (3, 4)], rate_mbps=10.0))
    key = GroupKey("s1", "h4")
    group = rig.plan.groups[key]
    assert group.shadow is not None
    for second in range(20):
        rig.loads.observe_group(key, second * 6e6 / 8, float(second))
        rig.loads.observe_port(group.shadow.path.hops[1].out, second * 5e6 / 8, float(second))  # cross traffic
    assert group.primary is not None
    decisions = rig.step([rig.forecast(str(group.primary.out))])
    mine = [d for d in decisions if d.group == key]
    assert [d.kind for d in mine] == [Kind.REFUSE]
    assert "no room" in mine[0].explanation and "of 10.0 Mbit/s" in mine[0].explanation
    assert rig.tse.side(key) is Side.PRIMARY


def test_congestion_moves_only_as_many_groups_as_it_takes() -> None:
    rig = Rig(make_topology([(1, 2), (2, 4), (2, 5), (1, 3), (3, 4), (3, 5)], rate_mbps=10.0))
    end = Endpoint("s1", 1)
    rates = {"h4": 3e6, "h5": 2e6, "h2": 1.5e6}
    for second in range(20):
        for name, rate in rates.items():
            rig.loads.observe_group(GroupKey("s1", name), second * rate / 8, float(second))
        rig.loads.observe_port(end, second * 8e6 / 8, float(second))
    decisions = rig.step([rig.forecast(str(end), mode=Mode.CONGESTION)])
    flips = [d.group for d in decisions if d.kind is Kind.FLIP]
    assert flips == [GroupKey("s1", "h4")]  # 8 - 3 <= 7 of 10
    assert not any(d.group.switch == "s2" for d in decisions)  # the other direction is not concerned


def test_steady_groups_leave_a_full_port_and_the_swelling_one_stays() -> None:
    """The background of s1>h2 swells beyond the line rate; the steady s1>h4 and the upstream s5>h4 get away."""
    rig = Rig(make_topology([(1, 2), (2, 4), (1, 3), (3, 4), (5, 1), (5, 3)], rate_mbps=10.0, costs=[1, 1, 2, 2, 1, 4]))
    end = Endpoint("s1", 1)
    for tick in range(40):
        now = tick * 0.1
        rig.loads.observe_group(GroupKey("s1", "h4"), now * 1e6 / 8, now)
        rig.loads.observe_group(GroupKey("s5", "h4"), now * 0.5e6 / 8, now)
        rig.loads.observe_group(GroupKey("s1", "h2"), 2e6 / 8 * now**2, now)
        rig.loads.observe_port(end, (1e6 * now + 2e6 * now**2) / 8, now)
    decisions = rig.step([rig.forecast(str(end), mode=Mode.CONGESTION)])
    flips = {d.group for d in decisions if d.kind is Kind.FLIP}
    assert flips == {GroupKey("s1", "h4"), GroupKey("s5", "h4")}
    (refused,) = [d for d in decisions if d.kind is Kind.REFUSE]
    assert refused.group == GroupKey("s1", "h2") and "growth included" in refused.explanation


def test_a_lingering_congestion_alarm_moves_no_more_groups() -> None:
    rig = Rig(make_topology([(1, 2), (2, 4), (1, 3), (3, 4)], rate_mbps=10.0))
    end = Endpoint("s1", 1)
    for second in range(20):
        rig.loads.observe_group(GroupKey("s1", "h4"), second * 1e6 / 8, float(second))
        rig.loads.observe_port(end, second * 9e6 / 8, float(second))
    assert rig.run(1.0, [rig.forecast(str(end), 0.2, Mode.CONGESTION)]) == []
    assert rig.step([rig.forecast(str(end), 0.9, Mode.CONGESTION)])


def test_a_full_shadow_is_not_left_for_a_primary_that_was_just_full() -> None:
    rig = Rig()
    alarm = rig.forecast(threatened(rig), mode=Mode.CONGESTION)
    rig.step([alarm])
    assert rig.tse.side(KEY) is Side.SHADOW
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    full = rig.forecast(str(shadow.path.hops[0].out), mode=Mode.CONGESTION)
    mine = [d for d in rig.run(3.0, [full]) if d.group == KEY]
    assert [d.kind for d in mine] == [Kind.REFUSE]


def test_device_threat_moves_only_transit_traffic() -> None:
    rig = Rig()
    decisions = rig.step([rig.forecast("s2", mode=Mode.DEVICE_OVERLOAD)])
    flips = [d.group for d in decisions if d.kind is Kind.FLIP]
    assert flips
    for key in flips:
        group = rig.plan.groups[key]
        assert group.primary is not None and group.primary.into.switch == "s2" and group.tail != "s2"


def test_maintenance_drains_before_its_start() -> None:
    rig = Rig()
    flips = rig.step([rig.forecast("s2", 1.0, Mode.MAINTENANCE)])
    assert flips and {d.cause for d in flips} == {Cause.MAINTENANCE}


def test_dead_port_counts_only_once_it_stays_dead() -> None:
    rig = Rig()
    primary = rig.plan.groups[KEY].primary
    assert primary is not None
    rig.book.dead(rig.clock.time(), primary.out)
    assert rig.step() == []  # the data plane has diverted already
    rig.book.alive(rig.clock.time(), primary.out)
    assert rig.run(1.0) == []
    rig.book.dead(rig.clock.time(), primary.out)
    assert rig.run(0.3) == []  # not said again: still one report
    rig.book.dead(rig.clock.time(), primary.out)
    flips = rig.step()
    assert KEY in {d.group for d in flips} and {d.cause for d in flips} == {Cause.DEGRADATION}
    assert rig.run(8.0) == []  # still dead: no revert
    rig.book.alive(rig.clock.time(), primary.out)
    assert rig.run(4.9) == []
    assert KEY in {d.group for d in rig.run(0.3)}


def test_carrier_loss_is_certain_at_once() -> None:
    rig = Rig()
    primary = rig.plan.groups[KEY].primary
    assert primary is not None
    rig.book.dead(rig.clock.time(), primary.out, certain=True)
    assert KEY in {d.group for d in rig.step(seconds=0.001)}


def test_a_failed_write_is_retried_after_a_pause() -> None:
    rig = Rig(retry_s=0.2)
    alarm = rig.forecast(threatened(rig))
    assert rig.step([alarm], ok=False)
    assert rig.tse.flipped() == []
    assert rig.step([alarm], ok=False) == []
    assert KEY in {d.group for d in rig.run(0.3, [alarm])}


def test_by_hand_is_pinned_and_obeys_safety() -> None:
    rig = Rig()
    now = rig.clock.time()
    decision = rig.tse.by_hand(now, rig.plan, KEY, Side.SHADOW)
    assert decision.kind is Kind.FLIP
    rig.tse.done(decision, now)
    assert rig.run(20.0) == []
    back = rig.tse.by_hand(rig.clock.time(), rig.plan, KEY, Side.PRIMARY)
    assert back.kind is Kind.REVERT
    rig.tse.done(back, rig.clock.time())
    shadow = rig.plan.groups[KEY].shadow
    assert shadow is not None
    rig.book.predictions(rig.clock.time(), [rig.forecast(rig.port(*shadow.path.nodes[1:3]))])
    assert rig.tse.by_hand(rig.clock.time(), rig.plan, KEY, Side.SHADOW).kind is Kind.REFUSE
    assert rig.tse.by_hand(rig.clock.time(), rig.plan, KEY, Side.SHADOW, force=True).kind is Kind.FLIP
    assert rig.tse.by_hand(now, rig.plan, GroupKey("s1", "h99"), Side.SHADOW).kind is Kind.REFUSE
    local = GroupKey("s1", "h1")
    assert "no shadow" in rig.tse.by_hand(now, rig.plan, local, Side.SHADOW).explanation


def test_nothing_is_decided_about_a_switch_that_is_away() -> None:
    rig = Rig()
    now = rig.clock.time()
    rig.book.predictions(now, [rig.forecast(threatened(rig))])
    assert "s1" not in {d.group.switch for d in rig.tse.decide(now, rig.plan, {"s1"})}
    assert "s1" in {d.group.switch for d in rig.tse.decide(now, rig.plan)}


def test_what_a_restart_found_stays_for_a_stable_period() -> None:
    rig = Rig()
    rig.tse.adopt(KEY, Side.SHADOW, rig.clock.time(), "s1-s2", Cause.PREDICTION)
    pinned = GroupKey("s1", "h3")
    rig.tse.adopt(pinned, Side.SHADOW, rig.clock.time(), "s1>h3", Cause.MANUAL)
    assert rig.run(4.8) == []
    assert {d.group for d in rig.run(0.4)} == {KEY}
    assert rig.run(10.0) == [] and rig.tse.side(pinned) is Side.SHADOW


def test_reset_forgets_everything() -> None:
    rig = Rig()
    alarm = rig.forecast(threatened(rig))
    rig.step([alarm])
    rig.book.clear()
    rig.tse.reset()
    assert rig.tse.flipped() == [] and rig.book.standing() == []
    assert KEY in {d.group for d in rig.step([alarm])}  # no hold-down left over


def test_a_forecast_for_an_unknown_element_is_noted_not_acted_upon() -> None:
    rig = Rig()
    assert rig.step([rig.forecast("s9"), rig.forecast("s1:1")]) == []
    assert set(rig.book.unknown) == {"s9", "s1:1"}


EVENTS = st.lists(
    st.tuples(st.sampled_from(["s1-s2", "s1-s3", "s2-s4", "s3-s4", "s2", "s3"]), st.floats(0.05, 8.0), st.booleans()),
    max_size=12,
)


@given(EVENTS)
@settings(max_examples=80, deadline=None)
def test_whatever_happens_the_rules_hold(events: list[tuple[str, float, bool]]) -> None:
    """Never on to a threatened shadow; never a revert into an active threat; both sides agree with the log."""
    rig = Rig()
    sides: dict[GroupKey, Side] = {}
    for element, seconds, stands in events:
        link = rig.net.resolve(element)
        name = element if isinstance(link, str) else str(link[0].a)
        mode = Mode.DEVICE_OVERLOAD if isinstance(link, str) else Mode.LINK_FAILURE
        for _ in range(max(1, round(seconds / 0.25))):
            alarms = [rig.forecast(name, mode=mode)] if stands else []
            for decision in rig.step(alarms, seconds=0.25):
                group = rig.plan.groups[decision.group]
                if decision.kind is Kind.FLIP:
                    assert group.shadow is not None and rig.book.risk(group.shadow.path) <= RECOVERED
                    sides[decision.group] = Side.SHADOW
                elif decision.kind is Kind.REVERT:
                    assert not any(
                        t.active and t.hits_primary(group, rig.spm.carrying(rig.plan, group))
                        for t in rig.book.standing()
                    )
                    sides[decision.group] = Side.PRIMARY
    for key, side in sides.items():
        assert rig.tse.side(key) is side
    rig.run(6.0)
    if all(state.penalty < rig.tse.tuning.suppress_at for state in rig.tse.states.values()):
        assert rig.tse.flipped() == []


@pytest.mark.parametrize("step", [-1.0, -0.001])
def test_the_virtual_clock_does_not_run_backwards(step: float) -> None:
    with pytest.raises(ValueError, match="backwards"):
        VirtualClock().advance(step)


def test_a_link_is_broken_when_dead_for_certain_or_when_its_predicted_failure_shows_as_loss() -> None:
    rig = Rig()
    book, now = rig.book, rig.clock.time()
    port = rig.port("s1", "s2")
    end = Endpoint("s1", int(port.split(":")[1]))
    (link,) = rig.net.resolve("s1-s2")
    book.degradation(now, port, "link_failure", "3 frames lost to bit errors")
    book.tick(now)
    assert not book.broken(), "loss alone may be a passing trouble"
    forecast = Forecast(port, Mode.LINK_FAILURE, 0.9, 1.5, now)
    book.predictions(now, [forecast])
    assert book.broken().links == {link} and book.tick(now)
    assert not book.tick(now), "told once"
    book.predictions(now, [])
    assert not book.broken() and book.tick(now)

    book.dead(now, end)
    assert not book.broken(), "one report may come from a switch that was held up"
    book.dead(now + 0.2, end)
    assert book.broken().links == {link} and book.tick(now + 0.2)
    book.alive(now + 0.3, end)
    assert not book.broken() and book.tick(now + 0.3), "its shadows are wanted back at once"
