"""Playing a :class:`topo.faults.FaultPlan` on a lab.

Impairments go to the data planes as whole schedules at once, so that no scheduling delay of ours shifts them; carrier
changes and maintenance notices are timed here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from topo.faults import FaultPlan, Notice
from topo.impairments import Schedule, shifted
from topo.spec import Link, Topology
from topo.traffic import FlowReport, HostRunner, Traffic


class Playground(HostRunner, Protocol):
    """The part of a lab that faults need."""

    @property
    def topology(self) -> Topology: ...

    def impair(self, target: Any, schedule: Schedule) -> None: ...

    def clear_impairments(self, target: Any = None) -> None: ...

    def carrier(self, link: Link, up: bool) -> None: ...

    def seed_noise(self, seed: int) -> None: ...


def play(
    plan: FaultPlan, lab: Playground, t0: float, *, notices_dir: Path | None = None, run_dir: Path | None = None
) -> Player:
    """Start playing; ``t0`` is the start of the traffic on ``time.monotonic()``'s clock (now or later).

    ``notices_dir``: where maintenance notices appear as JSON files; ``run_dir``: for the background traffic's files.
    """
    player = Player(plan, lab, t0, notices_dir, run_dir)
    player.start()
    return player


class Player:
    """One plan being played. ``stop`` ends it and takes every fault back."""

    def __init__(
        self, plan: FaultPlan, lab: Playground, t0: float, notices_dir: Path | None, run_dir: Path | None
    ) -> None:
        if plan.notices and notices_dir is None:
            raise ValueError(f"scenario {plan.scenario} publishes notices: it needs notices_dir")
        if plan.background and run_dir is None:
            raise ValueError(f"scenario {plan.scenario} has background traffic: it needs run_dir")
        self.plan = plan
        self.t0 = t0
        self.background: Traffic | None = None
        self._lab, self._notices_dir, self._run_dir = lab, notices_dir, run_dir
        self._written: list[Path] = []
        self._dark: set[str] = set()  # links without carrier
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Arm everything. On failure nothing stays behind."""
        try:
            if self.plan.background and self._run_dir is not None:
                self.background = Traffic(
                    self._lab,
                    self.plan.background,
                    self._run_dir,
                    duration_s=self.plan.duration_s,
                    tag="background",
                )
                self.background.start(at_mono_ns=int(self.t0 * 1e9))
            self._lab.seed_noise(self.plan.seed)
            for item in self.plan.impairments:
                by_s = self.t0 - time.monotonic()
                schedule = {key: _armed(points, by_s) for key, points in item.schedule}
                self._lab.impair(item.target, schedule)
            events = self._events()
            if events:
                self._thread = threading.Thread(target=self._run, args=(events,), name="faults", daemon=True)
                self._thread.start()
        except BaseException:
            self._take_back()
            raise

    def stop(self) -> dict[str, FlowReport]:
        """End the fault; returns the background flows' reports. Raises what went wrong while playing."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        reports = self._take_back()
        if self._error is not None:
            raise self._error
        return reports

    # --- inside ---

    def _events(self) -> list[tuple[float, Callable[[], None]]]:
        events: list[tuple[float, Callable[[], None]]] = []
        for change in self.plan.carrier:
            events.append((change.at_s, partial(self._carrier, change.link, change.up)))
        for notice in self.plan.notices:
            events.append((notice.publish_s, partial(self._publish, notice)))
        return sorted(events, key=lambda event: event[0])

    def _run(self, events: Sequence[tuple[float, Callable[[], None]]]) -> None:
        try:
            for at_s, act in events:
                if self._stopping.wait(max(0.0, self.t0 + at_s - time.monotonic())):
                    return
                act()
        except Exception as exc:  # raised again by stop(), in the caller's thread
            self._error = exc

    def _carrier(self, link: str, up: bool) -> None:
        (self._dark.discard if up else self._dark.add)(link)
        self._lab.carrier(self._lab.topology.link(link), up)

    def _publish(self, notice: Notice) -> None:
        if self._notices_dir is None:
            return
        began = time.time() - (time.monotonic() - self.t0)
        text = json.dumps(
            {
                "id": notice.id,
                "element": notice.element,
                "start": began + notice.start_s,
                "end": began + notice.end_s,
                "summary": notice.summary,
            }
        )
        self._notices_dir.mkdir(parents=True, exist_ok=True)
        file = self._notices_dir / f"{notice.id}.json"
        scratch = self._notices_dir / f".{notice.id}.new"
        scratch.write_text(text)
        scratch.replace(file)  # whoever watches the folder never sees half a notice
        self._written.append(file)

    def _take_back(self) -> dict[str, FlowReport]:
        reports: dict[str, FlowReport] = {}
        problems: list[Exception] = []

        def attempt(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except Exception as exc:
                problems.append(exc)
                return None

        for target in dict.fromkeys(item.target for item in self.plan.impairments):
            attempt(partial(self._lab.clear_impairments, target))
        for name in sorted(self._dark):
            attempt(partial(self._carrier, name, True))
        if self.background is not None:
            traffic, self.background = self.background, None
            attempt(traffic.stop)
            reports = attempt(traffic.report) or {}
        for file in self._written:
            with suppress(OSError):
                file.unlink()
        if problems and self._error is None:
            self._error = problems[0]
        return reports


def _armed(points: Sequence[tuple[float, float]], by_s: float) -> tuple[tuple[float, float], ...]:
    """The schedule from now on; its first value holds until its first point."""
    moved = shifted(points, by_s)
    return moved if moved[0][0] == 0 else ((0.0, moved[0][1]), *moved)
