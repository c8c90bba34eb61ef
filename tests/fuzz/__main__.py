"""``python -m tests.fuzz``: see the package."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable

from tests.fuzz import loader, packets, server
from tests.fuzz.common import Budget, Finding, Report

PARTS: dict[str, Callable[[Budget, int, Report], None]] = {
    "packets": packets.run,
    "loader": loader.run,
    "server": server.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzzing under sanitizers.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each part (default: 10)")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.part or PARTS:
        report = Report()
        stop = threading.Event()
        threading.Thread(target=_progress, args=(name, report, stop), daemon=True).start()
        print(f"{name}: seed {arguments.seed}, {arguments.minutes:g} min", flush=True)
        try:
            PARTS[name](Budget(arguments.minutes * 60), arguments.seed, report)
            print(f"{name}: no finding, {report.line()}", flush=True)
        except Finding as finding:
            failed = 1
            print(f"{name}: FINDING after {report.line()}\n{finding.what}\nsaved in {finding.save(name)}", flush=True)
        finally:
            stop.set()
    return failed


def _progress(name: str, report: Report, stop: threading.Event) -> None:
    while not stop.wait(60):
        print(f"{name}: {report.line()}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
