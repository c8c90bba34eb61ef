"""What an idle switch costs: two embedded switches with heartbeats every 10 ms on three cables, and nothing else.

Links that carry nothing are asked at each fourth interval: that is what idle is, and what the target is held against.
Beside it, in turns on the same machine: the same with links asked at each interval, as those are that carry traffic;
without heartbeats; and what a thread takes that wakes up as often and does nothing, for it is the machine that makes
wake-ups dear.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from bench._common import ROOT, Result, write
from bench._program import shared_object
from bench._wire import liveness_entries, unusable
from engine.api import PortStatus
from engine.build import build_executable
from engine.dataplane import Client
from engine.process import spawn

CABLES = 3
SECONDS = 5.0
HEARTBEAT_US = 10_000
CARRIER_ROUNDS = 10
RELAXED = 4  # the default of the switch
TURNS = 2
SETTLE_S = 60.0


def cpu_ns(pid: int) -> int:
    """Time of all threads on a core, softirq work in their context included."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def wake_ups(pid: int) -> int:
    """How often a thread of the process has gone to sleep by itself so far."""
    texts = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in texts)


def idle(pids: list[int]) -> tuple[list[float], list[float]]:
    """(% of a core, wake-ups a second) of each while nothing is asked of them."""
    before, began = [(cpu_ns(pid), wake_ups(pid)) for pid in pids], time.monotonic()
    time.sleep(SECONDS)  # this is what is measured
    took = time.monotonic() - began
    after = [(cpu_ns(pid), wake_ups(pid)) for pid in pids]
    shares = [(b[0] - a[0]) / took / 1e7 for a, b in zip(before, after, strict=True)]
    return shares, [(b[1] - a[1]) / took for a, b in zip(before, after, strict=True)]


def at_rest(clients: list[Client]) -> bool:
    return all(port["relaxed"] for client in clients for port in client.hello()["ports"])


def settle(clients: list[Client], relaxed: int) -> None:
    """Until the links are as they are to be measured: at rest for a while, or asked as usual."""
    for client in clients:
        client.pktgen(HEARTBEAT_US, defer=True, relaxed=relaxed)
    deadline = time.monotonic() + SETTLE_S
    while at_rest(clients) != (relaxed > 1):
        if time.monotonic() > deadline:
            raise RuntimeError("links are not at rest: something is sent there")
        time.sleep(0.2)  # the switch tells nobody when a link comes to rest
    time.sleep(0.5)  # what the change left to do is no idling


def bare_loop(per_second: int) -> float:
    """% of a core that waking up so often takes on this machine."""
    tool = build_executable([ROOT / "bench" / "native" / "wake.c"], name="wake", flags=("-D_GNU_SOURCE",))
    done = subprocess.run([tool, str(per_second), str(2 * per_second)], check=True, capture_output=True, text=True)
    took, count = (int(word) for word in done.stdout.split())
    return took / count * per_second / 1e7


def memory(pid: int) -> tuple[float, float]:
    """(resident, of that: mapped receive rings and program files) in MB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["RssFile"].split()[0]) / 1024


def carrier_loss_us(client: Client, far_end: str) -> list[float]:
    """From just before the command that takes the far end down to the event's time, of several rounds."""
    events: list[PortStatus] = []
    client.subscribe(lambda event: events.append(event) if isinstance(event, PortStatus) else None)
    took = []
    for _ in range(CARRIER_ROUNDS):
        events.clear()
        began = time.time_ns()
        subprocess.run(["ip", "link", "set", far_end, "down"], check=True)
        deadline = time.monotonic() + 5
        while not events and time.monotonic() < deadline:
            time.sleep(0.001)  # the event carries its own time
        took.append((events[0].time_ns - began) / 1e3)
        subprocess.run(["ip", "link", "set", far_end, "up"], check=True)
        time.sleep(0.05)  # until the carrier is back on both ends
    return took


