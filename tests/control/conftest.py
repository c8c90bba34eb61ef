"""Shared builders for the control tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_switch import FakeSwitch

from control.paths import Network
from control.program import Program
from tests.ports import free_base
from topo.builtin import abilene, diamond


@pytest.fixture
def diamond_net() -> Network:
    return Network(diamond())


@pytest.fixture
def abilene_net() -> Network:
    return Network(abilene())


@pytest.fixture(scope="session")
def program() -> Program:
    return Program.load(Path(__file__).resolve().parents[2] / "p4" / "build")


@pytest.fixture
def fakes(program: Program) -> Iterator[dict[str, FakeSwitch]]:
    """One for each switch of the diamond."""
    base = free_base()
    found = {
        switch.name: FakeSwitch(program.schema, base + switch.device_id, switch.device_id)
        for switch in diamond().switches
    }
    for fake in found.values():
        fake.start()
    yield found
    for fake in found.values():
        fake.go_on.set()  # whatever a test that failed left waiting
        fake.stop()
