"""P4Runtime of the embedded switch, end to end over loopback: single and batched writes, reads, flips, telemetry.

The server and the data plane run as the processes that users run. ``simple_switch_grpc`` takes the same single writes
in the same run when it is on the PATH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench._common import ROOT, Result, quantile, write
from bench._short import Short
from engine.dataplane import Client
from engine.p4rt.stubs import gnmi, p4i, p4r

import grpc  # isort: skip  (after the stubs, which keep the import light)
from google.protobuf import text_format  # isort: skip

BUILD = ROOT / "p4" / "build"
ENTRIES = 100_000
BATCH = 1_000
SINGLES = 2_000
START_S = 30.0
TICK = os.sysconf("SC_CLK_TCK")
ANCHOR = "BMv2 simple_switch_grpc"


class Target:
    """A P4Runtime server process and a warm channel to it."""

    def __init__(self, command: list[str], port: int) -> None:
        began = time.monotonic()
        self.port = port
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        while True:
            if self.process.poll() is not None or time.monotonic() - began > START_S:
                raise RuntimeError(f"{command[0]} does not serve port {port}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.005)  # the server tells nobody when it listens
        self.ready_s = time.monotonic() - began
        grpc.channel_ready_future(self.channel).result(START_S)
        self._write = self._unary("Write", p4r.WriteResponse)
        self._read = self.channel.unary_stream("/p4.v1.P4Runtime/Read", p4r.ReadRequest.SerializeToString, None)
        self._requests = [p4r.StreamMessageRequest()]
        self._requests[0].arbitration.device_id = 1
        self._requests[0].arbitration.election_id.low = 1
        stream: Any = self.channel.stream_stream(
            "/p4.v1.P4Runtime/StreamChannel",
            p4r.StreamMessageRequest.SerializeToString,
            p4r.StreamMessageResponse.FromString,
        )
        self._stream = stream(self._hold())
        next(self._stream)

    def _hold(self) -> Iterator[p4r.StreamMessageRequest]:
        yield self._requests[0]
        while self.process.poll() is None:
            time.sleep(0.2)  # keeps the stream open as long as the server lives

    def _unary(self, method: str, response: Any) -> Callable[..., Any]:
        path = f"/p4.v1.P4Runtime/{method}"
        return self.channel.unary_unary(path, lambda message: message.SerializeToString(), response.FromString)

    def install(self, info: p4i.P4Info) -> float:
        """Push the steering program; seconds it took."""
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        )
        request.election_id.low = 1
        request.config.p4info.CopyFrom(info)
        request.config.p4_device_config = (BUILD / "shadowplane.json").read_bytes()
        began = time.perf_counter()
        self._unary("SetForwardingPipelineConfig", p4r.SetForwardingPipelineConfigResponse)(request, timeout=120)
        return time.perf_counter() - began

    def write(self, request: p4r.WriteRequest) -> None:
        self._write(request, timeout=30)

    def timed(self, make: Callable[[int], p4r.WriteRequest], count: int = SINGLES) -> list[float]:
        """Milliseconds of ``count`` writes of prebuilt requests, after some to warm up."""
        requests = [make(number) for number in range(64)]
        for request in requests:
            self.write(request)
        out = []
        for number in range(count):
            began = time.perf_counter()
            self._write(requests[number & 63])
            out.append((time.perf_counter() - began) * 1e3)
        return out

    def read(self, table: int) -> tuple[int, float]:
        """(entries, seconds) of a wildcard read, parsed."""
        request = p4r.ReadRequest(device_id=1)
        request.entities.add().table_entry.table_id = table
        began = time.perf_counter()
        count = sum(len(p4r.ReadResponse.FromString(data).entities) for data in self._read(request, timeout=60))
        return count, time.perf_counter() - began

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def telemetry_share(self, interval_ms: int, seconds: float = 4.0) -> tuple[float, int]:
        """(share of a core that the server takes, notifications) while one client samples the whole tree."""
        request = gnmi.SubscribeRequest()
        for name in ("interfaces", "components", "qos", "system"):
            item = request.subscribe.subscription.add(mode=gnmi.SAMPLE, sample_interval=interval_ms * 1_000_000)
            item.path.elem.add(name=name)
        call = self.channel.stream_stream("/gnmi.gNMI/Subscribe", gnmi.SubscribeRequest.SerializeToString, None)
        responses: Any = call(iter([request]))
        next(responses)
        before, began, count = self.cpu_s(), time.monotonic(), 0
        while time.monotonic() - began < seconds:
            next(responses)
            count += 1
        share = (self.cpu_s() - before) / (time.monotonic() - began)
        responses.cancel()
        return share, count

    def stop(self) -> None:
        self._stream.cancel()
        self.channel.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Requests:
    """Prebuilt writes for the steering program."""

    def __init__(self, info: p4i.P4Info) -> None:
        self.ids = {item.preamble.name: item.preamble.id for kind in (info.tables, info.actions) for item in kind}
        self.ids |= {item.preamble.name: item.preamble.id for item in info.registers}

    def _request(self) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=1)
        request.election_id.low = 1
        return request

    def flip(self, number: int) -> p4r.WriteRequest:
        request = self._request()
        entry = request.updates.add(type="MODIFY").entity.register_entry
        entry.register_id = self.ids["failover"]
        entry.index.index = number
        entry.data.bitstring = bytes([number & 1])
        return request

    def route(self, request: p4r.WriteRequest, kind: str, number: int, group: int) -> None:
        entry = request.updates.add(type=kind).entity.table_entry
        entry.table_id = self.ids["route_ipv4"]
        match = entry.match.add(field_id=1)
        match.lpm.value = ((10 << 24) + (number << 4)).to_bytes(4, "big")
        match.lpm.prefix_len = 28
        entry.action.action.action_id = self.ids["set_group"]
        entry.action.action.params.add(param_id=1, value=group.to_bytes(2, "big"))

    def modify(self, number: int) -> p4r.WriteRequest:
        request = self._request()
        self.route(request, "MODIFY", number, 1 + number % 100)
        return request

    def batch(self, first: int, kind: str = "INSERT") -> p4r.WriteRequest:
        request = self._request()
        for number in range(first, first + BATCH):
            self.route(request, kind, number, 1 + number % 1000)
        return request


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _engine(folder: Path) -> Target:
    port = _free_port()
    command = [sys.executable, "-m", "engine", "--device-id", "1", "--no-p4", "--pktgen-interval-us", "0"]
    command += ["--control-socket", str(folder / "s.sock"), "--", "--grpc-server-addr", f"127.0.0.1:{port}"]
    return Target(command, port)


def _latency(name: str, unit_ms: list[float], target: str, anchor: str, notes: str = "") -> list[Result]:
    return [
        Result(f"{name}, p50", "ms", quantile(unit_ms, 0.5), target, anchor, len(unit_ms), notes),
        Result(f"{name}, p99", "ms", quantile(unit_ms, 0.99), "", anchor, len(unit_ms), notes),
    ]


def _bare(target: Target, requests: Requests, anchor: str) -> list[Result]:
    """The same writes as the controller sends its flips: what gRPC's Python client takes is left out."""
    short = Short(target.port)
    try:
        flips = short.timed(lambda number: requests.flip(number).SerializeToString(), SINGLES)
        before = target.cpu_s()
        modifies = short.timed(lambda number: requests.modify(number).SerializeToString(), SINGLES)
        share = (target.cpu_s() - before) / (SINGLES + 64)
    finally:
        short.close()
    note = "sent as the controller sends its flips"
    return [
        *_latency("register write, bare connection", flips, "<= 0.5", "BMv2: UNIMPLEMENTED", note),
        *_latency("table modify, bare connection", modifies, "<= 0.5", anchor, note),
        Result("server's processor time for one of them", "us", share * 1e6, "", "", SINGLES),
    ]


