"""STF packet tests, as p4c's samples carry them: a reader of the format, and their execution on a switch in memory.

One statement a line, ``#`` starts a comment::

    add TABLE [PRIORITY] KEY:VALUE ... ACTION(PARAM:VALUE, ...) [= NAME]
    setdefault TABLE ACTION(PARAM:VALUE, ...)
    packet PORT HEX            # hexadecimal digits, spaces anywhere
    expect PORT [HEX]          # "*" stands for any digit, a final "$" for "and nothing behind it"
    check_counter NAME(INDEX) [packets|bytes OPERATOR NUMBER]
    mirroring_add SESSION PORT | mirroring_add_mc SESSION GROUP
    mc_mgrp_create GROUP | mc_node_create RID PORT ... | mc_node_associate GROUP NODE
    register_write NAME INDEX VALUE | register_reset NAME | counter_write NAME INDEX PACKETS BYTES
    meter_set_rates NAME INDEX RATE:BURST RATE:BURST | meter_array_set_rates NAME RATE:BURST RATE:BURST

A value is decimal, ``0x...`` or ``0b...``; ``*`` in place of digits, ``/LENGTH`` for prefixes. Rates are packets or
bytes per microsecond. Larger priorities win. Names may be cut to their ends, and ``a$1`` is ``a[1]``.
"""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.api import ActionCall, Code, KeyField, Match, MatchKind, Op, TableUpdate
from engine.codec import octets
from engine.library import Switch

