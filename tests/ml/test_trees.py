"""Trees evaluated with numpy give what LightGBM gives; text that is damaged is refused."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.trees import Forest, TreesError, parse

NAMES = [f"f{k}" for k in range(6)]


def grown(seed: int, trees: int = 12, leaves: int = 8) -> tuple[lightgbm.Booster, str]:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(0.0, 1.0, (600, 6)), 1)
    y = (x[:, 0] * x[:, 1] + x[:, 2] + rng.normal(0, 0.3, 600) > 0).astype(float)
    settings_ = {"objective": "binary", "num_leaves": leaves, "verbosity": -1, "num_threads": 1, "seed": seed}
    booster = lightgbm.train(settings_, lightgbm.Dataset(x, y, feature_name=NAMES), num_boost_round=trees)
    return booster, booster.model_to_string()


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), leaves=st.integers(2, 8))
def test_sums_are_those_of_lightgbm(seed: int, leaves: int) -> None:
    booster, text = grown(seed, leaves=leaves)
    x = np.random.default_rng(seed + 1).normal(0.0, 1.5, (50, 6))
    x[:20] = np.round(x[:20], 1)  # values on thresholds
    ours = Forest([parse(text, NAMES)])(x)[0]
    assert np.allclose(ours, booster.predict(x, raw_score=True), rtol=0, atol=1e-12)


def test_several_sums_at_once() -> None:
    (first, a), (second, b) = grown(1, 5), grown(2, 9)
    x = np.random.default_rng(3).normal(0.0, 1.0, (7, 6))
    ours = Forest([parse(a, NAMES), parse(b, NAMES)])(x)
    assert np.allclose(ours, [first.predict(x, raw_score=True), second.predict(x, raw_score=True)])
    assert Forest([parse(a, NAMES)])(np.empty((0, 6))).shape == (1, 0)


@pytest.fixture(scope="module")
def text() -> str:
    return grown(5, 3)[1]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version=v4", "version=v3", "version"),
        ("objective=binary sigmoid:1", "objective=regression", "objective"),
        ("feature_names=f0", "feature_names=g0", "other features"),
        ("num_leaves=8", "num_leaves=9", "leaves"),
        ("decision_type=2", "decision_type=1", "numerical"),
        ("left_child=", "left_child=0 ", "missing"),
        ("leaf_value=", "leaf_value=nan ", "leaf values"),
        ("split_feature=", "split_feature=77 ", "missing"),
        ("threshold=", "threshold=x ", "malformed"),
    ],
)
def test_text_that_is_damaged_is_refused(text: str, old: str, new: str, why: str) -> None:
    assert old in text
    with pytest.raises(TreesError, match=why):
        parse(text.replace(old, new), NAMES)


def test_text_cut_short_is_refused_at_any_length(text: str) -> None:
    end = text.index("end of trees")
    for length in range(0, end, 97):
        with pytest.raises(TreesError):
            parse(text[:length], NAMES)
