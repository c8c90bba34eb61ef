"""``make bench`` runs every benchmark, ``make bench BENCH=name`` one. A failing benchmark does not stop the others."""

from __future__ import annotations

import runpy
import sys
import time
import traceback

from bench import _common
from bench._common import ROOT

MISSED = 3  # exit status


def names() -> list[str]:
    """Benchmarks in this folder, in alphabetical order."""
    return sorted(p.stem for p in (ROOT / "bench").glob("*.py") if not p.stem.startswith("_"))


def main(argv: list[str]) -> int:
    """Run the named benchmarks, or all.

    The exit status: 1 if one of them broke, 2 for an unknown name, 3 if all finished and a figure missed its target.
    """
    known = names()
    unknown = [name for name in argv if name not in known]
    if unknown:
        print(f"bench: no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    broken = []
    for name in argv or known:
        print(f"== {name}", flush=True)
        began, before = time.monotonic(), len(_common.missed)
        try:
            sys.argv = [name]
            runpy.run_module(f"bench.{name}", run_name="__main__")
        except SystemExit as stop:
            # 1 is also how a benchmark by itself tells of a figure that misses its target.
            if stop.code not in (0, None) and not (stop.code == 1 and len(_common.missed) > before):
                broken.append(name)
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
        except Exception:  # one broken benchmark must not hide the others' figures
            traceback.print_exc()
            broken.append(name)
        print(f"   {time.monotonic() - began:.0f} s\n", flush=True)
    if _common.missed:
        print(f"bench: finished, targets missed: {'; '.join(_common.missed)}", file=sys.stderr)
    if broken:
        print(f"bench: did not finish: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else MISSED if _common.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
