"""Who shares a risk with whom, and what that says about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ml.bank import Bank
from ml.compiled import Near
from ml.estimators.base import Floats


class Neighbours:
    """Who shares a risk with whom: groups of rows (a shared-risk group, the links of a node, a path)."""

    def __init__(self, rows: int, groups: Iterable[Sequence[int]]) -> None:
        members = [list(dict.fromkeys(group)) for group in groups]
        members = [group for group in members if len(group) > 1]
        self.rows = rows
        self.group = np.repeat(np.arange(len(members)), [len(group) for group in members])
        self.member = np.array([row for group in members for row in group], dtype=np.intp)
        self._near: tuple[Bank, Near] | None = None
        self._others = np.array([len(group) - 1.0 for group in members])[self.group] if members else np.empty(0)

    def peers(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """``rows`` and all that share a risk with one of them, in order.

        >>> Neighbours(6, [[0, 1, 2], [4, 5]]).peers(np.array([1, 3])).tolist()
        [0, 1, 2, 3]
        """
        found = np.zeros(self.rows, dtype=bool)
        found[rows] = True
        if len(self.member):
            found[self.member[self._struck(rows)]] = True
        return np.flatnonzero(found)

    def others(self, value: Floats) -> Floats:
        """For each row the largest, over its groups, of the mean of the other members; 0 without any.

        >>> Neighbours(4, [[0, 1, 2]]).others(np.array([1.0, 3.0, 5.0, 9.0])).tolist()
        [4.0, 3.0, 2.0, 0.0]
        """
        return self.near(np.arange(self.rows), lambda rows: value[rows])

    def near(self, rows: NDArray[np.intp], value: Callable[[NDArray[np.intp]], Floats]) -> Floats:
        """:meth:`others` of some rows; ``value`` is asked about those only that share a risk with them."""
        if not len(self.member):
            return np.zeros(len(rows))
        found = np.zeros(self.rows)
        own = np.flatnonzero(self._struck(rows))
        member, group = self.member[own], self.group[own]
        mine = value(member)
        mean = (np.bincount(group, mine).take(group) - mine) / self._others[own]
        np.maximum.at(found, member, mean)
        return found[rows]

    def compiled(self, bank: Bank) -> Near:
        """As :meth:`near`, of what a bank knows."""
        if self._near is None or self._near[0] is not bank:
            assert bank.kernels is not None
            self._near = bank, Near(bank.kernels, bank, self.member, self.group)
        return self._near[1]

    def _struck(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Of each membership whether its group has one of ``rows`` in it."""
        wanted = np.zeros(self.rows, dtype=bool)
        wanted[rows] = True
        struck = np.zeros(int(self.group[-1]) + 1, dtype=bool)
        struck[self.group[wanted[self.member]]] = True
        return struck[self.group]
