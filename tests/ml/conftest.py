"""Hypothesis without deadlines: the machine may be busy, and durations are the benchmarks' business. And numpy's code,
whatever tests of other folders have installed: it is the reference (``test_kernels.py`` compares)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from ml import kernels

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="module", autouse=True)
def plain() -> Iterator[None]:
    before = list(kernels._active)
    kernels.use(None)
    yield
    kernels._active[:] = before
