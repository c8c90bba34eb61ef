"""What a start leaves for later, or does once for all switches: and that all of it is done in the end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_switch import FakeSwitch
from finsy import SwitchOptions
from test_service import running, until

from control import service as module
from control import startup
from control.border import PlainSwitch
from control.program import Program
from control.store import Store


@pytest.fixture
def interpreter() -> Iterator[None]:
    """Whatever a test does to it is undone."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    yield
    startup.end()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("interpreter")
def test_garbage_is_collected_again_once_the_service_is_ready() -> None:
    startup.begin()
    assert not gc.isenabled()
    startup.settle()
    assert gc.isenabled() and gc.get_freeze_count() > 1000
    assert sys.getswitchinterval() == pytest.approx(startup.SWITCH_INTERVAL_S)
    startup.end()
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_switches_share_what_was_made_of_the_program(program: Program) -> None:
    options = SwitchOptions(p4info=program.schema.p4info, p4blob=program.blob)
    with program.shared:
        one, other = (PlainSwitch(name, "127.0.0.1:1", options) for name in ("s1", "s2"))
    assert one.p4info.tables is other.p4info.tables is program.schema.tables
    assert one.p4info.p4cookie == program.schema.p4cookie
    assert one.p4info is not other.p4info  # what is a switch's own stays its own


def test_a_switch_that_never_comes_keeps_nobody_from_telling_its_telemetry(
    fakes: dict[str, FakeSwitch], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTORE_FIRST_S", 0.05)

    async def scenario() -> None:
        fakes["s4"].stop()
        async with running(fakes, program, ready=False) as service:
            await until(lambda: service.sources["s1"].samples)
            assert not service.fleet.ready

    asyncio.run(scenario())


@pytest.mark.parametrize("at_once", [False, True])
def test_the_state_is_in_the_database_after_a_start_and_after_one_that_ends_at_once(
    fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path, at_once: bool
) -> None:
    path = tmp_path / "control.db"

    async def scenario() -> int:
        async with running(fakes, program, store=Store(path)) as service:
            if not at_once:
                await until(lambda: service._saving is None)
            return sum(1 for _ in service.plan.shadowed())

    expected = asyncio.run(scenario())
    store = Store(path)
    assert len(store.shadows()) == expected > 0
    store.close()
