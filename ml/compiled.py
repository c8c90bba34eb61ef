"""What is bound of :mod:`ml.kernels` to a block of rows: learning, signals, lines and features.

Each stands for code of numpy's and says the same to the bit. Logarithms and exponentials are numpy's in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.estimators.base import Flags, Floats, Rows, Value, fixed
from ml.estimators.trend import Line
from ml.kernels import SHARED, Call, Kernels, address
from ml.physics import BEST_BER, WORST_BER, q_factor

if TYPE_CHECKING:
    from ml.bank import Bank
    from ml.block import Block
    from ml.features import PortBank

_DECIBEL = fixed(20.0)
RECENT = 3  # the field of counters that fades
LINES, QUEUES = 3, 9  # lines of each signal; rows of what wide_queues makes
HOUR_S = 3600.0
FAR = 1e15  # units: no time is further from the epoch
BACK = 2.0  # units: a sample that is this late may mean that the clock jumped


def within(answer: int) -> int:
    """What a function answered; ``IndexError`` where that is that there is no such row."""
    if answer < 0:
        raise IndexError("no such row")
    return answer


class Arrivals:
    """What :meth:`ml.bank.Bank.learn_many` does before and after a block learns."""

    def __init__(self, kernels: Kernels, bank: Bank, late: NDArray[np.int64], resets: Floats) -> None:
        height, rows = bank.state.shape
        self._packed: Any = kernels.pack(
            "arrive",
            {
                "rows": rows, "height": height, "series": len(bank.last_told), "counters": len(bank.counters_seen),
                "count": 0, "room": 0, "which": None, "time": None, "state": bank.state, "block": None, "told": None,
                "resets": None, "newest": bank.newest, "known": resets, "samples": bank.samples, "late": late,
                "touched": bank.touched, "fresh": None, "again": None, "far": FAR, "back": BACK,
            },
        )  # fmt: skip
        self._look, self._fetch, self._keep, self._done = (
            kernels.bind(f"arrive_{name}", self._packed) for name in ("look", "fetch", "keep", "done")
        )

    def look(self, rows: Rows, time: Floats) -> bool:
        """Whether some of the times are absurd or far in the past."""
        packed = self._packed
        packed.which = None if isinstance(rows, slice) else address(rows)
        packed.count, packed.time = len(time), address(time)
        return within(self._look()) != 0

    def fetch(self, rows: NDArray[np.int64], block: Block) -> None:
        """Copy the state of ``rows`` into the first ones of a block."""
        packed = self._packed
        packed.count, packed.which, packed.room, packed.block = len(rows), address(rows), block.rows, block.places[0]
        within(self._fetch())

    def keep(self, rows: Rows, time: Floats, block: Block) -> tuple[Flags | None, Flags | None]:
        """As :meth:`ml.bank.Bank._keep`."""
        packed, count = self._packed, len(time)
        packed.count, packed.time, packed.room = count, address(time), block.rows
        packed.block, packed.told, packed.resets = block.places
        fresh, again = flags = np.empty((2, count), dtype=bool)
        packed.fresh = address(flags)
        packed.again = packed.fresh + count
        if isinstance(rows, slice):
            packed.which = None
        else:
            packed.which = address(rows)
            self._keep()
        return (fresh, again) if self._done() else (None, None)


class Learning:
    """:meth:`ml.block.Block.learn` and ``absurd``."""

    def __init__(self, kernels: Kernels, block: Block) -> None:
        bank, own, rows = block.bank, block.parts, block.rows
        signals, counters = len(bank.SIGNALS), len(bank.INPUTS) - bank.GAUGES
        self._time = np.zeros(rows)
        self._counter_fade = np.zeros((2, counters, rows))
        rates = np.concatenate((bank.trend.decay, bank.levels.decay))
        self._fade = np.zeros((len(rates), rows))
        packed = kernels.pack(
            "learn",
            {
                "rows": rows, "inputs": len(bank.INPUTS), "gauges": bank.GAUGES, "signals": signals,
                "counters": counters, "raw": block.raw, "values": block.values, "low": bank.LOW, "high": bank.HIGH,
                "time": self._time, "bad": block.bad, "newer": np.zeros(block.told.shape, dtype=bool),
                "told": block.told, "elapsed": np.zeros(block.told.shape), "last": own.last, "trend": own.trend,
                "levels": own.levels, "cusum": own.cusum, "spread": own.spread, "counter": own.counters,
                "counts": np.zeros((counters, rows)), "counting": np.zeros((counters, rows)),
                "counter_fade": self._counter_fade, "counter_rates": bank.counters.rates, "rates": rates,
                "fade": self._fade, "floor": bank.FLOOR, "jump": bank.trend.jump, "jump_rate": bank.trend.jump_rate,
                "drift": bank.cusum.drift, "clip": bank.cusum.clip, "cap": bank.cusum.cap,
                "level_clip": bank.levels.clip,
            },
        )  # fmt: skip
        self.absurd = kernels.bind("absurd", packed)
        self._begin, self._counters, self._news, self._signals, self._end = (
            kernels.bind(f"learn_{name}", packed) for name in ("begin", "counters", "news", "signals", "end")
        )
        self._read = bank.bind_signals(block)

    def learn(self, time: Value) -> int:
        self._time[:] = time
        if self._begin():
            np.exp(self._counter_fade, out=self._counter_fade)
            self._counters()
        self._read()
        if self._news():
            np.exp(self._fade, out=self._fade)
            self._signals()
        return self._end()


def port_signals(kernels: Kernels, block: Block, bits: float, most_load: float, limit_ber: float) -> Callable[[], None]:
    """:meth:`ml.features.PortBank.bind_signals`; ``bits`` sent per byte counted and unit of time."""
    values, counters = block.values, len(block.counted)
    packed = kernels.pack(
        "port_signals",
        {
            "rows": block.rows, "raw": block.raw, "counter": block.parts.counters, "values": values,
            "held": block.parts.held, "counted": block.counted, "counters": counters, "bits": bits,
            "most_load": most_load, "best": BEST_BER, "worst": WORST_BER, "least_q": float(q_factor(limit_ber)),
        },
    )  # fmt: skip
    first, then = kernels.bind("port_signals", packed), kernels.bind("port_margin", packed)
    margin, queue = values[1], values[3]
    rates_and_bias, quotient_and_trip = values[1:6:4], values[1:5:3]

    def read() -> None:
        first()
        np.log(rates_and_bias, out=rates_and_bias)
        np.log1p(queue, out=queue)
        then()
        np.log10(quotient_and_trip, out=quotient_and_trip)
        np.multiply(margin, _DECIBEL, out=margin)

    return read


def lines(kernels: Kernels, block: Block, count: int, signals: int) -> tuple[Line, Callable[[], int]]:
    """The first ``count`` lines of the first ``signals``, arrays (count, signals, rows), and a function that fits them:
    :meth:`ml.estimators.trend.Trend.reader`."""
    every = len(block.values)
    which = (np.arange(count)[:, None] * every + np.arange(signals)).ravel()
    found = Line(*np.zeros((3, count, signals, block.rows)))
    packed = kernels.pack(
        "fit",
        {
            "rows": block.rows, "count": len(which), "series": block.parts.trend.shape[1] * every, "which": which,
            "trend": block.parts.trend, "rates": block.bank.trend.decay[which], "level": found.level,
            "slope": found.slope, "error": found.slope_error,
        },
    )  # fmt: skip
    return found, kernels.bind("fit_lines", packed)


def features(
    kernels: Kernels, function: str, block: Block, line: Line, bound: Floats, logs: tuple[slice, ...]
) -> Callable[[], Floats]:
    """:meth:`ml.bank.Bank.bind_features`: ``function`` reads the logarithms of the recent increments of the counters
    ``logs``."""
    bank: Bank = block.bank
    own, rows = block.parts, block.rows
    recent, room = own.counters[RECENT], np.zeros(own.counters[RECENT].shape)
    x = np.zeros((len(bound), rows))
    packed = kernels.pack(
        "features",
        {
            "rows": rows, "signals": len(block.values), "series": own.trend.shape[1] * len(block.values),
            "counters": len(recent), "line_signals": line.level.shape[1], "level": line.level, "slope": line.slope,
            "error": line.slope_error, "trend": own.trend, "levels": own.levels, "cusum": own.cusum,
            "held": own.held, "logs": room, "bound": np.ascontiguousarray(bound.ravel()), "x": x,
            "cap": bank.cusum.cap, "trip_floor": float(bank.FLOOR[-1 if len(bank.FLOOR) < 5 else 4]),
        },
    )  # fmt: skip
    make = kernels.bind(function, packed)
    pairs = [(recent[part], room[part]) for part in logs]

    def read() -> Floats:
        for increments, log in pairs:
            np.log1p(increments, out=log)
        make()
        return x

    return read


class Screening:
    """:func:`ml.screen.screen_ports`, and what :meth:`ml.cascade.Screen.score` makes of it."""

    COLUMNS = 11

    def __init__(self, kernels: Kernels, bank: PortBank) -> None:
        self._bank, rows = bank, len(bank.newest)
        own = bank.parts
        self._weights = np.zeros(self.COLUMNS + 2)
        self._suspects, self._found = np.zeros((2, rows), dtype=np.int64), np.zeros(2, dtype=np.int64)
        self._packed: Any = kernels.pack(
            "screen",
            {
                "rows": rows, "count": 0, "signals": len(bank.SIGNALS), "counters": own.counters.shape[1],
                "which": None, "trend": own.trend, "levels": own.levels, "counter": own.counters, "held": own.held,
                "outside": bank.context.T, "room": self._weights, "columns": self._weights,
                "weights": self._weights, "suspects": self._suspects, "found": self._found,
            },
        )  # fmt: skip
        self._screen, self._suspect = (kernels.bind(name, self._packed) for name in ("port_screen", "port_suspects"))

    def _look_at(self, rows: Rows) -> tuple[object, ...]:
        """What the next call reads; to be kept until then."""
        packed, limit = self._packed, self._bank.queue_limit
        if isinstance(rows, slice):
            if rows == slice(None):
                packed.count, packed.which = len(limit), None
                room = np.log1p(limit)
                packed.room = address(room)
                return (room,)
            rows = np.arange(len(limit))[rows]
        which = np.ascontiguousarray(rows, dtype=np.int64)
        room = np.log1p(limit.take(which))
        packed.count, packed.which, packed.room = len(which), address(which), address(room)
        return which, room

    def columns(self, rows: Rows) -> Floats:
        """Columns of both modes, (columns, rows)."""
        kept = self._look_at(rows)
        found = np.empty((self.COLUMNS, self._packed.count))
        self._packed.columns = address(found)
        within(self._screen())
        del kept
        return found

    def suspects(self, rows: Rows, weights: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Those of ``rows`` whose score is not below 0, for link failure and for congestion; ``weights``: offset and
        weights of the first, then of the other."""
        self._weights[:] = weights
        kept = self._look_at(rows)
        within(self._suspect())
        del kept
        link, congestion = self._found.tolist()
        return self._suspects[0, :link].astype(np.intp), self._suspects[1, :congestion].astype(np.intp)


