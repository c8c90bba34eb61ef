"""``make shell SWITCH=s1``: p4runtime-shell on a switch of the running lab, beside its controller.

The shell lives in a virtual environment of its own (``.venv-shell``), because it wants another protobuf. It joins as
a backup client with a low election id: it reads everything, and writes nothing while a controller is there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from topo import marks, userns

ELECTION_ID = "0,1"


class ShellError(RuntimeError):
    """There is no such lab, switch or shell; the text says what to do."""


def command(switch: str, arguments: list[str]) -> list[str]:
    """The command that opens the shell on ``switch`` of the newest running lab of this user."""
    labs = marks.running()
    if not labs:
        raise ShellError("no lab is running: start one in another terminal (`make run`, or `shadowplane lab`)")
    lab = labs[-1]
    if switch not in lab.grpc:
        raise ShellError(f"the running lab ({lab.topology}) has no switch {switch!r} (it has {', '.join(lab.grpc)})")
    python = Path(__file__).resolve().parent.parent / ".venv-shell" / "bin" / "python"
    if not python.exists():
        raise ShellError(f"{python} is missing: `make shell` creates it")
    address = lab.grpc[switch]
    device_id = int(address.rsplit(":", 1)[1]) - 9558
    inside = userns.join_command(lab.pid) if lab.namespaced else []
    shell = [str(python), "-m", "p4runtime_sh", "--grpc-addr", address, "--device-id", str(device_id)]
    return [*inside, *shell, "--election-id", ELECTION_ID, *arguments]


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        print("usage: python -m topo.shell SWITCH [p4runtime-shell's arguments]", file=sys.stderr)
        return 2
    try:
        line = command(arguments[0], arguments[1:])
    except ShellError as exc:
        print(f"shell: {exc}", file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execvp(line[0], line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
