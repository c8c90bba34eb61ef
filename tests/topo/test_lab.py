"""Live labs, each in a process and namespaces of its own: see lab_cases.py for what is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy
import pytest

from tests.integration.support import needs_lab
from topo import userns

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CASES = [
    "lifecycle",
    "base_delay_and_rate",
    "faults_by_hand",
    "switches_die_and_return",
    "taken",
    "crash_and_clean",
    "signals",
    "faults_played",
    "embedded_switch",
    "bmv2_has_front_panels",
    "bmv2_is_missing",
]
NOBODY = 65534


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HERE)]), **more}


def run(command: list[str], **options: str) -> None:
    done = subprocess.run(command, env=environment(**options), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_lab
@pytest.mark.parametrize("case", CASES)
def test_lab(case: str, tmp_path: Path) -> None:
    run([sys.executable, "-m", "topo.userns", "--", sys.executable, str(HERE / "lab_cases.py"), case, str(tmp_path)])


@cache
def nobodys_python() -> list[str]:
    """A command that runs this Python's packages as an unprivileged user; empty where there is none."""
    if os.geteuid() != 0:
        return [sys.executable]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(numpy.__file__).resolve().parents[1]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if shutil.which("setpriv") is None:
        return []
    for python in (sys.executable, f"/usr/bin/{version}"):
        path = os.pathsep.join([str(REPOSITORY), str(HERE), str(packages)])
        command = [*drop, "env", f"PYTHONPATH={path}", "HOME=/nonexistent", python]
        probe = subprocess.run([*command, "-c", "import numpy, yaml, topo.userns"], capture_output=True, check=False)
        if probe.returncode == 0:
            return command
    return []


@needs_lab
def test_unprivileged_lab(tmp_path: Path) -> None:
    command = nobodys_python()
    if not command:
        pytest.skip("no Python here that another user may run")
    reachable = Path("/tmp") / f"shadowplane-test-{os.getpid()}"  # tmp_path is closed to other users
    reachable.mkdir(mode=0o777)
    reachable.chmod(0o777)
    try:
        probe = subprocess.run([*command, "-m", "topo.userns", "--probe"], capture_output=True, text=True, check=False)
        if probe.returncode:
            pytest.skip(f"no unprivileged user namespaces here: {probe.stderr.strip()}")
        outside = ["env", "-u", userns.ENTERED]  # the tests themselves may run in a namespace of a lab's kind
        run([*outside, *command, str(HERE / "lab_cases.py"), "unprivileged", str(reachable)])
    finally:
        shutil.rmtree(reachable)


def test_advice_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where namespaces are switched off, the message says by what."""
    real = Path.read_text

    def read(self: Path, *arguments: object, **options: object) -> str:
        if str(self) == "/proc/sys/user/max_user_namespaces":
            return "0\n"
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read)
    assert "sysctl -w user.max_user_namespaces=1000" in userns.advice()


def test_no_lab_without_privileges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from topo.lab import Lab
    from topo.load import load

    monkeypatch.setattr(userns, "privileged", lambda: False)
    with pytest.raises(userns.PrivilegeError, match="root or a user namespace"):
        Lab(load("diamond"), run_dir=tmp_path).start()
    monkeypatch.delenv(userns.ENTERED, raising=False)
    monkeypatch.setattr(userns, "probe", lambda: "the lab needs root: no way")
    with pytest.raises(userns.PrivilegeError, match="no way"):
        userns.ensure()


def test_mininet_without_distutils() -> None:
    """Python 3.12 has none, and the virtual environment need not have setuptools."""
    code = "import sys; sys.modules['distutils'] = sys.modules['distutils.version'] = None; import topo.mininet_nodes"
    code += "; from distutils.version import StrictVersion as V; assert V('2.10.1') > V('2.9')"
    run([sys.executable, "-c", code])


def test_shell_needs_a_lab_and_a_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    from topo import marks, shell

    monkeypatch.setattr(marks, "running", lambda: [])
    with pytest.raises(shell.ShellError, match="no lab is running"):
        shell.command("s1", [])
    entry = marks.LabEntry("1.2.3", 1, "diamond", "engine", "/x", grpc={"s1": "127.0.0.1:9559"})
    monkeypatch.setattr(marks, "running", lambda: [entry])
    with pytest.raises(shell.ShellError, match="no switch 's9'"):
        shell.command("s9", [])
