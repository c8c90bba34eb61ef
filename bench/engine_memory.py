"""The embedded switch in memory: packets per second a core through the whole steering program, and the price of a
longer routing table.

CPU time of one thread, so that a busy machine does not distort it. The tables are filled as in use: routes, groups
with primary and shadow, a few ACL and classifier entries, live ports.
"""

from __future__ import annotations

import ctypes
import json
import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

from bench._common import Result, write
from bench._wire import PROGRAM, _checksum
from engine.api import ActionCall, Code, DatapathError, Match, MatchKind, Op, TableUpdate
from engine.build import INCLUDE, build_shared
from engine.codec import Codec, octets
from engine.commands import Commands
from engine.library import compile_program, load_engine
from engine.program_json import program_from_json

NOW = 10_000_000_000  # ns
GROUPS = 64
PORTS = range(1, 9)
FRAMES = 65536
ROUNDS = 5
PACKETS = 1_000_000
BATCH = 10_000
AHEAD = 4  # packets, as in the switch process


class Pipeline(Commands):
    """A pipeline whose emitted frames are only counted, in C."""

    def __init__(self, source: str | dict[str, Any]) -> None:
        compiled = compile_program(source)
        self.engine = load_engine(compiled.path)
        path = build_shared(
            [INCLUDE.parents[2] / "bench" / "native" / "engine_memory.c"], name="bench-engine", flags=("-D_GNU_SOURCE",)
        )
        self.tool = ctypes.CDLL(str(path))
        self.tool.bench_create.restype = ctypes.c_void_p
        self.tool.bench_run.restype = self.tool.bench_emitted.restype = ctypes.c_uint64
        self.tool.bench_run.argtypes = (
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32),
            *(ctypes.c_uint32, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32),
        )
        self.handle = self.tool.bench_create(ctypes.byref(self.engine))
        self._codec = Codec(program_from_json(self.engine.info.decode()))
        self.now = NOW

    def command(self, op: int, payload: bytes) -> bytes:
        reply, length = ctypes.c_void_p(), ctypes.c_uint32()
        code = self.engine.command(
            self.handle, op, payload, len(payload), NOW, ctypes.byref(reply), ctypes.byref(length)
        )
        data = ctypes.string_at(reply.value, length.value) if reply.value and length.value else b""
        if code:
            raise DatapathError(Code(code), data.decode(errors="replace"))
        return data

    def run(self, frames: list[bytes], packets: int, ahead: int = AHEAD) -> float:
        """Nanoseconds of CPU time per packet, each announced ``ahead`` packets before its turn (0: never)."""
        data, size = b"".join(frames), len(frames[0])
        took: int = self.tool.bench_run(
            ctypes.addressof(self.engine), self.handle, data, len(frames), size, PORTS[0], self.now, packets, ahead
        )
        self.now += packets
        return took / packets

    def close(self) -> None:
        self.engine.destroy(self.handle)

    # -- filling the tables ----------------------------------------------------------------------------------------

    def fill(self, updates: Iterator[TableUpdate]) -> None:
        batch: list[TableUpdate] = []
        for update in updates:
            batch.append(update)
            if len(batch) == BATCH:
                self._write(batch)
                batch = []
        self._write(batch)

    def _write(self, batch: list[TableUpdate]) -> None:
        bad = {code for code in self.table_write(batch) if code is not Code.OK}
        if bad:
            raise RuntimeError(f"entries refused: {bad}")

    def entry(self, table: str, keys: dict[str, Match], action: str, *params: int, priority: int = 0) -> TableUpdate:
        """An entry by names; ternary and range fields that are left out match everything."""
        info = self.codec.program
        index = next(i for i, t in enumerate(info.tables) if t.name == table)
        call = next(a for a in info.tables[index].actions if info.actions[a].name == action)
        widths = [width for _name, width in info.actions[call].params]
        values = tuple(v.to_bytes(octets(w), "big") for v, w in zip(params, widths, strict=True))
        key = []
        for field in info.tables[index].key:
            size = octets(field.width)
            everything = ((1 << field.width) - 1).to_bytes(size, "big")
            blank = (
                Match(bytes(size), high=everything)
                if field.kind is MatchKind.RANGE
                else Match(bytes(size), mask=bytes(size))
            )
            key.append(keys.get(field.name, blank))
        return TableUpdate(Op.INSERT, index, tuple(key), ActionCall(call, values), priority)

    def register(self, name: str) -> int:
        return next(i for i, r in enumerate(self.codec.program.registers) if r.name == name)


def prefixes(count: int, seed: int) -> list[tuple[int, int]]:
    """Distinct prefixes with lengths as in a backbone table: mostly /24, then /22 to /16."""
    chance = random.Random(seed)
    lengths = [24] * 60 + [23] * 8 + [22] * 12 + [21] * 5 + [20] * 5 + [19] * 4 + [18] * 3 + [17] * 1 + [16] * 2
    found: dict[tuple[int, int], None] = {}
    while len(found) < count:
        length = chance.choice(lengths)
        value = chance.randrange(1 << 24, 224 << 24) >> (32 - length) << (32 - length)
        found[value, length] = None
    return list(found)


