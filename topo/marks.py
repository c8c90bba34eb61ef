"""How the processes, interfaces and files of a lab are told from everybody else's.

A lab has an id made of its owner's process id and start time. Every process it starts carries the id in its
environment, every interface in its alias, and a small file in the state directory says where the rest is. So a lab
whose owner is gone can be recognised and removed (:mod:`topo.cleanup`) without guessing by name.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from topo.userns import outer_uid

VARIABLE = "SHADOWPLANE_LAB"
ALIAS = "shadowplane:"
_ID = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)")
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class LabEntry:
    """What the state directory says about one lab. Also what ``make shell`` and ``shadowplane status`` need."""

    id: str
    pid: int  # of the lab's owner
    topology: str
    target: str
    run_dir: str
    sockets: tuple[str, ...] = ()
    grpc: dict[str, str] = field(default_factory=dict)  # switch name to address
    namespaced: bool = False  # in namespaces of its own: see topo.userns.join_command


def start_time(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), stat field 22), or None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else int(fields[19])


def new_id() -> str:
    return f"{os.getpid()}.{start_time(os.getpid())}.{next(_serial)}"


def owner_alive(lab_id: str) -> bool:
    match = _ID.fullmatch(lab_id)
    return match is not None and start_time(int(match[1])) == int(match[2])


def state_dir() -> Path:
    """``/tmp/shadowplane-<uid>/labs``, created with mode 0700; another user's directory there is an error."""
    base = Path(f"/tmp/shadowplane-{outer_uid()}")
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{base} belongs to somebody else; remove it")
    labs = base / "labs"
    labs.mkdir(mode=0o700, exist_ok=True)
    return labs


def _entry_file(lab_id: str) -> Path:
    return state_dir() / f"{lab_id}.json"


def register(entry: LabEntry) -> None:
    target = _entry_file(entry.id)
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(entry), indent=1))
    scratch.replace(target)


def unregister(lab_id: str) -> None:
    _entry_file(lab_id).unlink(missing_ok=True)


def entries() -> Iterator[LabEntry]:
    """All labs on record, running or not. Damaged files are removed."""
    for file in sorted(state_dir().glob("*.json")):
        try:
            value = json.loads(file.read_text())
            value["sockets"] = tuple(value["sockets"])
            entry = LabEntry(**value)
        except (OSError, ValueError, TypeError, KeyError):
            file.unlink(missing_ok=True)
            continue
        yield entry


def running() -> list[LabEntry]:
    """Labs whose owner lives, newest last."""
    found = [entry for entry in entries() if owner_alive(entry.id)]
    return sorted(found, key=lambda entry: (start_time(entry.pid) or 0, entry.id))


def marked_processes() -> Iterator[tuple[int, str]]:
    """(pid, lab id) of every process that carries a lab's mark and that we may look at."""
    wanted = f"{VARIABLE}=".encode()
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for item in (directory / "environ").read_bytes().split(b"\0"):
                if item.startswith(wanted):
                    yield int(directory.name), item[len(wanted) :].decode(errors="replace")


def end_processes(lab_id: str, patience_s: float = 2.0) -> int:
    """SIGTERM to a lab's processes, SIGKILL after ``patience_s``; returns how many there were."""
    mine = {pid for pid, found in marked_processes() if found == lab_id and pid != os.getpid()}
    total = len(mine)
    _signal(mine, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while mine and time.monotonic() < deadline:
        time.sleep(0.02)
        mine = {pid for pid in mine if start_time(pid) is not None}
    for _ in range(100):
        mine = {pid for pid, found in marked_processes() if found == lab_id and pid != os.getpid()}
        mine = {pid for pid in mine if start_time(pid) is not None}
        if not mine:
            break
        _signal(mine, signal.SIGKILL)
        time.sleep(0.02)
    return total


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
