"""Compiled code for what an analyzer does at every sample, where the process has a compiler (``ml/native``).

An array operation of numpy on a few rows costs a third of a microsecond, and after a pause, with its code out of the
processor's caches, two or three times that; learning a sample and judging what changed takes hundreds of them. The C
functions do the same operations in the same order, many in one call, and give the same bits, which the tests demand;
numpy's own code stays, for machines without a compiler and as the reference.

This module compiles nothing: whoever starts a process gives it the library with :func:`use`, before the banks that are
to use it are made (``control/kernels.py`` does so for the service).
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCES = Path(__file__).parent / "native"
# Operations are neither fused nor reordered: results are those of numpy.
FLAGS = ("-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno")
Call = Callable[[], int]
SHARED = threading.Lock()  # held while scratch arrays of a model are in use: models are shared, banks are not
_SCALARS: dict[str, Any] = {"int64_t": ctypes.c_int64, "double": ctypes.c_double}
_ARRAYS = {"int64_t": (np.int64,), "double": (np.float64,), "uint8_t": (np.uint8, np.bool_), "float": (np.float32,)}


def _members(body: str) -> dict[str, tuple[str, bool]]:
    """Type and whether it is an array, of each member of a struct."""
    found = {}
    for kind, names in re.findall(r"(?:const )?(\w+) ([^;]+);", re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)):
        for name in names.split(","):
            found[name.strip().lstrip("*")] = kind, "*" in name
    return found


def structs() -> dict[str, dict[str, tuple[str, bool]]]:
    """Members of the structs that the functions take, from their header."""
    text = (SOURCES / "kernels.h").read_text()
    return {name: _members(body) for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, re.DOTALL | re.M)}


class Kernels:
    """The functions of one library. They are called with Python's lock held: giving it up for microseconds would invite
    another thread to take it for milliseconds."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.PyDLL(str(path))
        self._members = structs()
        self._kinds: dict[str, Any] = {}
        for name, members in self._members.items():
            fields = [(k, ctypes.c_void_p if array else _SCALARS[kind]) for k, (kind, array) in members.items()]
            self._kinds[name] = type(name, (ctypes.Structure,), {"_fields_": fields})

    def pack(self, struct: str, values: dict[str, Any]) -> ctypes.Structure:
        """A struct whose members are ``values``: numbers, and arrays, which it keeps alive. Raises ``TypeError`` for a
        member that is missing, unknown, of another type, or no contiguous array."""
        members = self._members[struct]
        if set(values) != set(members):
            raise TypeError(f"struct {struct}: {sorted(set(values) ^ set(members))} missing or unknown")
        found: Any = self._kinds[struct]()
        for name, (kind, array) in members.items():
            value = values[name]
            if array and value is not None:
                if value.dtype.type not in _ARRAYS[kind] or not value.flags.c_contiguous:
                    raise TypeError(f"struct {struct}: {name} is no contiguous array of {kind}")
                value = value.ctypes.data
            setattr(found, name, value)
        found.kept = values
        return found  # type: ignore[no-any-return]

    def bind(self, function: str, packed: ctypes.Structure) -> Call:
        """A function of the library with its struct; returns what it returns."""
        found = self._library[function]
        found.restype = ctypes.c_int64
        return partial(found, ctypes.byref(packed))


def address(array: NDArray[Any]) -> int | None:
    """Where a contiguous array begins, in a third of the time of ``array.ctypes``; None of an empty one."""
    if not array.flags.writeable:
        return array.ctypes.data
    # numpy's arrays are buffers, which their annotations say from Python 3.12 on only.
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if array.size else None  # type: ignore[arg-type,unused-ignore]


_active: list[Kernels] = []


def use(path: Path | None) -> None:
    """From now on bind this library's functions; None: those of numpy. Raises ``OSError`` for what is no library."""
    _active[:] = [] if path is None else [Kernels(path)]


def active() -> Kernels | None:
    """The library in use."""
    return _active[0] if _active else None
