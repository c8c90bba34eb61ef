"""Strings that controllers write (``@p4runtime_translation(uri, string)``), and their numbers in the data plane.

P4Runtime 1.4, "User-defined types" and "PSA Metadata Translation": what a string stands for is the target's business.
Here, per P4 type and in this order:

1. the pairs of an annotation ``@p4runtime_translation_mappings({{"name", number}, ...})`` of the type;
2. a decimal number stands for itself;
3. any other string gets the largest number that is free, when it is first written.

A mapping never changes while the pipeline runs. A number that nobody named is read as its decimal form.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from typing import Any

from engine.p4rt.errors import P4Error, Rpc, invalid
from engine.p4rt.stubs import p4i

MOST_BYTES = 1024  # of one string
MOST_NAMES = 1 << 16  # of one type
_MAPPINGS = re.compile(r"@p4runtime_translation_mappings\s*\((.*)\)\s*\Z", re.DOTALL)
_PAIR = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*,\s*(0[xX][0-9a-fA-F]+|\d+)\s*\}')


class Names:
    """Strings of one P4 type, ``width`` bits in the data plane. Thread-safe."""

    def __init__(self, type_name: str, width: int, fixed: Iterable[tuple[bytes, int]] = ()) -> None:
        self.type_name = type_name
        self.width = width
        self.changed = False
        self._lock = threading.Lock()
        self._numbers: dict[bytes, int] = {}
        self._strings: dict[int, bytes] = {}
        self._next = (1 << width) - 1
        for string, number in fixed:
            if number >> width:
                raise invalid(f"P4Info: type {type_name} maps {_text(string)} to {number}, which is no bit<{width}>")
            if self._numbers.get(string, number) != number or self._strings.get(number, string) != string:
                raise invalid(f"P4Info: type {type_name} maps {_text(string)} or {number} twice")
            self._put(string, number)

    def _put(self, string: bytes, number: int) -> None:
        self._numbers[string] = number
        self._strings[number] = string

    def number(self, string: bytes, what: str) -> int:
        """The number of a string, chosen now when it is new."""
        found = self._numbers.get(string)
        if found is not None:
            return found
        if not string:
            raise invalid(f"{what}: empty string")
        if len(string) > MOST_BYTES:
            raise invalid(f"{what}: a string of {len(string)} bytes, at most {MOST_BYTES} are possible")
        with self._lock:
            found = self._numbers.get(string)
            if found is None:
                found = self._choose(string, what)
                self._put(string, found)
                self.changed = True
            return found

    def _choose(self, string: bytes, what: str) -> int:
        if string.isdigit() and (string == b"0" or not string.startswith(b"0")) and len(string) <= 40:
            number = int(string)
            if not number >> self.width and number not in self._strings:
                return number
        if len(self._numbers) < MOST_NAMES:
            while self._next > 0:
                number = self._next
                self._next -= 1
                if number not in self._strings:
                    return number
        raise P4Error(Rpc.RESOURCE_EXHAUSTED, f"{what}: no number is left for {_text(string)} in type {self.type_name}")

    def string(self, number: int) -> bytes:
        """The string of a number; its decimal form, which from now on means that number, when nobody named it."""
        found = self._strings.get(number)
        if found is not None:
            return found
        with self._lock:
            found = self._strings.get(number)
            if found is None:
                found = str(number).encode()
                while found in self._numbers:  # the decimal form was given to another number
                    found = b"#" + found
                self._put(found, number)
                self.changed = True
            return found

    def items(self) -> list[tuple[bytes, int]]:
        with self._lock:
            return list(self._numbers.items())


class Translations:
    """All string types of a P4Info. ``kept`` is what :meth:`pack` made for a former pipeline."""

    def __init__(self, p4info: p4i.P4Info, kept: bytes | None = None) -> None:
        self._p4info = p4info
        self._types: dict[str, Names] = {}
        self._kept: dict[str, dict[str, int]] = json.loads(kept) if kept else {}

    def of(self, type_name: str, width: int, what: str) -> Names | None:
        """The strings of a type, None when it is not translated to strings."""
        spec = self._p4info.type_info.new_types.get(type_name) if type_name else None
        if spec is None or spec.WhichOneof("representation") != "translated_type":
            return None
        if spec.translated_type.WhichOneof("sdn_type") != "sdn_string":
            return None
        names = self._types.get(type_name)
        if names is None:
            names = self._types[type_name] = Names(type_name, width, _fixed(spec))
            for string, number in self._kept.get(type_name, {}).items():
                if not number >> width and number not in names._strings:
                    names._put(string.encode("latin-1"), number)
        elif names.width != width:
            raise invalid(f"{what}: type {type_name} is bit<{names.width}> elsewhere and bit<{width}> here")
        return names

    @property
    def changed(self) -> bool:
        return any(names.changed for names in self._types.values())

    def pack(self) -> bytes:
        """All mappings, for the next server or pipeline."""
        for names in self._types.values():
            names.changed = False
        return json.dumps(
            {name: {s.decode("latin-1"): n for s, n in names.items()} for name, names in self._types.items()}
        ).encode()


def _fixed(spec: Any) -> list[tuple[bytes, int]]:
    for annotation in spec.annotations:
        match = _MAPPINGS.match(annotation.strip())
        if match:
            return [(name.encode(), int(number, 0)) for name, number in _PAIR.findall(match[1])]
    return []


def _text(string: bytes) -> str:
    return repr(string.decode(errors="backslashreplace"))
