"""Wrong or missing input to the main job: each ends with exit code 2 and one line that says what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy
import pytest

from tests.integration.support import NAMESPACE, ROOT, SCOREBOARD, environment, missing, needs_lab, run
from tests.ports import free_port

QUICK = ["--scenario", "none", "--strategy", "none"]
COMPILERS = ("cc", "gcc", "clang")


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """What the scoreboard said when it refused to start."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("run: ")]
    return line


def without_compiler(folder: Path) -> dict[str, str]:
    """An environment in which the lab's tools are found, but no C compiler and nothing compiled before."""
    tools = folder / "bin"
    tools.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).iterdir() if Path(place).is_dir() else ():
            link = tools / program.name
            if program.name not in COMPILERS and not link.is_symlink():
                link.symlink_to(program)
    found = environment(PATH=str(tools), XDG_CACHE_HOME=str(folder / "cache"))
    found.pop("CC", None)
    return found


@needs_lab
def test_no_compiler(tmp_path: Path) -> None:
    env = without_compiler(tmp_path)
    assert not any(shutil.which(name, path=env["PATH"]) for name in COMPILERS)
    line = refused(run([*NAMESPACE, *SCOREBOARD, *QUICK, "--out", str(tmp_path / "run")], env=env))
    assert "no C compiler found" in line and "apt install gcc" in line


BROKEN = {
    "not YAML": ("switches: [s1, s2\nlinks: {", "net.yaml"),
    "no such switch": ("switches: [s1]\nhosts: [{switch: s1}]\nlinks: [{a: s1, b: s9}]\n", "s9"),
    "unknown key": ("switches: [s1, s2]\nhosts: []\nlinks: [{a: s1, b: s2, delay: 3}]\n", "delay"),
    "empty": ("", "net.yaml"),
}
ISLANDS = """
switches: [s1, s2, s3, s4]
hosts: [{switch: s1}, {switch: s2}, {switch: s3}, {switch: s4}]
links: [{a: s1, b: s2}, {a: s3, b: s4}]
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_topology_is_refused_before_anything_is_built(case: str, tmp_path: Path) -> None:
    text, words = BROKEN[case]
    (tmp_path / "net.yaml").write_text(text)
    line = refused(run([*SCOREBOARD, *QUICK, "--topology", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "out")]))
    assert words in line
    assert not (tmp_path / "out").exists()


def test_a_disconnected_topology(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(ISLANDS)
    line = refused(run([*SCOREBOARD, *QUICK, "--topology", str(tmp_path / "net.yaml"), "--out", str(tmp_path / "out")]))
    assert "s3" in line and ("connect" in line or "no path" in line or "unreachable" in line), line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{name: x, kind: meteorite, foreseeable: true, duration_s: 2.0}", "meteorite"),
        ("{name: x, kind: abrupt_cut, foreseeable: false, duration_s: 2.0, colour: red}", "colour"),
        ("{name: x, kind: abrupt_cut, foreseeable: false, duration_s: 2.0, parameters: {onsett_s: 1}}", "onsett_s"),
        ("{name: x, kind: abrupt_cut", "wrong.yaml"),
    ],
)
def test_an_unknown_fault_or_key_is_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    line = refused(run([*SCOREBOARD, "--scenario", str(file), "--out", str(tmp_path / "out")]))
    assert words in line and "wrong.yaml" in line


def test_an_unknown_scenario_lists_the_known_ones(tmp_path: Path) -> None:
    line = refused(run([*SCOREBOARD, "--scenario", "earthquake", "--out", str(tmp_path / "out")]))
    assert "earthquake" in line and "gray_link" in line


OCCUPY = """
import socket, subprocess, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


@needs_lab
@pytest.mark.parametrize(("port", "words"), [(9560, "s2: TCP port 9560"), (8080, "127.0.0.1:8080")])
def test_a_taken_port_is_named(port: int, words: str, tmp_path: Path) -> None:
    """A switch's and the control plane's."""
    occupied = [*NAMESPACE, sys.executable, "-c", OCCUPY, str(port)]
    line = refused(run([*occupied, *SCOREBOARD, *QUICK, "--out", str(tmp_path / "run")]))
    assert words in line


# --- not root ---


@cache
def nobodys_python() -> str:
    """An interpreter that user ``nobody`` may run and that finds our packages, or nothing."""
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        if run(as_nobody(f"{python} -c 'import numpy, grpc, mininet, topo.userns'")).returncode == 0:
            return python
    return ""


def as_nobody(command: str, **variables: str) -> list[str]:
    """``su`` to the user with the fewest rights."""
    packages = Path(numpy.__file__).resolve().parents[1]
    settings = {"PYTHONPATH": f"{ROOT}:{packages}", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    return ["su", "-s", "/bin/sh", "nobody", "-c", f"cd {ROOT} && {words} {command}"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write to; pytest's own are closed."""
    folder = Path("/tmp") / f"shadowplane-nobody-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_not_root(open_folder: Path) -> None:
    """The whole thing in a user namespace: switches, control plane, and packets between hosts."""
    if missing():
        pytest.skip(missing())
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody; without root every other test here runs in a user namespace")
    if not nobodys_python():
        pytest.skip("no Python here that user nobody may run")
    probe = run(as_nobody(f"{nobodys_python()} -m topo.userns --probe"))
    if probe.returncode:
        pytest.skip(f"no unprivileged user namespaces here: {probe.stderr.strip()}")
    flags = f"--serve --strategy dataplane --api 127.0.0.1:{free_port()} --run-dir {open_folder}/run"
    command = as_nobody(f"{nobodys_python()} -m control lab {flags}", HOME=str(open_folder))
    log = f"{open_folder}/run/control.log"
    lines = f"sh for i in `seq 900`; do grep -q '\"ready\"' {log} && break; sleep 0.1; done\n"
    lines += "h1 ping -c 3 -i 0.2 -W 5 h6\nexit\n"
    done = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 received" in done.stdout + done.stderr, done.stdout + done.stderr


POWERLESS = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'


def test_neither_root_nor_namespaces(tmp_path: Path) -> None:
    """A user namespace in which no further one may be made stands for a system that forbids them."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("util-linux is missing")
    powerless = ["unshare", "--user", "--map-root-user", "sh", "-c", POWERLESS, "sh"]
    if run([*powerless, "true"]).returncode:
        pytest.skip("user namespaces cannot be limited here")
    line = refused(run([*powerless, *SCOREBOARD, *QUICK, "--out", str(tmp_path / "run")]))
    assert "root or an unprivileged user namespace" in line
    assert "sysctl -w user.max_user_namespaces" in line
