"""How long packets wait while tables change: a million prefixes, exact entries, default routes, groups, programs.

In memory: the switch process's loop without its interfaces (``native/write_pause.c``), in processor time of the thread,
so that other processes on the machine do not count. What the machine does to any thread is told apart twice: by as much
time of the same loop without writes, and by what comes at the same place in all rounds. Live: a stream
through the switch while a million prefixes come and go, its packets' time on the way against the same stream's without
writes.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bench._common import Result, write
from bench._wire import PRIMARY, PROGRAM, SHADOW, Cables, blast_records, cables, engine_switch, udp_frame, unusable
from engine.api import ProgramInfo
from engine.build import INCLUDE, build_shared
from engine.codec import Command
from engine.compiled import CompiledProgram
from engine.dataplane import WRITE_CHUNK, Client
from engine.library import compile_program, load_engine
from engine.program_json import program_from_json

MILLION = 1_000_000
GROUP_SIZES = (64, 1024)
TERNARY = 100_000
LIMIT_US = 100.0
ROUNDS = 5
SLOTS = 4096
STEPS = 1_500_000
LOOK_NS = 20_000
SLICE = 25  # messages
RATE = 20_000
INSERT, MODIFY, DELETE = 1, 2, 3
ANCHOR = "BMv2: a lock per table that packets wait for"
LARGE = {"route_ipv4": 1 << 20, "label": 1 << 20, "acl": 1 << 17}  # entries


class Pauses(ctypes.Structure):
    """As in ``write_pause.c``; times in ns."""

    _fields_ = (
        ("count", ctypes.c_uint64),
        ("longest", ctypes.c_uint64),
        ("total", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("faults", ctypes.c_uint64),
        ("long_preempted", ctypes.c_uint64),
        ("long_faulted", ctypes.c_uint64),
        ("long_plain", ctypes.c_uint64),
        ("histogram", ctypes.c_uint64 * SLOTS),
    )


class _Outcome(ctypes.Structure):
    _fields_ = (
        ("writes", Pauses),
        ("control", Pauses),
        ("steps", ctypes.c_void_p),
        ("room", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
    )


class Outcome:
    """One round of one kind of write: pauses, the control's pauses, and the time between offers in ns."""

    def __init__(self, room: int = STEPS) -> None:
        self.steps = np.ones(room, dtype=np.uint32)  # touched here, not while it is measured
        self.raw = _Outcome(steps=self.steps.ctypes.data, room=room)

    @property
    def writes(self) -> Pauses:
        return cast(Pauses, self.raw.writes)

    @property
    def control(self) -> Pauses:
        return cast(Pauses, self.raw.control)

    def kept(self) -> NDArray[np.uint32]:
        return self.steps[: int(self.raw.used)]


def program() -> CompiledProgram:
    """The steering program with larger tables."""
    source = json.loads(PROGRAM.read_text())
    for pipeline in source["pipelines"]:
        for table in pipeline["tables"]:
            table["max_size"] = LARGE.get(table["name"], table["max_size"])
    return compile_program(source)


@dataclass(frozen=True)
class Names:
    """Indexes of a program's tables and actions."""

    info: ProgramInfo

    def table(self, name: str) -> int:
        return [t.name for t in self.info.tables].index(name)

    def action(self, table: str, name: str) -> int:
        actions = self.info.tables[self.table(table)].actions
        return next(a for a in actions if self.info.actions[a].name == name)


Updates = NDArray[Any]


def _records(count: int, key: list[Any], params: list[Any], delete: bool) -> Updates:
    """Zeroed updates with their lengths, as ``engine.codec`` writes them."""
    head = [("length", "<u4"), ("op", "u1"), ("table", "<u4"), ("fields", "u1")]
    tail = [("priority", "<i4"), ("idle", "<u8"), ("kind", "u1")]
    action = [] if delete else [("action", "<u4"), *params]
    out = np.zeros(count, dtype=np.dtype([*head, *key, *tail, *action]))
    out["length"] = out.dtype.itemsize - 4
    return out


