"""Corner programs with what BMv2 made of them, for machines without it.

``python -m tests.differential.recorded`` makes ``kept/corners/NAME.json`` of each program in ``corners/``: compiled
program, script and BMv2's frames, digests and counters. :mod:`tests.differential.test_foreign` carries them out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from finsy.proto import p4i
from google.protobuf import text_format

from engine.library import load_program
from tests.differential import kept
from tests.differential.foreign import Seen, compiled, on_peer, place
from tests.differential.peer import Peer, PeerDied
from tests.differential.scripts import Author, Script
from tests.differential.walks import Values, constants

CORNERS = Path(__file__).with_name("corners")
FOLDER = kept.FOLDER / "corners"
FRAMES = 60
LONGEST = 600  # bytes of a frame that is kept
SEEDS = {"meters": 2}  # 1 for others; this one shows all colours


def make(source: Path) -> Path:
    """Compile a program, run it on BMv2 and write both down; frames that BMv2 does not survive are left out."""
    with tempfile.TemporaryDirectory(prefix="recorded-") as scratch:
        found = compiled(source, Path(scratch))
        assert not isinstance(found, str), found
        program = load_program(place(source, Path(scratch)))
    config, text = found
    values = Values(Random(SEEDS.get(source.stem, 1)), constants(program))
    script = Author(program, text_format.Parse(text, p4i.P4Info()), values).script(FRAMES)
    script = script.only([n for n, (_port, data) in enumerate(script.frames) if len(data) <= LONGEST])
    while True:
        try:
            with Peer(config, text, 1) as peer:
                seen = on_peer(peer, script)
                peer.settle(FRAMES)
                seen.digests = set(peer.digests)
            break
        except PeerDied as error:
            script = script.only([n for n in range(len(script.frames)) if n != error.first])
    document = {
        "program": kept.bare(json.loads(config)),
        "script": script.document(),
        "frames": [[[port, data.hex()] for port, data in sent] for sent in seen.frames],
        "digests": sorted(seen.digests),
        "counters": seen.counters,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{source.stem}.json"
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    return path


def load(path: Path) -> tuple[dict[str, object], Script, Seen]:
    """(program, script, what BMv2 made of it)."""
    data = json.loads(path.read_text())
    seen = Seen(
        [[(port, bytes.fromhex(text)) for port, text in sent] for sent in data["frames"]],
        {tuple(values) for values in data["digests"]},
        {name: [(a, b) for a, b in cells] for name, cells in data["counters"].items()},
    )
    return data["program"], Script.read(data["script"]), seen


def main(arguments: Sequence[str]) -> int:
    """All of them, or those whose names begin so."""
    for source in sorted(CORNERS.glob("*.p4")):
        if not arguments or source.name.startswith(tuple(arguments)):
            print(make(source))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
