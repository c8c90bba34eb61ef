"""What keeps the way from a sample to a flip short, and changes nothing about what is decided."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pha_lab import Lab, ramp

from control import background, priority
from control.background import in_slices
from control.bookkeeping import News, enter_result, of_reset
from control.capacity import Loads
from control.flip import FlipResult
from control.paths import NOTHING, Network
from control.pha import HealthAnalyzer
from control.plan import Monitor, Plan, Table
from control.program import Program
from control.service import Service
from control.settings import Settings
from control.spm import ShadowManager, changes
from control.store import Store
from control.threats import Cause, Threat, ThreatBook
from control.tse import SteeringEngine
from ml.schema import DeviceSample, Forecast, Mode, PortSample, Reason
from topo.load import load

MONITOR = Monitor(30_000, 100_000, 1000)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(load("abilene"))


def fresh(plan: Plan) -> Plan:
    """The same plan, knowing nothing that was computed before."""
    return Plan(plan.groups, plan.monitor, plan.monitored, plan.device_ids)


def test_entries_of_unchanged_groups_are_the_very_same_and_all_are_right(network: Network) -> None:
    manager = ShadowManager(network)
    plan = manager.build(MONITOR)
    before = plan.entries()
    threatened = network.elements([network.topology.links[3].name])
    changed = manager.replan(plan, threatened, loads=Loads(network))
    moved = {key for key, group in changed.groups.items() if group != plan.groups[key]}
    assert moved
    after = changed.entries()
    assert after == fresh(changed).entries()
    assert plan.entries() == before == fresh(plan).entries()  # what replaced them is not left in their place
    for key, group in changed.groups.items():
        entry = (Table.SHADOW, group.id)
        if key not in moved and entry in before[key.switch]:
            assert after[key.switch][entry] is before[key.switch][entry]
    assert changes(after, changed.entries()) == []


def test_planning_in_slices_lets_others_run_and_gives_the_same_plan(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = ShadowManager(network)
    plan = manager.build(MONITOR)
    threatened = network.elements(["s4"])
    loads = Loads(network)
    expected = manager.replan(plan, threatened, loads=loads)
    ticks = iter(range(10**6))
    monkeypatch.setattr("control.background.time.perf_counter", lambda: next(ticks) * background.SLICE_S)
    turns = 0

    async def other(done: asyncio.Event) -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await asyncio.sleep(0)

    async def main() -> Plan:
        done = asyncio.Event()
        task = asyncio.create_task(other(done))
        found = await in_slices(manager.replanning(plan, threatened, loads=loads))
        done.set()
        await task
        return found

    found = asyncio.run(main())
    assert found.groups == expected.groups
    assert turns > 10


def test_threats_find_their_groups_without_a_look_at_all(network: Network) -> None:
    manager = ShadowManager(network)
    plan = manager.build(MONITOR)
    plan = manager.replan(plan, network.elements(["s5"]))
    engine = SteeringEngine(ThreatBook(network), Loads(network), manager.carrying)
    threats = [_threat(network, link.name) for link in network.topology.links]
    threats += [_threat(network, switch.name) for switch in network.topology.switches]
    threats += [
        replace(_threat(network, link.name), hop=end, mode="congestion")
        for link in network.topology.links
        for end in (link.a, link.b)
    ]
    risky = replace(_threat(network, "s4"), avoid=replace(NOTHING, srlgs=frozenset({"duct"})))
    for threat in (*threats, risky):
        near = {group.key for group in engine._near(plan, threat)}
        hit = {key for key, group in plan.groups.items() if threat.hits_primary(group, manager.carrying(plan, group))}
        assert hit <= near, threat.element
    assert len(list(engine._near(plan, threats[0]))) < len(plan.groups) / 2


def _threat(network: Network, element: str) -> Threat:
    avoid = network.elements([element])
    return Threat(element, Cause.PREDICTION, "link_failure", avoid, None, 0.9, 1.0, (), 0.0, 0.0)


def test_what_brought_nothing_new_is_not_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    analyzer = HealthAnalyzer(load("diamond"))
    judged: list[str] = []
    for name in ("_judge_ports", "_judge_devices"):
        inner = getattr(analyzer, name)

        def noted(now_s: float, name: str = name, inner: Callable[[float], None] = inner) -> None:
            judged.append(name)
            inner(now_s)

        monkeypatch.setattr(analyzer, name, noted)
    analyzer.observe(PortSample("s1:3", 1.0, rx_power_dbm=-6.0))
    analyzer.alarms(1.0)
    assert judged == ["_judge_ports", "_judge_devices"]  # the first time
    analyzer.observe(DeviceSample("s1", 1.01, cpu_utilization=0.3))
    analyzer.alarms(1.01)
    analyzer.observe(PortSample("s1:3", 1.02, rx_power_dbm=-6.0))
    analyzer.alarms(1.02)
    assert judged[2:] == ["_judge_devices", "_judge_ports"]
    analyzer.alarms(1.03)
    assert len(judged) == 4
    analyzer.alarms(1.5)  # silence may be news by now
    assert judged[4:] == ["_judge_ports", "_judge_devices"]


def test_labels_of_shadows_that_are_being_planned_are_not_given_away(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(load("abilene"), Settings(topology="abilene"), store=Store(None), program=program)
    try:
        plan = service.spm.replan(service.plan, service.network.elements(["s5"]))
        new = service.spm.labels_in_use(plan) - service.spm.labels_in_use(service.plan)
        assert new
        monkeypatch.setattr(type(service.steering.replanner), "busy", property(lambda _: True))
        service.save()
        assert new <= service.spm.labels.taken.keys()
        monkeypatch.undo()
        service.save()
        assert not new & service.spm.labels.taken.keys()
    finally:
        service.ledger.close()


def test_priority_is_raised_where_permitted_and_never_lowered() -> None:
    code = (
        "import os, sys; from control.priority import raise_priority;"
        "before = os.getpriority(os.PRIO_PROCESS, 0); told = raise_priority(int(sys.argv[1]));"
        "print(before, told, os.getpriority(os.PRIO_PROCESS, 0))"
    )
    for wanted in (priority.NICE, 19):
        done = subprocess.run(
            [sys.executable, "-c", code, str(wanted)], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        before, told, after = done.stdout.split()
        assert int(after) <= int(before)
        assert (told == "True") == (int(after) <= wanted)


def test_the_parts_of_a_flips_time_add_up_with_and_without_a_wait_for_its_shadow() -> None:
    news = News(arrived=10.0, woken=10.001, learned=10.002, scored=10.004, decided=10.005)
    result = FlipResult(0.002, "register", 0.0005, confirmed=10.008)
    for mine, shadow, whole in ((news, 0.0, 8.0), (replace(news, since=9.9), 101.0, 108.0)):
        record = of_reset(0.0, next(iter(ShadowManager(Network(load("diamond"))).build(MONITOR).groups.values())))
        enter_result(record, result, mine, 11.0)
        assert record.timings_ms["shadow"] == pytest.approx(shadow)
        assert record.telemetry_ms == pytest.approx(whole)
        assert sum(record.timings_ms.values()) == pytest.approx(whole)


def test_a_flip_is_decided_without_reasons_and_explained_with_them(network: Network) -> None:
    manager = ShadowManager(network)
    plan = manager.build(MONITOR)
    book = ThreatBook(network)
    engine = SteeringEngine(book, Loads(network), manager.carrying)
    end = network.topology.links[3].a
    bare = Forecast(str(end), Mode.LINK_FAILURE, 0.93, 1.5, 0.0)
    assert book.predictions(0.0, [bare])
    decisions = engine.decide(0.0, plan)
    assert decisions and all(item.reasons == () and "0.93" in item.explanation for item in decisions)
    book.explain([replace(bare, reasons=(Reason("rx_power_dbm", -17.0, "receive power -17.0 dBm", 2.0),))])
    for item in (decision.explained() for decision in decisions):
        assert item.reasons == ("receive power -17.0 dBm",) and item.explanation.endswith("(receive power -17.0 dBm)")
    assert not book.predictions(0.1, [replace(bare, probability=0.97)])
    (threat,) = book.active()
    assert threat.probability == 0.97 and threat.reasons, "known reasons stay until there are others"


def test_alarms_without_words_are_the_same_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    asked: list[int] = []
    inner = lab.analyzer._reasons

    def noted(mode: Mode, key: int, *rest: Any) -> tuple[Reason, ...]:
        asked.append(key)
        return inner(mode, key, *rest)

    lab.play(6.0, attenuation=ramp("s1:3", 4.0, 2.0, 6.0))
    monkeypatch.setattr(lab.analyzer, "_reasons", noted)
    bare = lab.analyzer.alarms(lab.now, explained=False)
    assert bare and not asked and not any(item.reasons for item in bare)
    told = lab.analyzer.alarms(lab.now)
    assert asked and all(item.reasons for item in told)
    assert [replace(item, reasons=()) for item in told] == bare
