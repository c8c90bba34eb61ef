"""Measures against hand-made cases and scikit-learn's; the evaluation against its own claims."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss

from ml import evaluate, evaluate_simulator, heldout
from ml.evaluate_anomaly import evaluate_nab, evaluate_routers
from ml.evaluate_rows import Alarms, Events, Rows, clusters, judge
from ml.metrics import (
    Interval,
    alarm_times,
    average_precision,
    brier_skill,
    by_event,
    calibration_error,
    calibration_interval,
    reliability,
)
from ml.report import Evaluation, held, write
from ml.sim.world import Scale

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@given(seed=st.integers(0, 500), coarse=st.booleans())
def test_average_precision_is_what_others_compute(seed: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    score = rng.random(60)
    score = np.round(score, 1) if coarse else score  # ties
    y = (rng.random(60) < 0.3).astype(float)
    y[0] = 1.0
    weight = rng.integers(0, 4, 60).astype(float) + 0.01
    assert average_precision(score, y) == pytest.approx(average_precision_score(y, score))
    assert average_precision(score, y, weight) == pytest.approx(average_precision_score(y, score, sample_weight=weight))


def test_a_row_that_is_drawn_twice_weighs_two() -> None:
    score, y = np.array([0.9, 0.6, 0.4]), np.array([1.0, 0.0, 1.0])
    doubled = average_precision(np.array([0.9, 0.6, 0.6, 0.4]), np.array([1.0, 0.0, 0.0, 1.0]))
    assert average_precision(score, y, np.array([1.0, 2.0, 1.0])) == pytest.approx(doubled)


def test_no_event_no_average_precision() -> None:
    assert np.isnan(average_precision(np.array([0.1, 0.2]), np.zeros(2)))


@given(seed=st.integers(0, 200))
def test_brier_skill_compares_with_the_base_rate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, y = rng.random(50), (rng.random(50) < 0.4).astype(float)
    y[:2] = 0.0, 1.0
    reference = float(y.mean() * (1 - y.mean()))
    assert brier_skill(p, y) == pytest.approx(1.0 - brier_score_loss(y, p) / reference)


def test_calibration_error_of_the_honest_and_of_the_boastful() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(50_000)
    y = (rng.random(50_000) < p).astype(float)
    assert calibration_error(p, y) < 0.01
    assert calibration_error(np.minimum(p + 0.2, 1.0), y) > 0.15
    bins = reliability(p, y)
    assert sum(b.rows for b in bins) == 50_000
    assert all(abs(b.said - b.came) < 0.03 for b in bins)


def test_intervals_are_drawn_by_run_not_by_row() -> None:
    rng = np.random.default_rng(2)
    run = np.repeat(np.arange(20), 500)
    value = rng.normal(0.0, 1.0, 20)[run]  # rows of a run are all the same
    low, high = by_event(lambda w: float(np.average(value, weights=w)), run)
    assert low < value.mean() < high
    assert high - low > 0.3  # by row it would be about 0.03


def test_an_alarm_needs_confirmation_and_stays_raised() -> None:
    time = np.linspace(0.0, 0.5, 6)[:, None] * np.ones((1, 4))
    p = np.array(
        [
            [0.1, 0.95, 0.95, nan],
            [0.95, 0.1, 0.95, nan],
            [0.95, 0.95, nan, nan],
            [0.1, 0.1, 0.95, nan],
            [0.1, 0.95, 0.95, nan],
            [0.1, 0.1, 0.1, nan],
        ]
    )
    assert alarm_times(time, p, 0.9).tolist() == pytest.approx([0.2, inf, 0.1, inf])


def toy(score: np.ndarray, **more: object) -> Rows:  # type: ignore[type-arg]
    """Two elements, a row a minute for a day; element 0 fails at minute 600 for an hour."""
    minutes = np.arange(1440)
    time = np.tile(60.0 * minutes, 2)
    element = np.repeat([0, 1], 1440)
    outcome = ((element == 0) & (time >= 60 * 590) & (time < 60 * 600)).astype(float)
    events = Events.forecast(
        np.array([0]), np.array([36_000.0]), np.array([39_600.0]), horizon_s=600.0, act_s=60.0
    )  # fmt: skip
    made = Rows("toy", "fade", "by hand", time, element, score, outcome, events, 2 * 86_400.0, 600.0)
    return replace(made, **more)  # type: ignore[arg-type]


def spikes(*places: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    """A probability of 0.9 at (element, minute), 0.1 elsewhere."""
    score = np.full(2880, 0.1)
    for element, minute in places:
        score[1440 * element + minute] = 0.9
    return score


def test_early_alarms_count_late_ones_do_not() -> None:
    for minute, lead in ((589, None), (590, 600.0), (595, 300.0), (599, 60.0), (600, None)):
        score = spikes((0, minute))
        found = Alarms.of(toy(score), score).leads(0.5)
        assert (found.tolist() == [lead]) if lead else np.isnan(found).all()


def test_false_alarms_are_counted_once_a_span_and_not_during_events() -> None:
    def false(*places: tuple[int, int]) -> float:
        score = spikes(*places)
        alarms = Alarms.of(toy(score), score)
        return float(alarms.false_per_day[alarms.thresholds == 0.9][0]) * 2  # two element-days

    assert false((0, 595)) == 0.0
    assert false((0, 650)) == 0.0  # while it lasts
    assert false((1, 595)) == 1.0  # the other element
    assert false((1, 100), (1, 101), (1, 102)) == 1.0  # one alarm
    assert false((1, 100), (1, 300), (0, 300)) == 3.0
    assert false(*((1, i) for i in range(1440))) == 144.0  # always up is always false


def test_a_verdict_knows_the_perfect_and_the_blind() -> None:
    truth = toy(np.zeros(2880)).outcome
    found = judge(toy(truth * 0.9 + 0.05, baselines={"level": 1.0 - truth}), repeats=20)
    assert found.average_precision.value == pytest.approx(1.0)
    assert found.gain.value > 0.9
    assert found.brier_skill is not None and found.brier_skill.value > 0.2
    middle = found.at[1]
    assert middle.recall.value == 1.0 and middle.lead_median_s == 600.0 and middle.level_recall == 0.0
    blind = judge(toy(np.full(2880, float(truth.mean()))), repeats=5)
    assert blind.average_precision.value == pytest.approx(blind.base_rate)
    assert blind.at[0].recall.value == 0.0
    with pytest.raises(ValueError, match="no row in which the failure comes"):
        judge(toy(truth, outcome=np.zeros(2880)))


def test_rows_are_drawn_with_the_event_they_belong_to() -> None:
    events = Events.forecast(
        np.array([0, 0, 1]), np.array([100.0, 300.0, 50.0]), np.array([110.0, 310.0, 60.0]), horizon_s=10, act_s=1
    )  # fmt: skip
    rows = toy(np.zeros(2880))
    few = replace(
        rows,
        time_s=np.array([0.0, 150.0, 250.0, 0.0, 900.0, 5.0]),
        element=np.array([0, 0, 0, 1, 1, 2]),
        events=events,
    )
    assert clusters(few).tolist() == [0, 0, 1, 2, 2, 3]


def test_detections_have_delays() -> None:
    score = spikes((0, 602))
    detected = Events.detected(np.array([0]), np.array([36_000.0]), np.array([39_600.0]))
    rows = toy(score, events=detected, detects=True, calibrated=False)
    found = judge(rows, repeats=5)
    assert found.at[1].lead_median_s == -120.0
    assert found.brier_skill is None and found.reliability == []


def evaluation() -> Evaluation:
    truth = toy(np.zeros(2880)).outcome
    noise = np.random.default_rng(1).random(2880) * 0.6
    score = 0.3 * truth + noise
    verdict = judge(toy(score, baselines={"level": noise}, target=0.4, notes="by <hand>"), repeats=10)
    figures = [held("average precision", "", verdict.average_precision, ">= 0.99"), held("lead", "s", float("nan"))]
    return Evaluation(figures=figures, verdicts=[verdict], errors=["nab: x.csv:3: broken & bent"])


def test_the_page_needs_nothing_else_and_the_json_is_strict(tmp_path: Path) -> None:
    written = write(evaluation(), tmp_path / "out", {"python": "3"})
    page = written[0].read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page and "<script" not in page and 'src="/' not in page
    assert "by &lt;hand&gt;" in page and "broken &amp; bent" in page and "prefers-color-scheme" in page
    content = json.loads(written[1].read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert content["results"][0]["holds"] is False and content["results"][0]["low"] < 1.0
    assert content["results"][1]["value"] is None
    assert content["verdicts"][0]["at"][0]["allowed"] == 0.1
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_the_table_says_what_holds_and_what_does_not() -> None:
    told = evaluate.text(evaluation())
    assert "MISSED" in told and "not judged: nab" in told and "average precision" in told


def links(path: Path) -> Path:
    """Ten links, twenty hours of showers that come from link 0 to link 9."""
    rng = np.random.default_rng(4)
    rows = ["link,channel,time,tx_dbm,rx_dbm"]
    starts = np.arange(100, 1200, 230)
    for link in range(10):
        rain = np.zeros(1200)
        for start in starts:
            shape = np.clip(18.0 - 0.8 * np.abs(np.arange(1200) - start - 3 * link - 20), 0.0, None)
            rain = np.maximum(rain, shape)
        noise = rng.normal(0.0, 0.4, 1200)
        rows += [f"{link},1,{60 * i + 1_500_000_000},14,{-46 - rain[i] - noise[i]:.1f}" for i in range(1200)]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_command_judges_given_files_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml.datasets import cml

    monkeypatch.setattr(cml, "SEEDS", (1,))
    monkeypatch.setattr(cml, "ROUNDS", 15)
    path = links(tmp_path / "some" / "table.csv")
    out = tmp_path / "out"
    code = evaluate.main(["cml", "--cml", str(path), "--out", str(out), "--repeats", "5", "--quiet", "-o", "json"])
    assert code == 0
    printed = json.loads(capsys.readouterr().out)
    assert {item["split"] for item in printed["verdicts"]} == {"by link", "by link and hours", "by time"}
    by_link = printed["verdicts"][0]
    assert by_link["average_precision"]["value"] > by_link["baselines"]["level"] > by_link["base_rate"]
    assert (out / "index.html").is_file() and len(list((out / "plots").glob("*.png"))) == 3


def test_models_are_judged_on_simulated_worlds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["simulator", "--profile", "lab", "--elements", "200", "--repeats", "5", "--out", str(out), "--quiet"]
    assert evaluate.main(arguments) == 0
    assert "precision at recall 0.90" in capsys.readouterr().out
    found = json.loads((out / "evaluate.json").read_text())
    by_mode = {(item["mode"], item["split"].rpartition(", ")[2]): item for item in found["verdicts"]}
    assert {mode for mode, _ in by_mode} == {"link failure", "congestion", "device overload"}
    for mode in ("link failure", "congestion", "device overload"):
        fair, whole = by_mode[mode, "foreseeable failures"], by_mode[mode, "all failures"]
        plain = max(value for name, value in fair["baselines"].items() if name != "line")
        assert fair["average_precision"]["value"] > plain
        assert fair["calibration_error"] <= 0.05
        assert whole["events"] > fair["events"]  # nothing foresees abrupt failures, and the report says so
        assert whole["at"][1]["recall"]["value"] < fair["at"][1]["recall"]["value"]


def test_figures_are_those_of_the_thresholds_in_use_on_any_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heldout, "SCALES", (Scale("short", (300.0, 1200.0), (8.0, 12.0), 260),))
    for world in ("unseen", "further"):
        rows, figures = evaluate_simulator.evaluate("operations", 11_000, 60, 0, world=world)
        assert all(item.split.startswith("unseen seeds and devices") == (world == "unseen") for item in rows)
        assert any(item.target for item in figures) == (world == "unseen")  # targets are for unseen devices
        of_links = {item.metric.rpartition(", ")[2]: item for item in figures if "link failure" in item.metric}
        for name in ("recall of foreseeable failures", "precision", "recall of all failures"):
            low, high = of_links[name].low, of_links[name].high
            assert low is not None and high is not None and low < of_links[name].value <= high <= 1.0
        assert of_links["recall of all failures"].samples > of_links["recall of foreseeable failures"].samples


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_targets_hold_by_the_whole_interval_and_are_missed_by_the_value(sign: float) -> None:
    target = ">= 5" if sign > 0 else "<= -5"
    for (value, worse, better), holds in (
        ((6.0, 5.0, 7.0), True), ((5.0, 4.9, 7.0), None), ((4.9, 4.0, 5.5), False), ((4.0, 3.0, 4.5), False),
    ):  # fmt: skip
        ends = sorted((sign * worse, sign * better))
        assert held("x", "", Interval(sign * value, *ends), target).holds is holds
    assert held("x", "", sign * 5.0, target).holds is True and held("x", "", sign * 4.9, target).holds is False
    assert held("x", "", float("nan"), target).holds is None and held("x", "", sign * 9.0).holds is None


@pytest.mark.parametrize("count", [1, 12, 700])
def test_a_share_lies_within_its_interval(count: int) -> None:
    for hits in range(count + 1):
        share = evaluate_simulator._shares(hits, count)
        assert 0.0 <= share.low <= share.value <= share.high <= 1.0 and share.low < share.high


def test_a_calibration_error_has_an_interval_by_run() -> None:
    rng = np.random.default_rng(2)
    runs = np.repeat(np.arange(60), 50)
    said = rng.uniform(0.0, 1.0, len(runs))
    alike = (rng.random(len(runs)) < said) * 1.0
    both = np.repeat((rng.random(60) < 0.5) * 1.0, 50)  # a run's rows share their fate
    steady, shared = calibration_interval(said, alike, runs), calibration_interval(said, both, runs)
    assert steady.value == calibration_error(said, alike) < 0.05
    assert 0.0 < steady.low < steady.high < shared.high
    assert shared.high - shared.low > 2.0 * (steady.high - steady.low)


@pytest.mark.parametrize(("false", "days", "holds"), [(0, 30, None), (0, 5e3, True), (5, 5e3, None), (9, 5e3, False)])
def test_a_rate_of_false_flips_holds_when_its_interval_says_so(false: int, days: float, holds: bool | None) -> None:
    kinds = {"ramp_within": false}
    rate = heldout.HealthyDays(days, false, kinds, *heldout.poisson_rate(false, days), np.zeros((2, 1)), {})
    assert evaluate_simulator._quiet(rate, "unseen").holds is holds


def test_data_that_is_not_there_is_an_error_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kddi").mkdir()
    arguments = ["kddi", "nab", "telemetry", "cml", "--data", str(tmp_path), "--out", str(tmp_path / "o"), "--quiet"]
    assert evaluate.main(arguments) == 2
    told = capsys.readouterr().err
    for name in ("label.tsv", f"{tmp_path}/nab", f"{tmp_path}/telemetry", f"{tmp_path}/cml"):
        assert name in told
    page = tmp_path / "o" / "index.html"
    assert "label.tsv" in page.read_text()  # and says so too
    page.write_text("of an earlier run")
    assert evaluate.main(arguments) == 2
    assert page.read_text() == "of an earlier run"  # a page that says something is not written over by nothing


@pytest.mark.parametrize("wrong", [["weather"], ["nab", "--repeats", "1"], ["simulator", "--seed", "5"]])
def test_what_makes_no_sense_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        evaluate.main(wrong)
    assert left.value.code == 2


@pytest.mark.skipif(not (DATA / "nab").exists(), reason=f"no series at {DATA / 'nab'}")
def test_anomalies_of_public_series_score_above_the_plain_detector() -> None:
    report, rows = evaluate_nab(DATA / "nab")
    for ours, plain in zip(report.ours, report.gaussian, strict=True):
        assert ours.score > plain.score + 8.0
    assert report.ours[0].score > 55.0
    assert len(rows[0].events) == report.windows


@pytest.mark.skipif(not (DATA / "telemetry").exists(), reason=f"no archives at {DATA / 'telemetry'}")
def test_faults_of_routers_are_noticed_and_nothing_else_is() -> None:
    archive = min((DATA / "telemetry").glob("*.tar.gz"), key=lambda path: path.stat().st_size)
    report = evaluate_routers(archive)[0]
    assert report.faults and report.false == 0
    for fault in report.faults:
        assert 0.0 <= fault.delay_s < 30.0
        assert fault.device in {name for name, _ in fault.told} and fault.named
