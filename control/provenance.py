"""Where a figure comes from: the machine and the versions that stand beside every measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("shadowplane", "finsy", "grpcio", "protobuf", "numpy", "scikit-learn", "mininet")
ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """Processor, usable cores, kernel and system of this machine."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions that a figure depends on; a tool that is missing is named ``none``."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    found["cc"] = _first_line("cc", "--version")
    found["revision"] = _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return found


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return done.stdout.partition("\n")[0].strip() or "none"
