"""Loaders refuse what is no table of theirs by file and line; features know the past only; figures are reached."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.datasets import cml, cml_features, kddi, nab, reading, telemetry
from ml.datasets.errors import DataError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs = {
    name: pytest.mark.skipif(not (DATA / name).exists(), reason=f"no data at {DATA / name}")
    for name in ("cml", "kddi", "nab", "telemetry")
}


def table(path: Path, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


# Microwave links


def channels(minutes: int = 300, seed: int = 1, links: int = 3) -> cml.Channels:
    rng = np.random.default_rng(seed)
    rain = np.zeros((minutes, 2 * links))
    rain[150:220] = np.minimum(np.arange(70), 14)[:, None]
    noise = rng.normal(0.0, 0.3, rain.shape)
    return cml.Channels(np.repeat([str(k) for k in range(links)], 2), 60.0 + rain + noise)


def built(data: cml.Channels) -> np.ndarray:  # type: ignore[type-arg]
    return cml_features.build(data.link, data.attenuation)


LINK_HEAD = "link,channel,time,tx_dbm,rx_dbm"


@pytest.mark.parametrize("name", ["links.csv.gz", "links.csv", "any/name_at_all.csv"])
def test_links_are_read_on_a_grid_of_minutes(name: str, tmp_path: Path) -> None:
    rows = [LINK_HEAD]
    rows += [f"7,1,{60 * i},14,{-46 - i}" for i in (0, 1, 4)]
    rows += [f"7,2,{60 * i},-99,{-50}" for i in range(5)]
    rows += ["8,1,60,14,-99.9", "8,1,120,14,"]
    found = cml.load(table(tmp_path / name, rows))
    assert found.link.tolist() == ["7", "7", "8"]
    assert np.allclose(
        found.attenuation.T,
        [[60, 61, np.nan, np.nan, 64], [50] * 5, [np.nan] * 5],  # without a transmit level: the received one
        equal_nan=True,
    )


def test_columns_may_be_fewer_and_in_any_order(tmp_path: Path) -> None:
    found = cml.load(table(tmp_path / "a.csv", ["rx_dbm,extra,time,link", "-50,x,0,a", "-51,x,60,a"]))
    assert found.attenuation[:, 0].tolist() == [50.0, 51.0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["a,b", "1,2"], r"odd\.csv:1: no column"),
        ([LINK_HEAD], "empty"),
        ([LINK_HEAD, "1,1,60,1,1", "1,1,x,1,1"], r"odd\.csv:3: time is no number"),
        ([LINK_HEAD, "1,1,1e300,1,1"], r"odd\.csv:2: time"),
        ([LINK_HEAD, "1,1"], r"odd\.csv:2: 2 cells"),
        ([LINK_HEAD, "1,1,0,1,-50", "1,1,99999999999,1,-50"], "too many"),
    ],
)
def test_another_table_is_refused_by_name_and_line(rows: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        cml.load(table(tmp_path / "odd.csv", rows))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    whole = table(tmp_path / "a.csv.gz", [LINK_HEAD] + [f"1,1,{i},1,-50" for i in range(900)])
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(whole.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cut\.csv\.gz: cut short"):
        cml.load(cut)
    with pytest.raises(DataError, match="nowhere"):
        cml.load(tmp_path / "nowhere")


def test_what_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 5_000_000))
    with pytest.raises(DataError, match=r"bomb\.csv\.gz: larger than"), reading.opened(path, 1_000_000) as text:
        while text.read(1 << 16):
            pass


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_table_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.csv"
    for body in (content, LINK_HEAD.encode() + b"\n" + content, gzip.compress(content)[:-3]):
        path.write_bytes(body)
        for load in (cml.load, telemetry.load):
            with pytest.raises(DataError, match=r"x\.csv"):
                load(path)
                raise DataError("x.csv: read")  # small tables that happen to be sound are fine


def test_labels_are_about_fades_to_come_not_those_that_are() -> None:
    known, coming = cml.labels(channels())
    begin = 150 + int(cml.FADE_DB)  # the ramp of 1 dB a minute reaches the fade
    assert coming[begin - cml.AHEAD + 2 : begin - 1][known[begin - cml.AHEAD + 2 : begin - 1]].all()
    assert not coming[: begin - cml.AHEAD - 3].any()
    assert not known[begin + 3 : 215].any()
    assert not known[-cml.AHEAD :].any()


def test_a_fade_that_flickers_is_one_event() -> None:
    data = channels()
    data.attenuation[180:183, 0] = 60.0  # three dry minutes in the middle
    channel, first, last = cml.fades(data)
    assert np.bincount(channel).tolist() == [1] * 6
    assert abs(first[0] - 160) <= 3 and abs(last[0] - 219) <= 1


def test_features_know_only_the_past() -> None:
    whole = channels()
    cut = cml.Channels(whole.link, whole.attenuation[:180])
    assert np.allclose(built(whole)[:180], built(cut), equal_nan=True)


def test_missing_minutes_are_no_numbers_and_lone_channels_are_fine() -> None:
    data = channels(links=1)
    data.attenuation[100:110, 1] = np.nan
    x = built(cml.Channels(np.array(["a", "b"]), data.attenuation))
    assert np.isnan(x[105, 1, cml_features.NAMES.index("excess")])
    assert np.isnan(x[..., cml_features.NAMES.index("other_now")]).all()
    assert not np.isinf(x).any()


def test_no_split_learns_from_what_it_judges() -> None:
    data = channels(1000, links=10)
    known, coming = cml.labels(data)
    coming[::50] = 1.0  # fades at all times, so that all parts are usable
    links = np.unique(data.link, return_inverse=True)[1]
    names = []
    for split in cml.splits(data, known, coming):
        names.append(split.name)
        judged = np.zeros(known.shape, dtype=int)
        for train, test in split.parts:
            judged += test
            assert not (train & test).any()
            if "link" in split.name:
                assert not set(links[train.any(axis=0)]) & set(links[test.any(axis=0)])
            if split.name != "by link":
                minutes = np.flatnonzero(train.any(axis=1))[:, None] - np.flatnonzero(test.any(axis=1))[None, :]
                assert np.abs(minutes).min() > cml.AHEAD
        assert judged.max() == 1
    assert names == ["by link", "by link and hours", "by time"]


@needs["cml"]
def test_microwave_fades_on_links_that_training_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cml.splits

    def part(*data: Any) -> list[cml.Split]:  # a small part of the work; all of it is in `shadowplane evaluate`
        by_link = next(first(*data))
        return [replace(by_link, parts=by_link.parts[:2])]

    monkeypatch.setattr(cml, "splits", part)
    monkeypatch.setattr(cml, "SEEDS", (1,))
    monkeypatch.setattr(cml, "ROUNDS", 40)
    from ml.evaluate_rows import judge

    found = judge(cml.evaluate(DATA / "cml")[0], repeats=10)
    assert found.gain.low > 0.03
    assert found.calibration_error is not None and found.calibration_error < 0.01
    assert found.events > 100


@pytest.mark.parametrize(("rows", "most"), [(2_000, 0.12), (40_000, 0.8)])
def test_after_few_fades_the_channels_own_level_counts_more_than_the_trees(
    monkeypatch: pytest.MonkeyPatch, rows: int, most: float
) -> None:
    monkeypatch.setattr(cml, "SEEDS", (1,))
    monkeypatch.setattr(cml, "ROUNDS", 20)
    rng = np.random.default_rng(3)
    x = rng.normal(3.0, 3.0, (rows, len(cml.NAMES)))
    y = (x[:, cml.NAMES.index("excess")] + rng.normal(0.0, 2.0, rows) > 9.0).astype(np.float64)
    weight = np.ones(rows)
    found = cml._fitted(x, y, weight, x)
    own = 1.0 / (1.0 + np.exp(-cml._line(cml.OWN, x, y, weight, x)[1]))
    fades = y.sum() / cml.AHEAD
    assert fades / (fades + cml.HALF_TRUSTED) < most
    assert 0.0 < np.abs(found - own).max() <= most
    assert ((found >= 0.0) & (found <= 1.0)).all()


# Router faults


def minutes(count: int = 8, *, codes: tuple[str, ...] = ("0.0", "3.0")) -> dict[str, list[str]]:
    stamps = [f"202006291{i // 60:01d}{i % 60:02d}00" for i in range(count)]
    label = ["\tstatus\ttimestamp"] + [f"{i}\t{codes[i % len(codes)]}\t{t}" for i, t in enumerate(stamps)]
    rates = ["\tr1+l1\tr2+l1\ttimestamp"] + [f"{i}\t{i}.0\t\t{t}" for i, t in enumerate(stamps)]
    return {"label": label, "network-incoming-packets-rate": rates, "network-outgoing-packets-rate": list(rates)}


def folder(path: Path, tables: dict[str, list[str]], suffix: str = ".gz") -> Path:
    for name, rows in tables.items():
        table(path / f"{name}.tsv{suffix}", rows)
    return path


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_router_tables_are_joined_by_their_minutes(suffix: str, tmp_path: Path) -> None:
    tables = minutes()
    del tables["network-outgoing-packets-rate"][3]
    found = kddi.load(folder(tmp_path, tables, suffix))
    assert found.label.tolist() == [0, 3] * 4
    assert np.diff(found.time_s).tolist() == [60.0] * 7
    assert np.isnan(found.tables["out"][2]).all() and found.tables["in"][2, 0] == 2.0
    assert "cpu" not in found.tables
    assert np.isfinite(kddi.features(found)).all()


def test_router_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no label\.tsv"):
        kddi.load(tmp_path)
    tables = minutes(codes=("0.0", "9.0"))
    with pytest.raises(DataError, match=r"label\.tsv\.gz:3: status 9 is none of"):
        kddi.load(folder(tmp_path, tables))
    tables = minutes()
    tables["rx-pps"] = ["\ta+x\ttimestamp", "0\t1.0\tsoon"]
    with pytest.raises(DataError, match=r"rx-pps\.tsv\.gz:2: timestamp is none: 'soon'"):
        kddi.load(folder(tmp_path, tables))
    with pytest.raises(DataError, match="none of the tables"):
        kddi.load(folder(tmp_path / "label_only", {"label": minutes()["label"]}))
    del tables["rx-pps"]
    with pytest.raises(DataError, match="too few"):
        kddi.evaluate(folder(tmp_path / "small", tables))


@needs["kddi"]
def test_router_faults_of_the_last_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kddi, "SEEDS", (1,))
    monkeypatch.setattr(kddi, "ROUNDS", 20)
    monkeypatch.setattr(kddi, "FOREST", 60)
    report, rows = kddi.evaluate(DATA / "kddi")
    assert report.macro_f1.value >= 0.9
    assert report.macro_f1.low < report.macro_f1.value < report.macro_f1.high
    assert report.accuracy.value > report.majority_accuracy
    assert sum(map(sum, report.confusion)) == report.rows
    assert {item.mode for item in rows} == set(kddi.CLASSES) - {"normal"}
    data = kddi.load(DATA / "kddi")
    part, longer = (
        kddi.Minutes({k: v[:n] for k, v in data.tables.items()}, data.columns, data.label[:n], data.time_s[:n])
        for n in (200, 260)
    )
    assert np.allclose(kddi.features(longer)[:200], kddi.features(part))  # the past only


# Metric series with windows


def corpus(path: Path, rows: list[str], windows: str) -> Path:
    table(path / "data" / "some" / "a.csv.gz", rows)
    table(path / "labels" / "combined_windows.json", [windows])
    return path


SERIES = ["timestamp,value"] + [f"2020-01-01 00:{i:02d}:00,{i}" for i in range(30)]
WINDOWS = '{"some/a.csv": [["2020-01-01 00:10:00.000000", "2020-01-01 00:12:00.000000"]], "some/b.csv": []}'


def test_series_and_their_windows_are_read(tmp_path: Path) -> None:
    found = nab.load(corpus(tmp_path, SERIES, WINDOWS))
    assert [item.name for item in found] == ["some/a.csv"]
    assert found[0].windows == ((10, 12),)
    assert nab.inside(found[0]).sum() == 3
    for part in (tmp_path / "data", tmp_path / "data" / "some", tmp_path / "data" / "some" / "a.csv.gz"):
        assert [item.name for item in nab.load(part)] == ["some/a.csv"]


@pytest.mark.parametrize(
    ("rows", "windows", "told"),
    [
        (SERIES, "{", r"combined_windows\.json:2"),
        (SERIES, '{"some/a.csv": 3}', "not a table of windows"),
        (SERIES, '{"other.csv": []}', "no series that the labels know"),
        ([*SERIES, "yesterday,1"], WINDOWS, r"a\.csv\.gz:32: timestamp is none"),
        ([*SERIES, "2020-01-02 00:00:00,much"], WINDOWS, r"a\.csv\.gz:32: value is no number"),
        (["time,value"], WINDOWS, r"a\.csv\.gz:1: no column timestamp"),
    ],
)
def test_series_that_are_none_are_refused(rows: list[str], windows: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        nab.load(corpus(tmp_path, rows, windows))


# Router telemetry archives


def archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            out.addfile(info, io.BytesIO(body.encode()))
    return path


SENSOR = "x/yang_models/leaf1/Some-oper:statistics_interface_data-rate.csv"
EVENTS = (
    "timestamp,event,duration,device,interface,comment\n"
    "1579714641.9,traffic,,,,\n1579714660.0,shutdown_interface,,leaf1,eth0,\n"
)
RATES = ",Producer,interface-name,rate,state,address\n\n" + "\n\n".join(
    f"2020-01-22 17:37:{i:02d}.770000+00:00,leaf1,eth0,{100 + i},im-state-up,10.0.0.1" for i in range(0, 60, 5)
)


def test_an_archive_is_read_without_unpacking(tmp_path: Path) -> None:
    found = telemetry.load(
        archive(
            tmp_path / "a.tar.gz",
            {
                "x/events.csv": EVENTS,
                SENSOR: RATES,
                "../../../tmp/escape/yang_models/leaf1/Some-oper:x_y.csv": RATES.replace("eth0", "eth9"),
                "x/yang_models/leaf1/merged.csv": "not,a\nsensor",
                "x/running_config.xml": "<secret/>",
            },
        )
    )
    assert [(m.device, m.key, m.leaf) for m in found.metrics if m.key == "eth0"] == [
        ("leaf1", "eth0", "rate"), ("leaf1", "eth0", "state"),
    ]  # fmt: skip
    assert [e.fault for e in found.events] == [False, True]
    assert found.metrics[0].value.tolist() == [100.0 + i for i in range(0, 60, 5)]
    assert not (tmp_path.parent / "tmp").exists() and not Path("/tmp/escape").exists()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"x/events.csv": EVENTS}, "no telemetry tables"),
        ({SENSOR: RATES.replace("17:37:10", "later")}, r"data-rate\.csv:7: time is none"),
        ({SENSOR: RATES + "\n2020-01-22 17:38:00+00:00,leaf1"}, "2 cells where the header has 6"),
        ({"x/events.csv": "when,what\n", SENSOR: RATES}, r"events\.csv:1: no column timestamp"),
    ],
)
def test_archives_that_are_none_are_refused(files: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        telemetry.load(archive(tmp_path / "a.tar.gz", files))


def test_archives_cut_short_or_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    noise = "\n".join(f"2020-01-22 17:37:00+00:00,leaf1,e{i},{rng.random()},up,a" for i in range(3000))
    whole = archive(tmp_path / "a.tar.gz", {SENSOR: RATES + "\n" + noise})
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cut\.tar\.gz: (cut short|not a readable)"):
        telemetry.load(cut)
    monkeypatch.setattr(telemetry, "LARGEST_MEMBER", 1000)
    with pytest.raises(DataError, match="more than 1,000"):
        telemetry.load(whole)
    monkeypatch.setattr(telemetry, "MOST_MEMBERS", 0)
    with pytest.raises(DataError, match="members"):
        telemetry.load(whole)


def test_counters_become_rates_and_resets_gaps() -> None:
    time = np.arange(40.0) * 10.0
    total = 1000.0 + np.arange(40.0) * 50.0
    total[20:] -= total[20]
    counter = telemetry.Metric("a", "s", "k", "packets-sent", time, total)
    at, value = telemetry.rate(counter)
    assert len(at) == 39 and np.isnan(value[19]) and np.nanmax(np.abs(value - 5.0)) == 0.0
    gauge = telemetry.Metric("a", "s", "k", "total-cpu", time, total)
    assert telemetry.rate(gauge)[1] is gauge.value
