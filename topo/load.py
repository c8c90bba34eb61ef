"""``load(name or path)``: built-in topologies, our own YAML/JSON, and three foreign formats (:mod:`topo.importers`).

Our own format::

    name: example
    switches:
      - s1                                        # device_id: the position in this list
      - {name: s2, device_id: 7, label: Oslo, latitude: 59.9, longitude: 10.7}
    hosts:
      - {name: h1, switch: s1}                    # port, addresses and MAC are numbered when left out
      - {name: h2, switch: s2, port: 1, ipv4: 10.9.0.5/24, ipv6: "fd00:9::5/64", mac: "02:00:09:00:00:05"}
    links:
      - {a: s1, b: s2}                            # ports are numbered when left out
      - {a: "s1:3", b: "s2:4", delay_ms: 2.5, rate_mbps: 40, cost: 2, srlgs: [duct-7], circuits: [IC-1234]}
      - {a: s1, b: s3, medium: microwave, frequency_ghz: 23, polarization: v}

Left-out ports are given out in order (hosts first, then links), from 1, past the ones that are named.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import yaml

from topo import importers
from topo.builtin import BUILTIN, numbered_host
from topo.document import DocumentError, Item, parse_yaml, read
from topo.spec import MAX_DEVICE_ID, MAX_PORT, MEDIA, Endpoint, Host, Link, Switch, Topology, TopologyError

_LINK_KEYS = ("a", "b", "delay_ms", "rate_mbps", "cost", "srlgs", "medium", "frequency_ghz", "polarization", "circuits")


def load(name_or_path: str | Path) -> Topology:
    """A built-in topology by name, or a file. Raises :class:`TopologyError`, naming file and element."""
    name = str(name_or_path)
    if name in BUILTIN:
        return BUILTIN[name]().validate()
    path = Path(name)
    if not path.exists():
        raise TopologyError(f"{name}: no such file, and no built-in topology (built in: {', '.join(BUILTIN)})")
    try:
        if path.suffix.lower() in (".graphml", ".xml"):
            return importers.from_graphml(path).validate(name)
        document = read(path)
        if importers.is_p4_tutorial(document):
            topology = importers.from_p4_tutorial(document, path)
        elif importers.is_node_link(document):
            topology = importers.from_node_link(document, path)
        else:
            topology = from_document(document)
    except DocumentError as exc:
        raise TopologyError(str(exc)) from exc
    return topology.validate(name)


def loads(text: str, source: str = "<text>") -> Topology:
    """A topology of our own format from text (YAML, hence JSON too)."""
    try:
        topology = from_document(parse_yaml(text, source))
    except DocumentError as exc:
        raise TopologyError(str(exc)) from exc
    return topology.validate(source)


def from_document(document: Item) -> Topology:
    """Read our own format; the caller validates."""
    top = document.fields(["name", "switches", "hosts", "links"], required=["switches"])
    name = top["name"].text() if "name" in top else Path(document.source).stem
    switches = [_switch(item, index) for index, item in enumerate(top["switches"].items(), 1)]
    host_items = top["hosts"].items() if "hosts" in top else []
    link_items = top["links"].items() if "links" in top else []
    ports = _PortNumbers(switch.name for switch in switches)
    host_fields = [item.fields(["name", "switch", "port", "ipv4", "ipv6", "mac"], ["switch"]) for item in host_items]
    for fields in host_fields:
        if "port" in fields:
            ports.take(fields["switch"].text(), fields["port"].integer(1, MAX_PORT))
    link_fields = [item.fields(_LINK_KEYS, required=["a", "b"]) for item in link_items]
    for fields in link_fields:
        for key in ("a", "b"):
            switch, port = _end(fields[key])
            if port is not None:
                ports.take(switch, port)
    hosts = [_host(fields, index, ports) for index, fields in enumerate(host_fields, 1)]
    links = [_link(fields, ports) for fields in link_fields]
    return Topology(name, tuple(switches), tuple(hosts), tuple(links))


def _switch(item: Item, index: int) -> Switch:
    if isinstance(item.value, str):
        return Switch(item.value, index)
    fields = item.fields(["name", "device_id", "latitude", "longitude", "label"], required=["name"])
    return Switch(
        name=fields["name"].text(),
        device_id=fields["device_id"].integer(1, MAX_DEVICE_ID) if "device_id" in fields else index,
        latitude=fields["latitude"].number(-90, 90) if "latitude" in fields else None,
        longitude=fields["longitude"].number(-180, 180) if "longitude" in fields else None,
        label=fields["label"].text() if "label" in fields else "",
    )


def _host(fields: dict[str, Item], index: int, ports: _PortNumbers) -> Host:
    switch = fields["switch"]
    ports.check(switch, switch.text())
    port = fields["port"].integer(1, MAX_PORT) if "port" in fields else ports.next(switch.text())
    usual = numbered_host(index, switch.text(), port, fields["name"].text() if "name" in fields else "")
    given = {key: fields[key].text() for key in ("ipv4", "ipv6", "mac") if key in fields}
    return Host(
        name=usual.name,
        ipv4=given.get("ipv4", usual.ipv4),
        ipv6=given.get("ipv6", usual.ipv6),
        mac=given.get("mac", usual.mac),
        switch=usual.switch,
        port=usual.port,
    )


def _link(fields: dict[str, Item], ports: _PortNumbers) -> Link:
    ends = []
    for key in ("a", "b"):
        switch, port = _end(fields[key])
        ports.check(fields[key], switch)
        ends.append(Endpoint(switch, port if port is not None else ports.next(switch)))
    return Link(
        ends[0],
        ends[1],
        delay_ms=fields["delay_ms"].number(0, 10_000) if "delay_ms" in fields else 0.0,
        rate_mbps=fields["rate_mbps"].number(0, 1e6) if "rate_mbps" in fields else 0.0,
        cost=fields["cost"].number(1e-9, 1e12) if "cost" in fields else 1.0,
        srlgs=tuple(item.text() for item in fields["srlgs"].items()) if "srlgs" in fields else (),
        medium=fields["medium"].choice(MEDIA) if "medium" in fields else "fibre",
        frequency_ghz=fields["frequency_ghz"].number(0, 1000) if "frequency_ghz" in fields else 0.0,
        polarization=fields["polarization"].choice(("h", "v")) if "polarization" in fields else "v",
        circuits=tuple(item.text() for item in fields["circuits"].items()) if "circuits" in fields else (),
    )


def _end(item: Item) -> tuple[str, int | None]:
    name, colon, port = item.text().partition(":")
    if not colon:
        return name, None
    if not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= MAX_PORT:
        raise item.error(f"bad end point {item.value!r}: wanted switch or switch:port, with a port in 1..{MAX_PORT}")
    return name, int(port)


class _PortNumbers:
    """Gives out free port numbers, per switch."""

    def __init__(self, switches: Iterator[str]) -> None:
        self._taken: dict[str, set[int]] = {name: set() for name in switches}

    def check(self, item: Item, switch: str) -> None:
        if switch not in self._taken:
            raise item.error(f"unknown switch {switch!r} (known: {', '.join(self._taken)})")

    def take(self, switch: str, port: int) -> None:
        if switch in self._taken:
            self._taken[switch].add(port)

    def next(self, switch: str) -> int:
        port = next(number for number in count(1) if number not in self._taken[switch])
        self._taken[switch].add(port)
        return port


def dumps(topology: Topology) -> str:
    """The topology in our own format (YAML), complete: :func:`loads` gives an equal one."""
    plain = to_plain(topology)
    # PyYAML writes these line breaks as they are and reads them as spaces; escaped they survive.
    odd = any(character in text for text in _texts(plain) for character in "\x85\u2028\u2029\ufeff")
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=not odd, width=120)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def to_plain(topology: Topology) -> dict[str, object]:
    """The topology as plain data (what :func:`dumps` writes; also good as JSON)."""
    switches = []
    for switch in topology.switches:
        entry: dict[str, object] = {"name": switch.name, "device_id": switch.device_id}
        if switch.latitude is not None:
            entry["latitude"] = switch.latitude
        if switch.longitude is not None:
            entry["longitude"] = switch.longitude
        if switch.label:
            entry["label"] = switch.label
        switches.append(entry)
    hosts = [
        {
            "name": host.name,
            "switch": host.switch,
            "port": host.port,
            "ipv4": host.ipv4,
            "ipv6": host.ipv6,
            "mac": host.mac,
        }
        for host in topology.hosts
    ]
    links = []
    for link in topology.links:
        entry = {"a": str(link.a), "b": str(link.b)}
        for key, value, usual in (
            ("delay_ms", link.delay_ms, 0.0),
            ("rate_mbps", link.rate_mbps, 0.0),
            ("cost", link.cost, 1.0),
            ("medium", link.medium, "fibre"),
            ("frequency_ghz", link.frequency_ghz, 0.0),
            ("polarization", link.polarization, "v"),
        ):
            if value != usual:
                entry[key] = value
        if link.srlgs:
            entry["srlgs"] = list(link.srlgs)
        if link.circuits:
            entry["circuits"] = list(link.circuits)
        links.append(entry)
    return {"name": topology.name, "switches": switches, "hosts": hosts, "links": links}
