"""The native decoder of large writes must agree with the Python one in every byte, or give up."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.api import Op
from engine.build import NATIVE, BuildError, build_executable
from engine.p4rt import decoder as module
from engine.p4rt.decoder import Decoder
from engine.p4rt.errors import P4Error
from engine.p4rt.schema import build
from engine.p4rt.stubs import p4r
from tests.p4runtime.fake import FakeBackend, program_of
from tests.p4runtime.harness import ACL, INSERT, SAMPLE, RawClient, drop, errors_of, exact, forward, prefix

SCHEMA = build(SAMPLE, program_of(SAMPLE))
pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)


@pytest.fixture(autouse=True)
def decode_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_BYTES", 1)


def request(*entries: p4r.TableEntry, **more: Any) -> p4r.WriteRequest:
    made = p4r.WriteRequest(device_id=1, **more)
    for entry in entries:
        made.updates.add(type=INSERT).entity.table_entry.CopyFrom(entry)
    return made


def python(entry: p4r.TableEntry, op: Op = Op.INSERT) -> bytes | None:
    try:
        return SCHEMA.tables[entry.table_id].update(op, entry)
    except P4Error:
        return None


def native(message: p4r.WriteRequest, step: int = 512) -> list[bytes] | None:
    done = Decoder(SCHEMA).decode(message.SerializeToString(), step)
    if done is None:
        return None
    out = []
    for count, body in done.slices:
        at = 0
        for _ in range(count):
            size = int.from_bytes(body[at : at + 4], "little")
            out.append(body[at + 4 : at + 4 + size])
            at += 4 + size
        assert at == len(body)
    return out


def a_value(rng: random.Random, width: int) -> bytes:
    value = rng.choice([0, 1, (1 << width) - 1, rng.getrandbits(width), rng.getrandbits(width + 3)])
    size = max(1, (value.bit_length() + 7) // 8) + rng.choice([0, 0, 0, 1, 2])
    return rng.choice([value.to_bytes(size, "big")] * 30 + [b""])


def an_entry(rng: random.Random) -> p4r.TableEntry:
    """Mostly right, sometimes wrong in every way that Python finds."""
    table = rng.choice(list(SCHEMA.tables.values()))
    entry = p4r.TableEntry(table_id=table.id)
    for field in table.fields:
        if rng.random() < 0.1:
            continue
        match = entry.match.add(field_id=field.id if rng.random() > 0.02 else 9)
        kind = field.kind.name.lower() if rng.random() > 0.02 else "exact"
        if kind == "exact":
            match.exact.value = a_value(rng, field.width)
        elif kind == "lpm":
            length = rng.randint(0, field.width + 1)
            bits = rng.getrandbits(field.width)
            if rng.random() < 0.9 and length <= field.width:
                bits &= ~((1 << (field.width - length)) - 1)
            match.lpm.value = bits.to_bytes((field.width + 7) // 8, "big")
            match.lpm.prefix_len = length
        elif kind == "range":
            match.range.low, match.range.high = sorted([a_value(rng, field.width), a_value(rng, field.width)])
        elif kind == "optional":
            match.optional.value = a_value(rng, field.width)
        else:
            mask = rng.getrandbits(field.width)
            value = rng.getrandbits(field.width) & (mask if rng.random() < 0.9 else -1)
            match.ternary.mask = mask.to_bytes((field.width + 7) // 8, "big")
            match.ternary.value = value.to_bytes((field.width + 7) // 8, "big")
    if rng.random() < 0.2:
        order = list(entry.match)
        rng.shuffle(order)
        del entry.match[:]
        entry.match.extend(order)
    if len(entry.match) and rng.random() < 0.03:
        entry.match.append(entry.match[0])
    entry.priority = rng.choice([0, 1, 77, -1]) if rng.random() < 0.3 else int(table.has_priority)
    if rng.random() < 0.1:
        entry.idle_timeout_ns = rng.choice([5, -5, 1 << 62])
    entry.action.CopyFrom(rng.choice([forward(rng.randint(0, 600), rng.getrandbits(48)), drop(), p4r.TableAction()]))
    if len(entry.action.action.params) and rng.random() < 0.1:
        entry.action.action.params[0].param_id = rng.randint(1, 3)
    return entry


def test_random_entries() -> None:
    rng = random.Random(5)
    both = neither = left = 0
    for _ in range(4000):
        entry = an_entry(rng)
        expected, found = python(entry), native(request(entry))
        if expected is None:
            assert found is None, entry
            neither += 1
        elif found is None:
            left += 1
        else:
            assert found == [expected], entry
            both += 1
    assert both > 400 and neither > 400 and left < both / 3, (both, neither, left)


def test_many_entries_in_slices() -> None:
    entries = [exact(n) for n in range(50)] + [prefix(n << 8, 24) for n in range(1, 51)]
    message = request(*entries, atomicity=2, role="r")
    message.election_id.high, message.election_id.low = 1, 2
    done = Decoder(SCHEMA).decode(message.SerializeToString(), 7)
    assert done is not None
    assert [count for count, _body in done.slices] == [7] * 14 + [2]
    assert (done.device_id, done.role, done.election, done.atomicity) == (1, "r", 1 << 64 | 2, 2)
    assert native(message, 7) == [python(entry) for entry in entries]


def test_what_it_leaves_to_others() -> None:
    assert native(request(exact(1, metadata=b"x"))) is None
    assert native(request(p4r.TableEntry(table_id=ACL, is_default_action=True, action=drop()))) is None
    register = p4r.WriteRequest(device_id=1)
    register.updates.add(type=INSERT).entity.register_entry.register_id = 1
    assert native(register) is None
    assert native(p4r.WriteRequest(device_id=1)) is None
    assert native(request(exact(1), exact(2, priority=3))) is None, "one that is wrong spoils all"


def test_any_bytes_at_all() -> None:
    rng = random.Random(6)
    good = request(*(exact(n) for n in range(20))).SerializeToString()
    decoder = Decoder(SCHEMA)
    for _ in range(3000):
        data = bytearray(good[: rng.randint(0, len(good))])
        for _ in range(rng.randint(0, 6)):
            if data:
                data[rng.randrange(len(data))] = rng.getrandbits(8)
        decoder.decode(bytes(data))


def test_errors_are_worded_as_ever(raw: RawClient, primary: Any, backend: FakeBackend) -> None:
    raw.insert(exact(7))
    sizes = len(backend.switch.sizes)
    with pytest.raises(grpc.RpcError) as caught:
        raw.insert(*(exact(n) for n in range(600)))
    codes = [error.canonical_code for error in errors_of(caught.value)]
    assert codes == [0] * 7 + [6] + [0] * 592
    assert backend.switch.sizes[sizes:] == [512, 88], "in the native decoder's slices"
    with pytest.raises(grpc.RpcError) as caught:
        raw.write(*((INSERT, {"table_entry": exact(n)}) for n in (1000, 7, 1001)), atomicity=2)
    assert [error.canonical_code for error in errors_of(caught.value)] == [10, 6, 10]
    raw.election = 77
    with pytest.raises(grpc.RpcError) as caught:
        raw.insert(exact(2000))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_mutated_requests_under_sanitizers(tmp_path: Path) -> None:
    """Buffers exactly as large as promised: nothing is read or written beyond them. More rounds: FUZZ_ROUNDS."""
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")
    sources = [NATIVE / "p4rt" / "decode.c", Path(__file__).parent / "fuzz_decode.c"]
    try:
        program = build_executable(sources, name="fuzz-decode", flags=flags, include=(NATIVE / "p4rt",))
    except BuildError as error:
        pytest.skip(f"no sanitizers here: {error}"[:200])
    decoder = Decoder(SCHEMA)
    (tmp_path / "plan").write_bytes(struct.pack("<I", decoder.most) + bytes(decoder.plan))
    rng = random.Random(8)
    good = [entry for entry in (an_entry(rng) for _ in range(2000)) if python(entry)][:60]
    (tmp_path / "request").write_bytes(request(*good, role="r", atomicity=1).SerializeToString())
    rounds = os.environ.get("FUZZ_ROUNDS", "20000")
    command = [str(program), "1", rounds, str(tmp_path / "plan"), str(tmp_path / "request")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 < int(done.stdout) < int(rounds), "some are still right, some are not"
