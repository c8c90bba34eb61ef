"""The share of public sample notices that is parsed to just what is expected; the samples are not in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.feeds.measure import measure

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "maintenance"
#: Reached 130 of 140 when this was written; docs/feeds.md lists the rest and why.
FLOOR = 0.92
#: Providers of which every sample was exact.
COMPLETE = ("apple", "aquacomms", "arelion", "att", "aws", "bso", "colt", "crowncastle", "eunetworks",
            "globalcloudxchange", "google", "gtt", "ical", "megaport", "momentum", "ntt", "pccw", "seaborn", "sparkle",
            "tata", "telstra", "verizon", "windstream")  # fmt: skip


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"needs the sample notices in {SAMPLES}")
def test_the_share_of_samples_parsed_exactly() -> None:
    tallies = measure(SAMPLES)
    exact, total = sum(item.exact for item in tallies.values()), sum(item.total for item in tallies.values())
    wrong = {f"{name}/{sample}": text for name, item in tallies.items() for sample, text in item.wrong.items()}
    assert exact >= FLOOR * total, wrong
    assert not {name: item.wrong for name, item in tallies.items() if name in COMPLETE and item.wrong}


def test_a_wrong_result_is_counted_as_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "verizon"
    folder.mkdir()
    (folder / "one.html").write_text("<p>Verizon MASTARS Request number: 12</p><p>Dear Reader,</p>")
    (folder / "one_result.json").write_text('[{"maintenance_id": "13", "account": "Reader"}]')
    (folder / "two.html").write_text("<p>Verizon MASTARS Request number: 13</p>")
    (folder / "two_result.json").write_text('[{"maintenance_id": "13"}]')
    tally = measure(tmp_path)["verizon"]
    assert tally.exact == 1 and tally.wrong == {"one_result": "maintenance_id: '12', not '13'"}
