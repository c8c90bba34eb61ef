"""Every case of ``data/``, on every target that this machine can run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.cases import FOLDER, Case, CaseError, configure, load, masked
from tests.p4.target import Target

CASES = [
    pytest.param(case, id=f"{path.stem}: {case.name}") for path in sorted(FOLDER.glob("*.yaml")) for case in load(path)
]


@pytest.mark.parametrize("case", CASES)
def test_case(switch: Target, case: Case) -> None:
    configure(switch, case)
    drops = [switch.counter("drops", reason)[0] for reason in range(16)]
    for number, step in enumerate(case.steps, 1):
        assert masked(switch.send(step.port, step.frame)) == masked(step.expected), f"step {number}"
    for name, cells in case.counters.items():
        for index, packets in cells.items():
            before = drops[index] if name == "drops" else 0
            assert switch.counter(name, index)[0] - before == packets, f"{name}[{index}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {case: a, stepz: []}", "stepz"),
        ("- {case: a, steps: [{port: 1, send: {udp5: {}}}]}", "udp5"),
        ("- {case: a, steps: [{port: 1, send: {udp4: {tll: 3}}}]}", "tll"),
        ("- {case: a, entries: [{tabel: acl}]}", "tabel"),
    ],
)
def test_mistakes_in_case_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(CaseError, match=message):
        load(path)
