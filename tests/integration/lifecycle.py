"""What ``make run`` leaves behind: ``python -m topo.userns -- python -m tests.integration.lifecycle CASE DIRECTORY``.

The case runs the scoreboard as a child in the same network, ends it in its own way and looks for what is left. Every
process that the scoreboard starts inherits a mark in its environment, whatever becomes of its parent.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.integration.support import ROOT, SCOREBOARD, eventually
from topo import marks

MARK = "SHADOWPLANE_TEST_RUN"
LISTENING = "0A"  # proc(5), /proc/net/tcp


class Game:
    """A scoreboard under way."""

    def __init__(self, directory: Path) -> None:
        self.mark = f"{os.getpid()}.{time.monotonic_ns()}"
        self.out = directory / "run"
        self.log = directory / "log"
        command = [*SCOREBOARD, "--scenario", "none", "--strategy", "predictive", "--out", str(self.out)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, MARK: self.mark, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def reached(self, line: str) -> None:
        """Wait until the scoreboard has said something."""

        def said() -> bool:
            assert self.process.poll() is None, self.text()
            return line in self.text()

        eventually(said, line, 90.0)

    def sending(self) -> None:
        """Wait until packets are on their way."""
        self.reached("ready;")
        eventually(lambda: any(" send " in command for command in self.processes().values()), "senders run", 60.0)
        time.sleep(0.5)

    def signal_group(self, number: signal.Signals) -> None:
        """As a terminal does: to the whole foreground group."""
        os.killpg(self.process.pid, number)

    def processes(self) -> dict[int, str]:
        """Command lines of everything that descends from the scoreboard, by process id."""
        wanted = f"{MARK}={self.mark}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                if wanted in environment and marks.start_time(int(folder.name)) is not None:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def lab_ids(self) -> set[str]:
        """Ids of the labs that it owned, found by its process id."""
        pid = f"{self.process.pid}."
        folders = [item.name for item in (marks.state_dir().parent / "run").glob(f"{pid}*")]
        return {*folders, *(entry.id for entry in marks.entries() if entry.id.startswith(pid))}


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def listeners() -> list[str]:
    """TCP sockets that listen in this network."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        lines = Path(table).read_text().splitlines()[1:] if Path(table).exists() else []
        found += [line.split()[1] for line in lines if line.split()[3] == LISTENING]
    return found


def nothing_left(game: Game) -> None:
    eventually(lambda: not game.processes() or None, f"processes gone: {game.processes()}")
    assert interfaces() == {"lo"}, interfaces()
    assert not game.lab_ids(), game.lab_ids()
    assert not listeners(), listeners()


def _interrupted(directory: Path, moment: Callable[[Game], None], times: int = 1) -> None:
    game = Game(directory)
    moment(game)
    assert len(game.processes()) > 1
    for _ in range(times):
        game.signal_group(signal.SIGINT)
        time.sleep(0.1)
    assert game.process.wait(60) == 130, game.text()
    assert "interrupted; the lab is taken down" in game.text()
    assert "Traceback" not in game.text(), game.text()
    nothing_left(game)


def interrupted_at_start(directory: Path) -> None:
    """Ctrl-C while switches come up."""
    _interrupted(directory, lambda game: game.reached("starting 4 switches"))


def interrupted_in_traffic(directory: Path) -> None:
    """Ctrl-C, twice for the impatient, while packets flow."""
    _interrupted(directory, Game.sending, times=2)


def terminated(directory: Path) -> None:
    """SIGTERM to the scoreboard alone, as from a supervisor."""
    game = Game(directory)
    game.sending()
    game.process.terminate()
    assert game.process.wait(60) == 143, game.text()
    nothing_left(game)


def killed_and_cleaned(directory: Path) -> None:
    """SIGKILL leaves everything standing; ``make clean``'s command removes it."""
    game = Game(directory)
    game.sending()
    game.process.kill()
    game.process.wait()
    left = game.processes()
    assert sum("switchd" in command or "-m engine" in command for command in left.values()) >= 4, left
    assert len(interfaces()) > 8 and listeners() and game.lab_ids()
    done = subprocess.run(
        [sys.executable, "-m", "topo.cleanup"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and "removed" in done.stdout, done
    nothing_left(game)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
