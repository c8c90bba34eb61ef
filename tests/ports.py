"""Free TCP ports on loopback for servers that are told theirs."""

from __future__ import annotations

import itertools
import os
import random
import socket

_EACH = 2_000  # ports of a test process
_STEP = 20
#: Each of pytest's processes has ports of its own, and gives the same ones away again only when all were used: whoever
#: is told one takes it some time later. All are below those that the system gives away (32768 and up on Linux); chance
#: keeps other test runs on the machine apart.
_FIRST = 20_000 + _EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6)
_COUNT = _EACH // _STEP
_bases = itertools.cycle(random.sample(range(_FIRST, _FIRST + _EACH, _STEP), _COUNT))


def free_base(count: int = 4) -> int:
    """A number that ``count`` free ports follow, 19 at most."""
    for base in itertools.islice(_bases, _COUNT):
        try:
            for number in range(1, count + 1):
                socket.create_server(("127.0.0.1", base + number)).close()
        except OSError:
            continue
        return base
    raise RuntimeError(f"no free ports between {_FIRST} and {_FIRST + _EACH}")


def free_port() -> int:
    return free_base(1) + 1
