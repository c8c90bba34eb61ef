"""Primaries agree hop by hop, shadows are disjoint, and no subset of flipped groups loops."""

from __future__ import annotations

import pytest
from control_helpers import MONITOR, make_topology, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from control.errors import PathError
from control.paths import Avoid, Disjoint, Network
from control.plan import GroupKey
from control.spm import ShadowManager, changes, depths
from topo.builtin import abilene, diamond, fattree4
from topo.spec import Endpoint, Link, Topology


@st.composite
def two_connected(draw: st.DrawFn, max_nodes: int = 8) -> Topology:
    """A ring with chords: every pair of switches has two node-disjoint ways."""
    count = draw(st.integers(3, max_nodes))
    ring = [(n, n % count + 1) for n in range(1, count + 1)]
    chords = [(a, b) for a in range(1, count + 1) for b in range(a + 2, count + 1) if (a, b) != (1, count)]
    extra = draw(st.lists(st.sampled_from(chords), unique=True, max_size=5)) if chords else []
    edges = ring + extra
    costs = draw(st.lists(st.integers(1, 4).map(float), min_size=len(edges), max_size=len(edges)))
    return make_topology(edges, costs=costs)


@given(two_connected())
@settings(max_examples=60, deadline=None)
def test_primaries_form_a_tree_with_shortest_distances(topology: Topology) -> None:
    net = Network(topology)
    for destination in net.switches:
        tree, distance = net.primaries(destination), net.distances(destination)
        assert set(tree) == set(net.switches) - {destination}
        for name, hop in tree.items():
            assert distance[hop.into.switch] < distance[name]
            path = net.follow(tree, name, destination)
            assert path.cost == pytest.approx(distance[name])


@given(two_connected())
@settings(max_examples=60, deadline=None)
def test_shadows_avoid_next_hop_link_and_switch(topology: Topology) -> None:
    net = Network(topology)
    plan = ShadowManager(net).build(MONITOR)
    for group in plan.groups.values():
        if group.local:
            assert group.shadow is None
            continue
        assert group.primary is not None and group.shadow is not None
        path = group.shadow.path
        assert group.shadow.disjoint is Disjoint.NODE  # a two-connected graph always allows it
        assert group.primary.link not in path.links
        if group.primary.into.switch != group.tail:
            assert group.primary.into.switch not in path.nodes
        assert path.nodes[0] == group.key.switch and path.nodes[-1] == group.tail
        assert len(set(path.nodes)) == len(path.nodes)


@given(two_connected(), st.data())
@settings(max_examples=120, deadline=None)
def test_no_loop_for_any_subset_of_flipped_groups_and_dead_links(topology: Topology, data: st.DataObject) -> None:
    plan = ShadowManager(Network(topology)).build(MONITOR)
    entries = plan.entries()
    candidates = sorted((key.switch, group.id) for key, group in plan.groups.items() if group.shadow)
    bits = set(data.draw(st.lists(st.sampled_from(candidates), unique=True)))
    links = data.draw(st.lists(st.sampled_from(topology.links), unique=True, max_size=2))
    dead = {end for link in links for end in (link.a, link.b)}
    unnoticed = data.draw(st.sampled_from([set(), dead]))
    for host in topology.hosts:
        for switch in topology.switches:
            result = walk(topology, entries, switch.name, host, bits=bits, dead=dead - unnoticed, cut=dead)
            assert result.end != "loop", result.trail
            assert not result.end.startswith("dropped: no "), result.end
            assert result.end not in ("dropped: unknown label", "dropped: wrong port", "dropped: label at a host")
            if not links:
                assert result.end == "delivered"


@given(two_connected(), st.data())
@settings(max_examples=60, deadline=None)
def test_liveness_alone_survives_any_single_link(topology: Topology, data: st.DataObject) -> None:
    link = data.draw(st.sampled_from(topology.links))
    dead = {link.a, link.b}
    entries = ShadowManager(Network(topology)).build(MONITOR).entries()
    for host in topology.hosts:
        for switch in topology.switches:
            assert walk(topology, entries, switch.name, host, dead=dead, cut=dead).end == "delivered"


@given(two_connected(), st.data())
@settings(max_examples=40, deadline=None)
def test_every_step_of_a_staged_change_delivers(topology: Topology, data: st.DataObject) -> None:
    """Planned changes: from any plan to any other, update by update, in any order within a stage."""
    net = Network(topology)
    spm = ShadowManager(net)
    old_plan = spm.build(MONITOR)
    link = data.draw(st.sampled_from(topology.links))
    new_plan = spm.reroute(old_plan, Avoid(links=frozenset({link})))
    if data.draw(st.booleans()):
        old_plan, new_plan = new_plan, old_plan
    state = {switch: dict(found) for switch, found in old_plan.entries().items()}
    flipped = {
        (key.switch, group.id)
        for key, group in old_plan.groups.items()
        if group.shadow and new_plan.groups[key].shadow and data.draw(st.booleans())
    }
    for stage in changes(old_plan.entries(), new_plan.entries(), depth=depths(new_plan)):
        updates = [(switch, update) for switch, found in stage.updates.items() for update in found]
        for switch, update in data.draw(st.permutations(updates)):
            if update.op.name == "DELETE":
                del state[switch][update.entry.key]
            else:
                state[switch][update.entry.key] = update.entry
            for host in topology.hosts:
                result = walk(topology, state, switch, host, bits=flipped)
                assert result.end == "delivered", (stage.name, update, result)
    assert state == new_plan.entries()


