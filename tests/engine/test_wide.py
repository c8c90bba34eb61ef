"""Numbers of more than 128 bits: generated C against Python's integers, field by field of ``wide.p4``."""

from __future__ import annotations

import zlib
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.library import Switch
from tests.engine.engine_support import compiled, pack, source, unpack
from tests.engine.test_arithmetic import clamp, edge, signed

INPUT = tuple(
    (name, width)
    for name, width in (
        *(("a", 136), ("b", 136), ("c", 256), ("d", 256), ("e", 2048), ("f", 2048)),
        *(("i", 192), ("j", 192), ("q", 64), ("k", 8), ("n", 16)),
    )
)
BIG = 0x123456789ABCDEF0FEDCBA9876543210123456789ABCDEF0FEDCBA9876543210


@cache
def output() -> tuple[tuple[str, int], ...]:
    (kind,) = (t for t in source("wide")["header_types"] if t["name"] == "out_t")
    return tuple((field[0], field[1]) for field in kind["fields"])


@cache
def switch() -> Switch:
    return Switch(compiled("wide"))


def bits(value: int, high: int, low: int) -> int:
    return value >> low & ((1 << (high - low + 1)) - 1)


def csum16(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def expected(v: dict[str, int]) -> dict[str, int]:
    """What the program's results are, by the language's rules."""
    a, b, c, d, e, f, k = (v[name] for name in "abcdefk")
    i, j = signed(v["i"], 192), signed(v["j"], 192)
    kept = (c - d) % (1 << 256)
    top = 1 << 191
    out = {
        "iadd": i + j,
        "isub": i - j,
        "imul": i * j,
        "isadd": clamp(i + j, -top, top - 1),
        "issub": clamp(i - j, -top, top - 1),
        "ishr": i >> k,
        "ineg": -i,
        "iless": i < j,
        "uless": c < d,
        "same": c == d,
        "zero": a == 0,
        "within": a <= c,
        "mix136": ((a * 1000 + b) % (1 << 136)) >> 3,
        "mux136": max(a, b),
        "neg136": -a,
        "not256": ~c,
        "and256": c & d,
        "or256": c | d,
        "xor256": c ^ d,
        "pad256": a,
        "const256": c + BIG,
        "shl2048": e << k << 250,
        "shr2048": e >> k >> 250,
        "cat2048": bits(e, 1023, 0) << 1024 | bits(f, 2047, 1024),
        "concat": c << 8 | k,
        "slice": bits(c, 199, 128),
        "wslice": bits(e, 1999, 1864),
        "insert": c & ~(((1 << 136) - 1) << 72) | a << 72,
        "widen": i,
        "narrow": c,
        "inarrow": i,
        "read256": kept,
        "read64": kept >> 100,
        "read16": kept,
        "crc": zlib.crc32(e.to_bytes(256, "big") + f.to_bytes(256, "big") + v["i"].to_bytes(24, "big")),
        "sum": csum16(a.to_bytes(17, "big") + c.to_bytes(32, "big")),
    }
    for width, x, y in ((136, a, b), (256, c, d), (2048, e, f)):
        limit = (1 << width) - 1
        out[f"add{width}"] = x + y
        out[f"sub{width}"] = x - y
        out[f"mul{width}"] = x * y
        if width != 2048:
            out[f"sadd{width}"] = clamp(x + y, 0, limit)
            out[f"ssub{width}"] = clamp(x - y, 0, limit)
            out[f"shl{width}"] = x << k
            out[f"shr{width}"] = x >> k
    return {name: int(out[name]) & ((1 << width) - 1) for name, width in output()}


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({name: edge(width) for name, width in INPUT}))
def test_results_are_those_of_unlimited_integers(values: dict[str, int]) -> None:
    ((_port, data),) = switch().process(1, pack(INPUT, values), 0)
    got = unpack(output(), data)
    assert got == expected(values)


def test_the_model_itself_notices_a_wrong_result() -> None:
    values = dict.fromkeys((name for name, _w in INPUT), 3)
    right = expected(values)
    assert right["add136"] == 6 and right["ssub256"] == 0 and right["shl256"] == 24
    assert right["neg136"] == (1 << 136) - 3
