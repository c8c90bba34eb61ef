"""``make clean``: removes what labs left behind whose owner is gone: processes, interfaces, sockets, records.

Only what carries a lab's mark (:mod:`topo.marks`) is touched, and never a lab that is still running.
Host namespaces are unnamed and go with their last process.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass

from topo import marks
from topo.network import NetworkError, delete_interfaces, interfaces_with_alias


@dataclass(slots=True)
class Cleaned:
    """What was removed."""

    labs: int = 0
    processes: int = 0
    interfaces: int = 0
    sockets: int = 0
    running: int = 0  # labs left alone

    def __str__(self) -> str:
        if not (self.labs or self.processes or self.interfaces or self.sockets):
            text = "nothing left behind"
        else:
            text = (
                f"removed {self.processes} processes, {self.interfaces} interfaces, {self.sockets} sockets "
                f"of {self.labs} labs"
            )
        return text + (f"; {self.running} running labs left alone" if self.running else "")


def clean() -> Cleaned:
    """Remove everything that belongs to labs whose owner is gone."""
    done = Cleaned()
    dead = {lab_id for _, lab_id in marks.marked_processes()}
    aliases: dict[str, str] = {}
    try:
        aliases = interfaces_with_alias(marks.ALIAS)
    except (NetworkError, OSError) as exc:
        print(f"cleanup: interfaces not looked at: {exc}", file=sys.stderr)
    dead |= {alias.removeprefix(marks.ALIAS) for alias in aliases.values()}
    records = list(marks.entries())
    dead |= {entry.id for entry in records}
    alive = {lab_id for lab_id in dead if marks.owner_alive(lab_id)}
    dead -= alive
    done.running = _owners(alive)
    done.labs = _owners(dead)
    for lab_id in sorted(dead):
        done.processes += marks.end_processes(lab_id)
    names = [name for name, alias in aliases.items() if alias.removeprefix(marks.ALIAS) in dead]
    delete_interfaces(names)
    done.interfaces = len(names)
    for entry in records:
        if entry.id in dead:
            marks.unregister(entry.id)
    for directory in (marks.state_dir().parent / "run").glob("*"):
        if not marks.owner_alive(directory.name):
            done.sockets += sum(item.is_socket() for item in directory.iterdir())
            shutil.rmtree(directory, ignore_errors=True)
    return done


def _owners(lab_ids: set[str]) -> int:
    """A lab and the control plane beside it have marks of their own but one owner."""
    return len({lab_id.rpartition(".")[0] for lab_id in lab_ids})


def main() -> int:
    print(f"cleanup: {clean()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
