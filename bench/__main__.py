"""``make bench`` runs every benchmark, ``make bench BENCH=name`` one. A failing benchmark does not stop the others."""

from __future__ import annotations

import runpy
import sys
import time
import traceback

from bench._common import ROOT


def names() -> list[str]:
    """Benchmarks in this folder, in alphabetical order."""
    return sorted(p.stem for p in (ROOT / "bench").glob("*.py") if not p.stem.startswith("_"))


def main(argv: list[str]) -> int:
    """Run the named benchmarks, or all; 1 if one of them broke, 2 for an unknown name."""
    known = names()
    unknown = [name for name in argv if name not in known]
    if unknown:
        print(f"bench: no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    broken = []
    for name in argv or known:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            sys.argv = [name]
            runpy.run_module(f"bench.{name}", run_name="__main__")
        except SystemExit as stop:
            if stop.code not in (0, None):
                broken.append(name)
        except Exception:  # one broken benchmark must not hide the others' figures
            traceback.print_exc()
            broken.append(name)
        print(f"   {time.monotonic() - began:.0f} s\n", flush=True)
    if broken:
        print(f"bench: did not finish: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
