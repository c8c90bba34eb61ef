"""The JSON loader: damaged programs are refused with a sentence, or load and run.

A program that loads although it was damaged is a program of its own: a part of them is compiled with the sanitizers
and gets packets, because what the loader lets through the generated C has to stand.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from engine.api import ProgramError, Unsupported
from engine.build import BuildError
from engine.codegen import generate
from engine.compiled import parse_json
from engine.ir import Program
from engine.ir_load import load
from engine.program import program_info
from tests.engine.test_sanitized import PROGRAM_FILES
from tests.fuzz import packets
from tests.fuzz.common import Budget, Finding, Report

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 8, 9, 63, 64, 65, 128, 511, 512, 4096, 65_536, 1 << 31, 1 << 64, -(1 << 63)),
    *(
        0.5,
        1e300,
        "",
        "0x",
        "0x0",
        "0xffffffffffffffffff",
        "-1",
        "\0",
        "a" * 300,
        '"; abort(); //',
        "standard_metadata",
    ),
    *([], {}, [[]], [None], ["x", "y"], {"type": "field", "value": ["scalars", "x"]}),
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of every value in a document."""
    found: list[tuple[Any, Any]] = []
    stack = [document]
    while stack:
        node = stack.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            found.append((node, key))
            stack.append(value)
    return found


def damage(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A copy with a few values deleted, replaced, exchanged, repeated or a little changed."""
    damaged = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        spots = places(damaged)
        if not spots:
            return damaged
        node, key = chance.choice(spots)
        other, another = chance.choice(spots)
        value = node[key]
        match chance.randrange(7):
            case 0:
                del node[key]
            case 1:
                node[key] = chance.choice(ODD)
            case 2:
                node[key] = copy.deepcopy(other[another])
            case 3 if isinstance(value, list) and value:
                value.append(copy.deepcopy(chance.choice(value)))
            case 4 if isinstance(value, list):
                chance.shuffle(value)
            case 5 if isinstance(value, int) and not isinstance(value, bool):
                node[key] = value + chance.choice((-1, 1, 2, -2, 8, 256))
            case 6 if isinstance(value, str) and value.startswith("0x"):
                node[key] = hex(chance.getrandbits(chance.choice((1, 8, 33, 64, 129, 600))))
            case _:
                node[key] = chance.choice(ODD)
    return damaged


def damaged_text(text: bytes, chance: random.Random) -> bytes:
    data = bytearray(text)
    for _ in range(chance.randint(1, 4)):
        where = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[where] = chance.randrange(256)
            case 1:
                del data[where : where + chance.randint(1, 2000)]
            case 2:
                del data[where:]
            case _:
                data[where:where] = chance.choice((b"[" * 3000, b"{", b'"', b"\\ud800", b"1e999", b"9" * 5000, b"\0"))
        if not data:
            break
    return bytes(data)


def one(text: bytes) -> tuple[str, Program | None, str]:
    """(outcome, program, its C) of loading ``text`` as the server does; :class:`Finding` for any other exception."""
    try:
        program = load(parse_json(text))
        return "loaded", program, generate(program, program_info(program))
    except Unsupported:
        return "refused as unsupported", None, ""
    except ProgramError:
        return "refused as malformed", None, ""
    except Exception as error:
        raise Finding(f"the loader raised {type(error).__name__}: {error}", **{"program.json": text}) from error


def run(budget: Budget, seed: int, report: Report, *, compiled_share: float = 0.02, rounds: int = 20_000) -> None:
    """Damage documents until the budget is spent."""
    chance = random.Random(seed)
    texts = {name: path.read_bytes() for name, path in sorted(PROGRAM_FILES.items())}
    documents = {name: json.loads(text) for name, text in texts.items()}
    usual = {generate(program, program_info(program)) for program in map(load, documents.values())}
    while budget.left(report):
        name = chance.choice(sorted(texts))
        if chance.random() < 0.15:
            text = damaged_text(texts[name], chance)
        else:
            text = json.dumps(damage(documents[name], chance)).encode()
        outcome, program, source = one(text)
        report.inputs += 1
        report.outcomes[outcome] += 1
        if program is not None and source not in usual and chance.random() < compiled_share:
            try:
                packets.feed(packets.build(program), program, chance.randrange(1 << 30), rounds, Report(), name)
            except BuildError as error:
                raise Finding(f"the generated C does not compile: {error}", **{"program.json": text}) from error
            except Finding as finding:
                raise Finding(finding.what, **finding.files, **{"program.json": text}) from finding
            report.outcomes["compiled and fed packets"] += 1
