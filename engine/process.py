"""Building and starting the switch process (``engine/native/switchd``); :mod:`engine.dataplane` commands it."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.api import EngineError
from engine.build import NATIVE, build_executable

SOURCES = NATIVE / "switchd"
FLAGS = ("-D_GNU_SOURCE",)
LIBRARIES = ("-lm", "-ldl", "-lpthread")


def executable(*, sanitize: bool = False, threads: bool = False) -> Path:
    """Build the switch process (cached) and return its path; ``threads``: checked for data races."""
    checks: tuple[str, ...] = ()
    if sanitize:
        checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    elif threads:
        checks = ("-fsanitize=thread", "-g")
    return build_executable(
        sorted(SOURCES.glob("*.c")),
        name="switchd-sanitized" if checks else "switchd",
        flags=(*FLAGS, *checks),
        include=(SOURCES,),
        libraries=LIBRARIES,
    )


def spawn(
    interfaces: Mapping[int, str],
    control_socket: str | Path,
    *,
    load: str | Path | None = None,
    cpu_port: int = 510,
    pktgen_port: int = 509,
    pktgen_interval_us: int = 0,
    pktgen_defer: bool = False,
    pktgen_relaxed: int = 1,
    pcap: str | Path | None = None,
    pcap_limit_mib: int = 1024,
    log_file: str | Path | None = None,
    log_level: str = "info",
    binary: Path | None = None,
    prefix: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a switch process in a session of its own and wait until it serves ``control_socket``.

    It ends at SIGTERM or :meth:`Client.shutdown`, not with its parent. ``prefix`` is put before the command
    (``ip netns exec ...``). :class:`EngineError` with its last words when it does not come up.
    """
    command: list[str] = [*prefix, str(binary or executable()), "--control-socket", str(control_socket)]
    for port, interface in sorted(interfaces.items()):
        command += ["-i", f"{port}@{interface}"]
    command += ["--cpu-port", str(cpu_port), "--pktgen-port", str(pktgen_port), "--log-level", log_level]
    if pktgen_interval_us:
        command += ["--pktgen-interval-us", str(pktgen_interval_us)]
    if pktgen_defer:
        command.append("--pktgen-defer")
    if pktgen_relaxed > 1:
        command += ["--pktgen-relaxed", str(pktgen_relaxed)]
    if load is not None:
        command += ["--load", str(Path(load).resolve())]
    if pcap is not None:
        command += ["--pcap", str(pcap), "--pcap-limit-mib", str(pcap_limit_mib)]
    ready, told = os.pipe()
    sink: Any = subprocess.DEVNULL
    try:
        if log_file is not None:
            sink = Path(log_file).open("ab")  # noqa: SIM115  (closed below, the child keeps its copy)
        process = subprocess.Popen(
            [*command, "--ready-fd", str(told), *extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink if log_file is not None else None,
            pass_fds=(told,),
            start_new_session=True,
        )
    finally:
        os.close(told)
        if log_file is not None and not isinstance(sink, int):
            sink.close()
    try:
        if _became_ready(ready, 30.0):
            return process
    finally:
        os.close(ready)
    process.kill()
    process.wait()
    words = ""
    if log_file is not None:
        words = "\n" + Path(log_file).read_text(errors="replace")[-2000:]
    raise EngineError(f"the switch process did not start ({process.returncode}): {' '.join(command)}{words}")


def _became_ready(descriptor: int, seconds: float) -> bool:
    """True when the process wrote a byte, False at its end or after ``seconds``."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            return os.read(descriptor, 1) == b"1"
    return False
