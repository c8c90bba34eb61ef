"""The cascade end to end on a tiny model set: monotone, calibrated, explained; the store refuses what is damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import fit, heldout, retrain, wide
from ml.boosted import FLIP_FROM, BoostedModel, corrected, from_document
from ml.cascade import Cascade
from ml.features import PortBank
from ml.hazard import ModelError
from ml.metrics import average_precision
from ml.neighbours import Neighbours
from ml.profiles import OPERATIONS
from ml.reasons import reasons
from ml.schema import Mode, PortSample
from ml.sim import runs
from ml.sim.world import FAMILIAR, Scale
from ml.store import PACKAGED, ModelSet, Store, load, packaged, save

SHORT = Scale("short", (300.0, 1500.0), (6.0, 12.0), 500)
EDGES = (1.0, 4.0, 10.0)
PROFILE = replace(OPERATIONS, edges=EDGES)
MODES = list(wide.WIDE)


@pytest.fixture(scope="module")
def rows() -> dict[Mode, fit.Rows]:
    shares = {
        "healthy": 0.2,
        "noisy": 0.1,
        "ramp_within": 0.1,
        "bend": 0.25,
        "laser": 0.1,
        "congestion": 0.2,
        "abrupt": 0.05,
    }
    ports = runs.ports(FAMILIAR, SHORT, 1, 240, shares)
    return fit.collect(PROFILE, ports, runs.devices(FAMILIAR, SHORT, 1, 120), 1)


@pytest.fixture(scope="module")
def tiny(rows: dict[Mode, fit.Rows]) -> ModelSet:
    models, screens = {}, {}
    for mode, own in rows.items():
        earlier, later = fit.split(own, 0.7, 0.0)
        models[mode] = fit.fit(mode, earlier, later, EDGES, seed=1, trees=10)
        screens[mode] = fit.screen(models[mode], own)
    other = runs.ports(FAMILIAR, SHORT, 2, 240), runs.devices(FAMILIAR, SHORT, 2, 120)
    for mode, own in fit.tempting(PROFILE, Cascade(models, screens), *other).items():
        models[mode] = replace(models[mode], flip=fit.flip(own, mode, EDGES[-1], seed=1, trees=10))
    return ModelSet("tiny", OPERATIONS, models, screens, dict.fromkeys(models, 0.6), {"source": "a test"})


def draw(mode: Mode, seed: int, count: int = 6) -> np.ndarray:
    bounds = np.array([f.bound for f in wide.WIDE[mode]])
    return np.random.default_rng(seed).random((count, len(bounds))) ** 3 * bounds


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_worse_telemetry_never_lowers_a_probability(tiny: ModelSet, mode: Mode, seed: int) -> None:
    model = tiny.models[mode]
    x = draw(mode, seed)
    directed = np.array([f.direction for f in wide.WIDE[mode]])
    worse = x + directed * draw(mode, seed + 1)
    assert isinstance(model, BoostedModel)
    for after, before in zip(model.judge(worse), model.judge(x), strict=True):
        assert (after >= before - 1e-12).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_flip_has_trees_of_its_own_and_needs_a_possible_failure(tiny: ModelSet, mode: Mode) -> None:
    model = tiny.models[mode]
    assert isinstance(model, BoostedModel) and model.flip
    x = draw(mode, 8, 300)
    probability, flip = model.judge(x)
    assert np.array_equal(probability, model.probability(x)) and not np.array_equal(flip, probability)
    assert not flip[probability < FLIP_FROM].any() and (flip <= 1.0).all()
    without = replace(model, flip="")
    assert np.array_equal(without.judge(x)[1], probability)


@pytest.mark.parametrize("mode", MODES)
def test_a_longer_horizon_is_never_less_probable(tiny: ModelSet, mode: Mode) -> None:
    model = tiny.models[mode]
    assert isinstance(model, BoostedModel)
    each = model.probabilities(draw(mode, 3, 200))
    assert (np.diff(each, axis=0) >= 0.0).all() and (each >= 0.0).all() and (each <= 1.0).all()


@pytest.mark.parametrize("mode", MODES)
def test_the_model_knows_more_than_the_base_rate(tiny: ModelSet, rows: dict[Mode, fit.Rows], mode: Mode) -> None:
    other = fit.collect(PROFILE, runs.ports(FAMILIAR, SHORT, 9, 120), runs.devices(FAMILIAR, SHORT, 9, 90), 9)[mode]
    known, y = fit.outcome(other, EDGES[-1])
    p, y, w = tiny.models[mode].probability(other.x[known]), y[known], other.weight[known]
    base = np.average(y, weights=w)
    ranked = average_precision(p, y, w)  # a tiny model is no good at calibration, but it knows what is worse
    assert ranked > 2.0 * base


def test_the_screen_lets_pass_what_is_probable(tiny: ModelSet, rows: dict[Mode, fit.Rows]) -> None:
    for mode, own in rows.items():
        passed = tiny.screens[mode].score(list(own.screen.T)) >= 0.0
        probable = tiny.models[mode].probability(own.x) >= fit.PROBABLE
        assert passed[probable].mean() > 0.99


def fading(bank: PortBank, count: int) -> None:
    for i in range(count):
        level = 0.12 * max(0, i - 40)
        values = [
            PortBank.values(
                PortSample("s1:1", 0.0, rx_power_dbm=-8.0 - fade, pre_fec_ber=1e-8 * 10 ** (0.75 * fade), rate_bps=1e9,
                           tx_bytes_total=1e7 * i, queue_max_packets=1.0, laser_bias_ma=40.0)
            )
            for fade in (0.0, level)
        ]  # fmt: skip
        bank.learn_many(slice(None), 8.0 * i, np.array(values))


def test_only_the_suspicious_are_judged_and_the_rest_get_the_floor(tiny: ModelSet) -> None:
    bank = PortBank(2, OPERATIONS.unit_s, taus=OPERATIONS.taus)
    fading(bank, 95)
    link, _ = tiny.cascade().ports(bank)
    assert link.rows.tolist() == [1]
    assert link.probability[0] == tiny.screens[Mode.LINK_FAILURE].floor
    assert link.features_of(0) is None and link.features_of(1) is not None
    unscreened, _ = Cascade(tiny.models).ports(bank)
    assert unscreened.rows.tolist() == [0, 1]
    assert unscreened.probability[1] == pytest.approx(link.probability[1])
    assert link.probability[1] > 5 * unscreened.probability[0]


def test_reasons_name_the_signal_with_its_unit(tiny: ModelSet) -> None:
    bank = PortBank(2, OPERATIONS.unit_s, taus=OPERATIONS.taus)
    fading(bank, 95)
    link, _ = Cascade(tiny.models).ports(bank)
    model = tiny.models[Mode.LINK_FAILURE]
    assert isinstance(model, BoostedModel)
    found = reasons(model, bank, 1, link.x[1], prefix="s1:2 ")
    assert {item.signal for item in found} & {"pre_fec_ber", "rx_power_dbm"}
    assert "dB" in found[0].text and found[0].text.startswith("s1:2 ")
    assert model.contributions(np.zeros(len(wide.WIDE_LINK))) == pytest.approx(0.0)


def test_one_and_many_rows_have_the_same_wide_features() -> None:
    bank = PortBank(2, OPERATIONS.unit_s, taus=OPERATIONS.taus)
    fading(bank, 70)
    both = wide.ports(bank, np.array([0, 1]), Neighbours(2, [[0, 1]]))
    one = wide.ports(bank, np.array([1]), Neighbours(2, [[0, 1]]))
    for a, b in zip(both, one, strict=True):
        assert np.allclose(a[1], b[0])
    for x, mode in zip(both, (Mode.LINK_FAILURE, Mode.CONGESTION), strict=True):
        assert x.shape == (2, len(wide.WIDE[mode]))
        assert (x >= 0.0).all() and (x <= np.array([f.bound for f in wide.WIDE[mode]])).all()
    names = [f.name for f in wide.WIDE_LINK]
    assert both[0][0, names.index("neighbours_lost")] > 2.0  # its neighbour fades
    assert both[0][1, names.index("neighbours_lost")] == 0.0


def test_calibration_is_monotone_and_meets_what_came() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p**2).astype(float)  # too sure of itself
    found = corrected(p, fit.beta(p, y, np.ones(len(p))))
    assert (np.diff(found[np.argsort(p)]) >= 0.0).all()
    for low in (0.1, 0.4, 0.7):
        inside = (p >= low) & (p < low + 0.2)
        assert abs(found[inside].mean() - y[inside].mean()) < 0.03


def test_rows_are_split_by_time_with_a_gap(rows: dict[Mode, fit.Rows]) -> None:
    own = rows[Mode.LINK_FAILURE]
    earlier, later = fit.split(own, 0.6, 600.0)
    assert len(earlier) and len(later)
    assert earlier.time.max() + 600.0 <= later.time.min()
    assert not set(earlier.run.tolist()) & set(later.run.tolist())


def test_a_version_comes_back_as_it_was_saved(tiny: ModelSet, tmp_path: Path) -> None:
    save(tiny, tmp_path / "v")
    again = load(tmp_path / "v")
    assert again.version == "tiny" and again.raise_at == tiny.raise_at and dict(again.training) == dict(tiny.training)
    for mode in MODES:
        x = draw(mode, 5, 50)
        saved, loaded = tiny.models[mode], again.models[mode]
        assert isinstance(saved, BoostedModel) and isinstance(loaded, BoostedModel)
        for before, after in zip(saved.judge(x), loaded.judge(x), strict=True):
            assert np.array_equal(before, after)
        assert again.screens[mode] == tiny.screens[mode]


@pytest.mark.parametrize("name", ["manifest.json", "link_failure.json"])
def test_a_file_cut_short_or_altered_is_refused_by_name(tiny: ModelSet, tmp_path: Path, name: str) -> None:
    save(tiny, tmp_path / "v")
    path = tmp_path / "v" / name
    whole = path.read_text()
    for length in range(0, len(whole) - 2, len(whole) // 9):
        path.write_text(whole[:length])
        with pytest.raises(ModelError, match=name):
            load(tmp_path / "v")
    digit = next(i for i in range(len(whole) // 2, len(whole)) if whole[i] in "12345678")
    path.write_text(whole[:digit] + str(int(whole[digit]) + 1) + whole[digit + 1 :])
    with pytest.raises(ModelError, match="checksum"):
        load(tmp_path / "v")
    path.unlink()
    with pytest.raises(ModelError, match=f"{name}: No such file"):
        load(tmp_path / "v")


def test_a_model_for_other_features_is_refused_with_both_lists(tiny: ModelSet) -> None:
    content = tiny.models[Mode.CONGESTION].document()
    with pytest.raises(ModelError, match="train it anew"):
        from_document({**content, "feature_schema": "0" * 16})
    with pytest.raises(ModelError, match="format 9"):
        from_document({**content, "format": 9})
    with pytest.raises(ModelError, match="turns the order round"):
        from_document({**content, "calibration": [{"a": -1, "b": 1, "c": 0}] * 3})


def test_versions_are_used_and_rolled_back(tiny: ModelSet, tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.current("operations") == PACKAGED
    with pytest.raises(ModelError, match="no former version"):
        store.former("operations")
    store.add(tiny)
    with pytest.raises(ModelError, match="exists already"):
        store.add(tiny)
    store.use("operations", "tiny")
    assert store.open("operations").version == "tiny"
    store.add(replace(tiny, version="worse"))
    store.use("operations", "worse")
    assert store.rollback("operations") == "tiny" and store.current("operations") == "tiny"
    with pytest.raises(ModelError, match="is no name"):
        store.use("operations", "../../etc")
    shutil.rmtree(tmp_path / "operations" / "worse")
    with pytest.raises(ModelError, match="manifest"):
        store.use("operations", "worse")
    assert store.current("operations") == "tiny"


def test_the_packaged_models_load_and_are_small() -> None:
    found = packaged("operations")
    assert found.profile is OPERATIONS and set(found.models) == set(MODES) == set(found.screens)
    assert found.training["source"] == "ml.sim" and found.metrics
    folder = Path(fit.__file__).parent / "models"
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) < 2_000_000
    assert packaged("lab").models.keys() == found.models.keys()


def test_a_candidate_that_is_worse_is_kept_back() -> None:
    good = retrain.Figures(0.5, 0.01, 0.95, 0.9, 0.7, 100.0, 50, 1)
    assert retrain.worse(good, good) == []
    assert retrain.worse(replace(good, average_precision=0.48), good) == ["average precision 0.480, now 0.500"]
    assert retrain.worse(replace(good, calibration_error=0.05), good) == ["calibration error 0.050, above 0.030"]
    assert retrain.worse(replace(good, calibration_error=0.05), replace(good, calibration_error=0.06)) == []
    assert retrain.worse(good, None) == []


def test_flips_are_compared_in_pairs_by_what_they_are_worth() -> None:
    now = np.concatenate((np.ones(90), np.zeros(10), np.full(5, -retrain.PRICE), np.zeros(95)))
    assert retrain.worth_less(now, now, 100) == []
    stricter = now.copy()
    stricter[:8], stricter[100:105] = 0.0, 0.0  # finds less, flips falsely less often: worth it
    assert retrain.worth_less(stricter, now, 100) == []
    assert retrain.worth_less(now, stricter, 100) == []  # 7 failures' worth are still within chance ...
    assert retrain.worth_less(
        np.tile(now, 20), np.tile(stricter, 20), 2000
    )  # ... and are not in twenty times as many runs
    blind = now.copy()
    blind[:8] = 0.0
    assert retrain.worth_less(blind, now, 100) == ["flips are worth 0.670 per failure, now 0.750"]
    assert retrain.worth_less(np.where(np.arange(200) < 2, 0.0, now), now, 100) == []


def test_what_flips_are_worth_adds_up_to_the_tally(tiny: ModelSet) -> None:
    for played in heldout.play("lab", 12_000, 300).values():
        counted, each = heldout.tally(played), heldout.worth(played, 3.0)
        assert each.sum() == counted.right - 3.0 * counted.false and set(each) <= {-3.0, 0.0, 1.0}


def test_played_rows_are_judged_known_and_not_failing(tiny: ModelSet) -> None:
    limits = dict.fromkeys(MODES, 0.6)
    found = heldout.play("lab", 12_000, 60)
    for mode, played in found.items():
        score, label, time, element = played.rows()
        assert len(score) == len(label) == len(time) == len(element) > 0
        assert not np.isnan(score).any() and set(np.unique(label)) <= {0.0, 1.0}
        struck = label > 0
        assert (played.event[element[struck]] - time[struck] <= played.horizon_s).all()
        assert (played.event[element] > time).all()
        assert played.mode is mode and limits
    with pytest.raises(ValueError, match="no days"):
        heldout.healthy_days(1, 1, "lab")


def test_tallies_count_early_late_false_and_hits() -> None:
    time = np.linspace(0.0, 40_000.0, 401)[:, None] * np.ones((1, 5))
    p = np.zeros((401, 5))
    p[150:, 0] = p[399:, 1] = p[100:, 2] = p[5:, 3] = 1.0
    event = np.array([16_000.0, 39_905.0, np.inf, 39_000.0, 20_000.0])
    kind = np.array(["bend", "bend", "noisy", "bend", "abrupt"])
    played = heldout.Played(
        Mode.LINK_FAILURE, "operations", time, p, event, time > event, kind, kind == "bend", p, p,
        3600.0, 0.9, 30.0, 10.0, 7200.0,
    )  # fmt: skip
    found = heldout.tally(played)
    assert (found.events, found.hits, found.false) == (3, 1, 2)  # a hit; too late; false; far too early; missed
    assert found.recall == pytest.approx(1 / 3) and found.recall_all == pytest.approx(1 / 4)
    assert found.precision == pytest.approx(1 / 3)
    assert found.lead_median_s == pytest.approx(900.0, abs=101.0)


def test_the_verdict_is_written_as_json() -> None:
    good = retrain.Figures(0.5, 0.01, 0.95, 0.9, 0.7, 100.0, 50, 1)
    verdict = retrain.Verdict(False, ["why"], [("unseen", "congestion", good, None)])
    content = json.loads(json.dumps(verdict.document()))
    assert content["promoted"] is False and content["figures"][0]["candidate"]["recall"] == 0.9


@pytest.mark.parametrize("profile", ["lab", "operations"])
def test_judging_what_has_changed_is_judging_everything(profile: str) -> None:
    models = packaged(profile)
    life, count = models.profile, 24
    cascade = replace(models.cascade(), neighbours=Neighbours(count, [[0, 1, 2], [8, 9], [20, 23]]))
    bank = PortBank(count, life.unit_s, taus=life.taus)
    rng = np.random.default_rng(7)
    before = None
    step = life.unit_s / 20.0
    for i in range(150):
        changed = np.flatnonzero(rng.random(count) < (0.9 if i < 20 else 0.15))
        fade = 0.15 * max(0, i - 60) * (changed % 5 == 0)
        for row, lost in zip(changed.tolist(), fade.tolist(), strict=True):
            sample = PortSample(
                "s1:1", 0.0, rx_power_dbm=-8.0 - lost, pre_fec_ber=min(1e-8 * 10 ** (0.7 * lost), 0.3),
                rate_bps=1e9, tx_bytes_total=2.5e6 * step * i * (1 + row), queue_max_packets=float(row),
            )  # fmt: skip
            bank.learn_one(row, step * i, PortBank.values(sample))
        told = bank.changed()
        assert told.tolist() == (changed.tolist() if i else list(range(count)))
        before = cascade.ports(bank, before, told)
        for part, whole in zip(before, cascade.ports(bank), strict=True):
            np.testing.assert_allclose(part.probability, whole.probability, rtol=1e-12)
            np.testing.assert_allclose(part.flip, whole.flip, rtol=1e-12)
            np.testing.assert_array_equal(part.rows, whole.rows)
            if len(whole.rows):
                np.testing.assert_array_equal(part.x, whole.x)
