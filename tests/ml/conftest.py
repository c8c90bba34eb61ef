"""Hypothesis without deadlines: the machine may be busy, and durations are the benchmarks' business."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
