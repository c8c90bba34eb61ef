"""A lab of 100 switches on two cores: time to start, memory, what they take while idle, and whether they forward.

The network is a ring with chords; each switch is the usual pair of processes, a P4Runtime server and a data plane, with
the steering program, routes to all hosts, and heartbeats on its links, all as the lab sets them. Everything, the
measuring process included, is bound to two cores.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from bench._common import Result, quantile, write
from bench._program import shared_object
from bench._wire import P4INFO, PROGRAM
from control.settings import Settings, Strategy
from engine.p4rt.stubs import p4i, p4r
from topo import userns
from topo.builtin import assemble
from topo.lab import Lab
from topo.spec import Switch, Topology, port_mac

import grpc  # isort: skip  (after the stubs, which keep the import light)
from google.protobuf import text_format  # isort: skip

SWITCHES = 100
HOSTS_AT = (1, 26, 51, 76)
CHORD = 10
CORES = 2
HEARTBEAT_US = round(Settings().heartbeat_ms * 1000)
IDLE_S = 10.0
SETTLE_S = 40.0
AT_ONCE = 8
PINGS = 200
LIMIT_MIB = 24 * 1024


def network() -> Topology:
    """s1 to s100 in a ring; a chord from every tenth to the one ten further."""
    switches = [Switch(f"s{n}", n) for n in range(1, SWITCHES + 1)]
    pairs = [(f"s{n}", f"s{n % SWITCHES + 1}", 0.0, 0.0, 1.0) for n in range(1, SWITCHES + 1)]
    pairs += [(f"s{n}", f"s{(n + CHORD - 1) % SWITCHES + 1}", 0.0, 0.0, 1.0) for n in range(5, SWITCHES + 1, CHORD)]
    return assemble("ring100", switches, [f"s{n}" for n in HOSTS_AT], pairs)


def next_ports(topology: Topology, target: str) -> dict[str, tuple[int, str, int]]:
    """Of each switch but ``target``: port towards it, the neighbour there and its port, by fewest hops."""
    found: dict[str, tuple[int, str, int]] = {}
    queue = deque([target])
    while queue:
        name = queue.popleft()
        for link in topology.links_of(name):
            far = link.other(name)
            if far.switch != target and far.switch not in found:
                found[far.switch] = (far.port, name, link.end(name).port)
                queue.append(far.switch)
    return found


class Tables:
    """Entries of the steering program as P4Runtime updates."""

    def __init__(self) -> None:
        self.info = text_format.Parse(P4INFO.read_text(), p4i.P4Info())
        self.tables = {item.preamble.name: item for item in self.info.tables}
        self.actions = {item.preamble.name: item.preamble.id for item in self.info.actions}

    def add(self, request: p4r.WriteRequest, table: str, key: bytes, prefix: int, action: str, *params: bytes) -> None:
        """One more entry; ``prefix`` 0 for an exact match."""
        entry = request.updates.add(type=p4r.Update.INSERT).entity.table_entry
        entry.table_id = self.tables[table].preamble.id
        match = entry.match.add(field_id=1)
        if prefix:
            match.lpm.value, match.lpm.prefix_len = key, prefix
        else:
            match.exact.value = key.lstrip(b"\0") or b"\0"
        entry.action.action.action_id = self.actions[action]
        for number, value in enumerate(params, 1):
            entry.action.action.params.add(param_id=number, value=value.lstrip(b"\0") or b"\0")


def entries(tables: Tables, topology: Topology) -> dict[str, p4r.WriteRequest]:
    """For each switch: liveness of its links, a route and a next hop for each host."""
    requests = {item.name: p4r.WriteRequest(device_id=item.device_id) for item in topology.switches}
    ids = {item.name: item.device_id for item in topology.switches}
    lab = Settings().monitor(Strategy.PREDICTIVE)
    times = (lab.dead_us.to_bytes(6, "big"), lab.report_us.to_bytes(6, "big"), lab.rtt_delta_us.to_bytes(4, "big"))
    for link in topology.links:
        for end in (link.a, link.b):
            tables.add(requests[end.switch], "liveness_config", end.port.to_bytes(2, "big"), 0, "monitor", *times)

    def hop(switch: str, group: int, port: int, to: str) -> None:
        macs = (bytes.fromhex(port_mac(ids[switch], port).replace(":", "")), bytes.fromhex(to.replace(":", "")))
        number = group.to_bytes(2, "big")
        tables.add(requests[switch], "primary_nexthop", number, 0, "set_nexthop", port.to_bytes(2, "big"), *macs)

    for group, host in enumerate(topology.hosts, 1):
        address = bytes(int(part) for part in host.ipv4.split("/")[0].split("."))
        for request in requests.values():
            subnet = address[:3] + b"\0"
            tables.add(request, "route_ipv4", subnet, 24, "set_group", group.to_bytes(2, "big"))
        hop(host.switch, group, host.port, host.mac)
        for switch, (port, neighbour, its) in next_ports(topology, host.switch).items():
            hop(switch, group, port, port_mac(ids[neighbour], its))
    return requests


def install(address: str, info: p4i.P4Info, request: p4r.WriteRequest) -> None:
    """Be the switch's primary for as long as it takes to push the program and the entries."""
    messages: SimpleQueue[p4r.StreamMessageRequest | None] = SimpleQueue()
    hello = p4r.StreamMessageRequest()
    hello.arbitration.device_id, hello.arbitration.election_id.low = request.device_id, 1
    messages.put(hello)

    def requests() -> Iterator[p4r.StreamMessageRequest]:
        while (message := messages.get()) is not None:
            yield message

    with grpc.insecure_channel(address) as channel:
        stream = channel.stream_stream(
            "/p4.v1.P4Runtime/StreamChannel",
            p4r.StreamMessageRequest.SerializeToString,
            p4r.StreamMessageResponse.FromString,
        )(requests(), timeout=120, wait_for_ready=True)
        next(iter(stream))
        config = p4r.SetForwardingPipelineConfigRequest(
            device_id=request.device_id, action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        )
        config.election_id.low = request.election_id.low = 1
        config.config.p4info.CopyFrom(info)
        config.config.p4_device_config = PROGRAM.read_bytes()
        for method, message in (("SetForwardingPipelineConfig", config), ("Write", request)):
            call = channel.unary_unary(f"/p4.v1.P4Runtime/{method}", lambda m: m.SerializeToString(), None)
            call(message, timeout=120)
        messages.put(None)