def _measure(target: Target, requests: Requests, anchor: str) -> list[Result]:
    results = []
    target.write(requests.batch(0))
    few = target.timed(requests.flip)
    results += _latency("register write, 1,000 entries", few, "<= 0.5", "BMv2: UNIMPLEMENTED")
    results += _latency("table modify", target.timed(requests.modify), "<= 0.5", anchor)
    results += _bare(target, requests, anchor)
    batches = [requests.batch(first) for first in range(BATCH, ENTRIES, BATCH)]
    began = time.perf_counter()
    for request in batches:
        target.write(request)
    rate = (ENTRIES - BATCH) / (time.perf_counter() - began)
    results.append(Result(f"inserts in batches of {BATCH}", "entries/s", rate, ">= 50000", "", ENTRIES - BATCH))
    replace = [requests.batch(first, "MODIFY") for first in range(0, ENTRIES, BATCH)]
    began = time.perf_counter()
    for request in replace:
        target.write(request)
    rate = ENTRIES / (time.perf_counter() - began)
    results.append(Result(f"modifies in batches of {BATCH}", "entries/s", rate, ">= 50000", "", ENTRIES))
    count, seconds = target.read(requests.ids["route_ipv4"])
    if count != ENTRIES:
        raise RuntimeError(f"{count} entries read back instead of {ENTRIES}")
    results.append(Result(f"read of {ENTRIES:,} entries", "s", seconds, "<= 2", "", count, "parsed by the client"))
    many = target.timed(requests.flip)
    results += _latency("register write, 100,000 entries", many, "<= 0.5", "BMv2: UNIMPLEMENTED")
    growth = quantile(many, 0.5) / quantile(few, 0.5) - 1
    results.append(Result("register write: 100,000 against 1,000 entries", "share", growth, "<= 0.1", "", len(many)))
    return results