def frames(routes: list[tuple[int, int]], size: int, seed: int) -> list[bytes]:
    """UDP frames to random addresses inside random prefixes."""
    chance = random.Random(seed)
    out = []
    for _ in range(FRAMES):
        value, length = chance.choice(routes)
        target = value | chance.randrange(1 << (32 - length))
        payload = size - 14 - 28
        source = socket.inet_aton("10.0.1.1")
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + payload, 0, 0, 64, 17, 0) + source + target.to_bytes(4, "big")
        ip = ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]
        udp = struct.pack(">HHHH", chance.randrange(1024, 65536), 5000, 8 + payload, 0)
        out.append(bytes.fromhex("020000000002020000000001") + b"\x08\x00" + ip + udp + bytes(payload))
    return out


def prepare(source: str | dict[str, Any], routes: list[tuple[int, int]]) -> Pipeline:
    """A pipeline with routes over GROUPS groups, next hops, live ports, ACL and classifier entries."""
    pipe = Pipeline(source)

    def updates() -> Iterator[TableUpdate]:
        for port in PORTS:
            key = {"port": Match(port.to_bytes(2, "big"))}
            yield pipe.entry("liveness_config", key, "monitor", 30_000, 1_000_000, 1000)
        for group in range(1, GROUPS + 1):
            key = {"group_id": Match(group.to_bytes(2, "big"))}
            yield pipe.entry("primary_nexthop", key, "set_nexthop", PORTS[group % 8], 1, 2)
            yield pipe.entry("shadow_nexthop", key, "set_nexthop_label", PORTS[(group + 1) % 8], 1, 2, 100 + group)
        for i in range(16):
            source_key = {"ipv4_src": Match(bytes((192, 0, 2, i)), mask=b"\xff\xff\xff\xff")}
            yield pipe.entry("acl", source_key, "acl_deny", priority=i + 1)
            target_key = {"ipv4_dst": Match(bytes((i + 1, 0, 0, 0)), mask=b"\xff\x00\x00\x00")}
            yield pipe.entry("classify", target_key, "set_flow", i, 1, 0, priority=i + 1)
        for n, (value, length) in enumerate(routes):
            key = {"dst": Match(value.to_bytes(4, "big"), prefix_len=length)}
            yield pipe.entry("route_ipv4", key, "set_group", n % GROUPS + 1)

    pipe.fill(updates())
    for name in ("liveness_last_seen",):
        pipe.register_fill(pipe.register(name), NOW // 1000 + 1_000_000)
    return pipe


def best(pipe: Pipeline, traffic: list[bytes], ahead: int = AHEAD) -> tuple[float, float]:
    """(fastest, slowest) of ROUNDS runs, nanoseconds per packet, after one to warm up."""
    before = pipe.tool.bench_emitted()
    pipe.run(traffic, PACKETS // 10, ahead)
    took = [pipe.run(traffic, PACKETS, ahead) for _ in range(ROUNDS)]
    sent = pipe.tool.bench_emitted() - before
    wanted = PACKETS // 10 + ROUNDS * PACKETS
    if sent != wanted:
        raise RuntimeError(f"{wanted - sent} of {wanted} packets were not forwarded: {pipe.stats()}")
    return min(took), max(took)


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    results: list[Result] = []
    samples = ROUNDS * PACKETS
    routes = prefixes(1000, 1)
    pipe = prepare(str(PROGRAM), routes)
    for size in (64, 1400):
        fast, slow = best(pipe, frames(routes, size, 2))
        results.append(
            Result(
                f"steering program, {size}-byte packets",
                "packets/s/core",
                1e9 / fast,
                ">= 2000000" if size == 64 else "",
                "simple_switch: about 1e5 on one core (behavioral-model docs/performance.md)",
                samples,
                f"1,000 prefixes; best of {ROUNDS}, slowest {1e9 / slow:,.0f}",
            )
        )
    pipe.close()
    program = json.loads(PROGRAM.read_text())
    for pipeline in program["pipelines"]:
        for table in pipeline["tables"]:
            if table["name"] == "route_ipv4":
                table["max_size"] = 1 << 20
    per_packet = {}
    for count in (1000, 1_000_000):
        routes = prefixes(count, 3)
        pipe = prepare(program, routes)
        traffic = frames(routes, 64, 4)
        per_packet[count], _slow = best(pipe, traffic)
        alone, _slow = best(pipe, traffic, 0)
        pipe.close()
        label = f"{count:,} prefixes, random destinations"
        notes = f"packets that nobody announces: {alone:.0f}"
        results.append(Result(label, "ns/packet", per_packet[count], samples=samples, notes=notes))
    ratio = per_packet[1_000_000] / per_packet[1000]
    results.append(
        Result(
            "a million prefixes against a thousand", "times", ratio, "<= 2", samples=2 * samples, notes="65,536 flows"
        )
    )
    write("engine_memory", results)
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
