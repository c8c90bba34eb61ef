"""Numpy's code, whatever tests of other folders have installed: it is the reference (``test_kernels.py`` compares)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml import kernels


@pytest.fixture(scope="module", autouse=True)
def plain() -> Iterator[None]:
    before = list(kernels._active)
    kernels.use(None)
    yield
    kernels._active[:] = before
