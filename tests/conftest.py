"""What all tests share."""

from __future__ import annotations

import os
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
#: and pytest reports that it needed one. Everything else is deterministic and gets none.
LIVE = (
    "integration",
    "topo/test_lab.py",
    "engine/test_switchd_",
    "p4runtime",
    "p4",
    "differential",
    "control/test_contract.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the live tests."""
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if place.startswith(LIVE):
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    """What a test of a command sets up ends with it: pytest closes the stream that it logs to."""
    yield
    structlog.reset_defaults()
