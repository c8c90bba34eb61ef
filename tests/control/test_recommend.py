"""Recommendations, the control share and the labels that keep precision measurable."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest
from control_helpers import MONITOR, make_topology
from fake_switch import FakeSwitch
from test_service import KEY, running

from control import api, views
from control.capacity import Loads
from control.outcomes import ControlShare, Outcomes
from control.paths import Network
from control.plan import GroupKey
from control.program import Program
from control.recommend import recommend
from control.spm import ShadowManager
from control.store import FlipRecord, Store
from control.threats import Cause, ThreatBook
from control.tse import Kind, Side, SteeringEngine
from ml.schema import Forecast, Mode, Reason

NET = Network(make_topology([(1, 2), (2, 4), (1, 3), (3, 4)], rate_mbps=10.0))


def forecast(element: str, probability: float, mode: Mode = Mode.LINK_FAILURE) -> Forecast:
    return Forecast(element, mode, probability, 2.0, 0.0, (Reason("rx_power_dbm", -17.0, "receive power falls", 2.0),))


def parts(share: ControlShare | None = None, priorities: dict[str, int] | None = None):  # type: ignore[no-untyped-def]
    spm, loads, book = ShadowManager(NET), Loads(NET), ThreatBook(NET)
    outcomes = Outcomes(share or ControlShare(), priorities or {})
    tse = SteeringEngine(book, loads, spm.carrying, withheld=outcomes.withheld)
    return spm.build(MONITOR), loads, book, tse, outcomes


def primary_of(plan, key: GroupKey) -> str:  # type: ignore[no-untyped-def]
    return str(plan.groups[key].primary.link.a)


def test_the_list_is_by_priority_then_by_the_loss_to_expect() -> None:
    plan, loads, book, tse, outcomes = parts(priorities={"h2": 3})
    for key, rate in ((KEY, 8e6), (GroupKey("s1", "h2"), 1e6)):
        for step in range(10):
            loads.observe_group(key, rate / 8 * step * 0.2, step * 0.2)
    out = plan.groups[KEY].primary.out
    for times in (0, 1):  # its packets have 1,000 bytes; the port's are mostly heartbeats
        loads.observe_group(KEY, 2e6 + 100_000.0 * times, 2.0 + 0.1 * times, 100.0 * times)
        loads.observe_packets(out, 40_000.0 * times, 1000.0 * times)
    found = recommend(
        [forecast(primary_of(plan, KEY), 0.5), forecast("s3:1", 0.05)],
        0.0, plan=plan, book=book, tse=tse, loads=loads, priority=outcomes.priority, outage_s={"link_failure": 10.0},
    )  # fmt: skip
    assert found[0].flow == "s1>h2" and found[0].priority == 3
    line = next(item for item in found if item.flow == "s1>h4")
    assert line.expected_loss_bytes == pytest.approx(1e6 * 0.5 * 10.0, rel=0.02)
    assert line.expected_loss_packets == pytest.approx(5000.0, rel=0.02)
    assert line.shadow == str(plan.groups[KEY].shadow.path) and line.state == "recommended"
    assert line.reasons == ("receive power falls",) and (line.mode, line.horizon_s) == ("link_failure", 2.0)
    losses = [item.expected_loss_bytes for item in found if item.priority == 0]
    assert losses == sorted(losses, reverse=True)


def test_what_is_due_moved_refused_or_withheld_is_told() -> None:
    plan, loads, book, tse, outcomes = parts()
    alarm = forecast(primary_of(plan, KEY), 0.95)

    def state() -> str:
        lines = recommend([alarm], 0.0, plan=plan, book=book, tse=tse, loads=loads, priority=outcomes.priority,
                          outage_s={})  # fmt: skip
        return next(line.state for line in lines if line.flow == str(KEY))

    assert state() == "recommended"
    book.predictions(0.0, [alarm])
    assert state() == "due"
    decision = next(item for item in tse.decide(0.0, plan) if item.group == KEY)
    tse.done(decision, 0.0)
    assert state() == "moved"


def test_nothing_is_withheld_by_default() -> None:
    plan, _, book, tse, _ = parts()
    book.predictions(0.0, [forecast(primary_of(plan, KEY), 0.95)])
    assert {item.kind for item in tse.decide(0.0, plan)} == {Kind.FLIP}


def test_a_withheld_event_is_withheld_whole_once_told_and_loss_ends_it() -> None:
    plan, _, book, tse, _ = parts(ControlShare(1.0), {"h4": 5})
    element = primary_of(plan, KEY)
    book.predictions(0.0, [forecast(element, 0.95)])
    first = tse.decide(0.0, plan)
    kinds = {item.group.destination: item.kind for item in first if item.group.switch == "s1"}
    assert kinds["h4"] is Kind.FLIP, "a flow of high priority is never left to chance"
    assert set(kinds.values()) == {Kind.FLIP, Kind.WITHHOLD}
    assert all(item.kind is not Kind.WITHHOLD for item in tse.decide(0.1, plan)), "told once"
    book.degradation(0.2, element, "link_failure", "12 frames lost")
    later = {item.group for item in tse.decide(0.2, plan) if item.kind is Kind.FLIP}
    assert {item.group for item in first if item.kind is Kind.WITHHOLD} <= later, "what fails is left"


def test_the_draw_is_repeatable_and_as_large_as_it_says() -> None:
    share = ControlShare(0.1, seed=3)
    drawn = [share.draws("s1-s2", "congestion", number) for number in range(5000)]
    assert drawn == [ControlShare(0.1, seed=3).draws("s1-s2", "congestion", number) for number in range(5000)]
    assert 400 < sum(drawn) < 600
    assert drawn != [ControlShare(0.1, seed=4).draws("s1-s2", "congestion", number) for number in range(5000)]


def record(kind: str, mode: str = "link_failure", time_s: float = 0.0, cause: Cause = Cause.PREDICTION) -> FlipRecord:
    return FlipRecord(time_s, kind, "s1", "h4", 1, "s1-s2", cause.value, mode, 0.9, [], "", horizon_s=2.0,
                      outcome="done" if kind == "flip" else "withheld")  # fmt: skip


def test_outcomes_are_labelled_where_they_can_be_known() -> None:
    outcomes = Outcomes()
    withheld, acted, full = record("withhold"), record("flip"), record("flip", "congestion")
    manual = record("flip", cause=Cause.MANUAL)
    for line in (withheld, acted, full, manual):
        outcomes.decided(line, 0.0)
    outcomes.struck("s1-s3", "link_failure", 1.0)
    outcomes.struck("s1-s2", "device_overload", 1.0)
    assert outcomes.expire(2.9) == []
    assert {id(line) for line in outcomes.expire(3.1)} == {id(withheld), id(acted)}
    assert (withheld.struck, acted.struck, full.struck, manual.struck) == (False, False, None, None)
    again = record("withhold", time_s=10.0)
    outcomes.decided(again, 10.0)
    outcomes.struck("s1-s2", "link_failure", 11.0)
    assert again.struck is True and outcomes.expire(11.0) == [again]


def test_labels_are_kept_in_the_database(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store(tmp_path / "control.db")
    line = replace(record("withhold"), timings_ms={"wait": 0.5}, id=0)
    (number,) = store.add_flips([line])
    store.label([number], True)
    (found,) = store.ledger()
    assert found.struck is True and found.timings_ms == {"wait": 0.5} and found.horizon_s == 2.0
    outcomes = Outcomes()
    outcomes.recall([found])
    assert outcomes.labelled == [found]
    store.close()


def test_status_metrics_and_api_show_it(fakes: dict[str, FakeSwitch], program: Program) -> None:
    async def scenario() -> None:
        async with running(fakes, program) as service:
            await service.move(Side.SHADOW, [KEY], force=True, dry_run=False)
            transport = httpx.ASGITransport(app=api.create(service))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                status = (await client.get("/status")).json()
                assert status["recommendations"] == [] and status["models"]["version"]
                assert status["control_share"]["precision"] is None and status["history"] == {"folder": ""}
                assert (await client.get("/recommendations")).json() == []
                page = (await client.get("/metrics")).text
                schema = (await client.get("/openapi.json")).json()
            assert "expected_loss_bytes" in schema["components"]["schemas"]["Recommendation"]["properties"]
            lines = page.splitlines()
            assert "shadowplane_groups_flipped 1" in lines
            assert 'shadowplane_switch_ready{switch="s1"} 1' in lines
            assert lines.count("# TYPE shadowplane_loop_lag_seconds histogram") == 1
            names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
            assert len(names) == len(set(names))
            service.outcomes.labelled.append(replace(record("withhold"), struck=True))
            assert views.control_share(service)["precision"] == 1.0

    asyncio.run(scenario())
