"""The service judges with the models that are in use: packaged, or the operator's own once they are promoted."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from control import judging
from control.cli import app
from control.errors import InputError
from control.settings import Settings
from ml.store import PACKAGED, Store, packaged
from topo import builtin


def own_version(root: Path, profile: str = "operations", name: str = "20261121-120000") -> Store:
    from dataclasses import replace

    shelf = Store(root)
    shelf.add(replace(packaged(profile), version=name))
    shelf.use(profile, name)
    return shelf


@pytest.mark.parametrize(("profile", "unit_s"), [("lab", 1.0), ("operations", 60.0)])
def test_without_versions_of_ones_own_the_packaged_models_judge(tmp_path: Path, profile: str, unit_s: float) -> None:
    analyzer = judging.analyzer(builtin.diamond(), Settings(profile=profile, models_dir=tmp_path))
    assert analyzer.model_set.profile.name == profile and analyzer.unit_s == unit_s


def test_a_promoted_version_judges_and_a_rollback_ends_it(tmp_path: Path) -> None:
    shelf = own_version(tmp_path)
    settings = Settings(profile="operations", models_dir=tmp_path)
    assert judging.analyzer(builtin.diamond(), settings).model_set.version == "20261121-120000"
    assert shelf.rollback("operations") == PACKAGED
    assert judging.analyzer(builtin.diamond(), settings).model_set.version == packaged("operations").version


def test_models_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    own_version(tmp_path)
    file = tmp_path / "operations" / "20261121-120000" / "link_failure.json"
    file.write_text(file.read_text()[:5000])  # cut short
    with pytest.raises(InputError, match=r"link_failure\.json.*models use packaged"):
        judging.analyzer(builtin.diamond(), Settings(profile="operations", models_dir=tmp_path))
    done = CliRunner().invoke(app, ["serve", "--dry-run", "-p", "operations", "--models", str(tmp_path)])
    assert done.exit_code == 2 and "link_failure.json" in done.output
    with pytest.raises(InputError, match="no profile 'seaside'"):
        judging.analyzer(builtin.diamond(), Settings(profile="seaside"))
