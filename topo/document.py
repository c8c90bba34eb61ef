"""Strict reading of YAML and JSON documents: every error names the file, the line (or element) and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 64


class DocumentError(ValueError):
    """A document that does not say what it should; the text begins with ``file:line:`` or ``file: element:``."""


@dataclass(frozen=True, slots=True)
class Item:
    """One value of a document and where it stands."""

    value: Any  # None, bool, int, float, str, list[Item] or dict[str, Item]
    source: str  # file name
    line: int | None  # from 1; None in JSON documents
    path: str  # "links[3].a"; "" for the document itself

    @property
    def where(self) -> str:
        if self.line is not None:
            return f"{self.source}:{self.line}"
        return f"{self.source}: {self.path}" if self.path else self.source

    def error(self, text: str) -> DocumentError:
        return DocumentError(f"{self.where}: {text}")

    def _key(self) -> str:
        return self.path.rsplit(".", 1)[-1] or "document"

    def fields(self, known: Iterable[str], required: Iterable[str] = ()) -> dict[str, Item]:
        """The entries of a mapping; unknown and missing keys are errors."""
        if not isinstance(self.value, dict):
            raise self.error(f"{self._key()}: wanted a mapping, found {_kind(self.value)}")
        names = [*known, *(name for name in required if name not in set(known))]
        for key, item in self.value.items():
            if key not in names:
                close = get_close_matches(key, names, 1)
                hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(names)})"
                raise item.error(f"unknown key {key!r}{hint}")
        for key in required:
            if key not in self.value:
                raise self.error(f"{self._key()}: key {key!r} is missing")
        return dict(self.value)

    def entries(self) -> dict[str, Item]:
        """A mapping with keys of the author's choice."""
        if not isinstance(self.value, dict):
            raise self.error(f"{self._key()}: wanted a mapping, found {_kind(self.value)}")
        return dict(self.value)

    def items(self) -> list[Item]:
        if not isinstance(self.value, list):
            raise self.error(f"{self._key()}: wanted a list, found {_kind(self.value)}")
        return list(self.value)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error(f"{self._key()}: wanted text, found {_kind(self.value)}")
        return self.value

    def choice(self, known: Iterable[str]) -> str:
        names = list(known)
        text = self.text()
        if text not in names:
            raise self.error(f"{self._key()}: unknown value {text!r} (known: {', '.join(names)})")
        return text

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.error(f"{self._key()}: wanted true or false, found {_kind(self.value)}")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"{self._key()}: wanted a number, found {_kind(self.value)}")
        try:
            value = float(self.value)
        except OverflowError:
            value = math.inf
        if not low <= value <= high or not math.isfinite(value):
            raise self.error(f"{self._key()}: {self.value} is not in {_bound(low)}..{_bound(high)}")
        return value

    def integer(self, low: int, high: int) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"{self._key()}: wanted an integer, found {_kind(self.value)}")
        if not low <= self.value <= high:
            raise self.error(f"{self._key()}: {self.value} is not in {low}..{high}")
        return self.value

    def plain(self) -> Any:
        """The value as ordinary Python data."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def read(path: Path) -> Item:
    """Parse a file by its extension: ``.json`` as JSON, everything else as YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise DocumentError(f"{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise DocumentError(f"{path}: not UTF-8 text (byte {exc.start})") from exc
    return parse_json(text, str(path)) if path.suffix == ".json" else parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Item:
    """One YAML document with the line of each value. Duplicate keys, anchors' cycles and non-text keys are errors."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise DocumentError(f"{source}:1: the document is empty")
        return _from_node(loader, node, source, "", node.start_mark.line + 1, 0)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise DocumentError(f"{source}:{line}: not YAML: {exc.problem or exc.context}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise DocumentError(f"{source}: not YAML: {exc}") from exc
    finally:
        loader.dispose()


def _from_node(loader: Any, node: Any, source: str, path: str, line: int, depth: int) -> Item:
    if depth > _MAX_DEPTH:
        raise DocumentError(f"{source}:{line}: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Item] = {}
        for key_node, value_node in node.value:
            here = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise DocumentError(f"{source}:{here}: a key that is not text")
            key = str(key_node.value)
            if key in found:
                raise DocumentError(f"{source}:{here}: key {key!r} appears twice")
            inner = f"{path}.{key}" if path else key
            found[key] = _from_node(loader, value_node, source, inner, here, depth + 1)
        return Item(found, source, line, path)
    if isinstance(node, yaml.SequenceNode):
        items = [
            _from_node(loader, child, source, f"{path}[{index}]", child.start_mark.line + 1, depth + 1)
            for index, child in enumerate(node.value)
        ]
        return Item(items, source, line, path)
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, OverflowError) as exc:
        raise DocumentError(f"{source}:{line}: bad value {node.value!r}: {exc}") from exc
    if not isinstance(value, bool | int | float | str | None):
        value = str(node.value)  # dates and the like: their text
    return Item(value, source, line, path)


def parse_json(text: str, source: str) -> Item:
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as exc:
        raise DocumentError(f"{source}:{exc.lineno}: not JSON: {exc.msg} (column {exc.colno})") from exc
    except RecursionError as exc:
        raise DocumentError(f"{source}: not JSON: nested too deeply") from exc
    except ValueError as exc:
        raise DocumentError(f"{source}: not JSON: {exc}") from exc
    return from_plain(value, source)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} appears twice in one object")
        found[key] = value
    return found


def from_plain(value: Any, source: str, path: str = "") -> Item:
    """Wrap ordinary Python data, so that it is checked in the same way."""
    if path.count(".") + path.count("[") > _MAX_DEPTH:
        raise DocumentError(f"{source}: nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        mapping = {
            str(key): from_plain(item, source, f"{path}.{key}" if path else str(key)) for key, item in value.items()
        }
        return Item(mapping, source, None, path)
    if isinstance(value, list | tuple):
        return Item(
            [from_plain(item, source, f"{path}[{index}]") for index, item in enumerate(value)], source, None, path
        )
    return Item(value, source, None, path)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value)


def _bound(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else ("-inf" if value < 0 else "inf")
