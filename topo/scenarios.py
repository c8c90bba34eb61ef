"""Failure scenarios as data: ``topo/faults/*.yaml``, or a file of the same form.

A scenario says what kind of fault strikes and between which bounds its place, onset and slope are drawn;
:func:`topo.faults.plan` draws. A value is a number or a pair ``[low, high]``. Times are in seconds from the start
of the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from topo.document import DocumentError, Item, parse_yaml, read

DIRECTORY = Path(__file__).parent / "faults"


class FaultError(ValueError):
    """A scenario that cannot be read, or cannot be played here; the text names the file, line and key."""


@dataclass(frozen=True, slots=True)
class Range:
    low: float
    high: float

    def draw(self, random: Random) -> float:
        return self.low if self.low == self.high else random.uniform(self.low, self.high)

    def draw_int(self, random: Random) -> int:
        return random.randint(round(self.low), round(self.high))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a parameter may be; ``default`` None: the scenario has to say it."""

    low: float
    high: float
    default: tuple[float, float] | None = None


_ONSET = Bounds(0, 60)
_SPAN = Bounds(0.01, 60)

#: Fault kinds and their parameters. Meanings are explained beside the values in ``topo/faults/*.yaml``.
KINDS: Mapping[str, Mapping[str, Bounds]] = {
    "none": {},
    "gray_link": {
        "onset_s": _ONSET,
        "precursor_s": _SPAN,
        "dying_s": _SPAN,
        "curve": Bounds(0.5, 4, (1, 1)),
        "asymmetry": Bounds(0, 1, (1, 1)),
        "power_noise_db": Bounds(0, 1, (0, 0)),
        "jitter_ms": Bounds(0, 10, (0, 0)),
    },
    "gray_link_with_loss": {"onset_s": _ONSET, "initial_loss": Bounds(0, 1), "rise_s": _SPAN},
    "abrupt_cut": {"onset_s": _ONSET},
    "carrier_loss": {"onset_s": _ONSET},
    "congestion": {
        "onset_s": _ONSET,
        "ramp_s": _SPAN,
        "peak": Bounds(1.01, 5),
        "rate_mbps": Bounds(1, 10_000),
        "queue_packets": Bounds(8, 65_536),
        "packet_bytes": Bounds(64, 1400),
    },
    "overload": {
        "onset_s": _ONSET,
        "ramp_s": _SPAN,
        "headroom": Bounds(1.2, 100),
        "idle_load": Bounds(0, 0.5),
        "peak_load": Bounds(0.5, 1),
        "backlog_packets": Bounds(8, 65_536),
        "memory": Bounds(0, 1, (0.3, 0.3)),
    },
    "maintenance": {"publish_s": _ONSET, "lead_s": _SPAN, "length_s": Bounds(0.1, 86_400)},
    "flapping": {"onset_s": _ONSET, "flaps": Bounds(1, 100), "down_s": _SPAN, "up_s": _SPAN},
}
#: Kinds whose element may be chosen with ``element``, and between what.
ELEMENTS: Mapping[str, tuple[str, ...]] = {"maintenance": ("link", "device", "either")}

DECOYS: Mapping[str, Bounds] = {
    "links": Bounds(0, 100),
    "power_noise_db": Bounds(0, 1),
    "steps": Bounds(0, 20, (0, 0)),
    "step_db": Bounds(0, 6, (0, 0)),
}


@dataclass(frozen=True, slots=True)
class Decoys:
    """Links that are noisy and healthy: how many, how noisy, and how often and far their attenuation steps."""

    links: Range
    power_noise_db: Range
    steps: Range
    step_db: Range


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    kind: str
    summary: str
    foreseeable: bool  # whether anything announces it before the first loss
    duration_s: float  # of the traffic
    parameters: Mapping[str, Range]
    element: str = ""  # maintenance: link, device or either
    decoys: Decoys | None = None
    source: str = field(default="", compare=False)


def names() -> list[str]:
    """The scenarios that come with the project."""
    return sorted(file.stem for file in DIRECTORY.glob("*.yaml"))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A scenario by name, or from a YAML or JSON file. Raises :class:`FaultError`."""
    text = str(name_or_path)
    path = Path(text) if "/" in text or Path(text).suffix else DIRECTORY / f"{text}.yaml"
    if not path.exists():
        raise FaultError(f"{text}: no such file, and no scenario of that name (known: {', '.join(names())})")
    try:
        return _scenario(read(path))
    except DocumentError as exc:
        raise FaultError(str(exc)) from exc


def parse_scenario(text: str, source: str = "<text>") -> Scenario:
    """A scenario from YAML text. Raises :class:`FaultError`."""
    try:
        return _scenario(parse_yaml(text, source))
    except DocumentError as exc:
        raise FaultError(str(exc)) from exc


def _scenario(document: Item) -> Scenario:
    top = document.fields(
        ["name", "summary", "kind", "foreseeable", "duration_s", "element", "parameters", "decoys"],
        required=["name", "kind", "foreseeable", "duration_s"],
    )
    kind = top["kind"].text()
    if kind not in KINDS:
        raise top["kind"].error(f"unknown fault {kind!r} (known: {', '.join(KINDS)})")
    element = ""
    if kind in ELEMENTS:
        if "element" not in top:
            raise document.error(f"key 'element' is missing: one of {', '.join(ELEMENTS[kind])}")
        element = top["element"].choice(ELEMENTS[kind])
    elif "element" in top:
        raise top["element"].error(f"key 'element' has no meaning for {kind}")
    given = top.get("parameters") or Item({}, document.source, document.line, "parameters")
    parameters = _ranges(given, KINDS[kind])
    duration_s = top["duration_s"].number(0.1, 3600)
    scenario = Scenario(
        name=top["name"].text(),
        kind=kind,
        summary=top["summary"].text() if "summary" in top else "",
        foreseeable=top["foreseeable"].flag(),
        duration_s=duration_s,
        parameters=parameters,
        element=element,
        decoys=Decoys(**_ranges(top["decoys"], DECOYS)) if "decoys" in top else None,
        source=document.source,
    )
    start = parameters.get("onset_s") or parameters.get("publish_s")
    if start is not None and start.high >= duration_s:
        raise given.error(f"the fault may begin at {start.high:g} s, after the run's {duration_s:g} s")
    return scenario


def _ranges(item: Item, known: Mapping[str, Bounds]) -> dict[str, Range]:
    fields = item.fields(known, required=[key for key, bounds in known.items() if bounds.default is None])
    found = {}
    for key, bounds in known.items():
        if key in fields:
            found[key] = _range(fields[key], bounds)
        elif bounds.default is not None:
            found[key] = Range(*bounds.default)
    return found


def _range(item: Item, bounds: Bounds) -> Range:
    if isinstance(item.value, list):
        pair = item.items()
        if len(pair) != 2:
            raise item.error(f"{item.path.rsplit('.', 1)[-1]}: wanted a number or [low, high]")
        low, high = (part.number(bounds.low, bounds.high) for part in pair)
        if low > high:
            raise item.error(f"{item.path.rsplit('.', 1)[-1]}: [{low:g}, {high:g}] runs backwards")
        return Range(low, high)
    value = item.number(bounds.low, bounds.high)
    return Range(value, value)
