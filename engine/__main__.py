"""``python -m engine``: run a switch. See :mod:`engine.flags` for the command line."""

from __future__ import annotations

import sys

from engine.server import main

if __name__ == "__main__":
    sys.exit(main())