def main() -> int:
    if reason := unusable():
        print(f"switch_idle: {reason}")
        return 1
    tag = f"sw{os.getpid() % 1000000}"
    names = {side: {n: f"{tag}{side}{n}" for n in range(1, CABLES + 1)} for side in "ab"}
    processes: list[subprocess.Popen[bytes]] = []
    program = shared_object()
    with tempfile.TemporaryDirectory(prefix="sw-idle-") as folder:
        try:
            for n in range(1, CABLES + 1):
                ends = (names["a"][n], names["b"][n])
                subprocess.run(["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]], check=True)
                for name in ends:
                    quiet = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
                    if quiet.exists():
                        quiet.write_text("1")
                    subprocess.run(["ip", "link", "set", name, "up"], check=True)
            clients = []
            for side in "ab":
                path = Path(folder) / side
                log = Path(folder) / f"{side}.log"
                # Heartbeats as the server asks for them.
                process = spawn(
                    names[side],
                    path,
                    load=program,
                    log_file=log,
                    pktgen_interval_us=HEARTBEAT_US,
                    pktgen_defer=True,
                )
                processes.append(process)
                clients.append(Client(path))
                assert clients[-1].program is not None
                clients[-1].table_write(liveness_entries(clients[-1].program, range(1, CABLES + 1), HEARTBEAT_US))
            time.sleep(1)  # what starting left to do is no idling
            pids = [process.pid for process in processes]
            shares: dict[int, list[float]] = {RELAXED: [], 1: []}
            woken: dict[int, list[float]] = {RELAXED: [], 1: []}
            bare: dict[int, list[float]] = {25: [], 100: []}
            for _ in range(TURNS):
                for relaxed in (RELAXED, 1):
                    settle(clients, relaxed)
                    found = idle(pids)
                    shares[relaxed] += found[0]
                    woken[relaxed] += found[1]
                for rate in bare:
                    bare[rate].append(bare_loop(rate))
            load = os.getloadavg()[0]
            for client in clients:
                client.pktgen(0)
            time.sleep(0.5)  # until the last heartbeats have been answered
            silent, _ = idle(pids)
            resident, mapped = memory(pids[0])
            carrier = carrier_loss_us(clients[0], names["b"][1])
            for client in clients:
                client.close()
        finally:
            for process in processes:
                process.terminate()
                process.wait(10)
            for name in names["a"].values():
                subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
    notes = f"{CABLES} ports, heartbeats both ways every {HEARTBEAT_US // 1000} ms"
    idling, usual = shares[RELAXED], shares[1]
    about = f"mean of both in {TURNS} turns, {min(idling):.2f} to {max(idling):.2f}; load average {load:.1f}; {notes}"
    beside = f"{min(usual):.2f} to {max(usual):.2f}; in turns with the figure above"
    write(
        "switch_idle",
        [
            Result("processor", "% of a core", mean(idling), "< 1", "", len(idling), about),
            Result("wake-ups", "1/s", mean(woken[RELAXED]), "<= 30", "", len(idling), "an order each fourth interval"),
            Result("processor, links asked at each interval", "% of a core", mean(usual), "", "", len(usual), beside),
            Result("wake-ups, links asked at each interval", "1/s", mean(woken[1]), "<= 110", "", len(usual),
                   "they cost what the machine makes them cost"),
            Result("a thread that wakes up 25 times a second", "% of a core", mean(bare[25]), "", "", TURNS,
                   "and does nothing; in the same turns"),
            Result("a thread that wakes up 100 times a second", "% of a core", mean(bare[100]), "", "", TURNS,
                   "and does nothing; in the same turns"),
            Result("processor, without heartbeats", "% of a core", sum(silent) / len(silent), "< 1", "", len(silent)),
            Result("resident memory", "MB", resident, "<= 60", "the target is for the whole switch", 1,
                   f"{mapped:.1f} MB of it receive rings and files; without the P4Runtime server"),
            Result("carrier loss to event, median", "us", sorted(carrier)[len(carrier) // 2], "<= 5000",
                   "FRRouting 12 ms", len(carrier), "`ip link set down` included"),
        ],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
