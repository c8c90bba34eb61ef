"""Somebody sets the wall clock: what steering waits for is over when it would have been."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fake_switch import FakeSwitch
from test_service import KEY, bits, errors_seen, settings_for, until

from control.capacity import Rate
from control.clock import Moment, SystemClock, VirtualClock
from control.degradation import DegradationDetector
from control.memory import rows_of
from control.program import Program
from control.service import Service
from control.settings import Settings
from control.store import Store
from control.tse import Side
from control.views import status
from ml.schema import PortSample
from topo.builtin import diamond

HOUR = 3600.0


class SettableClock(SystemClock):
    """The machine's, set by so many seconds."""

    set_by = 0.0

    def time(self) -> float:
        return super().time() + self.set_by


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_diverted_group_comes_back_when_it_is_quiet(
    jump: float, fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path
) -> None:
    async def scenario() -> None:
        clock = SettableClock()
        store = Store(tmp_path / "control.db")
        service = Service(diamond(), settings_for(fakes, stable_s=1.0), store=store, program=program, clock=clock)
        task = asyncio.create_task(service.run())
        try:
            assert await service.wait_ready(60)
            primary = service.plan.groups[KEY].primary
            assert primary is not None
            await errors_seen(service, fakes, primary.into, 5)
            await errors_seen(service, fakes, primary.into, 25)
            await until(lambda: service.tse.side(KEY) is Side.SHADOW)
            clock.set_by = jump
            assert all(0 <= clock.monotonic() - threat.since_s < 60 for threat in service.book.standing())
            await until(lambda: service.tse.side(KEY) is Side.PRIMARY)
            assert bits(fakes) == set()
            await service.settled()
            back = next(line for line in service.ledger.lines(kind="revert") if line.switch == "s1")
            assert abs(back.time_s - clock.time()) < 60, "the ledger tells the time of the epoch, as it was set"
            assert 0 <= status(service)["uptime_s"] < 60
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_a_side_is_remembered_with_the_time_of_the_epoch() -> None:
    clock = VirtualClock(500.0)
    service = Service(diamond(), Settings(), clock=clock)
    group = service.plan.groups[KEY]
    service.settle_bits("s1", {group.id: 1}, fresh=False)
    clock.advance(10.0)
    clock.set(1e9)
    (row,) = [row for row in rows_of(service.plan, service.tse, Moment.of(clock)) if row.mark == "active"]
    assert row.changed_s == 1e9 - 10.0
    service.ledger.close()


def test_a_load_is_known_again_two_windows_after_its_clock_was_set_back() -> None:
    rate = Rate()
    for step in range(20):
        rate.update(step * 12_500.0, HOUR + step * 0.1)
    for step in range(20, 26):
        rate.update(step * 12_500.0, step * 0.1)
    assert rate.bps == pytest.approx(1e6, rel=1e-6)


def test_losses_from_before_a_clock_was_set_back_count_no_more() -> None:
    detector = DegradationDetector()

    def drops(time_s: float, total: float) -> PortSample:
        return PortSample("s1:2", time_s, tx_dropped_total=total)

    detector.observe(drops(HOUR, 0.0))
    assert not detector.observe(drops(HOUR + 0.1, 4.0)), "one burst"
    assert not detector.observe(drops(0.2, 8.0)), "one burst since the clock was set"
    assert detector.observe(drops(0.3, 9.0)), "two of them"
    assert detector.lost({"s1:2"}, 0.0) == 5


def test_samples_count_again_soon_after_a_reset_and_a_clock_that_was_set_back() -> None:
    clock = VirtualClock(HOUR)
    service = Service(diamond(), Settings(), clock=clock)
    steering = service.steering

    def taken(time_s: float) -> bool:
        steering._take(PortSample("s1:2", time_s, rx_power_dbm=-8.0), Moment.of(clock))
        found, steering._later[:] = bool(steering._later), []
        return found

    steering.ignore_before = Moment.of(clock)
    clock.advance(1.0)
    assert not taken(HOUR - 0.1), "measured before the reset"
    assert taken(HOUR + 0.5)
    clock.set(100.0)
    clock.advance(5.0)
    assert taken(104.0)
    service.ledger.close()
