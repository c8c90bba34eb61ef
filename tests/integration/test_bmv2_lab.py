"""The control plane on ``simple_switch_grpc``: what is done and what has to hold is in ``bmv2_lab.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.integration.support import NAMESPACE, needs_lab, run
from topo.mininet_nodes import Bmv2Switch

pytestmark = [
    needs_lab,
    pytest.mark.skipif(not Bmv2Switch.available(), reason="simple_switch_grpc is not on the PATH"),
]


def test_the_control_plane_works_on_bmv2(tmp_path: Path) -> None:
    done = run([*NAMESPACE, sys.executable, "-m", "tests.integration.bmv2_lab", str(tmp_path)], timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
