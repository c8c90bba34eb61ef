"""Which health models a service judges with: those of its profile that are in use, the operator's own or the packaged
ones."""

from __future__ import annotations

from control import kernels
from control.errors import InputError
from control.pha import HealthAnalyzer
from control.pha import Settings as Judgement
from control.settings import Settings
from ml.hazard import ModelError
from ml.profiles import LAB, PROFILES
from ml.store import Store
from topo.spec import Topology


def analyzer(topology: Topology, settings: Settings) -> HealthAnalyzer:
    """The analyzer for a profile; raises :class:`InputError` for a profile that does not exist, and for models that
    cannot be used: judging with others than those asked for would be worse than not starting."""
    if settings.profile not in PROFILES:
        raise InputError(f"no profile {settings.profile!r}; there are {', '.join(PROFILES)}")
    try:
        models = Store(settings.models_dir).open(settings.profile)
    except ModelError as error:
        raise InputError(f"{error}; `shadowplane models use packaged` goes back to the packaged models") from error
    kernels.install()
    lab = settings.profile == LAB.name
    return HealthAnalyzer(topology, Judgement() if lab else Judgement.operations(settings.sample_ms / 1000.0), models)
