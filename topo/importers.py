"""Foreign topology formats: Internet Topology Zoo GraphML, node-link JSON (networkx, topohub), P4 tutorials.

All readers number switches ``s1``, ``s2``, ... in the file's order and put one host on each, except for the P4
tutorials' files, which have names and hosts of their own. What the file calls a node becomes the switch's label.
Lengths and positions become one-way fibre delays. The caller validates the result.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from topo.builtin import FIBRE_KM_PER_MS, assemble, fibre_delay_ms, numbered_host
from topo.document import DocumentError, Item
from topo.spec import MAX_PORT, Endpoint, Host, Link, Switch, Topology


@dataclass(frozen=True, slots=True)
class _Node:
    key: str  # the file's own id
    label: str
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str
    target: str
    where: str  # for error messages
    km: float | None = None
    bps: float | None = None
    cost: float | None = None


def _build(name: str, source: str, nodes: list[_Node], edges: Iterable[_Edge]) -> Topology:
    """Number the nodes and join them; parallel edges stay, edges to unknown nodes are errors."""
    switches: dict[str, Switch] = {}
    for index, node in enumerate(nodes, 1):
        if node.key in switches:
            raise DocumentError(f"{source}: duplicate node {node.key!r}")
        switches[node.key] = Switch(f"s{index}", index, node.latitude, node.longitude, node.label)
    pairs = []
    for edge in edges:
        for end in (edge.source, edge.target):
            if end not in switches:
                raise DocumentError(f"{source}: {edge.where}: unknown node {end!r}")
        a, b = switches[edge.source], switches[edge.target]
        delay = fibre_delay_ms(a, b) if edge.km is None else round(edge.km / FIBRE_KM_PER_MS, 3)
        rate = 0.0 if edge.bps is None else edge.bps / 1e6
        cost = edge.cost if edge.cost is not None else max(delay, 0.001) if delay else 1.0
        pairs.append((a.name, b.name, delay, rate, cost))
    return assemble(name, switches.values(), [switch.name for switch in switches.values()], pairs)


# --- Internet Topology Zoo ---------------------------------------------------------------------------------


def from_graphml(path: Path) -> Topology:
    """GraphML as the Internet Topology Zoo writes it (``label``, ``Longitude``, ``Latitude``, ``LinkSpeedRaw``).

    Format: http://graphml.graphdrawing.org/specification.html; attributes: topology-zoo.org/documentation.html
    """
    source = str(path)
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as exc:
        raise DocumentError(f"{source}: {exc.strerror or exc}") from exc
    except ElementTree.ParseError as exc:
        raise DocumentError(f"{source}:{exc.position[0]}: not XML: {exc}") from exc
    except (ValueError, LookupError) as exc:  # an encoding that Python does not know
        raise DocumentError(f"{source}: not XML: {exc}") from exc
    if _tag(root) != "graphml":
        raise DocumentError(f"{source}: not GraphML: the document element is <{_tag(root)}>")
    names = {key.get("id", ""): key.get("attr.name", "") for key in root if _tag(key) == "key"}
    graphs = [item for item in root if _tag(item) == "graph"]
    if len(graphs) != 1:
        raise DocumentError(f"{source}: wanted one <graph>, found {len(graphs)}")
    graph = graphs[0]
    nodes = []
    for item in graph:
        if _tag(item) == "node":
            data = _data(item, names)
            key = item.get("id", "")
            where = f"node {key!r}"
            nodes.append(
                _Node(
                    key,
                    data.get("label", ""),
                    _number(data.get("Latitude"), source, where, "Latitude"),
                    _number(data.get("Longitude"), source, where, "Longitude"),
                )
            )
    edges = []
    for index, item in enumerate(child for child in graph if _tag(child) == "edge"):
        data = _data(item, names)
        where = f"edge {item.get('id') or index}"
        ends = (item.get("source"), item.get("target"))
        if None in ends:
            raise DocumentError(f"{source}: {where}: no source or target")
        bps = _number(data.get("LinkSpeedRaw"), source, where, "LinkSpeedRaw")
        edges.append(_Edge(str(ends[0]), str(ends[1]), where, bps=bps))
    name = _data(graph, names).get("Network") or path.stem
    return _build(name, source, nodes, edges)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _data(element: ElementTree.Element, names: dict[str, str]) -> dict[str, str]:
    return {
        names.get(item.get("key", ""), item.get("key", "")): (item.text or "").strip()
        for item in element
        if _tag(item) == "data"
    }


def _number(text: str | None, source: str, where: str, key: str) -> float | None:
    if text is None or text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DocumentError(f"{source}: {where}: {key} is {text!r}, wanted a number")
    return value


# --- node-link JSON ----------------------------------------------------------------------------------------


def is_node_link(document: Item) -> bool:
    return isinstance(document.value, dict) and "nodes" in document.value


def from_node_link(document: Item, path: Path) -> Topology:
    """networkx's node-link JSON with topohub's attributes: ``pos`` [longitude, latitude], ``dist`` in km.

    Further keys are the graph's business and are passed over. ``edges`` may also be called ``links``.
    """
    top = document.entries()
    graph = top["graph"].entries() if "graph" in top and isinstance(top["graph"].value, dict) else {}
    if "directed" in top and top["directed"].value is True:
        raise top["directed"].error("directed graphs are not networks of links")
    nodes = []
    for item in top["nodes"].items():
        fields = item.entries()
        if "id" not in fields:
            raise item.error("key 'id' is missing")
        latitude, longitude = _position(fields)
        label = fields["name"] if "name" in fields else fields["id"]
        nodes.append(_Node(_key(fields["id"]), str(label.plain()), latitude, longitude))
    key = "edges" if "edges" in top else "links"
    if key not in top:
        raise document.error("key 'edges' is missing")
    edges = []
    for item in top[key].items():
        fields = item.entries()
        for end in ("source", "target"):
            if end not in fields:
                raise item.error(f"key {end!r} is missing")
        edges.append(
            _Edge(
                _key(fields["source"]),
                _key(fields["target"]),
                item.path,
                km=fields["dist"].number(0, 50_000) if "dist" in fields else None,
            )
        )
    name = graph["name"].text() if "name" in graph else path.stem
    return _build(name, document.source, nodes, edges)


def _key(item: Item) -> str:
    if isinstance(item.value, bool) or not isinstance(item.value, str | int):
        raise item.error(f"a node's id is text or an integer, not {item.plain()!r}")
    return str(item.value)


def _position(fields: dict[str, Item]) -> tuple[float | None, float | None]:
    if "pos" not in fields or fields["pos"].value is None:
        return None, None
    pair = fields["pos"].items()
    if len(pair) != 2:
        raise fields["pos"].error("wanted [longitude, latitude]")
    return pair[1].number(-90, 90), pair[0].number(-180, 180)


# --- P4 tutorials ------------------------------------------------------------------------------------------


def is_p4_tutorial(document: Item) -> bool:
    if not isinstance(document.value, dict):
        return False
    return all(isinstance(document.value.get(key), Item) for key in ("hosts", "switches", "links")) and isinstance(
        document.value["switches"].value, dict
    )


def from_p4_tutorial(document: Item, path: Path) -> Topology:
    """``topology.json`` of github.com/p4lang/tutorials (``utils/run_exercise.py`` defines the format).

    Hosts keep their addresses; host commands and per-switch runtime files are the exercise's own and are passed
    over. Links are ``[a, b, latency, bandwidth]`` with an end ``h1`` or ``s1-p3``, latency in ms (or with a unit,
    "5ms") and bandwidth in Mbit/s.
    """
    top = document.fields(["hosts", "switches", "links"], required=["hosts", "switches", "links"])
    switches: dict[str, Switch] = {}
    for index, (name, item) in enumerate(top["switches"].entries().items(), 1):
        item.entries()
        switches[name] = Switch(name, index)
    hosts: dict[str, dict[str, Item]] = {}
    for name, item in top["hosts"].entries().items():
        hosts[name] = item.fields(["ip", "mac", "commands"], required=["ip", "mac"])
    plugged: dict[str, Endpoint] = {}
    links = []
    for item in top["links"].items():
        parts = item.items()
        if not 2 <= len(parts) <= 4:
            raise item.error("wanted [end, end, latency, bandwidth]")
        names = [parts[0].text(), parts[1].text()]
        at_host = [name for name in names if name in hosts]
        if len(at_host) == 2:
            raise item.error(f"a link between two hosts: {names[0]} and {names[1]}")
        if at_host:
            other = parts[1] if names[0] in hosts else parts[0]
            if at_host[0] in plugged:
                raise item.error(f"host {at_host[0]} has two links")
            plugged[at_host[0]] = _switch_port(other, switches)
            continue
        links.append(
            Link(
                _switch_port(parts[0], switches),
                _switch_port(parts[1], switches),
                delay_ms=_latency_ms(parts[2]) if len(parts) > 2 else 0.0,
                rate_mbps=parts[3].number(0, 1e6) if len(parts) > 3 and parts[3].value is not None else 0.0,
            )
        )
    built = []
    for index, (name, fields) in enumerate(hosts.items(), 1):
        if name not in plugged:
            raise document.error(f"hosts.{name}: the host has no link")
        end = plugged[name]
        usual = numbered_host(index, end.switch, end.port, name)
        built.append(Host(name, fields["ip"].text(), usual.ipv6, fields["mac"].text(), end.switch, end.port))
    name = path.parent.name if path.name == "topology.json" and path.parent.name else path.stem
    return Topology(name, tuple(switches.values()), tuple(built), tuple(_numbered(links, built)))


def _numbered(links: list[Link], hosts: list[Host]) -> Iterable[Link]:
    """Give numbers to ends written without a port (as port 0): the first free ones."""
    taken: dict[str, set[int]] = {}
    for end in [host.endpoint for host in hosts] + [end for link in links for end in (link.a, link.b)]:
        taken.setdefault(end.switch, set()).add(end.port)

    def number(end: Endpoint) -> Endpoint:
        if end.port:
            return end
        port = next(value for value in count(1) if value not in taken[end.switch])
        taken[end.switch].add(port)
        return Endpoint(end.switch, port)

    for link in links:
        yield Link(number(link.a), number(link.b), link.delay_ms, link.rate_mbps, link.cost, link.srlgs)


def _switch_port(item: Item, switches: dict[str, Switch]) -> Endpoint:
    name, dash, port = item.text().partition("-p")
    if name not in switches:
        raise item.error(f"unknown end {item.value!r}: neither a host nor a switch")
    if not dash:
        return Endpoint(name, 0)
    if not re.fullmatch(r"[0-9]{1,3}", port) or not 1 <= int(port) <= MAX_PORT:
        raise item.error(f"bad end {item.value!r}: wanted {name}-p1 to {name}-p{MAX_PORT}")
    return Endpoint(name, int(port))


def _latency_ms(item: Item) -> float:
    if isinstance(item.value, str):
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|)", item.value.strip())
        if not match:
            raise item.error(f"bad latency {item.value!r}: wanted a number or one with us, ms or s")
        return float(match[1]) * {"us": 1e-3, "ms": 1.0, "": 1.0, "s": 1e3}[match[2]]
    return item.number(0, 10_000)
