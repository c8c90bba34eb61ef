"""The analyzer's compiled code is used where there is a compiler, and missed where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control import kernels as control_kernels
from control.pha import HealthAnalyzer
from engine.api import CompilerMissing
from ml import kernels
from ml.schema import PortSample
from topo.builtin import diamond


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = list(kernels._active)
    kernels.use(None)
    monkeypatch.setattr(control_kernels, "_asked", [])
    yield
    kernels._active[:] = before


def judged() -> list[float]:
    analyzer = HealthAnalyzer(diamond())
    port = str(analyzer.topology.links[0].a)
    for i in range(60):
        lost = 0.12 * max(0, i - 20)
        analyzer.observe(PortSample(port, 0.05 * i, rx_power_dbm=-8.0 - lost, pre_fec_ber=1e-8 * 10 ** (0.8 * lost)))
        analyzer.alarms(0.05 * i)
    return [item.probability for item in analyzer.forecasts(3.0)]


def test_it_is_compiled_once_and_changes_no_probability() -> None:
    plain = judged()
    assert control_kernels.install() and kernels.active() is not None
    library = kernels.active()
    assert control_kernels.install() and kernels.active() is library
    assert plain and judged() == plain


def test_without_a_compiler_numpy_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise CompilerMissing("no C compiler found")

    monkeypatch.setattr(control_kernels, "build", missing)
    assert not control_kernels.install() and kernels.active() is None
    assert not control_kernels.install()
    assert judged()


def test_a_processor_that_says_nothing_gets_code_for_any(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []

    def record(sources: object, *, flags: tuple[str, ...], **_: object) -> Path:
        asked.append(flags)
        return tmp_path

    monkeypatch.setattr(control_kernels, "build_shared", record)
    for text in ("", "flags : fpu avx2\n"):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(control_kernels, "CPU", tmp_path / "cpuinfo")
        control_kernels.build()
    monkeypatch.setattr(control_kernels, "CPU", tmp_path / "missing")
    control_kernels.build()
    assert ["-mavx2" in flags for flags in asked] == [False, True, False]
