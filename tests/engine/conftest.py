from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.dataplane import Client
from tests.engine.switchd_support import Rig, missing, rig


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[tuple[Rig, Client]]:
    """A started switch process with its interfaces."""
    if missing():
        pytest.skip(missing())
    with rig(tmp_path) as built:
        yield built, built.start()
