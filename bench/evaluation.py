"""How good the predictions are, as figures beside their targets: all data sets of ``shadowplane evaluate``.

Page, plots and the full JSON go to ``build/evaluate``; this writes the figures as any benchmark does. Public data is
looked for in ``../shared/data`` (SHADOWPLANE_DATA: elsewhere); what is not there is left out and said.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench._common import ROOT, Result, write
from ml import evaluate, report


def main() -> int:
    data = Path(os.environ.get("SHADOWPLANE_DATA", str(ROOT.parent / "shared" / "data")))
    sets = [name for name in evaluate.SETS if name == "simulator" or (data / name).exists()]
    for name in sorted(set(evaluate.SETS) - set(sets)):
        print(f"no data at {data / name}: left out", file=sys.stderr)
    progress = evaluate.Progress(quiet=False)
    found = evaluate.run(evaluate.places(data, sets, {}), progress)
    report.write(found, ROOT / "build" / "evaluate", evaluate.machine())
    progress.done()
    write("evaluation", [result(item) for item in found.figures])
    for error in found.errors:
        print(f"not judged: {error}", file=sys.stderr)
    return 1 if found.errors else 0


def result(item: report.Figure) -> Result:
    """A figure of an evaluation as a benchmark's, with the same verdict; its interval goes into the notes."""
    share = "" if "95 % interval" in item.notes else "90 % "
    between = f"{share}interval [{item.low:.3g}, {item.high:.3g}]" if item.low is not None else ""
    shown = not item.target or item.holds is not None
    notes = "; ".join(part for part in (between, item.notes) if part)
    return Result(item.metric, item.unit, item.value, item.target, item.anchor, item.samples, notes, shown)


if __name__ == "__main__":
    sys.exit(main())
