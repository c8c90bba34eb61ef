"""How long packets wait while an atomic batch is written: of 10 to 100,000 entries, of several kinds together, undone.

As ``write_pause``: in memory, in processor time of the thread, each step with the least of its rounds, so that what the
machine does counts apart. Beside it, how long such a batch takes, and what a packet costs while one is written.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable

import numpy as np

from bench._common import Result, write
from bench.write_pause import (
    DELETE,
    INSERT,
    LIMIT_US,
    MODIFY,
    Memory,
    Names,
    Outcome,
    Updates,
    figure,
    labels,
    program,
    routes,
    rules,
)
from engine.codec import Command, batch
from engine.program_json import program_from_json

SIZES = (10, 1_000, 10_000, 100_000)
CELLS = (1_000, 10_000, 16_384, 100_000)
ROUNDS = 5
MEMBERS = 1024
KINDS: dict[str, Callable[[Names, int, int], Updates]] = {
    "prefixes": routes,
    "exact entries": labels,
    "ternary entries": rules,
}


def atomic(memory: Memory, updates: Updates) -> Outcome:
    """All updates as one TABLE_WRITE that takes effect in one instant."""
    out = Outcome()
    memory.command(Command.TABLE_WRITE, struct.pack("<BI", 1, len(updates)) + updates.tobytes(), out)
    if out.writes.failed:
        raise RuntimeError(f"{out.writes.failed} of {len(updates)} updates refused")
    return out


def undone(memory: Memory, updates: Updates) -> Outcome:
    """The same with a last update that is refused."""
    out, spoilt = Outcome(), updates.copy()
    spoilt[-1] = spoilt[0]
    memory.command(Command.TABLE_WRITE, struct.pack("<BI", 1, len(spoilt)) + spoilt.tobytes(), out)
    if out.writes.failed != len(spoilt):
        raise RuntimeError("a batch with an entry that exists was taken")
    return out


def table_write(updates: Updates) -> tuple[int, bytes]:
    return Command.TABLE_WRITE, struct.pack("<BI", 0, len(updates)) + updates.tobytes()


def together(memory: Memory, commands: list[tuple[int, bytes]]) -> Outcome:
    """Commands of any kind as one batch."""
    out = Outcome()
    memory.command(Command.BATCH, batch(commands), out)
    return out


def cells(names: Names, count: int) -> list[tuple[int, bytes]]:
    """``count`` writes to flip bits, in an order that caches don't like; each bit once before any of them twice."""
    register = [r.name for r in names.info.registers].index("failover")
    return [(Command.REGISTER_WRITE, struct.pack("<IIB", register, n * 7919 % 16_384, n & 1)) for n in range(count)]


def members(names: Names, op: int) -> list[tuple[int, bytes]]:
    """Members, and a group of all of them."""
    profile = next(t.selector for t in names.info.tables if t.name == "balance" and t.selector is not None)
    action = names.action("balance", "set_group")
    found: list[tuple[int, bytes]] = []
    for number in range(MEMBERS):
        call = (
            struct.pack("<BIH", 1, action, 0)
            if op == DELETE
            else struct.pack("<BI", 1, action) + bytes((op, number % 64))
        )
        found.append((Command.MEMBER_WRITE, struct.pack("<BII", op, profile, number) + call))
    body = b"".join(struct.pack("<IIi", n, op, -1) for n in range(MEMBERS))
    found.append((Command.GROUP_WRITE, struct.pack("<BIII", op, profile, 1, MEMBERS) + body))
    return found


def one_round(memory_of: Callable[[], Memory]) -> dict[str, Outcome]:
    """All batches in a fresh switch that has 100,000 prefixes already, in order."""
    memory = memory_of()
    names = Names(program_from_json(memory.engine.info.decode()))
    found: dict[str, Outcome] = {}
    try:
        most = max(SIZES)
        memory.write(routes(names, INSERT, 2 * most)[most:])
        for size in SIZES:
            for kind, make in KINDS.items():
                for op, what in ((INSERT, "inserted"), (MODIFY, "changed"), (DELETE, "deleted")):
                    found[f"{size:,} {kind} {what}"] = atomic(memory, make(names, op, size))
        for kind, make in KINDS.items():
            found[f"{most:,} {kind} inserted and taken back"] = undone(memory, make(names, INSERT, most))
        part = most // 4
        found[f"{3 * part:,} entries in three tables, {2 * MEMBERS:,} members and groups, 1,000 flip bits"] = together(
            memory,
            [
                *(table_write(make(names, INSERT, part)) for make in KINDS.values()),
                *members(names, INSERT),
                *cells(names, 1000),
                *members(names, MODIFY),
            ],
        )
        for count in CELLS:
            found[f"{count:,} flip bits"] = together(memory, cells(names, count))
        return found
    finally:
        memory.close()


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    compiled = program()
    rounds = [one_round(lambda: Memory(compiled)) for _ in range(ROUNDS)]
    results = [row for what in rounds[0] for row in figure(what, [item[what] for item in rounds])]
    size = max(SIZES)
    for kind in KINDS:
        took = [item[f"{size:,} {kind} inserted"].writes for item in rounds]
        each = min(pauses.total for pauses in took) / size / 1e3
        results.append(Result(f"an atomic batch's entry, {kind}", "us", each, "", "", size))
    longest = float(np.max([r.value for r in results if r.metric.startswith("longest")]))
    results.append(Result("longest pause of all atomic batches", "us", longest, f"<= {LIMIT_US:.0f}", "", len(results)))
    write("atomic_pause", results)
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
