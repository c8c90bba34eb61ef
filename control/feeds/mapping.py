"""Providers' circuits to elements of the topology.

In this order: an exact entry, a link's own ``circuits`` in the topology file, an element named by its own name, then
the regular expressions (keys that begin with ``re:``; the whole circuit id has to match) in the order of the file::

    circuits:
      IC-111111: s1-s2                # a link
      "23/HCGS/123456/SC": "s1:2"     # a port: the link plugged into it
      AS65001: s3                     # a switch
      DUCT-7: [s1-s2, s3-s4]          # several
      "re:WS/[A-Z]+/12345/.*": s2-s3

White space and case of circuit ids do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from control.feeds.errors import FeedError
from topo.spec import Endpoint, Link, Topology, TopologyError

LONGEST_ID = 300
PATTERN = "re:"


def element_of(topology: Topology, name: str) -> Link | str:
    """The link or switch that ``s1-s2``, ``s1:2`` or ``s1`` names; raises :class:`FeedError`."""
    if any(switch.name == name for switch in topology.switches):
        return name
    switch, _, port = name.partition(":")
    if "-" not in name and port.isascii() and port.isdigit() and len(port) < 5:
        link = topology.link_at(Endpoint(switch, int(port)))
        if link is not None:
            return link
        raise FeedError(f"no link at port {name!r} in {topology.name}")
    try:
        return topology.link(name)
    except TopologyError as error:
        raise FeedError(f"no link, port or switch {name!r} in {topology.name}") from error


def canonical(topology: Topology, name: str) -> str:
    """An element's one name: a link's as the topology writes it, or the switch's. Raises :class:`FeedError`."""
    found = element_of(topology, name)
    return found if isinstance(found, str) else topology.link_name(found)


@dataclass(slots=True)
class CircuitMap:
    """Use :meth:`build`; then :meth:`elements` of a circuit id, empty for one that is not known."""

    topology: Topology
    _exact: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _patterns: list[tuple[re.Pattern[str], tuple[str, ...]]] = field(default_factory=list)

    @classmethod
    def build(
        cls, topology: Topology, circuits: Mapping[str, str | list[str]] | None = None, source: str = "circuits"
    ) -> CircuitMap:
        """Raises :class:`FeedError` naming source and key for an unknown element or a bad expression."""
        found = cls(topology)
        for link in topology.links:
            for circuit in link.circuits:
                found._exact[_plain(circuit)] = (topology.link_name(link),)
        for circuit, value in (circuits or {}).items():
            names = [value] if isinstance(value, str) else value
            try:
                elements = tuple(dict.fromkeys(canonical(topology, name) for name in names))
                if circuit.startswith(PATTERN):
                    found._patterns.append((re.compile(circuit.removeprefix(PATTERN), re.IGNORECASE), elements))
                else:
                    found._exact[_plain(circuit)] = elements
            except (FeedError, re.error) as error:
                raise FeedError(f"{source}: circuits: {circuit!r}: {error}") from error
        return found

    def elements(self, circuit: str) -> tuple[str, ...]:
        """Names of links and switches."""
        text = _plain(circuit)
        if text in self._exact:
            return self._exact[text]
        if len(circuit) > LONGEST_ID:
            return ()
        try:
            return (canonical(self.topology, circuit.strip()),)
        except FeedError:
            pass
        bare = " ".join(circuit.split())
        return next((names for pattern, names in self._patterns if pattern.fullmatch(bare)), ())

    def links(self, elements: Iterable[str]) -> set[Link]:
        """The links that fall away with elements; a switch's are all that end at it."""
        found: set[Link] = set()
        for name in elements:
            element = element_of(self.topology, name)
            found |= set(self.topology.links_of(element)) if isinstance(element, str) else {element}
        return found


def _plain(circuit: str) -> str:
    return "".join(circuit.split()).lower()
