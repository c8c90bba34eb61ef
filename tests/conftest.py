"""What all tests share."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does; before any test loads numpy
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun with a shell's `&`: what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
HERE = Path(__file__).resolve().parent
# The same examples each time, whatever the machine, the day and former runs: a commit passes or it does not. Nothing is
# judged by its duration: 200 ms for an example, as is usual, a busy machine exceeds now and then. What chance may find
# is looked for with `make test PYTEST_ARGS="--hypothesis-profile=explore tests/..."`, and by `make fuzz`.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("alike", derandomize=True, **_PATIENT)
settings.register_profile("explore", derandomize=False, **_PATIENT)
settings.load_profile("alike")
#: Tests of live processes, real interfaces and their heartbeats. On a shared machine with few cores a process may
#: not run for a tenth of a second, which no bound in a test can tell from a fault: such a test gets a second chance,
#: and pytest reports that it needed one, and why. Everything else is deterministic and gets none.
LIVE = (
    "integration",
    "topo/test_lab.py",
    "engine/test_switchd_",
    "p4runtime",
    "control/test_contract.py",
)
BESIDE_BMV2 = ("p4/", "differential/")  # the embedded switch lives in the test's process there, BMv2 does not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the live tests."""
    live = (*LIVE, *BESIDE_BMV2) if shutil.which("simple_switch_grpc") else LIVE
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if place.startswith(live):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What went wrong before a second chance went right: without it nobody can mend the cause."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"before a second chance: {report.nodeid}", sep="_")
        terminalreporter.line(report.longreprtext)


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    """What a test of a command sets up ends with it: pytest closes the stream that it logs to."""
    yield
    structlog.reset_defaults()
