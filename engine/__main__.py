"""``python -m engine``: run a switch (:mod:`engine.flags`), or look into one (:mod:`engine.tools`)."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """The exit status: 0 after a clean stop, 1 when the data plane died, 2 for a command line that can't be obeyed."""
    if len(sys.argv) > 1 and sys.argv[1] in ("trace", "stats", "queue"):
        from engine.tools import main as tool

        return tool(sys.argv[1], sys.argv[2:])
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log would bury the one line that matters
    # gRPC's older poller takes a tenth off the time of a single write (bench/p4runtime.py: 0.36 against 0.40 ms)
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
    from engine.server import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
