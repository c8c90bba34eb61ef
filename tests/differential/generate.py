"""``python -m tests.differential.generate``: random programs on the embedded switch and on BMv2, side by side.

Each seed makes a program, entries and frames; p4c compiles it, both switches run it, and frames, digests, counters and
registers must be the same. Whatever differs, or is refused, is kept with its source in ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.api import (
    Action,
    ActionCall,
    Code,
    Digest,
    EngineError,
    Event,
    GroupMember,
    GroupRef,
    Match,
    MatchKind,
    MemberRef,
    Op,
    ProgramInfo,
    TableUpdate,
)
from engine.codec import octets
from engine.library import Switch, compile_program
from tests.differential.programs import CELLS, CPU_PORT, DUMP, GROUP, SESSION, Case, Entry, Generator
from tests.differential.reference import INSTANCES, Reference, ReferenceDied, ReferenceRefused, missing, run

COMPILE_S = 120


@dataclass(slots=True)
class Outcome:
    """What a switch made of a case."""

    frames: list[list[bytes]] = field(default_factory=list)
    digests: set[tuple[int, ...]] = field(default_factory=set)
    counters: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


class Uncompiled(Exception):
    """p4c rejects the program."""


def compile_case(case: Case, folder: Path) -> tuple[bytes, str]:
    """(BMv2 JSON, P4Info as text)."""
    source, target, info = folder / "case.p4", folder / "case.json", folder / "case.p4info.txtpb"
    source.write_text(case.source)
    for old in (target, info):
        old.unlink(missing_ok=True)
    command = ["p4c-bm2-ss", "--Wdisable", "--p4runtime-files", str(info), "-o", str(target), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S, check=False)
    except subprocess.TimeoutExpired:
        raise Uncompiled(f"p4c does not end in {COMPILE_S} s") from None
    if done.returncode or not target.exists():
        raise Uncompiled(done.stderr[:600])
    return target.read_bytes(), info.read_text()


def dumps(case: Case) -> list[bytes]:
    """Frames behind the case's own that read all registers."""
    return [bytes((0xFF, cell, DUMP, cell)) + bytes(16) for cell in range(CELLS)]


def match(entry: tuple[str, int, int, int]) -> Match:
    kind, width, first, second = entry
    size = octets(width)
    value = first.to_bytes(size, "big")
    if kind == "exact":
        return Match(value)
    if kind == "lpm":
        return Match(value, prefix_len=second)
    if kind == "range":
        return Match(value, high=second.to_bytes(size, "big"))
    return Match(value, mask=second.to_bytes(size, "big"))


def call(info: ProgramInfo, table: int, name: str, values: Sequence[tuple[int, int]]) -> ActionCall:
    action = next(a for a in info.tables[table].actions if info.actions[a].name == name)
    return ActionCall(action, tuple(value.to_bytes(octets(width), "big") for value, width in values))


def insert(switch: Switch, entries: Sequence[Entry]) -> list[Code]:
    """Write entries, with members and groups for those of profiles; one code each."""
    codes = switch.table_write([_update(switch, Op.INSERT, entry) for entry in entries])
    for entry in entries:
        _direct(switch, entry)
    return codes


def change(switch: Switch, what: str, entry: Entry) -> list[Code]:
    """Insert, modify or delete an entry; the code."""
    codes = switch.table_write([_update(switch, Op[what.upper()], entry)])
    if what != "delete":
        _direct(switch, entry)
    return codes


def _update(switch: Switch, op: Op, entry: Entry) -> TableUpdate:
    info = switch.codec.program
    table = next(i for i, t in enumerate(info.tables) if t.name == entry.table)
    key = tuple(match(part) for part in entry.key)
    for part, described in zip(entry.key, info.tables[table].key, strict=True):
        wanted = MatchKind[part[0].upper()]  # p4c writes optional fields as ternary ones
        assert described.kind in (wanted, MatchKind.TERNARY), f"{entry.table}: {described.kind} for {wanted}"
    action: Action | None = None
    if op is not Op.DELETE:
        action = call(info, table, entry.action, entry.params)
        profile = info.tables[table].selector
        if profile is not None:
            action = _profiled(switch, profile, table, entry)
    return TableUpdate(op, table, key, action, entry.priority)


def _profiled(switch: Switch, profile: int, table: int, entry: Entry) -> Action:
    """A new member, or a new group of new members."""
    first = max(switch.member_read(profile), default=0) + 1
    calls = ((entry.action, entry.params), *entry.others)
    for member, (name, values) in enumerate(calls, first):
        switch.member_write(Op.INSERT, profile, member, call(switch.codec.program, table, name, values))
    if entry.member:
        return MemberRef(first)
    group = max(switch.group_read(profile), default=0) + 1
    switch.group_write(Op.INSERT, profile, group, [GroupMember(first + i) for i in range(len(calls))])
    return GroupRef(group)


