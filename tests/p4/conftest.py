"""Switches that run the program: every test of forwarding sees each of them that this machine can run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.p4 import bmv2
from tests.p4.target import Target

if TYPE_CHECKING:
    from tests.p4.embedded import Embedded


@pytest.fixture(scope="session")
def running_bmv2() -> Iterator[bmv2.Bmv2]:
    reason = bmv2.missing()
    if reason is not None:
        pytest.skip(reason)
    switch = bmv2.Bmv2()
    yield switch
    switch.close()


@pytest.fixture
def engine() -> Iterator[Embedded]:
    """The embedded switch, for tests that move the clock or look into registers."""
    from tests.p4.embedded import Embedded

    switch = Embedded()
    yield switch
    switch.close()


@pytest.fixture(params=["engine", "bmv2"])
def switch(request: pytest.FixtureRequest) -> Target:
    """A switch with empty tables."""
    if request.param == "bmv2":
        running: bmv2.Bmv2 = request.getfixturevalue("running_bmv2")
        running.reset()
        return running
    embedded: Embedded = request.getfixturevalue("engine")
    return embedded
