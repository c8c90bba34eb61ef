"""Round trip of a ping between two hosts through one switch: the embedded one and simple_switch_grpc, in turns.

The hosts are network namespaces, so that the kernel does not take a short cut. ``ping`` measures; the medians of all
echoes of a switch count. Without a switch, a cable between the same namespaces shows what the hosts themselves take.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from bench._bmv2 import available, bmv2_switch, version
from bench._common import Result, quantile, write
from bench._program import L3, STEERING, Subject, updates
from bench._wire import HOST_MAC, PRIMARY, SOURCE_MAC, Cables, cables, engine_switch, unusable

TURNS = 3
ECHOES = 400
EVERY_S = 0.005
HOSTS = {1: "10.0.1.1", PRIMARY: "10.0.2.1"}
_TIME = re.compile(r"time=([0-9.]+) ms")


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@contextmanager
def namespaces(ends: dict[int, str]) -> Iterator[dict[int, str]]:
    """Each end of a cable in a namespace with its host's address and the way to the other."""
    names = {n: f"sw{os.getpid()}n{n}" for n in ends}
    try:
        for n, interface in ends.items():
            _run("ip", "netns", "add", names[n])
            _run("ip", "link", "set", interface, "netns", names[n], "address", HOST_MAC.hex(":"))
            inside = ("ip", "-n", names[n])
            _run(*inside, "link", "set", interface, "up")
            _run(*inside, "addr", "add", f"{HOSTS[n]}/24", "dev", interface)
            gateway = HOSTS[n].rsplit(".", 1)[0] + ".254"
            _run(*inside, "neigh", "add", gateway, "lladdr", SOURCE_MAC.hex(":"), "dev", interface)
            _run(*inside, "route", "add", "default", "via", gateway)
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def echoes(names: dict[int, str]) -> list[float]:
    """Round trips in milliseconds; the first ones warm up and do not count."""
    command = ("ping", "-n", "-i", str(EVERY_S), "-c", str(ECHOES), "-W", "1", HOSTS[PRIMARY])
    done = subprocess.run(
        ["ip", "netns", "exec", names[1], *command], capture_output=True, text=True, check=False, timeout=60
    )
    found = [float(text) for text in _TIME.findall(done.stdout)]
    if len(found) < ECHOES * 0.99:
        raise RuntimeError(f"only {len(found)} of {ECHOES} echoes came back: {done.stdout[-300:]}{done.stderr}")
    return found[10:]


def rival(made: Cables, subject: Subject) -> AbstractContextManager[Any]:
    """BMv2 with the program and both directions."""
    return bmv2_switch(made, subject, (*subject.rows, *subject.back))


def ours(made: Cables, subject: Subject) -> AbstractContextManager[Any]:
    """The embedded switch likewise."""
    rows = partial(updates, rows=(*subject.rows, *subject.back))
    return engine_switch(made, subject.shared_object(), rows=rows)


def measure(subject: Subject) -> list[Result]:
    """Both switches in turns with one program."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    with cables((1, PRIMARY, 3)) as made, namespaces({n: made.host[n] for n in HOSTS}) as names:
        for _ in range(TURNS):
            for who, start in (("ours", ours), ("theirs", rival)):
                if who == "theirs" and not available():
                    continue
                with start(made, subject):
                    times[who] += echoes(names)
    own = statistics.median(times["ours"])
    load = f"p99 {quantile(times['ours'], 0.99):.3f} ms; load average {os.getloadavg()[0]:.1f}"
    if not times["theirs"]:
        return [Result(f"ping, {subject.name}", "ms", own, "", "", len(times["ours"]), load)]
    theirs = statistics.median(times["theirs"])
    beside = f"simple_switch_grpc {theirs:.3f} ms in this run"
    notes = f"p99 {quantile(times['theirs'], 0.99):.3f} ms"
    return [
        Result(f"ping, {subject.name}", "ms", own, "", beside, len(times["ours"]), load),
        Result(f"ping, {subject.name}, simple_switch_grpc", "ms", theirs, "", version(), len(times["theirs"]), notes),
        Result(f"ping, {subject.name}, share of simple_switch_grpc's", "share", own / theirs, "<= 0.5", beside),
    ]


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    if reason := unusable():
        print(f"ping: {reason}")
        return 1
    results = measure(STEERING) + measure(L3)
    if not available():
        print("ping: simple_switch_grpc is not on the PATH: no ratio")
    write("ping", results)
    return 0 if all(r.holds is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
