"""``make shell SWITCH=s1``: p4runtime-shell on a switch of the running lab.

The shell lives in ``.venv-shell``, because its protobuf collides with ours. It connects with a low election id: while
a controller runs, the shell is its backup and may read everything and write nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from topo import marks, userns

SHELL_PYTHON = Path(__file__).resolve().parent.parent / ".venv-shell" / "bin" / "python"
ELECTION_ID = "0,1"


def command(lab: marks.LabEntry, switch: str, device_id: int) -> list[str]:
    """What to execute; enters the lab's namespaces where it has some of its own."""
    prefix = userns.join_command(lab.pid) if lab.namespaced else []
    options = ["--device-id", str(device_id), "--grpc-addr", lab.grpc[switch], "--election-id", ELECTION_ID]
    return [*prefix, str(SHELL_PYTHON), "-m", "p4runtime_sh", *options]


def main(argv: Sequence[str]) -> int:
    """Replace this process by the shell; returns only with an error (2)."""
    if len(argv) != 1:
        print("usage: python -m topo.shell SWITCH", file=sys.stderr)
        return 2
    switch = argv[0]
    labs = marks.running()
    if not labs:
        print(
            "shell: no lab is running; start one with `make run` on a terminal, or `shadowplane lab`", file=sys.stderr
        )
        return 2
    lab = labs[-1]
    if switch not in lab.grpc:
        print(f"shell: the running lab ({lab.topology}) has no {switch}; it has {', '.join(lab.grpc)}", file=sys.stderr)
        return 2
    device_id = int(lab.grpc[switch].rsplit(":", 1)[1]) - 9558
    words = command(lab, switch, device_id)
    if not SHELL_PYTHON.exists():
        print("shell: .venv-shell is missing; `make shell` creates it", file=sys.stderr)
        return 2
    os.execvp(words[0], words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
