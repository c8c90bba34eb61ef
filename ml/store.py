"""Where models live: versions in folders, each with a manifest that names every file and its checksum.

::

    models/operations/            packaged with the project
        manifest.json             format, profile, unit of time, training data, metrics, thresholds, checksums
        link_failure.json         a boosted model (or a logistic one), LightGBM's trees as text
    STATE/operations/20261121-…/  versions of one's own (`shadowplane train`)
    STATE/operations/current      the name of the version in use; `former` names the one before

No pickles: everything is JSON that a person can read. What is cut short, altered, or made for other features is
refused with the file's name and the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml import boosted, hazard
from ml.cascade import Cascade, Model, Screen
from ml.features import FEATURES
from ml.hazard import MODELS, ModelError
from ml.profiles import LAB, PROFILES, Profile
from ml.schema import Mode

FORMAT = 1
PACKAGED = "packaged"  # the name of the version that comes with the project
LAB_RAISE_AT = {Mode.LINK_FAILURE: 0.9, Mode.CONGESTION: 0.85, Mode.DEVICE_OVERLOAD: 0.85}


@dataclass(frozen=True)
class ModelSet:
    """Models of all modes for one profile. ``training`` and ``metrics`` say where they come from and what they
    reached; ``raise_at``: the probability from which a mode's alarm is raised."""

    version: str
    profile: Profile
    models: Mapping[Mode, Model]
    screens: Mapping[Mode, Screen]
    raise_at: dict[Mode, float]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def cascade(self) -> Cascade:
        return Cascade(self.models, self.screens)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _dump(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=False) + "\n"


def save(models: ModelSet, folder: Path) -> None:
    """Write a version; the manifest last, so that a half-written version has none."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for mode, model in models.models.items():
        text = _dump(model.document())
        (folder / f"{mode}.json").write_text(text)
        files[f"{mode}.json"] = _digest(text)
    content = {
        "format": FORMAT,
        "version": models.version,
        "profile": models.profile.name,
        "unit_s": models.profile.unit_s,
        "files": files,
        "screens": {str(mode): screen.document() for mode, screen in models.screens.items()},
        "raise_at": {str(mode): value for mode, value in models.raise_at.items()},
        "training": models.training,
        "metrics": models.metrics,
    }
    content["sha256"] = _digest(_dump(content))
    (folder / "manifest.json").write_text(_dump(content))


def _read(path: Path) -> tuple[str, Any]:
    try:
        text = path.read_text()
        return text, json.loads(text)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a whole JSON document ({error})") from error


def load(folder: Path) -> ModelSet:
    """Read a version. Raises :class:`~ml.hazard.ModelError`, naming the file and what is wrong with it."""
    path = folder / "manifest.json"
    _, content = _read(path)
    try:
        return _load(folder, dict(content))
    except ModelError as error:
        text = str(error)
        raise ModelError(text if text.startswith(str(folder)) else f"{path}: {text}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: malformed ({type(error).__name__}: {error})") from error


def _load(folder: Path, content: dict[str, Any]) -> ModelSet:
    if content["format"] != FORMAT:
        raise ModelError(f"format {content['format']!r}, not {FORMAT}")
    if content.pop("sha256", None) != _digest(_dump(content)):
        raise ModelError("its checksum does not match: altered or damaged")
    profile = PROFILES.get(content["profile"])
    if profile is None or content["unit_s"] != profile.unit_s:
        raise ModelError(f"profile {content['profile']!r} with a unit of {content['unit_s']} s is not known")
    models: dict[Mode, Model] = {}
    for mode in FEATURES:
        path = folder / f"{mode}.json"
        text, document = _read(path)
        if _digest(text) != content["files"][path.name]:
            raise ModelError(f"{path}: its checksum does not match the manifest's: altered or damaged")
        try:
            is_boosted = document["format"] == boosted.FORMAT
            models[mode] = boosted.from_document(document) if is_boosted else hazard.parse(document)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{path}: malformed ({type(error).__name__}: {error})") from error
        if models[mode].mode is not mode:
            raise ModelError(f"{path}: holds a model for {models[mode].mode}")
    screens = {Mode(name): Screen.from_document(Mode(name), item) for name, item in content["screens"].items()}
    raise_at = {mode: float(content["raise_at"][mode]) for mode in FEATURES}
    if not all(0.0 < value < 1.0 for value in raise_at.values()):
        raise ModelError("raise_at must lie between 0 and 1")
    return ModelSet(content["version"], profile, models, screens, raise_at, content["training"], content["metrics"])


def packaged(profile: str) -> ModelSet:
    """The models that come with the project."""
    if profile == LAB.name and not (MODELS / profile / "manifest.json").exists():
        return ModelSet(PACKAGED, LAB, hazard.load_all(), {}, dict(LAB_RAISE_AT))
    return load(MODELS / profile)


@dataclass(frozen=True, slots=True)
class Store:
    """Versions of one's own under ``root``; without any, the packaged ones are in use."""

    root: Path

    def versions(self, profile: str) -> list[str]:
        """Names of the versions, oldest first."""
        folder = self.root / profile
        return sorted(path.parent.name for path in folder.glob("*/manifest.json")) if folder.is_dir() else []

    def current(self, profile: str) -> str:
        return self._pointer(profile, "current") or PACKAGED

    def former(self, profile: str) -> str:
        """The version that was in use before; raises :class:`~ml.hazard.ModelError` when there was none."""
        name = self._pointer(profile, "former")
        if not name:
            raise ModelError(f"{self.root / profile}: no former version to go back to")
        return name

    def open(self, profile: str, version: str | None = None) -> ModelSet:
        """Load a version, by default the one in use."""
        name = version or self.current(profile)
        if name == PACKAGED:
            return packaged(profile)
        if Path(name).name != name or name in (".", ".."):
            raise ModelError(f"{name!r} is no name of a version")
        return load(self.root / profile / name)

    def add(self, models: ModelSet) -> Path:
        """Write a version, not yet in use."""
        folder = self.root / models.profile.name / models.version
        if folder.exists():
            raise ModelError(f"{folder}: this version exists already")
        save(models, folder)
        return folder

    def use(self, profile: str, version: str) -> None:
        """Put a version in use (from the next start on), after loading it as a proof; the one before becomes
        `former`."""
        self.open(profile, version)
        before = self.current(profile)
        folder = self.root / profile
        folder.mkdir(parents=True, exist_ok=True)
        if before != version:
            self._write(folder / "former", before)
        self._write(folder / "current", version)

    def rollback(self, profile: str) -> str:
        """Go back to the former version; its name."""
        name = self.former(profile)
        self.use(profile, name)
        return name

    def _pointer(self, profile: str, name: str) -> str:
        try:
            return (self.root / profile / name).read_text().strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.root / profile / name}: {error}") from error

    @staticmethod
    def _write(path: Path, text: str) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(text + "\n")
        fresh.replace(path)
