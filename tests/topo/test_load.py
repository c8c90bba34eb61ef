"""Topologies: the built-in ones, our format, the importers, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from topo.builtin import BUILTIN, FIBRE_KM_PER_MS, assemble, great_circle_km
from topo.load import dumps, load, loads
from topo.paths import shortest_path
from topo.spec import Endpoint, Host, Link, Switch, Topology, TopologyError

ZOO = Path(__file__).resolve().parents[3] / "shared" / "data" / "topologies"


def test_diamond() -> None:
    topology = load("diamond")
    assert [link.name for link in topology.links] == ["s1-s2", "s1-s3", "s2-s4", "s3-s4"]
    assert [(host.name, host.switch) for host in topology.hosts] == [
        ("h1", "s1"),
        ("h2", "s1"),
        ("h3", "s4"),
        ("h4", "s4"),
        ("h5", "s2"),
        ("h6", "s3"),
    ]
    assert topology.host("h1").gateway_ipv4 == "10.0.1.1"
    assert topology.host("h1").gateway_ipv6 == "fd00:0:1::1"


def test_abilene_is_where_it_was() -> None:
    topology = load("abilene")
    assert (len(topology.switches), len(topology.links), len(topology.hosts)) == (11, 14, 11)
    coast_to_coast = great_circle_km(47.61, -122.33, 40.71, -74.01)
    assert coast_to_coast == pytest.approx(3870, rel=0.01)  # Seattle to New York
    seattle_sunnyvale = topology.link("s1-s2")
    assert seattle_sunnyvale.delay_ms == pytest.approx(1139 / FIBRE_KM_PER_MS, rel=0.01)  # topohub: 1138.92 km
    assert seattle_sunnyvale.cost == seattle_sunnyvale.delay_ms


def test_fattree4_is_a_fat_tree() -> None:
    topology = load("fattree4")
    degree = {switch.name: len(list(topology.links_of(switch.name))) for switch in topology.switches}
    assert [degree[f"s{index}"] for index in range(1, 21)] == [2] * 8 + [4] * 12
    path = shortest_path(topology, "s1", "s8")
    assert path is not None and len(path) == 5  # edge, aggregation, core, aggregation, edge


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_survives_any_one_link(name: str) -> None:
    topology = load(name)
    for link in topology.links:
        assert shortest_path(topology, link.a.switch, link.b.switch, without_links=(link,)) is not None


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(TopologyError, match=r"daimond: no such file.*diamond, abilene, fattree4"):
        load("daimond")


# --- our own format ---


def test_left_out_values_are_numbered() -> None:
    topology = loads(
        """
        name: small
        switches: [s1, {name: s2, device_id: 9, label: Oslo}]
        hosts: [{switch: s1}, {name: left, switch: s2, port: 1}]
        links: [{a: "s1:1", b: s2}, {a: s1, b: s2, delay_ms: 2.5, srlgs: [duct]}]
        """
    )
    assert topology.hosts[0] == Host("h1", "10.0.1.10/24", "fd00:0:1::10/64", "02:00:01:00:00:01", "s1", 2)
    assert topology.links == (
        Link(Endpoint("s1", 1), Endpoint("s2", 2)),
        Link(Endpoint("s1", 3), Endpoint("s2", 3), delay_ms=2.5, srlgs=("duct",)),
    )
    assert topology.switch("s2") == Switch("s2", 9, label="Oslo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml:1: the document is empty"),
        ("switches: [s1\n", "x.yaml:2: not YAML"),
        ("links: []\n", "x.yaml:1: document: key 'switches' is missing"),
        ("switches: []\n", "x.yaml: no switches"),
        ("switches:\n  - s1\nlinsk: []\n", "x.yaml:3: unknown key 'linsk'; did you mean 'links'?"),
        ("switches: [s1]\nswitches: [s2]\n", "x.yaml:2: key 'switches' appears twice"),
        ("switches: [s1, s1]\n", "x.yaml: duplicate name 's1'"),
        ("switches: [s-1]\n", "x.yaml: bad name 's-1'"),
        ("switches: [{name: s1, device_id: 7}, {name: s2, device_id: 7}]\n", "duplicate device_id 7: s1, s2"),
        ("switches: [s1, s2]\n", "x.yaml: disconnected: no way from s1 to s2"),
        ("switches: [s1]\nlinks:\n  - {a: s1, b: s9}\n", "x.yaml:3: unknown switch 's9' (known: s1)"),
        ("switches: [s1]\nhosts:\n  - {switch: s7}\n", "x.yaml:3: unknown switch 's7'"),
        ("switches: [s1, s2]\nlinks:\n- {a: 's1:300', b: s2}\n", "x.yaml:3: bad end point 's1:300'"),
        ("switches: [s1, s2]\nlinks:\n- {a: s1, b: s2, delay_ms: -1}\n", "x.yaml:3: delay_ms: -1 is not in 0..10000"),
        ("switches: [s1, s2]\nlinks:\n- {a: s1, b: s2, cost: .nan}\n", "x.yaml:3: cost: nan is not in"),
        ("switches: [s1]\nlinks:\n- {a: s1, b: s1}\n", "link s1:1-s1:2: both ends on the same switch"),
        ("switches: [s1]\nhosts:\n- {switch: s1, ipv4: 10.0.0.300/24}\n", "host h1: bad ipv4 address"),
        ("switches: [s1]\nhosts:\n- {switch: s1, ipv4: 10.0.0.3}\n", "has no prefix length"),
        ("switches: [s1]\nhosts:\n- {switch: s1, mac: '01:00:00:00:00:01'}\n", "is a group address"),
        ("switches: [s1]\nhosts:\n- {switch: s1}\n- {switch: s1, ipv4: 10.0.1.9/24}\n", "is also that of h1"),
        (
            "switches: [s1, s2]\nhosts: [{switch: s1, port: 1}]\nlinks: [{a: 's1:1', b: s2}]\n",
            "already used by host h1",
        ),
        ("switches: 3\n", "x.yaml:1: switches: wanted a list, found 3"),
        ("switches:\n- {name: 5}\n", "x.yaml:2: name: wanted text, found 5"),
    ],
)
def test_refusals_name_the_place(text: str, message: str) -> None:
    with pytest.raises(TopologyError) as caught:
        loads(text, "x.yaml")
    assert message in str(caught.value)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Connected networks with parallel links, odd values and several hosts per switch."""
    count = draw(st.integers(1, 8))
    switches = [
        Switch(
            f"s{index}",
            index * 3,
            draw(st.none() | st.floats(-90, 90)),
            draw(st.none() | st.floats(-180, 180)),
            draw(st.text(max_size=8)),
        )
        for index in range(1, count + 1)
    ]
    names = [switch.name for switch in switches]
    pairs = [(names[draw(st.integers(0, index - 1))], names[index]) for index in range(1, count)]
    if count > 1:
        extra = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=8))
        pairs += [(a, b) for a, b in extra if a != b]
    values = st.floats(0, 1000)
    links = [(a, b, draw(values), draw(values), draw(st.floats(0.001, 1e6))) for a, b in pairs]
    topology = assemble("drawn", switches, draw(st.lists(st.sampled_from(names), max_size=6)), links)
    srlgs = draw(st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple))
    return replace(topology, links=tuple(replace(link, srlgs=srlgs) for link in topology.links))


