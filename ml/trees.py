"""Boosted trees evaluated with numpy: LightGBM's text format read, checked, and turned into arrays.

A call of LightGBM's own predictor costs more than all of the arithmetic for a few dozen rows, and importing it
costs half a second. Trees of at most eight leaves fit a trick [1]: number the leaves from left to right, one bit each.
Every split whose test fails (``x > threshold``) strikes out the leaves to its left; the leaf that is reached is the
lowest bit left. No branch, no pointer chased: a handful of array operations for all trees and rows at once. Results are
those of LightGBM to the last bit but for the order of the sum.

[1] C. Lucchese et al., QuickScorer: a fast algorithm to rank documents with additive ensembles of regression
trees, SIGIR 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml import kernels
from ml.estimators.base import Floats

MOST_LEAVES = 8
MOST_ROWS = 64  # evaluated at once: what is between fits into the processor's cache
MOST_TREES = 128  # of one sum, in compiled code: up to here numpy's order of adding up is simple
_LOWEST = np.array([8] + [(value & -value).bit_length() - 1 for value in range(1, 256)], dtype=np.uint8)
_PLAIN = (0, 2)  # decision types: numerical, missing values not handled or sent left (features are never missing)


class TreesError(ValueError):
    """Text that is no model of small numerical trees."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree: per split its feature, threshold and the leaves it strikes out when ``x > threshold``; per leaf its
    value, from left to right."""

    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    struck: tuple[int, ...]
    values: tuple[float, ...]


def parse(text: str, features: Sequence[str]) -> list[Tree]:
    """Read LightGBM's text format (a binary objective, one tree per iteration). Raises :class:`TreesError`."""
    head, *blocks = text.split("\nTree=")
    fields = _fields(head)
    if not head.startswith("tree") or fields.get("version") != "v4":
        raise TreesError("not a LightGBM text model of version v4")
    if fields.get("feature_names", "").split() != list(features):
        raise TreesError("its trees are made for other features")
    if not fields.get("objective", "").startswith("binary sigmoid:1"):
        raise TreesError(f"objective {fields.get('objective')!r}, not binary with sigmoid:1")
    if not blocks or "end of trees" not in blocks[-1]:
        raise TreesError("cut short: no end of trees")
    try:
        return [_tree(_fields(block), len(features)) for block in blocks]
    except (KeyError, IndexError, OverflowError, RecursionError) as error:
        raise TreesError(f"malformed tree ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise error if isinstance(error, TreesError) else TreesError(f"malformed tree ({error})") from error


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _tree(fields: dict[str, str], count: int) -> Tree:
    leaves = int(fields["num_leaves"])
    if not 1 <= leaves <= MOST_LEAVES:
        raise TreesError(f"a tree of {leaves} leaves; at most {MOST_LEAVES} are evaluated")
    values = [float(v) for v in fields["leaf_value"].split()]
    if len(values) != leaves or not np.isfinite(values).all():
        raise TreesError("leaf values that are missing or not finite")
    if leaves == 1:
        return Tree((), (), (), (values[0],))
    feature = [int(v) for v in fields["split_feature"].split()]
    threshold = [float(v) for v in fields["threshold"].split()]
    left, right = ([int(v) for v in fields[side].split()] for side in ("left_child", "right_child"))
    kinds = {int(v) for v in fields["decision_type"].split()}
    if {len(feature), len(threshold), len(left), len(right)} != {leaves - 1} or not kinds <= set(_PLAIN):
        raise TreesError("splits that are missing or not numerical")
    if not all(0 <= f < count for f in feature) or np.isnan(threshold).any():
        raise TreesError("a split on no feature or at no number")
    order: list[int] = []  # leaves from left to right
    struck = [0] * (leaves - 1)
    seen: set[int] = set()

    def walk(node: int) -> int:
        """Bits of the leaves under a node."""
        if node < 0:
            if ~node in order or ~node >= leaves:
                raise TreesError("a leaf with two parents, or none")
            order.append(~node)
            return 1 << (len(order) - 1)
        if node in seen:
            raise TreesError("splits that form a circle")
        seen.add(node)
        struck[node] = walk(left[node])
        return struck[node] | walk(right[node])

    walk(0)
    if len(order) != leaves:
        raise TreesError("leaves that nothing leads to")
    return Tree(tuple(feature), tuple(threshold), tuple(struck), tuple(values[k] for k in order))


class Forest:
    """Several sums of trees (one per interval of a hazard) evaluated together."""

    def __init__(self, sums: Sequence[Sequence[Tree]]) -> None:
        trees = [tree for part in sums for tree in part]
        count, splits = len(trees), MOST_LEAVES - 1
        self._feature = np.zeros((splits, count), dtype=np.intp)
        self._threshold = np.full((splits, count, 1), np.inf)  # never exceeded
        self._struck = np.zeros((splits, count, 1), dtype=np.uint8)
        value = np.zeros((count, MOST_LEAVES + 1))
        self._ends = np.cumsum([0] + [len(part) for part in sums])
        self._first = self._ends[:-1]
        for k, tree in enumerate(trees):
            used = len(tree.features)
            self._feature[:used, k] = tree.features
            self._threshold[:used, k, 0] = tree.thresholds
            self._struck[:used, k, 0] = tree.struck
            value[k, : len(tree.values)] = tree.values
        # The value that each pattern of struck leaves leads to: the lowest bit that is left, looked up beforehand.
        self._reached = value[:, _LOWEST[~np.arange(256, dtype=np.uint8)]].ravel()
        self._pattern = 256 * np.arange(count, dtype=np.intp)[:, None]
        self._simple = max(len(part) for part in sums) <= MOST_TREES
        self._compiled: tuple[kernels.Kernels, Callable[[Floats], Floats]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to this process."""
        return {**self.__dict__, "_compiled": None}

    def __call__(self, x: Floats) -> Floats:
        """Sums for rows ``x`` (rows, features): shape (sums, rows)."""
        if len(x) > MOST_ROWS:
            return np.concatenate([self(x[k : k + MOST_ROWS]) for k in range(0, len(x), MOST_ROWS)], axis=1)
        library = kernels.active()
        if library is not None and self._simple and len(x):
            if self._compiled is None or self._compiled[0] is not library:
                self._compiled = library, self._bind(library, x.shape[1])
            return self._compiled[1](x)
        columns = np.ascontiguousarray(x.T)
        failed = columns.take(self._feature, axis=0) > self._threshold
        struck: NDArray[np.uint8] = np.bitwise_or.reduce(failed.view(np.uint8) * self._struck, axis=0)
        values = self._reached.take(self._pattern + struck)
        found: Floats = np.add.reduceat(values, self._first, axis=0)
        return found

    def _bind(self, library: kernels.Kernels, features: int) -> Callable[[Floats], Floats]:
        """The same in compiled code, to the bit."""
        room, found = np.zeros((features, MOST_ROWS)), np.zeros((len(self._first), MOST_ROWS))
        packed: Any = library.pack(
            "forest",
            {
                "rows": MOST_ROWS, "capacity": MOST_ROWS, "trees": self._feature.shape[1], "sums": len(found),
                "feature": self._feature.astype(np.int64),
                "first": self._ends.astype(np.int64), "threshold": self._threshold, "value": self._reached,
                "struck": self._struck.astype(np.int64), "x": room, "found": found,
            },
        )  # fmt: skip
        run = library.bind("forest", packed)

        def sums(x: Floats) -> Floats:
            with kernels.SHARED:
                packed.rows = count = len(x)
                room[:, :count] = x.T
                run()
                return found[:, :count].copy()

        return sums
