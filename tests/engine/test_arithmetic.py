"""Generated C against Python's integers, field by field of ``arith.p4``."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.library import Switch
from tests.engine.engine_support import compiled, pack, source, unpack

INPUT = tuple(
    (name, width)
    for name, width in (
        *(("a", 8), ("b", 8), ("c", 32), ("d", 32), ("e", 64), ("f", 64)),
        *(("g", 128), ("h", 128), ("i", 16), ("j", 16), ("n", 8)),
    )
)


@cache
def output() -> tuple[tuple[str, int], ...]:
    (kind,) = (t for t in source("arith")["header_types"] if t["name"] == "out_t")
    return tuple((field[0], field[1]) for field in kind["fields"])


@cache
def switch() -> Switch:
    return Switch(compiled("arith"))


def signed(value: int, width: int) -> int:
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def expected(v: dict[str, int]) -> dict[str, int]:
    """What the program's results are, by the language's rules."""
    a, b, c, d, e, f, g, h, n = (v[k] for k in "abcdefghn")
    i, j = signed(v["i"], 16), signed(v["j"], 16)
    out = {
        "add8": a + b,
        "sub8": a - b,
        "mul8": a * b,
        "sadd8": clamp(a + b, 0, 255),
        "ssub8": clamp(a - b, 0, 255),
        "neg8": -a,
        "not8": ~a,
        "shl8": a << n,
        "shr8": a >> n,
        "and8": a & b,
        "or8": a | b,
        "xor8": a ^ b,
        "iadd": i + j,
        "isub": i - j,
        "imul": i * j,
        "isadd": clamp(i + j, -(1 << 15), (1 << 15) - 1),
        "issub": clamp(i - j, -(1 << 15), (1 << 15) - 1),
        "ishr": i >> n,
        "ineg": -i,
        "iless": i < j,
        "uless": e < f,
        "uless128": g < h,
        "concat": a << 16 | b << 8 | n,
        "slice": g >> 88,
        "pad": c >> 4,
        "widen": i,
        "cast16": i,
        "mux": max(a, b),
        "mixed": ((a * 1000 + b) & 0xFFFFFF) >> 3,
        "add128": g + h,
        "sub128": g - h,
        "xor128": g ^ ~h,
        "shl128": g << n,
        "shr128": g >> n,
    }
    for width, x, y in ((32, c, d), (64, e, f)):
        top = (1 << width) - 1
        out[f"add{width}"] = x + y
        out[f"sub{width}"] = x - y
        out[f"mul{width}"] = x * y
        out[f"sadd{width}"] = clamp(x + y, 0, top)
        out[f"ssub{width}"] = clamp(x - y, 0, top)
        out[f"shl{width}"] = x << n
        out[f"shr{width}"] = x >> n
    return {name: int(out[name]) & ((1 << width) - 1) for name, width in output()}


def edge(width: int) -> st.SearchStrategy[int]:
    """Any value, and more often those at which carries and signs turn."""
    top = 1 << width
    near = [0, 1, 2, top - 1, top - 2, top >> 1, (top >> 1) - 1, (top >> 1) + 1]
    return st.one_of(st.sampled_from([x % top for x in near]), st.integers(0, top - 1))


SHIFTS = st.one_of(st.sampled_from([0, 1, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255]), st.integers(0, 255))


@settings(max_examples=400, deadline=None)
@given(st.fixed_dictionaries({name: SHIFTS if name == "n" else edge(width) for name, width in INPUT}))
def test_results_are_those_of_unlimited_integers(values: dict[str, int]) -> None:
    ((_port, data),) = switch().process(1, pack(INPUT, values), 0)
    got = unpack(output(), data)
    assert got == expected(values)


def test_the_model_itself_notices_a_wrong_result() -> None:
    values = dict.fromkeys((name for name, _w in INPUT), 3)
    right = expected(values)
    assert right["add8"] == 6 and right["ssub8"] == 0 and right["neg8"] == 253 and right["shl8"] == 24