def routes(names: Names, op: int, count: int, group: int = 1) -> Updates:
    """Prefixes of 17 to 32 bits, all different, spread over all addresses."""
    out = _records(count, [("key", ">u4"), ("bits", "<u2")], [("group", ">u2")], op == DELETE)
    number = np.arange(count, dtype=np.uint64)
    # Half are /24, the others of all lengths; an odd multiplier spreads numbers without repeating any.
    value = (number * 2654435761 % (1 << 24)) << 8
    bits = np.where(number % 2 == 0, 24, 17 + (number // 2) % 16)
    distinct = np.where(bits <= 24, value, value | (number % 251) << 0)
    mask = (0xFFFFFFFF << (32 - bits.astype(np.int64))) & 0xFFFFFFFF
    out["op"], out["table"], out["fields"] = op, names.table("route_ipv4"), 1
    out["key"], out["bits"] = distinct.astype(np.int64) & mask, bits
    _, first = np.unique(out[["key", "bits"]], return_index=True)
    out = out[np.sort(first)]
    if op != DELETE:
        out["kind"], out["action"], out["group"] = 1, names.action("route_ipv4", "set_group"), group
    return out


def default_route(names: Names, op: int, group: int = 1) -> Updates:
    """0.0.0.0/0."""
    out = routes(names, op, 1, group)
    out["key"], out["bits"] = 0, 0
    return out


def labels(names: Names, op: int, count: int, salt: int = 0) -> Updates:
    """Exact entries, each with parameters of its own."""
    params = [("port", ">u2"), ("source", "u1", 6), ("target", "u1", 6)]
    out = _records(count, [("key", "u1", 3)], params, op == DELETE)
    number = np.arange(count, dtype=np.uint32)
    out["op"], out["table"], out["fields"] = op, names.table("label"), 1
    for i in range(3):
        out["key"][:, i] = number >> (8 * (2 - i)) & 0xFF
    if op != DELETE:
        out["kind"], out["action"] = 1, names.action("label", "label_forward")
        out["port"] = 1 + number % 8
        for i in range(4):
            out["target"][:, i] = (number + salt) >> (8 * i) & 0xFF
    return out


def rules(names: Names, op: int, count: int) -> Updates:
    """Ternary entries over the destination, of 8 masks."""
    table = names.table("acl")
    key: list[Any] = []
    for field in names.info.tables[table].key:
        size = (field.width + 7) // 8
        key += [(f"{field.name}.v", "u1", size), (f"{field.name}.m", "u1", size)]
    out = _records(count, key, [], op == DELETE)
    number = np.arange(count, dtype=np.uint32)
    out["op"], out["table"], out["fields"] = op, table, len(names.info.tables[table].key)
    bits = 25 + number % 8
    mask = (0xFFFFFFFF << (32 - bits.astype(np.int64))) & 0xFFFFFFFF
    value = (number.astype(np.int64) << 7) & mask | (number.astype(np.int64) * 0 + (203 << 24))
    for i in range(4):
        out["ipv4_dst.v"][:, i] = (value & mask) >> (8 * (3 - i)) & 0xFF
        out["ipv4_dst.m"][:, i] = mask >> (8 * (3 - i)) & 0xFF
    for field in names.info.tables[table].key:
        if field.kind.name == "RANGE":
            out[f"{field.name}.m"] = 0xFF
    out["priority"] = 1 + number
    if op != DELETE:
        out["kind"], out["action"] = 1, names.action("acl", "acl_deny")
    return out


class Memory:
    """A pipeline in this process and the C loop around it."""

    def __init__(self, compiled: CompiledProgram) -> None:
        self.engine = load_engine(compiled.path)
        path = build_shared(
            [INCLUDE.parents[2] / "bench" / "native" / "write_pause.c"], name="bench-pause", flags=("-D_GNU_SOURCE",)
        )
        self.tool = ctypes.CDLL(str(path))
        self.tool.pause_create.restype = ctypes.c_void_p
        u32, pointer, text = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_char_p
        self.tool.pause_write.argtypes = (pointer, text, u32, u32, u32, text, u32, pointer)
        self.tool.pause_command.argtypes = (pointer, u32, text, u32, text, u32, pointer)
        self.handle = self.tool.pause_create(ctypes.byref(self.engine))
        self.frame = udp_frame(64)

    def write(self, updates: Updates, batch: int = WRITE_CHUNK) -> Outcome:
        """All updates, ``batch`` to a message."""
        out = Outcome()
        size, data = updates.dtype.itemsize, updates.tobytes()
        self.tool.pause_write(
            self.handle, data, size, len(updates), batch, self.frame, len(self.frame), ctypes.byref(out.raw)
        )
        if out.writes.failed:
            raise RuntimeError(f"{out.writes.failed} of {len(updates)} updates refused")
        return out

    def command(self, op: int, request: bytes, out: Outcome) -> None:
        """One command, added to ``out``."""
        code = self.tool.pause_command(
            self.handle, op, request, len(request), self.frame, len(self.frame), ctypes.byref(out.raw)
        )
        if code:
            raise RuntimeError(f"command {op:#x}: code {code}")

    def close(self) -> None:
        self.engine.destroy(self.handle)


def over(rounds: list[Pauses]) -> str:
    """Pauses longer than the limit, by what happened in them."""
    preempted, faulted = sum(p.long_preempted for p in rounds), sum(p.long_faulted for p in rounds)
    plain = sum(p.long_plain for p in rounds)
    return f"{preempted} with the processor lost, {faulted} with a page fault, {plain} else"


def own(rounds: list[Outcome]) -> float:
    """The longest pause in us that the writes themselves cause: every step takes the least of its rounds.

    The writes are the same in each round and so are the points at which packets may pass, so what our code costs comes
    every time at the same place, and what the machine does comes anywhere.
    """
    length = min(len(item.kept()) for item in rounds)
    least = np.minimum.reduce([item.kept()[:length] for item in rounds])
    longest = waited = 0
    for step in least.tolist():
        waited += step
        longest = max(longest, waited)
        if waited >= LOOK_NS:
            waited = 0
    return longest / 1e3


def figure(what: str, rounds: list[Outcome]) -> list[Result]:
    """What the writes cost, and all pauses beside the control's."""
    writes, control = [item.writes for item in rounds], [item.control for item in rounds]
    longest = ", ".join(f"{w.longest / 1e3:.0f}" for w in writes)
    beside = ", ".join(f"{c.longest / 1e3:.0f}" for c in control)
    notes = f"longest of {len(rounds)} rounds as measured: {longest}; of as much time without writes: {beside}; "
    notes += f"pages touched first: {max(w.faults for w in writes):,} a round; "
    notes += f"a round took {min(w.total for w in writes) / 1e9:.3f} s"
    count = sum(w.count for w in writes)
    more = sum(w.long_faulted + w.long_plain for w in writes) - sum(c.long_faulted + c.long_plain for c in control)
    held = (
        f"{count:,} pauses, of them {over(writes)}; {sum(c.count for c in control):,} without writes: {over(control)}"
    )
    label, unit = f"pauses above {LIMIT_US:.0f} us: {what}", "more than without writes"
    return [
        Result(f"longest pause: {what}", "us", own(rounds), f"<= {LIMIT_US:.0f}", ANCHOR, count, notes),
        Result(label, unit, float(more), "", "", count, held),
    ]


def selectors(memory: Memory, names: Names) -> Outcome:
    """Groups written, rewritten with other weights, members changed."""
    profile = next(t.selector for t in names.info.tables if t.name == "balance" and t.selector is not None)
    action = names.action("balance", "set_group")
    out = Outcome()

    def member(op: int, number: int, group: int) -> None:
        call = struct.pack("<BI", 1, action) + group.to_bytes(2, "big")
        memory.command(Command.MEMBER_WRITE, struct.pack("<BII", op, profile, number) + call, out)

    for number in range(max(GROUP_SIZES)):
        member(INSERT, number, 1 + number % 64)
    for size in GROUP_SIZES:
        for op, weight in ((INSERT, 1), (MODIFY, 65536 // size), (MODIFY, 2)):
            body = b"".join(struct.pack("<IIi", n, weight, -1) for n in range(size))
            for group in range(4):
                head = struct.pack("<BIII", op, profile, size * 10 + group, size)
                memory.command(Command.GROUP_WRITE, head + body, out)
    for number in range(max(GROUP_SIZES)):
        member(MODIFY, number, 2 + number % 64)
    return out


def one_round(compiled: CompiledProgram) -> dict[str, Outcome]:
    """All writes in a fresh switch, in order."""
    memory = Memory(compiled)
    names = Names(program_from_json(memory.engine.info.decode()))
    try:
        changes = np.repeat(default_route(names, MODIFY), 100)
        changes["group"] = 2 + np.arange(100) % 3
        million, gone = routes(names, INSERT, MILLION), routes(names, DELETE, MILLION)
        some = routes(names, MODIFY, 2000, 3)[np.arange(20_000) % 2000]
        return {
            "first default route": memory.write(default_route(names, INSERT)),
            f"{len(million):,} prefixes inserted": memory.write(million),
            "default route changed over a million others": memory.write(changes, 1),
            "20,000 prefixes changed": memory.write(some),
            "default route deleted": memory.write(default_route(names, DELETE)),
            f"{len(gone):,} prefixes deleted": memory.write(gone),
            "the same inserted in messages of 10,000": memory.write(million, 10_000),
            "the same deleted in messages of 10,000": memory.write(gone, 10_000),
            "a million exact entries, no two alike, inserted": memory.write(labels(names, INSERT, MILLION)),
            "a million exact entries changed": memory.write(labels(names, MODIFY, MILLION, 1 << 24)),
            "a million exact entries deleted": memory.write(labels(names, DELETE, MILLION)),
            f"{TERNARY:,} ternary entries inserted": memory.write(rules(names, INSERT, TERNARY)),
            f"{TERNARY:,} ternary entries deleted": memory.write(rules(names, DELETE, TERNARY)),
            "selector members, groups of up to 1,024 members": selectors(memory, names),
        }
    finally:
        memory.close()


def in_memory(compiled: CompiledProgram) -> list[Result]:
    """All that is measured without interfaces."""
    rounds = [one_round(compiled) for _ in range(ROUNDS)]
    return [row for what in rounds[0] for row in figure(what, [item[what] for item in rounds])]


def transit(made: Cables, seconds: float, during: Callable[[], None]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(sent, wall clock in ns; time on the way in us) of each packet of a stream that runs while ``during`` does."""
    outcome: list[NDArray[Any]] = []
    count = int(RATE * seconds)

    def send() -> None:
        outcome.append(blast_records(made.host[1], [made.host[PRIMARY]], RATE, count, udp_frame(128))[1])

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(0.5)  # until packets flow
    during()
    sender.join()
    if len(outcome[0]) != count:
        print(f"write_pause: {count - len(outcome[0])} of {count} packets lost")
    sent, received = (outcome[0][name].astype(np.int64) for name in ("sent", "received"))
    return sent, cast(NDArray[Any], (received - sent) / 1e3)


def messages(updates: Updates) -> list[bytes]:
    """TABLE_WRITE requests."""
    data, size = updates.tobytes(), updates.dtype.itemsize
    return [
        struct.pack("<BI", 0, min(WRITE_CHUNK, len(updates) - at)) + data[at * size : (at + WRITE_CHUNK) * size]
        for at in range(0, len(updates), WRITE_CHUNK)
    ]


def stream(made: Cables, client: Client, compiled: CompiledProgram) -> list[Result]:
    """A million prefixes come and go, then the program is loaded anew, under traffic.

    Slices of writes alternate with equally long ones in which the client is as busy and sends nothing.
    """
    assert client.program is not None
    names = Names(client.program)
    took = {"insert": 0.0, "delete": 0.0}
    spans: dict[bool, list[tuple[int, int]]] = {True: [], False: []}

    def send_all(what: str, requests: list[bytes]) -> None:
        for at in range(0, len(requests), SLICE):
            began = time.time_ns()
            for request in requests[at : at + SLICE]:
                if any(client.command(Command.TABLE_WRITE, request)):
                    raise RuntimeError("updates refused")
            done = time.time_ns()
            while time.time_ns() < 2 * done - began:
                pass
            took[what] += (done - began) / 1e9
            spans[True].append((began, done))
            spans[False].append((done, 2 * done - began))

    requests = {"insert": messages(routes(names, INSERT, MILLION)), "delete": messages(routes(names, DELETE, MILLION))}

    def write() -> None:
        for what, which in requests.items():
            send_all(what, which)

    sent, times = transit(made, 20, write)
    results, late, count = [], {}, {}
    for writing, what in ((False, "between writes"), (True, "while a million prefixes are written and deleted")):
        inside = np.zeros(len(sent), dtype=bool)
        for began, done in spans[writing]:
            inside |= (sent >= began) & (sent < done)
        part = times[inside]
        late[writing], count[writing] = float(np.mean(part > 2 * LIMIT_US)), len(part)
        notes = f"p50 {np.median(part):.0f}, p99 {np.quantile(part, 0.99):.0f}, longest {part.max():.0f} us; "
        notes += f"above 200 us: {late[writing]:.4%}"
        value = float(np.quantile(part, 0.999))
        results.append(Result(f"live, {what}, p99.9 of a packet's way", "us", value, "", "", len(part), notes))
    notes = f"insert {took['insert']:.1f} s, delete {took['delete']:.1f} s"
    later = "live, packets that took more than 200 us because of writes"
    share = max(0.0, late[True] - late[False])
    results.append(Result(later, "share", share, "<= 0.001", "", count[True], notes))
    client.hello()
    pauses, loads = [], []
    for _ in range(10):
        loading = time.monotonic()
        client.load(compiled.path)
        loads.append((time.monotonic() - loading) * 1e3)
        pauses.append(client.hello()["statistics"]["longest_pause_us"])
        client.command(Command.TABLE_WRITE, messages(routes(names, INSERT, 20_000))[0])
    notes = f"longest of all {max(pauses):.0f} us"
    longest = "live, longest pause while a program is loaded, median"
    results += [
        Result("commit of a program in the switch process", "ms", float(np.median(loads)), "", "", len(loads)),
        Result(longest, "us", float(np.median(pauses)), "<= 100", ANCHOR, len(pauses), notes),
    ]
    return results


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    compiled = program()
    results = in_memory(compiled)
    if reason := unusable():
        print(f"write_pause: not live: {reason}")
    else:
        with cables((1, PRIMARY, SHADOW)) as made, engine_switch(made, compiled.path) as client:
            results += stream(made, client, compiled)
    write("write_pause", results)
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
