"""Targets that forward less get a network that asks for less, and the control plane is told."""

from __future__ import annotations

from pathlib import Path

from control.scoreboard.experiment import _slowed
from topo.load import load


def test_the_control_plane_loads_the_network_that_the_lab_builds(tmp_path: Path) -> None:
    said: list[str] = []
    slower, source = _slowed(load("abilene"), 800 / 3000, tmp_path, said.append)
    assert load(source) == slower
    assert {link.rate_mbps for link in slower.links} == {10.667}
    assert said == ["links have 27% of their line rate, as much as the target can be expected to fill"]
    unlimited = load("abilene").slowed(0)
    assert _slowed(unlimited, 0.5, tmp_path, said.append)[0] == unlimited
    assert len(said) == 1, "without rates there is nothing to say"