@settings(max_examples=300, deadline=None)
@given(topologies())
@example(Topology("drawn", (Switch("s1", 1, label="a\x85b\u2028c\ufeff"),), (), ()))
@example(Topology("São Paulo", (Switch("s1", 1, label="São Paulo: 1"),), (), ()))
def test_written_and_read_again(topology: Topology) -> None:
    topology.validate()
    assert loads(dumps(topology)) == topology


def test_a_slower_network_is_the_same_network() -> None:
    diamond = load("diamond")
    fast = replace(diamond, links=(replace(diamond.links[0], rate_mbps=0), *diamond.links[1:]))
    slow = fast.slowed(0.25)
    assert [link.rate_mbps for link in slow.links] == [0, *[10] * (len(slow.links) - 1)], "what has no limit gets none"
    assert loads(dumps(slow)).slowed(4) == fast


@settings(max_examples=60, deadline=None)
@given(topologies())
def test_every_link_has_a_name_of_its_own(topology: Topology) -> None:
    names = [topology.link_name(link) for link in topology.links]
    assert len(set(names)) == len(names)
    assert [topology.link(name) for name in names] == list(topology.links)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_or_valid(text: str) -> None:
    try:
        topology = loads(text, "fuzz.yaml")
    except TopologyError as error:
        assert str(error).startswith("fuzz.yaml")
    else:
        topology.validate()


# --- foreign formats ---

GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="label" attr.type="string" for="node" id="d33" />
  <key attr.name="Longitude" attr.type="double" for="node" id="d29" />
  <key attr.name="Latitude" attr.type="double" for="node" id="d32" />
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d36" />
  <key attr.name="Network" attr.type="string" for="graph" id="d4" />
  <graph edgedefault="undirected">
    <data key="d4">Tiny</data>
    <node id="0"><data key="d33">Oslo</data><data key="d29">10.75</data><data key="d32">59.91</data></node>
    <node id="1"><data key="d33">Bergen</data><data key="d29">5.32</data><data key="d32">60.39</data></node>
    <node id="2"><data key="d33">?</data></node>
    <edge id="e0" source="0" target="1"><data key="d36">10000000000.0</data></edge>
    <edge id="e1" source="0" target="1" />
    <edge source="1" target="2" />
  </graph>
</graphml>
"""


def test_topology_zoo_graphml(tmp_path: Path) -> None:
    file = tmp_path / "tiny.graphml"
    file.write_text(GRAPHML)
    topology = load(file)
    assert topology.name == "Tiny"
    assert [switch.label for switch in topology.switches] == ["Oslo", "Bergen", "?"]
    assert topology.links[0].delay_ms == pytest.approx(305 / FIBRE_KM_PER_MS, rel=0.02)  # 305 km as the crow flies
    assert topology.links[0].rate_mbps == 10_000
    assert topology.links[2].delay_ms == 0 and topology.links[2].cost == 1
    assert [topology.link_name(link) for link in topology.links] == ["s1:2-s2:2", "s1:3-s2:3", "s2-s3"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('target="2"', 'target="7"', "edge 2: unknown node '7'"),
        ("59.91", "north", "node '0': Latitude is 'north', wanted a number"),
        ('<edge source="1" target="2" />', "", "disconnected: no way from s1 to s3"),
        ('node id="1"', 'node id="0"', "duplicate node '0'"),
        ("</graphml>", "", "not XML"),
        ("<graph ", "<tree ", "not XML"),
        ('<edge id="e1" source="0"', '<edge id="e1"', "edge e1: no source or target"),
    ],
)
def test_broken_graphml(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "tiny.graphml"
    assert old in GRAPHML
    file.write_text(GRAPHML.replace(old, new))
    with pytest.raises(TopologyError) as caught:
        load(file)
    assert message in str(caught.value) and str(file) in str(caught.value)


MARKUP = (
    *(
        "",
        " ",
        "<",
        ">",
        "&",
        "&#0;",
        "\x00",
        '"',
        "nan",
        "inf",
        "-1e999",
        "é",
        "</graph>",
        "<graph/>",
        "]]>",
        "9" * 400,
    ),
    *(
        "9" * 400,
        "<!DOCTYPE g [<!ENTITY a 'aaaa'>]>",
        '<node id="0"/>',
        '<edge source="0"/>',
        '<edge source="0" target="0"/>',
    ),
)


@settings(max_examples=100)
@given(data=st.data())
def test_odd_and_damaged_graphml_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / "odd.graphml"
    text = GRAPHML
    for _ in range(data.draw(st.integers(0, 3))):
        first = data.draw(st.integers(0, len(text)))
        last = data.draw(st.integers(first, min(first + 40, len(text))))
        text = text[:first] + data.draw(st.sampled_from(MARKUP)) + text[last:]
    lines = text.splitlines()
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, max(len(lines) - 1, 0)))
        lines = data.draw(st.sampled_from((lines[:place], lines[:place] + lines[place + 1 :], lines + lines[place:])))
    body = "\n".join(lines).encode(data.draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1"))), "replace")
    file.write_bytes(body[: data.draw(st.integers(0, len(body)))] if data.draw(st.booleans()) else body)
    try:
        topology = load(file)
    except TopologyError as error:
        assert str(error).startswith(str(file))
    else:
        topology.validate()
        assert topology.links and len(topology.hosts) == len(topology.switches)


def test_graphml_that_is_not_xml_is_refused_by_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.graphml"
    file.write_text(GRAPHML.replace('<node id="2">', '<node id="2"'))
    with pytest.raises(TopologyError, match=r"bad\.graphml:12: not XML"):
        load(file)


TUTORIAL = {
    "hosts": {
        "h1": {
            "ip": "10.0.1.1/24",
            "mac": "08:00:00:00:01:11",
            "commands": ["route add default gw 10.0.1.10 dev eth0"],
        },
        "h11": {"ip": "10.0.1.11/31", "mac": "08:00:00:00:01:0b", "commands": []},
        "h2": {"ip": "10.0.2.2/24", "mac": "08:00:00:00:02:22"},
    },
    "switches": {"s1": {"runtime_json": "s1-runtime.json"}, "s2": {}},
    "links": [["h1", "s1-p2"], ["h11", "s1-p1"], ["s1-p3", "s2-p3", "5ms", 0.5], ["h2", "s2-p1", "0", 10]],
}


def test_p4_tutorials_topology(tmp_path: Path) -> None:
    file = tmp_path / "mri" / "topology.json"
    file.parent.mkdir()
    file.write_text(json.dumps(TUTORIAL))
    topology = load(file)
    assert topology.name == "mri"
    assert topology.links == (Link(Endpoint("s1", 3), Endpoint("s2", 3), delay_ms=5.0, rate_mbps=0.5),)
    h1, h11, _ = topology.hosts
    assert (h1.ipv4, h1.port, h1.gateway_ipv4) == ("10.0.1.1/24", 2, "10.0.1.2")
    assert (h11.ipv4, h11.gateway_ipv4) == ("10.0.1.11/31", "10.0.1.10")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"links": [["h1", "s1-p2"], ["h11", "s9-p1"]]}, "links[1][1]: unknown end 's9-p1'"),
        ({"links": [["h1", "h2"]]}, "links[0]: a link between two hosts: h1 and h2"),
        ({"links": [["h1", "s1-p0"]]}, "links[0][1]: bad end 's1-p0'"),
        ({"links": [["s1-p3", "s2-p3", "fast"]]}, "links[0][2]: bad latency 'fast'"),
        ({"links": [["s1-p3", "s2-p3"]]}, "hosts.h1: the host has no link"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_broken_tutorial(tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "topology.json"
    file.write_text(json.dumps({**TUTORIAL, **change}))
    with pytest.raises(TopologyError) as caught:
        load(file)
    assert message in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"nodes": [{"id": 0}], "edges": [{"source": 0}]}, "edges[0]: key 'target' is missing"),
        ({"nodes": [{"id": 0}, {"id": 1}], "links": [{"source": 0, "target": 2}]}, "links[0]: unknown node '2'"),
        ({"nodes": [{"id": 0, "pos": [1]}], "edges": []}, "nodes[0].pos: wanted [longitude, latitude]"),
        ({"nodes": [{"id": 0, "pos": [1, 95]}], "edges": []}, "95 is not in -90..90"),
        ({"nodes": [{"id": [0]}], "edges": []}, "a node's id is text or an integer"),
        ({"nodes": [{"name": "x"}], "edges": []}, "nodes[0]: key 'id' is missing"),
        ({"nodes": [], "edges": []}, "no switches"),
        ({"nodes": []}, "key 'edges' is missing"),
    ],
)
def test_broken_node_link(tmp_path: Path, value: object, message: str) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(value))
    with pytest.raises(TopologyError) as caught:
        load(file)
    assert message in str(caught.value) and str(file) in str(caught.value)


def test_truncated_json_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    file.write_text('{"nodes": [\n {"id": 0},\n')
    with pytest.raises(TopologyError, match=r"cut\.json:3: not JSON"):
        load(file)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["s1", "h1", "s1-p1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["nodes", "edges", "links", "hosts", "switches", "id", "source", "target", "pos", "ip", "mac"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=json_values)
def test_any_json_is_refused_or_valid(value: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "any.json"
    file.write_text(json.dumps(value))
    try:
        topology = load(file)
    except TopologyError as error:
        assert str(error).startswith(str(file))
    else:
        topology.validate()


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"the Topology Zoo's files are not at {ZOO}")
def test_all_zoo_networks() -> None:
    files = sorted(ZOO.glob("*.json"))
    assert len(files) == 203
    for file in files:
        plain = json.loads(file.read_text())
        topology = load(file)
        assert len(topology.switches) == len(plain["nodes"]) == len(topology.hosts), file
        assert len(topology.links) == len(plain["edges"]), file
        labels = {switch.name: switch.label for switch in topology.switches}
        names = {node["id"]: node["name"] for node in plain["nodes"]}
        for link, edge in zip(topology.links, plain["edges"], strict=True):
            assert (labels[link.a.switch], labels[link.b.switch]) == (names[edge["source"]], names[edge["target"]])
            assert link.delay_ms == pytest.approx(edge["dist"] / FIBRE_KM_PER_MS, abs=0.001), file


@pytest.mark.skipif(not ZOO.is_dir(), reason=f"the Topology Zoo's files are not at {ZOO}")
def test_our_abilene_is_the_zoos() -> None:
    ours, theirs = load("abilene"), load(ZOO / "Abilene.json")

    def links(topology: Topology) -> set[frozenset[str]]:
        labels = {switch.name: switch.label for switch in topology.switches}
        return {frozenset((labels[link.a.switch], labels[link.b.switch])) for link in topology.links}

    assert links(ours) == links(theirs)
