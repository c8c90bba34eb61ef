"""Shared builders for the control tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from control.paths import Network
from topo.builtin import abilene, diamond


@pytest.fixture
def diamond_net() -> Network:
    return Network(diamond())


@pytest.fixture
def abilene_net() -> Network:
    return Network(abilene())