def _bmv2(info: p4i.P4Info, requests: Requests) -> tuple[str, list[Result]]:
    """The same single table write on BMv2; nothing when it is not installed."""
    binary = shutil.which("simple_switch_grpc")
    if binary is None:
        return f"{ANCHOR}: 0.71 ms p50 (measured earlier, shared/anchors)", []
    port = _free_port()
    command = [binary, "--no-p4", "--device-id", "1", "-L", "off"]
    target = Target([*command, "--", "--grpc-server-addr", f"127.0.0.1:{port}"], port)
    try:
        target.install(info)
        target.write(requests.batch(0))
        samples = target.timed(requests.modify)
        short = Short(port)
        bare = short.timed(lambda number: requests.modify(number).SerializeToString(), SINGLES)
        short.close()
        batches = [requests.batch(first) for first in range(BATCH, 11 * BATCH, BATCH)]
        began = time.perf_counter()
        for request in batches:
            target.write(request)
        rate = 10 * BATCH / (time.perf_counter() - began)
        _count, seconds = target.read(requests.ids["route_ipv4"])
    finally:
        target.stop()
    anchor = f"{ANCHOR}: {quantile(samples, 0.5):.2f} ms p50 in this run, {quantile(bare, 0.5):.2f} bare"
    results = _latency("BMv2: table modify", samples, "", "")
    results += _latency("BMv2: table modify, bare connection", bare, "", "")
    results.append(Result(f"BMv2: inserts in batches of {BATCH}", "entries/s", rate, "", "", 10 * BATCH))
    results.append(Result("BMv2: read of 11,000 entries", "s", seconds, "", "", 11 * BATCH))
    return anchor, results


def main() -> None:
    info = text_format.Parse((BUILD / "shadowplane.p4info.txtpb").read_text(), p4i.P4Info())
    requests = Requests(info)
    with tempfile.TemporaryDirectory(prefix="sp-bench-") as name:
        folder = Path(name)
        anchor, bmv2 = _bmv2(info, requests)
        target = _engine(folder)
        try:
            results = [
                Result("start until the port listens", "s", target.ready_s, "<= 1.5"),
                Result("server's memory, idle", "MiB", target.rss_mib(), "<= 60"),
                Result("pipeline push, compiled before", "s", target.install(info)),
            ]
            results[-1:] = [Result("pipeline push, compiled before", "s", target.install(info))]
            results += _measure(target, requests, anchor)
            for interval in (100, 10):
                share, count = target.telemetry_share(interval)
                limit = "<= 0.05" if interval == 100 else ""
                results.append(
                    Result(f"gNMI whole tree each {interval} ms", "cores", share, limit, "", count, "server process")
                )
            results.append(Result("server's memory, 100,000 entries", "MiB", target.rss_mib(), "<= 120"))
        finally:
            target.stop()
            with contextlib.suppress(Exception):  # gone already after a clean stop
                Client(folder / "s.sock").shutdown()
    write("p4runtime", results + bmv2)


if __name__ == "__main__":
    main()
