"""Updates, cancellations, absurd announcements, and drains that the network cannot bear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.feeds.announcement import Announcement, Circuit, Impact, Status
from control.feeds.book import NoticeBook
from control.feeds.errors import FeedError
from control.feeds.limits import Limits
from control.feeds.mapping import CircuitMap
from topo.builtin import BUILTIN
from topo.load import loads
from topo.spec import Topology

NOW = 1_772_000_000.0
DAY = 86_400.0
DIAMOND = BUILTIN["diamond"]()


class Told:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, feed: str, text: str) -> None:
        self.texts.append(f"{feed}: {text}")


def book(topology: Topology = DIAMOND, *, confirmed: frozenset[str] = frozenset(), share: float = 0.3) -> NoticeBook:
    circuits = {f"c-{link.name}": topology.link_name(link) for link in topology.links}
    return NoticeBook(CircuitMap.build(topology, circuits), Limits(drain_share=share), confirmed=confirmed)


def work(name: str = "W1", circuit: str = "c-s1-s2", impact: Impact = Impact.OUTAGE, **more: object) -> Announcement:
    found = Announcement(
        "P", name, status=Status.CONFIRMED, start=NOW + 100, end=NOW + 200, circuits=(Circuit(circuit, impact),),
        stamp=NOW - 10, sequence=1,
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


def test_one_entry_per_provider_and_id_updated_by_sequence_then_stamp() -> None:
    held, told = book(), Told()
    assert held.offer("f", [("a", work())], NOW, told)
    assert not held.offer("f", [("b", work())], NOW, told)
    assert held.offer("f", [("c", work(sequence=2, end=NOW + 300))], NOW, told)
    assert not held.offer("f", [("d", work(sequence=1, stamp=NOW, end=NOW + 999))], NOW, told)
    (notice,) = held.notices(NOW)
    assert (notice.element, notice.end, notice.sequence, notice.key) == ("s1-s2", NOW + 300, 2, "P/W1@s1-s2")
    assert held.offer("f", [("e", work(sequence=2, stamp=NOW, end=NOW + 400))], NOW, told)
    assert held.notices(NOW)[0].end == NOW + 400 and told.texts == []


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.COMPLETED])
def test_a_cancellation_ends_it_and_older_copies_stay_dead(status: Status) -> None:
    held, told = book(), Told()
    held.offer("f", [("a", work())], NOW, told)
    end = Announcement("p", "W1", status=status, stamp=NOW, sequence=2)
    assert held.offer("f", [("b", end)], NOW, told)
    assert [item.drains for item in held.notices(NOW)] == [False]
    held.withdraw("f", {"b"}, NOW, told)
    held.offer("f", [("a", work())], NOW, told)
    assert not any(item.drains for item in held.notices(NOW))


def test_a_batch_in_the_wrong_order_ends_right() -> None:
    held, told = book(), Told()
    cancelled = Announcement("P", "W1", status=Status.CANCELLED, stamp=NOW, sequence=-1)
    held.offer("f", [("b", cancelled), ("a", work(sequence=-1))], NOW, told)
    assert not any(item.drains for item in held.notices(NOW))


def test_impact_and_status_decide_about_drains() -> None:
    told = Told()
    for changes, drains in (
        ({}, True),
        ({"impact": Impact.DEGRADED}, True),
        ({"impact": Impact.NO_IMPACT}, False),
        ({"impact": Impact.REDUCED_REDUNDANCY}, False),
        ({"status": Status.TENTATIVE}, False),
        ({"status": Status.RE_SCHEDULED}, True),
    ):
        held = book()
        held.offer("f", [("a", work(**changes))], NOW, told)  # type: ignore[arg-type]
        assert [item.drains for item in held.notices(NOW)] == [drains], changes


def test_a_window_ends_and_a_silent_feed_is_believed_no_more() -> None:
    held, told = book(), Told()
    held.offer("f", [("a", work())], NOW, told)
    assert held.notices(NOW + 199) and not held.notices(NOW + 200)
    assert not held.notices(NOW, {"f": True})
    held.notices(NOW + 40 * DAY)
    assert not held.entries


def test_an_unknown_circuit_is_remembered_and_harms_no_other() -> None:
    held, told = book(), Told()
    both = work(circuits=(Circuit("who-knows"), Circuit("c-s1-s3")))
    held.offer("f", [("a", both)], NOW, told)
    assert [item.element for item in held.notices(NOW)] == ["s1-s3"] and held.unknown == {"who-knows": "P/W1"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"end": NOW + 50}, "its end is not after its start"),
        ({"end": NOW + 3 * 365 * DAY}, "longer than 45"),
        ({"start": -1e9, "end": -1e9 + DAY}, "before the year 2000"),
        ({"start": NOW + 800 * DAY, "end": NOW + 801 * DAY}, "more than 730 days ahead"),
    ],
)
def test_absurd_windows_are_refused_and_told(changes: dict[str, float], words: str) -> None:
    held, told = book(), Told()
    assert not held.offer("f", [("a", work(**changes))], NOW, told)  # type: ignore[arg-type]
    assert words in told.texts[0] and words in held.complaint("f") and not held.notices(NOW)
    held.forgive("f", {"a"})
    assert not held.complaint("f")


def test_a_flood_that_would_drain_the_network_is_held_back_as_a_whole() -> None:
    abilene = BUILTIN["abilene"]()
    held, told = book(abilene), Told()
    held.offer("good", [("a", work("G", f"c-{abilene.links[0].name}"))], NOW, told)
    flood = [(str(n), work(f"X{n}", f"c-{abilene.links[n % len(abilene.links)].name}")) for n in range(3000)]
    held.offer("bad", flood, NOW, told)
    assert {item.id for item in held.notices(NOW)} == {"G"}
    assert "3000 notices held back" in told.texts[-1] and "at the same time" in held.complaint("bad")
    assert not held.complaint("good")


def test_what_would_cut_the_network_apart_needs_to_be_confirmed() -> None:
    pair = [("a", work("A", "c-s1-s2")), ("b", work("B", "c-s1-s3"))]
    held, told = book(share=1.0), Told()
    held.offer("f", pair, NOW, told)
    assert not held.notices(NOW) and "falls apart" in told.texts[0] and set(held.held()) == {"P/A", "P/B"}
    vouched = book(share=1.0, confirmed=frozenset({"P/A", "P/B"}))
    vouched.offer("f", pair, NOW, told)
    assert len(vouched.notices(NOW)) == 2
    apart = book(share=1.0)
    apart.offer("f", [pair[0], ("b", work("B", "c-s1-s3", start=NOW + 200, end=NOW + 300))], NOW, told)
    assert len(apart.notices(NOW)) == 2  # one after the other is bearable


def test_a_hold_ends_when_its_reason_does() -> None:
    held, told = book(share=1.0), Told()
    held.offer("f", [("a", work("A", "c-s1-s2"))], NOW, told)
    held.offer("f", [("b", work("B", "c-s1-s3"))], NOW, told)
    assert [item.id for item in held.notices(NOW)] == ["A"]
    held.withdraw("f", {"a"}, NOW, told)
    assert [item.id for item in held.notices(NOW)] == ["B"]


def test_circuits_map_by_id_by_the_topology_by_name_and_by_expression() -> None:
    topology = loads("switches: [s1, s2, s3]\nlinks: [{a: s1, b: s2, circuits: [TOPO 1]}, {a: s2, b: s3}]\n")
    found = CircuitMap.build(topology, {"IC-1": "s2:2", "re:WS/\\d+/.*": ["s1-s2", "s3"], "A/B": "s3"})
    assert found.elements("ic-1 ") == ("s2-s3",) and found.elements("topo1") == ("s1-s2",)
    assert found.elements("WS/12/ /X") == ("s1-s2", "s3") and found.elements("s2-s1") == ("s1-s2",)
    assert found.elements("XWS/12/") == () and found.elements("re:" * 1000) == ()
    for bad in ({"x": "s9"}, {"re:(": "s1"}, {"x": "s1:9"}):
        with pytest.raises(FeedError, match="circuits"):
            CircuitMap.build(topology, bad)
