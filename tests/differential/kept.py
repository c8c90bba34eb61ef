"""Generated cases kept as data: the compiled program, entries, frames, and what BMv2 made of them.

``python -m tests.differential.kept SEED...`` makes ``kept/SEED.json`` where p4c and simple_switch_grpc are there; the
tests of :mod:`tests.differential.test_programs` carry them out everywhere.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.differential.generate import Outcome, compile_case, dumps, on_reference
from tests.differential.programs import Entry, Generator

FOLDER = Path(__file__).with_name("kept")
FRAMES = 12
DEPTH = 2


def bare(item: Any) -> Any:
    """JSON without ``source_info``."""
    if isinstance(item, dict):
        return {key: bare(value) for key, value in item.items() if key != "source_info"}
    return [bare(value) for value in item] if isinstance(item, list) else item


def make(seed: int) -> Path:
    """Compile a seed's case, run it on BMv2 and write both down."""
    case = Generator(seed, DEPTH).case(FRAMES)
    with tempfile.TemporaryDirectory(prefix="kept-") as scratch:
        program, info = compile_case(case, Path(scratch))
        outcome = on_reference(program, info, case, 0)
    document = {
        "program": bare(json.loads(program)),
        "entries": [[e.table, e.key, e.action, e.params, e.priority] for e in case.entries],
        "frames": [frame.hex() for frame in [*case.frames, *dumps(case)]],
        "sent": [[data.hex() for data in frames] for frames in outcome.frames],
        "digests": [[f"{value:x}" for value in digest] for digest in sorted(outcome.digests)],
        "counters": outcome.counters,
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{seed}.json"
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    return path


def load(path: Path) -> tuple[bytes, list[Entry], list[bytes], Outcome]:
    """(program, entries, frames, what BMv2 made of them)."""
    data = json.loads(path.read_text())
    entries = [
        Entry(table, tuple((k, w, a, b) for k, w, a, b in key), action, tuple((v, w) for v, w in params), priority)
        for table, key, action, params, priority in data["entries"]
    ]
    outcome = Outcome(
        frames=[[bytes.fromhex(text) for text in sent] for sent in data["sent"]],
        digests={tuple(int(value, 16) for value in digest) for digest in data["digests"]},
        counters={name: [(a, b) for a, b in cells] for name, cells in data["counters"].items()},
    )
    return json.dumps(data["program"]).encode(), entries, [bytes.fromhex(text) for text in data["frames"]], outcome


def main(seeds: Sequence[str]) -> int:
    for seed in seeds:
        print(make(int(seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
