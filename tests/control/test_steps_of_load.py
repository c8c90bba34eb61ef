"""The lab's analyzer as it is packaged: a step of a device's load inside a window is no ramp, and a ramp is one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from control.judging import analyzer
from control.settings import Settings
from ml.schema import DeviceSample
from topo.load import load

SAMPLE_S = 0.05


def alarmed_at(loads: Iterable[float]) -> float | None:
    """The load at which the overload alarm of a device is raised; None for never."""
    judge = analyzer(load("diamond"), Settings())
    for i, load_now in enumerate(loads):
        now = 1000.0 + SAMPLE_S * i
        cpu = min(max(load_now, 0.0), 1.0)
        judge.observe(DeviceSample("s2", now, cpu, 0.3, 0.0, 0.0))
        if any(found.element == "s2" for found in judge.alarms(now)):
            return cpu
    return None


@pytest.mark.parametrize("part", range(3))
def test_traffic_that_is_moved_to_a_device_is_no_ramp(part: int) -> None:
    rng = np.random.default_rng(part)
    for share in np.linspace(0.0, 1.0, 9).tolist():  # of the window that saw the step
        before, step, noise = rng.uniform(0.05, 0.12), rng.uniform(0.3, 0.45), rng.normal(0.0, 0.015, 40)
        heights = [before] * 10 + [before + share * step] + [before + step] * 20
        assert alarmed_at([height + wobble for height, wobble in zip(heights, noise, strict=False)]) is None


def test_a_ramp_is_told_before_the_processor_is_full() -> None:
    rng = np.random.default_rng(1)
    for slope in (0.2, 0.3, 0.5):
        noise = rng.normal(0.0, 0.015, 100)
        told = alarmed_at([0.2 + max(i - 15, 0) * SAMPLE_S * slope + wobble for i, wobble in enumerate(noise)])
        assert told is not None and told + 0.3 * slope < 1.0
