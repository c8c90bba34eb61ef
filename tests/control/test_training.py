"""`shadowplane train` and `models`: a verdict in writing, nothing changed by a dry run, a way back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.cli import app
from ml import fit, heldout, retrain
from ml.sim.world import Scale
from ml.store import MODELS, PACKAGED, ModelSet, Store, packaged

SHORT = (Scale("short", (300.0, 1500.0), (12.0, 24.0), 400),)
QUICK = ["--elements", "90", "--compare-elements", "60"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small worlds and small models: the routine is tested, not the skill."""
    monkeypatch.setattr(heldout, "SCALES", SHORT)
    monkeypatch.setattr(fit, "TREES", 3)
    monkeypatch.setattr(heldout, "LIMITS", (0.5, 0.9))
    monkeypatch.setattr(retrain, "DAYS_PER_ELEMENT", 0.01)


def run(store: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--models", str(store)])
    return done.exit_code, done.output


def test_a_dry_run_says_what_would_happen_and_writes_nothing(quick: None, tmp_path: Path) -> None:
    code, output = run(tmp_path / "m", "train", *QUICK, "--dry-run")
    assert code in (0, 1) and "would be" in output and "unseen" in output
    assert not (tmp_path / "m").exists()


def test_a_candidate_is_judged_written_and_promoted_or_kept_back(quick: None, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", *QUICK, "-o", "json", "--models", str(tmp_path)])
    found = json.loads(done.stdout)
    written = Path(found["folder"])
    verdict = json.loads((written / "verdict.json").read_text())
    assert verdict["promoted"] == found["promoted"] == (done.exit_code == 0)
    assert verdict["reasons"] and len(verdict["figures"]) == 6
    assert verdict["figures"][0]["present"] is not None  # compared with the packaged models
    shelf = Store(tmp_path)
    assert shelf.versions("operations") == [found["version"]]
    assert shelf.current("operations") == (found["version"] if found["promoted"] else PACKAGED)
    assert shelf.open("operations", found["version"]).metrics

    assert run(tmp_path, "models", "use", found["version"])[0] == 0
    code, output = run(tmp_path, "models", "list", "-o", "json")
    rows = {row["version"]: row for row in json.loads(output)}
    assert code == 0 and rows[found["version"]]["in_use"] and not rows[PACKAGED]["in_use"]
    assert run(tmp_path, "train", "--rollback", "--dry-run")[0] == 0
    assert shelf.current("operations") == found["version"]
    assert run(tmp_path, "train", "--rollback")[0] == 0
    assert shelf.current("operations") == PACKAGED

    (written / "congestion.json").write_text("{")
    code, output = run(tmp_path, "models", "list", "-o", "json")
    assert code == 0 and "congestion.json" in json.loads(output)[1]["fault"]
    code, output = run(tmp_path, "models", "use", found["version"])
    assert code == 2 and "congestion.json" in output


def test_a_version_that_cannot_be_used_any_more_gives_way_to_the_packaged_one_as_the_measure(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Store(tmp_path)
    shutil.copytree(MODELS / "operations", tmp_path / "operations" / "mine")
    shelf.use("operations", "mine")
    (tmp_path / "operations" / "mine" / "congestion.json").write_text("{")
    measures: list[ModelSet] = []

    def compare(_new: ModelSet, old: ModelSet, *_: object, **__: object) -> retrain.Verdict:
        measures.append(old)
        return retrain.Verdict(False, ["a test's"], [])

    monkeypatch.setattr(retrain, "candidate", lambda *_, **__: packaged("operations"))
    monkeypatch.setattr(retrain, "compare", compare)
    code, output = run(tmp_path, "train", *QUICK, "--dry-run")
    assert code == 1 and "no measure: mine: " in output and "congestion.json" in output
    assert [old.version for old in measures] == [PACKAGED]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train", "--profile", "seaside"], "no profile 'seaside'"),
        (["train", "--rollback"], "no former version"),
        (["train", "--elements", "90", "--recording", "nowhere"], "nowhere: no such folder"),
        (["models", "use", "never"], "never/manifest.json"),
    ],
)
def test_what_is_given_wrong_is_told(quick: None, tmp_path: Path, arguments: list[str], why: str) -> None:
    code, output = run(tmp_path, *arguments)
    assert code == 2 and why in " ".join(output.split())