def _direct(switch: Switch, entry: Entry) -> None:
    """Its direct meter and counter."""
    table = next(i for i, t in enumerate(switch.codec.program.tables) if t.name == entry.table)
    key = tuple(match(part) for part in entry.key)
    if entry.meter:
        cir, cburst, pir, pburst = entry.meter
        switch.direct_meter_write(table, key, entry.priority, (cir, cburst, pir, pburst))
    if entry.counted:
        packets, octets_ = entry.counted
        switch.direct_counter_write(table, key, entry.priority, packets, octets_)


def on_engine(program: bytes, entries: Sequence[Entry], frames: Sequence[bytes]) -> Outcome:
    """The embedded switch's outcome. Raises :class:`EngineError` where it refuses the program."""
    out = Outcome()
    with Switch(compile_program(json.loads(program), flags=("-O1",)), cpu_port=CPU_PORT) as switch:

        def event(found: Event) -> None:
            if isinstance(found, Digest):
                out.digests.add(tuple(int.from_bytes(v, "big") for v in found.values))

        switch.subscribe(event)
        pairs = [(CPU_PORT, instance) for instance in INSTANCES]
        switch.multicast_write(Op.INSERT, GROUP, pairs)
        switch.clone_write(Op.INSERT, SESSION, pairs)
        codes = insert(switch, entries)
        if any(code is not Code.OK for code in codes):
            raise EngineError(f"entries were refused: {codes}")
        for number, frame in enumerate(frames):
            sent = switch.process(CPU_PORT, frame, 1_000_000 * (number + 1))
            out.frames.append(sorted(data for port, data in sent if port == CPU_PORT))
        for i, counter in enumerate(switch.codec.program.counters):
            if counter.size:
                out.counters[counter.name] = switch.counter_read(i, 0, counter.size)
    return out


def on_reference(program: bytes, info: str, case: Case, digests: int) -> Outcome:
    """BMv2's outcome, by a process of its own: replication and freed memory survive a change of the program."""
    with Reference() as reference:
        reference.load(program, info)
        out = Outcome(run(reference, case.entries, [*case.frames, *dumps(case)]))
        reference.settle(digests)
        out.digests, out.counters = set(reference.digests), reference.counters()
    return out


def differences(mine: Outcome, theirs: Outcome) -> list[str]:
    """What the first outcome has otherwise than the second, as text."""
    out = []
    for number, (a, b) in enumerate(zip(mine.frames, theirs.frames, strict=True), 1):
        if a != b:
            out.append(f"frame {number}: {[d.hex() for d in a]} instead of {[d.hex() for d in b]}")
    if mine.digests != theirs.digests:
        out.append(f"digests {sorted(mine.digests)} instead of {sorted(theirs.digests)}")
    for name, cells in theirs.counters.items():
        if mine.counters.get(name) != cells:
            out.append(f"counter {name}: {mine.counters.get(name)} instead of {cells}")
    return out


def compare(case: Case, folder: Path) -> tuple[str, list[str]]:
    """(same, different, refused, uncompiled, reference refused or died; details)."""
    try:
        program, info = compile_case(case, folder)
    except Uncompiled as error:
        return "uncompiled", [str(error)]
    try:
        mine = on_engine(program, case.entries, [*case.frames, *dumps(case)])
    except EngineError as error:
        return "refused", [str(error)]
    try:
        theirs = on_reference(program, info, case, len(mine.digests))
    except ReferenceRefused as error:
        return "reference refused", [str(error)]
    except ReferenceDied as error:
        return "reference died", [str(error)]
    found = differences(mine, theirs)
    return ("different" if found else "same"), found


def keep(folder: Path, case: Case, verdict: str, details: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.seed}.p4").write_text(case.source)
    (folder / f"{case.seed}.txt").write_text("\n".join([verdict, *details, "", *map(str, case.entries)]) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; 1 when something differed."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=0, help="seeds to try; 0: until the time is up")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--depth", type=int, default=3, help="of expressions")
    parser.add_argument("--keep", type=Path, default=Path("build/differential"))
    options = parser.parse_args(arguments)
    if why := missing():
        print(f"generate: {why}", file=sys.stderr)
        return 2
    tally: Counter[str] = Counter()
    end = time.monotonic() + options.minutes * 60
    seed = options.seed
    while (options.count and seed < options.seed + options.count) or (not options.count and time.monotonic() < end):
        case = Generator(seed, options.depth).case(options.frames)
        with tempfile.TemporaryDirectory(prefix="generate-") as scratch:
            verdict, details = compare(case, Path(scratch))
        tally[verdict] += 1
        tally["frames"] += len(case.frames) + CELLS if verdict in ("same", "different") else 0
        if verdict != "same":
            keep(options.keep, case, verdict, details)
            print(f"seed {seed}: {verdict}: {details[0][:300] if details else ''}", flush=True)
        seed += 1
    print(", ".join(f"{count} {name}" for name, count in tally.items()))
    return 1 if tally["different"] or tally["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
