"""Which scenarios are played on which target, and with which heartbeats."""

from __future__ import annotations

import pytest

from control.scoreboard.__main__ import _game, _parser
from control.settings import HEARTBEAT_MS
from topo import faults, lab


def game(*arguments: str):  # type: ignore[no-untyped-def]
    return _game(_parser().parse_args(arguments))


@pytest.mark.parametrize("target", lab.TARGETS)
def test_every_target_plays_everything(target: str) -> None:
    assert set(game("--target", target).scenarios) == set(faults.names())


def test_an_unknown_scenario_is_an_error() -> None:
    with pytest.raises(faults.FaultError, match="nothing_such"):
        game("--scenario", "nothing_such")


def test_every_target_has_an_interval() -> None:
    assert set(HEARTBEAT_MS) == set(lab.TARGETS)