def processes(lab: Lab) -> dict[str, list[int]]:
    """Process ids of all servers and of all data planes."""
    nodes = [lab.node(item.name) for item in lab.topology.switches]
    planes = [node.dataplane_pid() for node in nodes]
    parents = {pid: _parent(pid) for pid in planes}
    return {"data planes": planes, "servers": list(parents.values())}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def memory_mib(pids: list[int]) -> list[float]:
    """Each one's share of memory: pages that several use count once in the sum."""
    found = []
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
        assert match, f"process {pid} has no share of memory"
        found.append(int(match[1]) / 1024)
    return found


def cpu_s(pids: list[int]) -> float:
    """Processor time of all threads so far."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def settle(found: dict[str, list[int]]) -> float:
    """Wait until the processes take no longer less and less; how long that was (s), at most :data:`SETTLE_S`."""
    pids = [pid for some in found.values() for pid in some]
    began, before, last = time.monotonic(), cpu_s(pids), float("inf")
    while time.monotonic() - began < SETTLE_S:
        time.sleep(3)  # a window: its processor time is compared with that of the one before
        now = cpu_s(pids)
        if now - before >= 0.95 * last:
            break
        before, last = now, now - before
    return time.monotonic() - began


def ping(lab: Lab, source: str, target: str) -> tuple[int, list[float]]:
    """(echoes, round trips in ms) between two hosts."""
    address = lab.topology.host(target).ipv4.split("/")[0]
    done = lab.host_run(source, ["ping", "-n", "-i", "0.01", "-c", str(PINGS), "-W", "1", address], 60)
    return PINGS, [float(text) for text in re.findall(r"time=([0-9.]+) ms", done.stdout)]


def main() -> int:
    """Run and write the results; 1 when a target was missed."""
    userns.ensure()
    shared_object()  # compiled once for all
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    topology, tables = network(), Tables()
    requests = entries(tables, topology)
    results: list[Result] = []
    with TemporaryDirectory(prefix="sw-many-") as folder:
        began = time.monotonic()
        lab = Lab(topology, run_dir=Path(folder), heartbeat_interval_us=HEARTBEAT_US)
        with lab:
            started = time.monotonic() - began
            with ThreadPoolExecutor(AT_ONCE) as pool:
                jobs = [
                    pool.submit(install, lab.grpc_address(name), tables.info, request)
                    for name, request in requests.items()
                ]
                for job in jobs:
                    job.result()
            ready = time.monotonic() - began
            notes = f"{SWITCHES} switches, {len(topology.links)} links, {CORES} cores"
            results += [
                Result("start until every switch answers", "s", started, "", "", SWITCHES, notes),
                Result("start until every switch has program and entries", "s", ready, "<= 120", "", SWITCHES, notes),
            ]
            found = processes(lab)
            settling = settle(found)  # what starting left to do is no idling
            before = {kind: cpu_s(pids) for kind, pids in found.items()}
            began = time.monotonic()
            time.sleep(IDLE_S)  # what is measured: processor time while nothing is asked
            took = time.monotonic() - began
            share = {kind: (cpu_s(pids) - before[kind]) / took / SWITCHES * 100 for kind, pids in found.items()}
            memory = {kind: memory_mib(pids) for kind, pids in found.items()}
            each = [a + b for a, b in zip(*memory.values(), strict=True)]
            parts = ", ".join(f"{kind} {sum(sizes) / SWITCHES:.1f}" for kind, sizes in memory.items())
            results += [
                Result("memory of all switches", "MiB", sum(each), f"<= {LIMIT_MIB}", "", SWITCHES, "proportional"),
                Result("memory of a switch, largest", "MiB", max(each), "<= 60", "", SWITCHES, f"mean: {parts}"),
                Result(
                    "idle: processor, mean of a switch", "% of a core", sum(share.values()), "< 1", "", SWITCHES,
                    ", ".join(f"{kind} {value:.3f}" for kind, value in share.items())
                    + f"; heartbeats every {HEARTBEAT_US // 1000} ms; {settling:.0f} s after the start",
                ),
            ]  # fmt: skip
            for source, target in (("h1", "h3"), ("h2", "h4"), ("h1", "h2")):
                sent, times = ping(lab, source, target)
                hops = 1 + len(_path(topology, source, target))
                results.append(
                    Result(f"ping {source} to {target}, lost", "echoes", sent - len(times), "== 0", "", sent,
                           f"{hops} switches, median {quantile(times, 0.5) if times else 0:.2f} ms")
                )  # fmt: skip
    write("many_switches", results)
    return 0 if all(r.holds is not False for r in results) else 1


def _path(topology: Topology, source: str, target: str) -> list[str]:
    """Switches after the first one."""
    towards = next_ports(topology, topology.host(target).switch)
    at, path = topology.host(source).switch, []
    while at in towards:
        at = towards[at][1]
        path.append(at)
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"many_switches: {error}")
