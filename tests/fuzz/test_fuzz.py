"""A short, seeded part of what ``python -m tests.fuzz`` plays for as long as wanted.

The packet path has a test of its own in tests/engine/test_sanitized.py.
"""

from __future__ import annotations

import pytest

from tests.engine.engine_support import no_sanitizers
from tests.fuzz import loader, server
from tests.fuzz.common import Budget, Report

pytestmark = pytest.mark.skipif(bool(no_sanitizers()), reason=no_sanitizers())


def test_damaged_programs_are_refused_or_run() -> None:
    report = Report()
    loader.run(Budget(inputs=150), 1, report, compiled_share=0.0)
    assert report.outcomes["refused as malformed"] > 20 and report.outcomes["loaded"] > 5, report.line()


@pytest.mark.timeout(600)
def test_the_server_answers_everything() -> None:
    report = Report()
    server.run(Budget(inputs=600), 1, report)
    assert report.outcomes["Write OK"] > 20 and report.outcomes["Read OK"] > 20, report.line()
    assert report.outcomes["Write UNKNOWN"] > 20, report.line()
