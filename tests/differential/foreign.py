"""``python -m tests.differential.foreign FOLDER|FILE...``: anybody's v1model programs, ours and BMv2 side by side.

A folder is p4c's ``testdata``, whose samples :mod:`bench.p4c_samples` finds, or any other with ``.p4`` files. Each
program is compiled, loaded into both switches, given random entries, default actions, action profile groups, multicast
groups and clone sessions, and frames from random walks through its parser. Frames per input, digests, counters and
direct counters must be the same. What our switch refuses is listed with its reason and whether BMv2 takes it.

Where a program looks at clocks, queues or random numbers only the number of frames can be compared. A difference that
is gone when the frame meets a fresh BMv2 is the program's reading of headers that are not there: BMv2 keeps what
an earlier packet had in them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import grpc
from finsy.proto import p4i
from google.protobuf import text_format

from bench.p4c_samples import COMPILE_S, COMPILER, samples
from engine.api import Code, Digest, EngineError, Event, Op, TableUpdate
from engine.library import Switch, compile_program, load_program
from tests.differential.generate import call, change, insert
from tests.differential.peer import BURST, WAKE, Peer, PeerDied, Sent
from tests.differential.reference import ReferenceDied, ReferenceRefused, missing
from tests.differential.scripts import Author, Script
from tests.differential.walks import Values, constants

ALONE = 4  # frames that are tried in fresh switches
DEATHS = 16  # after which a program is given up
VAGUE = ("timestamp", "qdepth", "deq_timedelta")
MOST_BYTES = 65_535
RANDOM = "modify_field_rng_uniform"


@dataclass(slots=True)
class Seen:
    """What a switch made of it."""

    frames: list[Sent] = field(default_factory=list)
    digests: set[tuple[int, ...]] = field(default_factory=set)
    counters: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    whole: list[int] = field(default_factory=list)  # frames whose parsing ended well, by their numbers


@dataclass(slots=True)
class Verdict:
    """``verdict``: same, vague (only numbers of frames compared), random (not even these), different, stale (no single
    frame differs in fresh switches: a read of what P4 leaves undefined), stateful (as stale, but the program has
    registers or meters: BMv2's threads, or a wrong cell; to be looked at), refused, refused later, uncompiled, broken,
    no time left, or what BMv2 did.
    """

    program: str
    verdict: str
    details: list[str] = field(default_factory=list)
    frames: int = 0
    sent: int = 0
    entries: int = 0
    lost: int = 0  # frames left out: BMv2 did not survive one of them


# -- programs --------------------------------------------------------------------------------------------------------


def place(source: Path, cache: Path) -> Path:
    """Where a program's JSON is kept."""
    patch = source.with_suffix(".json")
    told = source.read_bytes() + (patch.read_bytes() if patch.exists() else b"")
    mark = hashlib.sha256(str(source).encode() + told).hexdigest()[:12]
    return cache / f"{source.stem}-{mark}.json"


def compiled(source: Path, cache: Path) -> tuple[bytes, str] | str:
    """(BMv2 JSON, P4Info as text), or why not; kept in ``cache``."""
    target = place(source, cache)
    info = target.with_suffix(".p4info.txtpb")
    if not (target.exists() and info.exists()):
        made = target.with_suffix(f".{os.getpid()}")
        command = [COMPILER, "--Wdisable", "-I", str(source.parent), "--p4runtime-files", str(info), "-o", str(made)]
        try:
            done = subprocess.run(
                [*command, str(source)], capture_output=True, text=True, timeout=COMPILE_S, check=False
            )
        except subprocess.TimeoutExpired:
            return f"p4c does not end in {COMPILE_S} s"
        if done.returncode or not made.exists():
            made.unlink(missing_ok=True)
            return next((line for line in done.stderr.splitlines() if "rror" in line or "Bug" in line), "no JSON")[:200]
        if source.with_suffix(".json").exists():
            made.write_text(json.dumps(patched(json.loads(made.read_text()), source.with_suffix(".json"))))
        made.replace(target)
    return target.read_bytes(), info.read_text()


def patched(program: dict[str, Any], patch: Path) -> dict[str, Any]:
    """A program with what a file has otherwise: bodies of actions, keys of states, algorithms, the deparser's calls."""
    wanted = json.loads(patch.read_text())
    parts = (
        ("actions", program["actions"], "primitives"),
        ("states", program["parsers"][0]["parse_states"], "transition_key"),
        ("calculations", program["calculations"], "algo"),
    )
    for what, there, key in parts:
        by_name = {item["name"]: item for item in there}
        for name, value in wanted[what].items():
            by_name[name][key] = value
    program["deparsers"][0]["primitives"] = wanted["deparser"]
    return program


def vague(program: bytes) -> bool:
    """Whether a program uses what differs from run to run."""
    data = json.loads(program)
    for key in ("header_types", "field_aliases", "headers"):
        data.pop(key, None)
    text = json.dumps(data)
    return any(word in text for word in (*VAGUE, RANDOM))


def stateful(program: bytes) -> bool:
    """Whether packets leave something behind that later ones may see."""
    data = json.loads(program)
    return bool(data.get("register_arrays") or data.get("meter_arrays"))


# -- one program ------------------------------------------------------------------------------------------------------


def on_peer(peer: Peer, script: Script) -> Seen:
    """BMv2's way; what it does not take is taken out of the script."""
    for kind, listed in (("group", script.groups), ("session", script.sessions)):
        for one in list(listed):
            try:
                peer.replication(kind, *one)
            except ReferenceRefused:
                listed.remove(one)
    for default in list(script.defaults):
        try:
            peer.default(*default)
        except ReferenceRefused:
            script.defaults.remove(default)
    for entry in list(script.entries):
        try:
            peer.insert(entry)
        except ReferenceRefused:
            script.entries.remove(entry)
            gone = (entry.table, entry.key)
            script.changes = [one for one in script.changes if (one[2].table, one[2].key) != gone]
    for set_one, cells in ((peer.meter, script.meters), (peer.count, script.counts)):
        for cell in list(cells):
            try:
                set_one(*cell)
            except ReferenceRefused:
                cells.remove(cell)
    out = Seen()
    for changes, frames in script.parts():
        for what, entry in changes:
            try:
                peer.change(what, entry)
            except ReferenceRefused:
                script.changes = [one for one in script.changes if one[1:] != (what, entry)]
        out.frames += peer.play(frames)
    peer.settle(0)
    out.counters = peer.counters() | peer.direct_counters()
    return out


def on_engine(program: Path | dict[str, object], script: Script) -> Seen:
    """Our way. Raises :class:`EngineError` where it does not take what BMv2 took."""
    out = Seen()
    with Switch(compile_program(program, flags=("-O1",))) as switch:

        def event(found: Event) -> None:
            if isinstance(found, Digest):
                out.digests.add(tuple(int.from_bytes(v, "big") for v in found.values))

        switch.process(*WAKE, 1_000_000)  # as the reference does
        switch.subscribe(event)
        info = switch.codec.program
        for number, replicas in script.groups:
            switch.multicast_write(Op.INSERT, number, replicas)
        for number, replicas, size in script.sessions:
            switch.clone_write(Op.INSERT, number, replicas, size)
        index = {t.name: i for i, t in enumerate(info.tables)}
        updates = [
            TableUpdate(Op.MODIFY, index[table], (), call(info, index[table], action, values))
            for table, action, values in script.defaults
        ]
        codes = [*switch.table_write(updates), *insert(switch, script.entries)]
        for code, what in zip(codes, [*script.defaults, *script.entries], strict=True):
            if code is not Code.OK:
                raise EngineError(f"refused with {code.name}: {what}")
        for cells, written in ((info.meters, script.meters), (info.counters, script.counts)):
            numbers = {one.name: i for i, one in enumerate(cells)}
            for name, cell, *values in written:
                if cells is info.meters:
                    switch.meter_write(numbers[name], cell, values[0])
                else:
                    switch.counter_write(numbers[name], cell, *values)
        for changes, frames in script.parts():
            for what, entry in changes:
                if (codes := change(switch, what, entry)) != [Code.OK]:
                    raise EngineError(f"{what} refused with {codes}: {entry}")
            for port, data in frames:
                before = switch.stats()["parser_errors"]
                number = len(out.frames)
                out.frames.append(sorted(switch.process(port, data, 1_000_000 * (number + 2))))
                if switch.stats()["parser_errors"] == before:
                    out.whole.append(number)
        for i, counter in enumerate(info.counters):
            if counter.size:
                out.counters[counter.name] = switch.counter_read(i, 0, counter.size)
        for i, table in enumerate(info.tables):
            if table.direct_counter:
                out.counters[table.name] = sorted((e.packets, e.bytes) for e in switch.table_read(i))
    return out


def pairs(mine: Seen, theirs: Seen) -> Iterator[tuple[Sent, Sent]]:
    """What left for each frame; longer ones than 65,535 bytes do not leave our switch."""
    for a, b in zip(mine.frames, theirs.frames, strict=True):
        yield a, [(port, data) for port, data in b if len(data) <= MOST_BYTES]


def differences(mine: Seen, theirs: Seen, again: Seen | None = None) -> list[str]:
    """What is otherwise, as text; of what is otherwise in BMv2's second run ``again``, too, only numbers of frames."""
    out = []
    for number, (a, b) in enumerate(pairs(mine, theirs)):
        steady = again is None or again.frames[number] == theirs.frames[number]
        if (a != b) if steady else (len(a) != len(b)):
            first, second = ([(port, data.hex()) for port, data in sent] for sent in (a, b))
            out.append(f"frame {number}: {first} instead of {second}")
    if mine.digests != theirs.digests and (again is None or again.digests == theirs.digests):
        out.append(f"digests {sorted(mine.digests)} instead of {sorted(theirs.digests)}")
    for name, cells in theirs.counters.items():
        if mine.counters.get(name) != cells and (again is None or again.counters[name] == cells):
            out.append(f"counter {name}: {mine.counters.get(name)} instead of {cells}"[:2_000])
    return out


def judge(source: Path, cache: Path, seed: int, count: int, keep: Path, end: float = math.inf) -> Verdict:
    """One program, one seed; nothing after ``end`` on the monotonic clock."""
    name = f"{source.parent.name}/{source.stem}"
    if time.monotonic() > end:
        return Verdict(name, "no time left")
    found = compiled(source, cache)
    if isinstance(found, str):
        return Verdict(name, "uncompiled", [found])
    config, text = found
    path = place(source, cache)
    try:
        program = load_program(path)
    except EngineError as error:
        return Verdict(name, "refused", [f"{error}", taken(config, text)])
    except Exception as error:  # whatever it is, the other programs are to be judged too
        return Verdict(name, "broken", [f"{type(error).__name__}: {error}"])
    chance = Random(f"{seed} {name}")
    values = Values(chance, constants(program))
    script = Author(program, text_format.Parse(text, p4i.P4Info()), values).script(count)
    lost, burst = 0, 1 if stateful(config) else BURST  # recirculated packets must not come between others
    for _ in range(DEATHS):
        try:
            mine, theirs = on_both(path, config, text, script, burst)
            break
        except ReferenceRefused as error:
            return Verdict(name, "reference refused", [str(error)])
        except EngineError as error:
            return Verdict(name, "refused later", [str(error)])
        except PeerDied as error:
            why = str(error)
            if error.count == 1:
                lost += 1
                script = script.only([n for n in range(len(script.frames)) if n != error.first])
            burst = 1
        except (ReferenceDied, grpc.RpcError) as error:
            return Verdict(name, "reference died", [str(error)[:300]])
    else:
        return Verdict(name, "reference died", [why])
    sent = sum(map(len, theirs.frames))
    out = Verdict(name, "same", differences(mine, theirs), len(script.frames), sent, len(script.entries), lost)
    if not out.details:
        return out
    out.verdict, loose = "stale", vague(config)
    try:
        if loose:
            out.verdict = "random" if RANDOM.encode() in config else "vague"
            out.details = differences(mine, theirs, on_both(path, config, text, script, burst)[1])
        if out.details and out.verdict != "random":
            out.verdict = "stateful" if stateful(config) else "stale"
            numbers = [number for number, (a, b) in enumerate(pairs(mine, theirs)) if a != b]
            out.details += persists(path, config, text, script, numbers, mine.whole)
    except (ReferenceDied, ReferenceRefused, EngineError, grpc.RpcError) as error:
        out.details.append(f"again: {error}")
    if any(line.startswith("alone") for line in out.details):
        out.verdict = "different"
    if out.verdict in ("stale", "stateful", "different"):
        write(keep / f"{source.stem}-{seed}.txt", source, script, out)
    return out


def on_both(path: Path, config: bytes, text: str, script: Script, burst: int = BURST) -> tuple[Seen, Seen]:
    """(ours, theirs), of fresh switches."""
    with Peer(config, text, burst) as peer:
        theirs = on_peer(peer, script)
        mine = on_engine(path, script)
        peer.settle(len(mine.digests))
        theirs.digests = set(peer.digests)
    return mine, theirs


def persists(
    path: Path, config: bytes, text: str, script: Script, numbers: Sequence[int], whole: Sequence[int]
) -> list[str]:
    """Differences that the first of these frames make in fresh switches, too, and twice.

    Where no frame differs: those of digests and counters without the frames that are not ``whole``.
    """

    def once_more(frames: Sequence[int]) -> list[str]:
        short = script.only(frames)
        (mine, theirs), (_mine, again) = (on_both(path, config, text, short) for _ in range(2))
        return differences(mine, theirs, again)

    if not numbers:
        return [f"alone, those that are whole: {line}" for line in once_more(whole)]
    return [f"alone, {number}: {line}" for number in numbers[:ALONE] for line in once_more([number])]


def write(path: Path, source: Path, script: Script, found: Verdict) -> None:
    """All that it takes to look at a difference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = [str(source), found.verdict, *found.details, *map(str, script.defaults), *map(str, script.entries)]
    report += [f"group {g}" for g in script.groups] + [f"session {s}" for s in script.sessions]
    report += [f"meter {m}" for m in script.meters] + [f"counter {c}" for c in script.counts]
    report += [f"change {c}" for c in script.changes]
    report += [f"frame {i} port {port}: {data.hex()[:600]}" for i, (port, data) in enumerate(script.frames)]
    path.write_text("\n".join(report) + "\n")


def taken(config: bytes, text: str) -> str:
    """Whether BMv2 loads a program."""
    try:
        Peer(config, text).close()
    except ReferenceRefused as error:
        return f"BMv2 refuses it: {error}"
    except ReferenceDied as error:
        return f"BMv2 dies of it: {error}"
    return "BMv2 takes it"


def programs(paths: Iterable[Path]) -> list[Path]:
    """Files, folders, and p4c's testdata."""
    out: list[Path] = []
    for path in paths:
        if path.is_file():
            out.append(path)
        elif (path / "p4_16_samples").is_dir():
            out += samples(path)
        else:
            out += sorted(path.rglob("*.p4"))
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; 1 when something differed."""
    parser = argparse.ArgumentParser(prog="foreign", description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="programs whose path contains this")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--rounds", type=int, default=1, help="seeds for each program")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no more after this time")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("build/foreign"), help="of compiled programs")
    parser.add_argument("--keep", type=Path, default=Path("build/differential"), help="for what differed")
    options = parser.parse_args(arguments)
    if why := missing():
        print(f"foreign: {why}", file=sys.stderr)
        return 2
    options.cache.mkdir(parents=True, exist_ok=True)
    chosen = [path for path in programs(options.paths) if options.only in str(path)]
    tally: Counter[str] = Counter()
    end = time.monotonic() + 60 * options.minutes
    with ProcessPoolExecutor(options.jobs) as pool:
        for seed in range(options.seed, options.seed + options.rounds):
            one = partial(judge, cache=options.cache, seed=seed, count=options.frames, keep=options.keep, end=end)
            for found in pool.map(one, chosen):
                tally[found.verdict] += 1
                tally["frames"] += found.frames
                tally["frames out"] += found.sent
                tally["entries"] += found.entries
                tally["frames left out"] += found.lost
                if found.verdict not in ("same", "vague", "random", "uncompiled", "no time left"):
                    details = " | ".join(found.details)[:700]
                    print(f"{found.verdict}: seed {seed} {found.program}: {details}", flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))
    return 1 if tally["different"] or tally["stateful"] or tally["broken"] or tally["refused later"] else 0


if __name__ == "__main__":
    sys.exit(main())