STEP_NS = 1_000_000  # between two packets
IGNORED = {"wait", "mirroring_get", "register_read", "counter_read", "meter_get_rates", "no_packet", "remove"}
COMPARE: dict[str, Callable[[int, int], bool]] = {
    **{"==": operator.eq, "!=": operator.ne, "<": operator.lt},
    **{"<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
_CALL = re.compile(r"^(?P<head>.*?)\s*(?P<action>[\w.$\[\]\"]+)\s*\((?P<args>.*?)\)\s*(?:=\s*\S+\s*)?$")


class StfError(Exception):
    """A test that cannot be read or carried out; the text names the line."""


@dataclass(frozen=True, slots=True)
class Statement:
    line: int
    verb: str
    words: tuple[str, ...]  # what follows the verb


@dataclass(frozen=True, slots=True)
class Call:
    """An action with its arguments by name."""

    action: str
    arguments: dict[str, str]


def read(path: Path) -> list[Statement]:
    """Statements of a file; the last "word" of ``add`` and ``setdefault`` is the action's call."""
    out = []
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        text = raw.partition("#")[0].strip()
        if not text:
            continue
        verb, _, rest = text.partition(" ")
        verb = verb.lower()
        if verb in ("packet", "expect"):
            port, _, data = rest.strip().partition(" ")
            out.append(Statement(number, verb, (port, re.sub(r"\s", "", data).lower())))
        elif verb in ("add", "setdefault"):
            found = _CALL.match(rest)
            if not found:
                raise StfError(f"{path.name}:{number}: no action in {text!r}")
            head = re.sub(r"\s*([:/])\s*", r"\1", found["head"]).replace('"', "").split()
            text = f"{found['action']}({found['args'].strip()})".replace('"', "")
            out.append(Statement(number, verb, (*head, text)))
        else:
            out.append(Statement(number, verb, tuple(rest.replace('"', "").split())))
    return out


def call(text: str) -> Call:
    """
    >>> call("set(a:1, b : 0x2)")
    Call(action='set', arguments={'a': '1', 'b': '0x2'})
    """
    name, _, rest = text.partition("(")
    pairs = [part.split(":", 1) for part in rest.rstrip(")").split(",") if part.strip()]
    return Call(name.strip(), {key.strip(): value.strip() for key, value in pairs})


def number(text: str) -> int:
    """
    >>> number("10"), number("0x10"), number("0b10")
    (10, 16, 2)
    """
    return int(text, 0) if text[:2].lower() in ("0x", "0b", "0o") else int(text)


def pattern(text: str) -> tuple[int, int | None]:
    """(value, mask) of a number with ``*`` for digits that do not matter; mask None: all bits matter.

    >>> pattern("0x1*"), pattern("0b1*0"), pattern("7")
    ((16, 240), (4, 5), (7, None))
    """
    if "*" not in text:
        return number(text), None
    base = {"0x": 16, "0b": 2, "0o": 8}[text[:2].lower()]
    digits = text[2:]
    full = {16: "f", 2: "1", 8: "7"}[base]
    return int(digits.replace("*", "0"), base), int("".join("0" if d == "*" else full for d in digits), base)


def match(field: KeyField, text: str | None) -> Match:
    """A key field's match; None matches anything (0 for an exact field)."""
    size, full = octets(field.width), (1 << field.width) - 1
    if field.kind is MatchKind.EXACT:
        return Match(number(text or "0").to_bytes(size, "big"))
    if field.kind is MatchKind.LPM:
        value, _, length = (text or "0/0").partition("/")
        if not length and "*" in value:
            digit = {"0x": 4, "0b": 1, "0o": 3}[value[:2].lower()]
            length = str(digit * sum(d != "*" for d in value[2:]))
        bits = int(length) if length else field.width
        masked = pattern(value)[0] >> (field.width - bits) << (field.width - bits)
        return Match(masked.to_bytes(size, "big"), prefix_len=bits)
    if field.kind is MatchKind.RANGE:
        value, _, high = (text or f"0..{full}").partition("..")
        return Match(number(value).to_bytes(size, "big"), high=number(high or value).to_bytes(size, "big"))
    value, _, explicit = (text or "0&&&0").partition("&&&")
    wanted, mask = pattern(value)
    if explicit:
        mask = number(explicit)
    mask = full if mask is None else mask & full
    return Match((wanted & mask).to_bytes(size, "big"), mask=mask.to_bytes(size, "big"))


def by_name(names: Sequence[str], wanted: str, what: str) -> int:
    """Position of a name, or of the only one that ends with it."""
    if wanted in names:
        return names.index(wanted)
    wanted = re.sub(r"\$(\d+)", r"[\1]", wanted)
    for candidate in (wanted, wanted + "$", wanted + ".$valid$", re.sub(r"\.valid$", ".$valid$", wanted)):
        if candidate in names:
            return names.index(candidate)
    endings = (wanted, f"{wanted}$", "$valid$") if wanted == "valid" else (wanted, f"{wanted}$")
    for prefix in (".", ""):
        found = [i for i, name in enumerate(names) if name.endswith(tuple(prefix + e for e in endings))]
        if found:
            return found[0]
    raise StfError(f"no {what} {wanted!r} among {', '.join(names)}")


class Runner:
    """Carries out a test on a switch in memory and says what differed."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        info = switch.program
        assert info is not None
        self.info = info
        self.expected: defaultdict[int, list[str]] = defaultdict(list)
        self.seen: defaultdict[int, list[bytes]] = defaultdict(list)
        self.problems: list[str] = []
        self.now_ns = 1_000_000_000
        self._ports: set[int] = set()
        self._groups: dict[int, list[tuple[int, int]]] = {}
        self._nodes: list[list[tuple[int, int]]] = []
        self._sessions: dict[int, int] = {}  # session to group

    def run(self, statements: Sequence[Statement]) -> list[str]:
        """Differences between what was expected and what happened; empty when the test passes.

        Raises:
            StfError: a statement cannot be carried out.
        """
        self.carry_out(statements)
        return self.differences()

    def carry_out(self, statements: Sequence[Statement]) -> None:
        """Do what the statements say, without a look at what came. Raises StfError as :meth:`run`."""
        self._ports |= {int(s.words[0]) for s in statements if s.verb in ("packet", "expect") and s.words[0]}
        for statement in statements:
            if statement.verb in IGNORED:
                continue
            handler = getattr(self, "_do_" + statement.verb, None)
            if handler is None:
                raise StfError(f"line {statement.line}: unknown statement {statement.verb}")
            try:
                handler(*statement.words)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise StfError(f"line {statement.line}: {error}") from error

    def differences(self) -> list[str]:
        """What went wrong, and where the frames seen are not those expected."""
        return [*self.problems, *self._differences()]

    def _differences(self) -> Iterator[str]:
        for port in sorted(self._ports):
            seen, wanted = self.seen[port], self.expected[port]
            if "" in wanted and len(set(wanted)) == 1:
                if not seen:
                    yield f"port {port}: nothing came"
                continue
            if len(seen) != len(wanted):
                yield f"port {port}: {len(seen)} frames instead of {len(wanted)}"
            for i, (data, text) in enumerate(zip(seen, wanted, strict=False), 1):
                if not same(text, data):
                    yield f"port {port}, frame {i}: {data.hex()} instead of {text}"

    # -- statements ----------------------------------------------------------------------------------------------

    def _do_packet(self, port: str, data: str) -> None:
        self.now_ns += STEP_NS
        for out, frame in self.switch.process(int(port), bytes.fromhex(data), self.now_ns):
            self.seen[out].append(frame)

    def _do_expect(self, port: str, data: str) -> None:
        self.expected[int(port)].append(data)

    def _action(self, table: int, text: str) -> ActionCall:
        wanted = call(text)
        allowed = self.info.tables[table].actions
        index = allowed[by_name([self.info.actions[a].name for a in allowed], wanted.action, "action")]
        params = self.info.actions[index].params
        if set(wanted.arguments) != {name for name, _w in params}:
            raise StfError(f"arguments {sorted(wanted.arguments)} of {wanted.action}")
        values = tuple(number(wanted.arguments[n]) & ((1 << w) - 1) for n, w in params)
        return ActionCall(index, tuple(v.to_bytes(octets(w), "big") for v, (_n, w) in zip(values, params, strict=True)))

    def _table(self, name: str) -> int:
        return by_name([t.name for t in self.info.tables], name, "table")

    def _write(self, update: TableUpdate) -> None:
        code = self.switch.table_write([update])[0]
        if code is not Code.OK:
            self.problems.append(f"{self.info.tables[update.table].name}: an entry was refused: {code.name}")

    def _do_add(self, name: str, *words: str) -> None:
        *fields, action = words
        table = self._table(name)
        key = self.info.tables[table].key
        priority = int(fields.pop(0)) if fields and ":" not in fields[0] else 0
        names = [f.name for f in key]
        given: dict[int, str] = {}
        for item in fields:
            label, _, value = item.partition(":")
            given[by_name(names, label, "key field")] = value
        matches = tuple(match(field, given.get(i)) for i, field in enumerate(key))
        ordered = any(f.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for f in key)
        self._write(
            TableUpdate(Op.INSERT, table, matches, self._action(table, action), (priority + 1) if ordered else 0)
        )

    def _do_setdefault(self, name: str, action: str) -> None:
        table = self._table(name)
        self._write(TableUpdate(Op.MODIFY, table, (), self._action(table, action)))

    def _do_check_counter(self, *words: str) -> None:
        found = re.match(
            r"(\S+?)\s*\(\s*(\S+?)\s*\)\s*(?:(packets|bytes)\s*(==|!=|<=|>=|<|>)\s*(\d+))?$", " ".join(words)
        )
        if not found:
            raise StfError(f"check_counter {' '.join(words)}")
        name, index, unit, compare, wanted = found.groups()
        counter = by_name([c.name for c in self.info.counters], name, "counter")
        packets, octets_ = self.switch.counter_read(counter, int(index))[0]
        value = octets_ if unit == "bytes" else packets
        if not COMPARE[compare or "=="](value, int(wanted or 0)):
            self.problems.append(f"counter {name}({index}) is {value}, not {compare} {wanted}")

    def _do_mc_mgrp_create(self, group: str) -> None:
        self._groups[int(group)] = []

    def _do_mc_node_create(self, rid: str, *ports: str) -> None:
        self._nodes.append([(int(port), int(rid)) for port in ports])

    def _do_mc_node_associate(self, group: str, node: str) -> None:
        known = self._groups[int(group)]
        known += self._nodes[int(node)]
        self.switch.multicast_write(Op.INSERT if known == self._nodes[int(node)] else Op.MODIFY, int(group), known)
        for session in [s for s, g in self._sessions.items() if g == int(group)]:
            self.switch.clone_write(Op.MODIFY, session, known)

    def _do_mirroring_add(self, session: str, port: str) -> None:
        self.switch.clone_write(Op.INSERT, int(session), [(int(port), 0)])

    def _do_mirroring_add_mc(self, session: str, group: str) -> None:
        self._sessions[int(session)] = int(group)
        self.switch.clone_write(Op.INSERT, int(session), self._groups[int(group)])

    def _do_register_write(self, name: str, index: str, value: str) -> None:
        register = by_name([r.name for r in self.info.registers], name, "register")
        self.switch.register_write(register, number(index), number(value))

    def _do_register_reset(self, name: str) -> None:
        self.switch.register_fill(by_name([r.name for r in self.info.registers], name, "register"), 0)

    def _do_counter_write(self, name: str, index: str, packets: str, bytes_: str) -> None:
        counter = by_name([c.name for c in self.info.counters], name, "counter")
        self.switch.counter_write(counter, number(index), number(packets), number(bytes_))

    def _rates(self, words: Sequence[str]) -> tuple[int, int, int, int]:
        (cir, cburst), (pir, pburst) = (word.split(":") for word in words)
        return round(float(cir) * 1e6), int(cburst), round(float(pir) * 1e6), int(pburst)

    def _do_meter_set_rates(self, name: str, index: str, *rates: str) -> None:
        meter = by_name([m.name for m in self.info.meters], name, "meter")
        self.switch.meter_write(meter, number(index), self._rates(rates))

    def _do_meter_array_set_rates(self, name: str, *rates: str) -> None:
        meter = by_name([m.name for m in self.info.meters], name, "meter")
        for index in range(self.info.meters[meter].size):
            self.switch.meter_write(meter, index, self._rates(rates))


def same(text: str, data: bytes) -> bool:
    """Whether a frame fits an expectation.

    >>> same("0a*1", b"\\x0a\\xb1\\xff"), same("0a*1$", b"\\x0a\\xb1\\xff"), same("", b"")
    (True, False, True)
    """
    exact = text.endswith("$")
    text = text.rstrip("$")
    digits = data.hex()
    if len(digits) < len(text) or (exact and len(digits) != len(text)):
        return False
    return all(a in ("*", b) for a, b in zip(text, digits, strict=False))
