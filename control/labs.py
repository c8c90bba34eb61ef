"""`shadowplane lab`: a lab on this terminal, with the control plane beside it if wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from topo import marks, userns
from topo.lab import Lab, LabError
from topo.spec import Topology


def run_lab(
    topology: Topology,
    name: str,
    *,
    target: str,
    run_dir: Path,
    heartbeat_ms: float,
    pcap: bool,
    api: tuple[str, int],
    serve_flags: list[str] | None,
) -> int:
    """Start the lab, open its command line, clean up; returns the exit code.

    ``serve_flags``: run ``python -m control.serve`` with these flags inside the lab (the switches' addresses are
    on its loopback, which differs from the machine's when the lab runs in a user namespace).
    """
    try:
        userns.ensure([api] if serve_flags is not None else [])
    except OSError as error:
        print(f"shadowplane: the API cannot listen on {api[0]}:{api[1]}: {error.strerror or error}", file=sys.stderr)
        return 2
    except userns.PrivilegeError as error:
        print(f"shadowplane: {error}", file=sys.stderr)
        return 1
    service: subprocess.Popen[bytes] | None = None
    try:
        with Lab(
            topology, target=target, run_dir=run_dir, heartbeat_interval_us=int(heartbeat_ms * 1000), pcap=pcap
        ) as lab:
            try:
                if serve_flags is not None:
                    run_dir.mkdir(parents=True, exist_ok=True)
                    with (run_dir / "control.log").open("wb") as log:
                        command = [sys.executable, "-m", "control.serve", "--topology", name, *serve_flags]
                        environment = {**os.environ, marks.VARIABLE: lab.id}  # `make clean` finds it after a crash
                        service = subprocess.Popen(
                            command,
                            stderr=log,
                            env=environment,
                            close_fds=False,  # the API's socket
                            process_group=0,  # Ctrl-C ends a command of the lab, not this
                        )
                    print(f"control plane: log in {run_dir / 'control.log'}")
                lab.cli()
            finally:
                if service is not None:
                    service.terminate()
                    try:
                        service.wait(10)
                    except subprocess.TimeoutExpired:
                        service.kill()
                        service.wait()
    except LabError as error:
        print(f"shadowplane: {error}", file=sys.stderr)
        return 1
    return 0
