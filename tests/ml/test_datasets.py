"""Loaders refuse what is not their table; features know only the past; the held-out figures are reached."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from ml.datasets import cml, kddi
from ml.datasets.errors import DataError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LINKS = DATA / "cml" / "links_even.csv.gz"
needs_links = pytest.mark.skipif(not LINKS.exists(), reason=f"no microwave links at {LINKS}")
needs_kddi = pytest.mark.skipif(not (DATA / "kddi").exists(), reason=f"no router faults at {DATA / 'kddi'}")


def table(path: Path, rows: list[str]) -> Path:
    with gzip.open(path, "wt") as file:
        file.write("\n".join(rows) + "\n")
    return path


def channels(minutes: int = 300, seed: int = 1) -> cml.Channels:
    rng = np.random.default_rng(seed)
    rain = np.zeros((minutes, 6))
    rain[150:220] = np.minimum(np.arange(70), 14)[:, None]
    noise = rng.normal(0.0, 0.3, rain.shape)
    return cml.Channels(np.array(["1", "1", "2", "2", "3", "3"]), 60.0 + rain + noise)


def test_links_are_read_on_a_grid_of_minutes(tmp_path: Path) -> None:
    rows = ["link,channel,time,tx_dbm,rx_dbm"]
    rows += [f"7,1,{60 * i},14,{-46 - i}" for i in (0, 1, 4)]
    rows += [f"7,2,{60 * i},-99,{-50}" for i in range(5)]
    rows += ["8,1,60,14,-99.9", "8,1,120,14,"]
    found = cml.load(table(tmp_path / "links.csv.gz", rows))
    assert found.link.tolist() == ["7", "7", "8"]
    assert np.allclose(
        found.attenuation.T,
        [[60, 61, np.nan, np.nan, 64], [50] * 5, [np.nan] * 5],  # without a transmit level: the received one
        equal_nan=True,
    )


@pytest.mark.parametrize(
    "rows", [["a,b", "1,2"], ["link,channel,time,tx_dbm,rx_dbm"], ["link,channel,time,tx_dbm,rx_dbm", "1,1,x,1,1"]]
)
def test_another_table_is_refused_by_name(rows: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"odd\.csv\.gz"):
        cml.load(table(tmp_path / "odd.csv.gz", rows))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    whole = table(tmp_path / "a.gz", ["link,channel,time,tx_dbm,rx_dbm"] + [f"1,1,{i},1,-50" for i in range(900)])
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cut\.gz"):
        cml.load(cut)
    with pytest.raises(DataError, match="nowhere"):
        cml.load(tmp_path / "nowhere")


def test_labels_are_about_fades_to_come_not_those_that_are() -> None:
    known, coming = cml.labels(channels())
    begin = 150 + int(cml.FADE_DB)  # the ramp of 1 dB a minute reaches the fade
    assert coming[begin - cml.AHEAD + 2 : begin - 1][known[begin - cml.AHEAD + 2 : begin - 1]].all()
    assert not coming[: begin - cml.AHEAD - 3].any()
    assert not known[begin + 3 : 215].any()
    assert not known[-cml.AHEAD :].any()


def test_features_know_only_the_past() -> None:
    whole = channels()
    cut = cml.Channels(whole.link, whole.attenuation[:180])
    assert np.allclose(cml.features(whole)[:180], cml.features(cut), equal_nan=True)


def test_missing_minutes_are_no_numbers() -> None:
    data = channels()
    data.attenuation[100:110, 2] = np.nan
    x = cml.features(data)
    assert np.isnan(x[105, 2, 0])
    assert not np.isinf(x).any()


@needs_links
def test_microwave_fades_on_links_that_training_has_not_seen() -> None:
    by_link, by_both = cml.evaluate(LINKS, folds=3, repeats=20)
    assert by_link.average_precision.value > by_link.level + 0.05
    assert by_link.calibration_error < 0.03
    assert by_both.rows < by_link.rows
    assert "level" in cml.text([by_link, by_both])


@needs_kddi
def test_router_faults_of_the_last_quarter() -> None:
    report = kddi.evaluate(DATA / "kddi")
    assert report.macro_f1 >= 0.92
    assert report.accuracy > report.majority_accuracy
    assert sum(map(sum, report.confusion)) == report.rows
    assert "macro-F1" in kddi.text(report)


@needs_kddi
def test_router_features_know_only_the_past() -> None:
    data = kddi.load(DATA / "kddi")
    part = kddi.Minutes({k: v[:200] for k, v in data.tables.items()}, data.columns, data.label[:200])
    longer = kddi.Minutes({k: v[:260] for k, v in data.tables.items()}, data.columns, data.label[:260])
    assert np.allclose(kddi.features(longer)[:200], kddi.features(part))


def test_a_folder_without_the_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"incoming-packets-rate\.tsv\.gz"):
        kddi.load(tmp_path)


def test_tables_of_different_lengths_are_refused(tmp_path: Path) -> None:
    for stem in kddi.TABLES.values():
        table(tmp_path / f"{stem}.tsv.gz", ["\ta+x\ttimestamp", "0\t1.0\t2020", "1\t1.0\t2020"])
    table(tmp_path / "label.tsv.gz", ["\tstatus\ttimestamp", "0\t0.0\t2020"])
    with pytest.raises(DataError, match="different lengths"):
        kddi.load(tmp_path)
