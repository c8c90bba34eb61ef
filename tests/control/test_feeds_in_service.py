"""The whole control plane with feeds: a provider's calendar moves the traffic, its cancellation brings it back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_switch import FakeSwitch

from control import views
from control.commands._common import Output
from control.commands._status import show_status
from control.errors import InputError
from control.program import Program
from control.service import Service
from control.settings import Settings
from control.store import Store
from topo.builtin import diamond


def calendar(start_s: float, status: str, sequence: int) -> str:
    times = [datetime.fromtimestamp(item, UTC).strftime("%Y%m%dT%H%M%SZ") for item in (start_s, start_s + 600)]
    return (
        f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VEVENT\nUID:1\nDTSTART:{times[0]}\nDTEND:{times[1]}\n"
        f"DTSTAMP:20260101T000000Z\nSUMMARY:splice\nSEQUENCE:{sequence}\nX-MAINTNOTE-PROVIDER:fibres.example\n"
        f"X-MAINTNOTE-MAINTENANCE-ID:W-1\nX-MAINTNOTE-OBJECT-ID:IC-1\nX-MAINTNOTE-STATUS:{status}\n"
        "END:VEVENT\nEND:VCALENDAR\n"
    )


async def until(condition: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def settings(fakes: dict[str, FakeSwitch], feeds: Path) -> Settings:
    port = int(fakes["s1"].address.rpartition(":")[2])
    return replace(Settings(base_port=port - 1, sample_ms=20.0, rates_ms=50.0, stable_s=0.5), feeds=feeds)


def test_a_calendar_in_a_folder_drains_its_link_until_it_is_cancelled(
    fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    config = tmp_path / "feeds.yaml"
    config.write_text("feeds: [{name: drop, folder: in, poll_s: 0.1}]\ncircuits: {IC-1: s1-s2}\n")

    async def scenario() -> None:
        service = Service(diamond(), settings(fakes, config), store=Store(None), program=program)
        service.analyzer.settings = replace(service.analyzer.settings, drain_lead_s=600.0)
        task = asyncio.create_task(service.run())
        try:
            assert await service.wait_ready(60)
            (tmp_path / "in" / "work.ics").write_text(calendar(time.time() + 500, "CONFIRMED", 1))
            await until(service.tse.flipped)
            await service.settled()
            line = service.ledger.lines(kind="flip")[0]
            assert line.cause == "maintenance" and line.element == "s1-s2"
            assert "fibres.example/W-1" in line.explanation
            status = views.status(service)
            assert status["feeds"][0]["state"] == "ok"
            (work,) = status["maintenance"]
            assert (work["element"], work["state"]) == ("s1-s2", "draining") and work["end_s"] > work["start_s"]
            show_status(status, Output.TABLE)
            told = capsys.readouterr().out
            assert "maintenance" in told and "fibres.example/W-1" in told and "draining" in told
            assert "starts in" in told  # why the recommendation is one
            (tmp_path / "in" / "later.ics").write_text(calendar(time.time() + 500, "CANCELLED", 2))
            await until(lambda: not service.tse.flipped())
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_a_bad_file_of_feeds_is_an_input_error(fakes: dict[str, FakeSwitch], program: Program, tmp_path: Path) -> None:
    config = tmp_path / "feeds.yaml"
    config.write_text("feeds: [{name: drop, foldr: in}]\n")
    with pytest.raises(InputError, match=r"feeds\.yaml: unknown key 'feeds\.0\.foldr'"):
        Service(diamond(), settings(fakes, config), store=Store(None), program=program)