class Further:
    """Features of suspicious elements (:mod:`ml.wide`), of rows whose state is in a block."""

    def __init__(self, kernels: Kernels, block: Block) -> None:
        self._kernels, self._block = kernels, block
        self._line, self._fit = lines(kernels, block, LINES, len(block.values))
        self._narrow = block.bank.bind_features(block, self._line)
        self._bound: dict[str, tuple[Any, Call]] = {}
        self._queues: Call | None = None

    def _bind(self, function: str, narrow: Floats, bound: Floats) -> tuple[Any, Call]:
        block, bank, season = self._block, self._block.bank, self._block.bank.season
        own, nothing = block.parts, np.zeros(0)
        packed: Any = self._kernels.pack(
            "wide",
            {
                "rows": block.rows, "count": 0, "signals": len(block.values), "narrow_count": len(narrow),
                "trend": own.trend, "levels": own.levels, "spread": own.spread, "level": self._line.level,
                "slope": self._line.slope, "error": self._line.slope_error, "narrow": narrow,
                "bound": np.ascontiguousarray(bound.ravel()), "x": nothing, "which": None, "near": None,
                "all": len(bank.newest), "conditions": bank.context.shape[1], "outside": bank.context.T,
                "room": None, "work": None, "newest": bank.newest, "past": None if season is None else season.past,
                "phases": 1 if season is None else season.phases,
                "pace": 0.0 if season is None else season.phases / season.period,
                "ahead": HOUR_S / bank.unit_s, "horizon": bank.taus.long,
            },
        )  # fmt: skip
        if function == "wide_congestion":
            self._queues = self._kernels.bind("wide_queues", packed)
        return packed, self._kernels.bind(function, packed)

    def __call__(
        self, function: str, rows: NDArray[np.int64], narrow: slice, bound: Floats,
        near: Floats | None = None, limit: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Features of ``rows``, which are the first ones of the block: (rows, features). ``narrow``: which of the first
        stage's they begin with; ``limit``: rooms of queues."""
        self._fit()
        x = self._narrow()
        if function not in self._bound:
            self._bound[function] = self._bind(function, x[narrow], bound)
        packed, make = self._bound[function]
        count = len(rows)
        found = np.empty((packed.narrow_count + len(bound), count))
        packed.count, packed.x, packed.which = count, address(found), address(rows)
        packed.near = None if near is None else address(near)
        if limit is not None and self._queues is not None:
            room, work = np.log1p(limit), np.empty((QUEUES, count))
            packed.room, packed.work = address(room), address(work)
            self._queues()
            np.exp(work, out=work)
        make()
        return found.T


class Near:
    """:meth:`ml.neighbours.Neighbours.near` of what a bank knows."""

    def __init__(self, kernels: Kernels, bank: Bank, member: NDArray[np.intp], group: NDArray[np.intp]) -> None:
        rows, groups = len(bank.newest), int(group[-1]) + 1 if len(group) else 0
        order = np.argsort(member, kind="stable")
        own, nothing = bank.parts, np.zeros(0)
        self._packed: Any = kernels.pack(
            "near",
            {
                "rows": rows, "signals": len(bank.SIGNALS), "count": 0, "which": None, "trend": own.trend,
                "levels": own.levels, "row_first": np.searchsorted(member[order], np.arange(rows + 1)).astype(np.int64),
                "row_group": group[order].astype(np.int64),
                "group_first": np.searchsorted(group, np.arange(groups + 1)).astype(np.int64),
                "member": member.astype(np.int64), "sum": np.zeros(groups), "fresh": np.zeros(groups, dtype=bool),
                "found": nothing,
            },
        )  # fmt: skip
        self._calls = {name: kernels.bind(f"near_{name}", self._packed) for name in ("power_lost", "load")}

    def __call__(self, what: str, rows: NDArray[np.int64]) -> Floats:
        """``power_lost`` or ``load`` of who shares a risk with each of ``rows``."""
        found = np.empty(len(rows))
        self._packed.count, self._packed.which, self._packed.found = len(rows), address(rows), address(found)
        within(self._calls[what]())
        return found


class Hazards:
    """What :class:`ml.hazard.Together` makes of the product of weights and features."""

    def __init__(
        self, kernels: Kernels, intercepts: Floats, missing: NDArray[np.bool_], slope: Floats, offset: Floats
    ) -> None:
        self._models = len(slope)
        self._packed: Any = kernels.pack(
            "hazard",
            {
                "rows": 0, "models": len(slope), "intervals": len(intercepts), "each": None,
                "intercepts": intercepts, "missing": missing,
                "slope": np.ascontiguousarray(slope), "offset": np.ascontiguousarray(offset),
            },
        )  # fmt: skip
        self._odds, self._any, self._calibrate, self._finish = (
            kernels.bind(f"hazard_{name}", self._packed) for name in ("odds", "any", "calibrated", "probability")
        )

    def __call__(self, each: Floats) -> Floats:
        """Probabilities (models, rows), in place of the first of ``each`` (intervals and models, rows)."""
        found = each[: self._models]
        with SHARED:
            self._packed.rows, self._packed.each = each.shape[1], address(each)
            self._odds()
            np.exp(each, out=each)
            self._any()
            np.log(found, out=found)
            self._calibrate()
            np.exp(found, out=found)
            self._finish()
        return found
