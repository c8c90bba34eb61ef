"""Which scenarios are played on which target, and with which heartbeats."""

from __future__ import annotations

import pytest

from control.errors import InputError
from control.scoreboard.__main__ import NEEDED, _game, _parser
from control.settings import HEARTBEAT_MS
from topo import faults, lab


def game(*arguments: str):  # type: ignore[no-untyped-def]
    return _game(_parser().parse_args(arguments))


def test_the_embedded_switch_plays_everything() -> None:
    played = game()
    assert set(played.scenarios) == set(faults.names()) and played.left_out == ()


def test_on_bmv2_what_needs_the_embedded_switch_is_left_out_and_named() -> None:
    played = game("--target", "bmv2")
    assert set(faults.names()) - set(played.scenarios) == {"gray_link", "overload"}
    assert [line.partition(" needs ")[0] for line in played.left_out] == [
        "gray_link: not played on bmv2:",
        "overload: not played on bmv2:",
    ]
    assert {"maintenance", "congestion", "abrupt_cut", "carrier_loss", "flapping"} < set(played.scenarios)


def test_nothing_left_to_play_is_an_error() -> None:
    with pytest.raises(InputError, match="overload: not played on bmv2: needs the embedded switch's device model"):
        game("--target", "bmv2", "--scenario", "overload")


def test_every_target_has_an_interval_and_every_exception_is_a_kind_of_fault() -> None:
    assert set(HEARTBEAT_MS) == set(lab.TARGETS)
    assert set(NEEDED) <= {faults.load_scenario(name).kind for name in faults.names()}
