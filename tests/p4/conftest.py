"""Switches that run the program: every test of forwarding sees each of them that this machine can run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.p4 import bmv2
from tests.p4.beats import OTHER, PORT, configure
from tests.p4.scenario import GROUP, LABEL, PRIMARY, SHADOW
from tests.p4.target import Target, nexthop

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


@pytest.fixture
def monitored(engine: Embedded) -> Iterator[Embedded]:
    """Port 2 monitored; a group with its primary there and its shadow at port 3."""
    configure(engine, PORT)
    engine.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": 1})
    engine.insert("primary_nexthop", {"group_id": 1}, "set_nexthop", nexthop(PORT))
    engine.insert("shadow_nexthop", {"group_id": 1}, "set_nexthop", nexthop(OTHER))
    yield engine


@pytest.fixture(params=["engine", "bmv2"])
def switch(request: pytest.FixtureRequest) -> Target:
    """A switch with empty tables."""
    if request.param == "bmv2":
        running: bmv2.Bmv2 = request.getfixturevalue("running_bmv2")
        running.reset()
        return running
    embedded: Embedded = request.getfixturevalue("engine")
    return embedded


@pytest.fixture
def routed(switch: Target) -> Target:
    """10.0.1.0/24 and fd00:1::/64 in one group with a labelled shadow."""
    switch.insert("route_ipv4", {"dst": ("10.0.1.0", 24)}, "set_group", {"group_id": GROUP})
    switch.insert("route_ipv6", {"dst": ("fd00:1::", 64)}, "set_group", {"group_id": GROUP})
    switch.insert("primary_nexthop", {"group_id": GROUP}, "set_nexthop", nexthop(PRIMARY))
    switch.insert("shadow_nexthop", {"group_id": GROUP}, "set_nexthop_label", nexthop(SHADOW) | {"label": LABEL})
    return switch