def test_replan_moves_only_shadows_that_cross_the_threat(abilene_net: Network) -> None:
    spm = ShadowManager(abilene_net)
    plan = spm.build(MONITOR)
    link = abilene_net.topology.links[0]
    threat = Avoid(links=frozenset({link}))
    after = spm.replan(plan, threat)
    moved = {key for key, group in after.groups.items() if group != plan.groups[key]}
    crossing = {key for key, group in plan.groups.items() if group.shadow and threat.hits(group.shadow.path)}
    assert crossing and moved <= crossing
    for key in moved:
        shadow = after.groups[key].shadow
        assert shadow is not None and link not in shadow.path.links
        assert after.groups[key].primary == plan.groups[key].primary
    assert crossing - moved == {key for key in crossing if _only_way(abilene_net, plan.groups[key], link)}


@pytest.mark.parametrize("index", range(14))
def test_a_shadow_through_a_dead_link_is_withdrawn_until_it_leads_somewhere(abilene_net: Network, index: int) -> None:
    spm = ShadowManager(abilene_net)
    plan = spm.build(MONITOR)
    link = abilene_net.topology.links[index]
    dead = Avoid(links=frozenset({link}))
    kept = spm.replan(plan, dead)  # only threatened: better than none
    after = spm.replan(plan, dead, broken=dead)
    assert spm.replan(plan, dead, broken=dead, moved=plan.groups) == kept  # in use: not the planner's to take away
    for key, group in plan.groups.items():
        if group.primary is None or group.shadow is None:
            continue
        expected = kept.groups[key]
        if dead.hits(group.shadow.path) and _only_way(abilene_net, group, link) and group.primary.link != link:
            assert after.groups[key].shadow is None
            expected = plan.groups[key]
            assert spm.replan(after, dead).groups[key] == expected  # heard again, still threatened: better than none
        else:
            assert after.groups[key] == expected
        assert spm.replan(after, Avoid()).groups[key].shadow is not None


def _only_way(net: Network, group: object, link: Link) -> bool:
    return net.shadow(group.primary, group.tail, Avoid(links=frozenset({link}))) is None


def test_shared_risk_group_is_avoided() -> None:
    topology = make_topology(
        [(1, 2), (2, 4), (1, 3), (3, 4), (1, 5), (5, 6), (6, 4)], srlgs={0: ("duct",), 2: ("duct",)}
    )
    plan = ShadowManager(Network(topology)).build(MONITOR)
    group = plan.groups[GroupKey("s1", "h4")]
    assert group.primary is not None and group.primary.into.switch == "s2"
    assert group.shadow is not None and group.shadow.path.nodes == ("s1", "s5", "s6", "s4")


def test_link_disjoint_where_the_next_hop_is_a_cut_vertex() -> None:
    topology = make_topology([(1, 2), (1, 2), (2, 3)])
    plan = ShadowManager(Network(topology)).build(MONITOR)
    group = plan.groups[GroupKey("s1", "h3")]
    assert group.shadow is not None and group.shadow.disjoint is Disjoint.RISK
    assert group.primary is not None and group.shadow.path.hops[0].link != group.primary.link
    assert plan.groups[GroupKey("s2", "h3")].shadow is None  # a bridge has no way around


def test_labels_are_unique_per_path_and_one_hop_paths_have_none() -> None:
    for topology in (diamond(), abilene(), fattree4()):
        plan = ShadowManager(Network(topology)).build(MONITOR)
        by_label: dict[int, str] = {}
        for group in plan.shadowed():
            assert group.shadow is not None
            if len(group.shadow.path.hops) == 1:
                assert group.shadow.label == 0
            else:
                assert by_label.setdefault(group.shadow.label, group.shadow.path.key) == group.shadow.path.key
        assert len(set(by_label.values())) == len(by_label) and min(by_label) >= 16


def test_builtin_topologies_deliver_everywhere() -> None:
    for topology in (diamond(), abilene(), fattree4()):
        entries = ShadowManager(Network(topology)).build(MONITOR).entries()
        for host in topology.hosts:
            for switch in topology.switches:
                assert walk(topology, entries, switch.name, host).end == "delivered"


@pytest.mark.parametrize("cost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_not_positive_is_refused(cost: float) -> None:
    with pytest.raises(PathError, match="s1-s2"):
        Network(make_topology([(1, 2)], costs=[cost]))


def test_elements_resolve_by_every_name(diamond_net: Network) -> None:
    link = diamond_net.topology.links[0]
    for name in ("s1-s2", "s2-s1", str(link.a), str(link.b), f"{link.a}-{link.b}"):
        assert diamond_net.resolve(name) == (link,)
    assert diamond_net.resolve("s2") == "s2"
    for wrong in ("s9", "s1-s9", "s1:1", "s1:77", ""):
        with pytest.raises(PathError, match="no switch, link or switch port"):
            diamond_net.resolve(wrong)
    assert diamond_net.hop_at(Endpoint("s1", 1)) is None  # a host port
