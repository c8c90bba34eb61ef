"""The record behind the scoreboard, its verdict and its table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from control.scoreboard.render import show
from control.scoreboard.rows import Flip, Row, judge_flips, verdict, write

GOOD = Row("gray_link", "predictive", 21_000, 0, 3, 0, 0.4, 2, 0, 812.0, 1.9, 0, 7, True)


def rows(**changes: object) -> list[Row]:
    return [dataclasses.replace(GOOD, **changes)]  # type: ignore[arg-type]


def test_a_lossless_predictive_run_passes() -> None:
    assert verdict([GOOD]).passed


def test_loss_above_the_control_run_fails_and_names_the_scenario() -> None:
    outcome = verdict(rows(lost=5, control_lost=2))
    assert not outcome.passed
    assert "gray_link (3 lost)" in outcome.text


def test_loss_at_the_floor_passes() -> None:
    assert verdict(rows(lost=2, control_lost=2)).passed


def test_a_run_that_sent_nothing_proves_nothing() -> None:
    assert not verdict(rows(sent=0)).passed


@pytest.mark.parametrize("changes", [{"strategy": "reactive"}, {"foreseeable": False}])
def test_only_foreseeable_scenarios_of_the_predictive_strategy_are_judged(changes: dict[str, object]) -> None:
    assert verdict(rows(lost=1000, **changes)).passed


def test_flips_for_untouched_elements_are_false_and_do_not_count_as_lead() -> None:
    flips = [Flip(1.0, "s9", 1.0), Flip(5.0, "s1-s2", 3.0), Flip(4.5, "s1-s2", 2.0)]
    assert judge_flips(flips, {"s1-s2"}, 4.0, 6.0) == (1, 1500.0, 2.0)


def test_a_late_flip_has_a_negative_lead() -> None:
    assert judge_flips([Flip(6.5, "s2", None)], {"s2"}, 4.0, 6.0) == (0, -500.0, None)


def test_a_flip_before_the_first_sign_is_false() -> None:
    assert judge_flips([Flip(3.9, "s2", 1.0), Flip(5.0, "s2", 1.0)], {"s2"}, 4.0, 6.0) == (1, 1000.0, 1.0)


def test_every_flip_of_a_control_run_is_false() -> None:
    assert judge_flips([Flip(1.0, "s1-s2", 1.0)], (), None, None) == (1, None, 1.0)


@given(
    st.lists(st.builds(Flip, st.floats(0, 1e6), st.sampled_from(["a", "b", "c"]), st.none())),
    st.sets(st.sampled_from("abc")),
)
def test_false_flips_are_those_outside_the_plan(flips: list[Flip], affected: set[str]) -> None:
    false, lead, _ = judge_flips(flips, affected, 0.0, 1e6)
    assert false == sum(flip.element not in affected for flip in flips)
    assert (lead is None) == (false == len(flips))


def test_the_file_holds_rows_context_and_verdict(tmp_path: Path) -> None:
    path = tmp_path / "run" / "scoreboard.json"
    write(path, [GOOD], topology="diamond")
    document = json.loads(path.read_text())
    assert document["topology"] == "diamond"
    assert document["verdict"]["passed"] is True
    assert document["results"] == [dataclasses.asdict(GOOD)]
    assert list(path.parent.iterdir()) == [path]


def test_the_table_shows_every_row_once() -> None:
    console = Console(record=True, width=150, file=None, quiet=False)
    with console.capture() as text:
        show(
            console,
            [GOOD, dataclasses.replace(GOOD, strategy="none", lost=9876), dataclasses.replace(GOOD, scenario="none")],
        )
    shown = text.get()
    assert shown.count("predictive") == 3  # two rows and the verdict
    assert "9,876" in shown
    assert "no failure (floor)" in shown


@pytest.mark.parametrize("width", [80, 100, 106, 120, 130, 200])
def test_no_figure_is_cut_on_any_usual_terminal(width: int) -> None:
    console = Console(width=width)
    with console.capture() as text:
        long = dataclasses.replace(GOOD, scenario="gray_link_with_loss", reordered=1234, foreseeable=False)
        floor = dataclasses.replace(GOOD, scenario="none")
        show(console, [GOOD, dataclasses.replace(GOOD, strategy="none", lost=123_456, outage_ms=3360.1), long, floor])
    shown = text.get()
    assert "…" not in shown
    assert "123,456" in shown
    assert "3,360.1" in shown
