"""What test_lab.py checks on live labs. Each case is a function; `python lab_cases.py CASE DIRECTORY` runs one.

They run in a process and namespaces of their own (`python -m topo.userns`), so that nothing they do can meet
another lab on this machine.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import grpc
from stand_in import StandInLab, line

from engine.p4rt.stubs import gnmi
from topo import cleanup, marks, userns
from topo.faults import parse_scenario, plan
from topo.lab import Lab, LabError
from topo.load import load, loads
from topo.network import interfaces_with_alias
from topo.play import play
from topo.spec import Endpoint
from topo.traffic import FlowReport, FlowSpec, Traffic

T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)
    return found


def nothing_left(lab_id: str) -> None:
    assert not [pid for pid, found in marks.marked_processes() if found == lab_id]
    assert not [entry for entry in marks.entries() if entry.id == lab_id]
    assert not interfaces_with_alias(marks.ALIAS + lab_id)
    assert not (marks.state_dir().parent / "run" / lab_id).exists()


def send(lab: Lab, directory: Path, seconds: float = 0.5, rate_pps: float = 500.0) -> dict[str, FlowReport]:
    """Traffic both ways, IPv4 there and IPv6 back."""
    flows = [FlowSpec("there", "h1", "h2", rate_pps), FlowSpec("back", "h2", "h1", rate_pps, family=6)]
    traffic = Traffic(lab, flows, directory / "traffic", duration_s=seconds)
    traffic.start()
    traffic.wait()
    assert traffic.overflow == 0
    return traffic.report()


def entry_of(pid: int) -> marks.LabEntry:
    """The record of the lab that a process owns; other labs may be running beside these tests."""
    (found,) = [entry for entry in marks.running() if entry.pid == pid]
    return found


# --- cases ---


def lifecycle(directory: Path) -> None:
    lab = StandInLab(load("diamond"), run_dir=directory)
    with lab:
        lab_id = lab.id
        assert entry_of(os.getpid()).topology == "diamond"
        assert lab.grpc_address("s3") == "127.0.0.1:9561" == entry_of(os.getpid()).grpc["s3"]
        node = lab.node("h3")
        assert (node.IP(), node.MAC()) == ("10.0.3.10", "02:00:01:00:00:03")
        assert "10.0.3.1 dev h3-eth0 lladdr 02:00:00:00:04:01 PERMANENT" in node.cmd("ip neigh")
        assert "fd00:0:3::10/64" in lab.host_run("h3", ["ip", "-6", "addr"]).stdout
        assert sorted(item.name for item in lab.state("s2").ports) == ["s2-eth1", "s2-eth2", "s2-eth3"]
        assert lab.node("s1").data_ports() == {1: "s1-eth1", 2: "s1-eth2", 3: "s1-eth3", 4: "s1-eth4"}
        # What a user leaves running in a host goes with the lab.
        lab.host_popen("h1", ["sleep", "1000"])
        node.cmd("sleep 1000 &")
    nothing_left(lab_id)
    lab.stop()
    with lab:  # and it can be started again
        assert lab.id != lab_id


def base_delay_and_rate(directory: Path) -> None:
    with StandInLab(line(delay_ms=20, rate_mbps=40), run_dir=directory) as lab:
        for report in send(lab, directory).values():
            assert report.lost == 0
            assert report.delay_ms_p50 >= 20
        assert lab.state("s1").ports[1].rate_bps == 40_000_000
        lab.impair("s2:2", {"delay_ms": ((0.0, 30.0),)})
        reports = send(lab, directory)
        assert reports["there"].delay_ms_p50 >= 50 and reports["back"].delay_ms_p50 < 45
        lab.clear_impairments()
        assert 20 <= send(lab, directory)["there"].delay_ms_p50 < 45


def faults_by_hand(directory: Path) -> None:
    with StandInLab(line(), run_dir=directory) as lab:
        link = lab.topology.link("s2-s1")
        assert send(lab, directory)["there"].lost == 0
        lab.cut(link)
        assert {report.received for report in send(lab, directory).values()} == {0}
        assert lab.state("s2").ports[1].up
        lab.cut(link, restore=True)
        assert send(lab, directory)["back"].lost == 0
        lab.impair(Endpoint("s2", 2), {"loss": ((0.0, 0.5),)})
        reports = send(lab, directory)
        assert 50 < reports["there"].lost < 200 and reports["back"].lost == 0
        lab.clear_impairments("s2:2")
        lab.carrier(link, up=False)
        eventually(lambda: not lab.state("s2").ports[1].up and not lab.state("s1").ports[1].up, "carrier lost")
        lab.carrier(link, up=True)
        eventually(lambda: lab.state("s2").ports[1].up and lab.state("s1").ports[1].up, "carrier back")
        assert send(lab, directory)["there"].lost == 0
        for wrong in ("s9", "s1:77", "s1:x"):
            try:
                lab.impair(wrong, {"loss": ((0.0, 0.5),)})
            except (LabError, ValueError) as exc:
                assert wrong.split(":")[0] in str(exc)
            else:
                raise AssertionError(wrong)
        try:
            lab.impair("s1:1", {"lost": ((0.0, 0.5),)})
        except LabError as exc:
            assert "s1" in str(exc) and "lost" in str(exc)
        else:
            raise AssertionError("an unknown parameter was accepted")


def switches_die_and_return(directory: Path) -> None:
    with StandInLab(line(rate_mbps=40), run_dir=directory) as lab:
        lab.kill_server("s1")
        assert send(lab, directory)["there"].lost == 0  # the data plane goes on
        lab.node("s1").kill()
        lab.kill_switch("s2")
        assert send(lab, directory)["there"].received == 0
        lab.restart_switch("s1")
        lab.restart_switch("s2")
        assert send(lab, directory)["there"].lost == 0
        assert lab.state("s2").ports[1].rate_bps == 40_000_000


def taken(directory: Path) -> None:
    lab = StandInLab(load("diamond"), run_dir=directory)
    with socket.create_server(("127.0.0.1", 9561)):
        try:
            lab.start()
        except LabError as exc:
            assert "s3: TCP port 9561" in str(exc)
        else:
            raise AssertionError("a taken port was not noticed")
    assert not lab.id and not interfaces_with_alias(marks.ALIAS)
    assert not [entry for entry in marks.entries() if entry.pid == os.getpid()]
    with StandInLab(load("diamond"), run_dir=directory):
        try:
            StandInLab(line(), run_dir=directory / "second").start()
        except LabError as exc:
            assert "s1-eth1 exists already" in str(exc) and "make clean" in str(exc)
        else:
            raise AssertionError("a second lab was let in")
        assert entry_of(os.getpid()).topology == "diamond"
    bad = Lab(line(), run_dir=directory)
    bad.switch_classes = {"engine": Broken}
    try:
        bad.start()
    except LabError as exc:
        assert "s1 ended at start (3): no luck today" in str(exc), exc
    else:
        raise AssertionError("a switch that ends at once was not noticed")
    assert not interfaces_with_alias(marks.ALIAS)


class Broken(StandInLab.switch_classes["engine"]):  # type: ignore[misc]
    def command(self) -> list[str]:
        return [sys.executable, "-c", "import sys; print('no luck today'); sys.exit(3)"]


def start_another(directory: Path, topology: str = "diamond") -> subprocess.Popen[str]:
    """A lab in another process, running when this returns."""
    process = subprocess.Popen(
        [sys.executable, __file__, "stay", str(directory)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def stay(directory: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored
    with StandInLab(load("diamond"), run_dir=directory):
        print("running", flush=True)
        signal.pause()


def crash_and_clean(directory: Path) -> None:
    process = start_another(directory)
    entry = entry_of(process.pid)
    assert cleanup.clean().running >= 1
    assert len([found for _, found in marks.marked_processes() if found == entry.id]) >= 8  # left alone
    process.kill()
    process.wait()
    assert [found for _, found in marks.marked_processes()].count(entry.id) >= 8  # four servers, four data planes
    bystander = subprocess.Popen(["sleep", "1000"], env={**os.environ, marks.VARIABLE: "not a lab's id"})
    done = cleanup.clean()
    assert done.processes >= 8 and done.interfaces >= 8, done
    nothing_left(entry.id)
    assert bystander.poll() is None or done.labs  # its mark names no lab: nobody's business
    bystander.kill()
    bystander.wait()


def signals(directory: Path) -> None:
    for number, expected in ((signal.SIGTERM, 143), (signal.SIGINT, None)):
        process = start_another(directory)
        entry = entry_of(process.pid)
        process.send_signal(number)
        process.wait(30)
        assert expected is None or process.returncode == expected, process.returncode
        nothing_left(entry.id)


TRIANGLE = """
switches: [s1, s2, s3]
hosts: [{switch: s1, port: 1}, {switch: s2, port: 1}]
links: [{a: "s1:2", b: "s2:2", rate_mbps: 10}, {a: s1, b: s3}, {a: s3, b: s2}]
"""
GRAY = """
{name: quick, kind: gray_link, foreseeable: true, duration_s: 2.0,
 parameters: {onset_s: 0.2, precursor_s: 0.8, dying_s: 0.2, power_noise_db: 0.05, jitter_ms: 0.2}}
"""
CONGESTION = """
{name: quick, kind: congestion, foreseeable: true, duration_s: 2.0,
 parameters: {onset_s: 0.2, ramp_s: 0.6, peak: 1.5, rate_mbps: 10, queue_packets: 128, packet_bytes: 600}}
"""


def played(lab: Lab, directory: Path, scenario: str) -> tuple[FlowReport, float, dict[str, FlowReport]]:
    """(report of a protected flow, seconds from the start to its first loss, background)"""
    drawn = plan(parse_scenario(scenario), loads(TRIANGLE), 1, {"f": ("s1", "s2")})
    assert drawn.elements == ("s1-s2",) and drawn.first_loss_s is not None
    traffic = Traffic(lab, [FlowSpec("f", "h1", "h2", 500)], directory / "traffic", duration_s=drawn.duration_s)
    start = traffic.start(0.3) / 1e9
    player = play(drawn, lab, start, run_dir=directory / "background")
    traffic.wait()
    background = player.stop()
    report = traffic.report()["f"]
    first = (report.first_loss_ns - int(traffic.records("f")[0]["sent_ns"][0])) / 1e9
    assert report.lost and first >= drawn.first_loss_s - 0.05, (first, drawn.detail)
    return report, first, background


def faults_played(directory: Path) -> None:
    topology = replace(line(), links=(replace(line().links[0], rate_mbps=10),))
    with StandInLab(topology, run_dir=directory) as lab:
        report, _, _ = played(lab, directory, GRAY)
        assert report.outage_ms > 300  # dead in the end
        state = lab.state("s2").ports[1]
        assert state.rx_errors and state.uncorrected and state.corrected > 1e6
        assert send(lab, directory)["there"].lost == 0  # taken back
        report, _, background = played(lab, directory, CONGESTION)
        assert lab.state("s1").ports[1].tx_dropped >= report.lost > 0
        assert background["background"].lost > 0
        assert send(lab, directory)["there"].lost == 0


def embedded_switch(directory: Path) -> None:
    """The real thing: its P4Runtime server answers, and its data plane outlives it."""
    import grpc
    from finsy.proto import p4r, p4r_grpc

    def version(lab: Lab, switch: str) -> str:
        with grpc.insecure_channel(lab.grpc_address(switch)) as channel:
            answer = p4r_grpc.P4RuntimeStub(channel).Capabilities(p4r.CapabilitiesRequest(), timeout=10)
            return str(answer.p4runtime_api_version)

    with Lab(load("diamond"), run_dir=directory) as lab:
        lab_id = lab.id
        assert all(version(lab, switch.name).startswith("1.") for switch in lab.topology.switches)
        before = lab.node("s2").dataplane_pid()
        lab.kill_server("s2")
        assert lab.state("s2").ports[1].rate_bps == 40_000_000
        lab.restart_switch("s2")
        assert lab.node("s2").dataplane_pid() == before and version(lab, "s2")
        lab.kill_switch("s3")
        assert lab.node("s3").dataplane_pid() is None
        lab.restart_switch("s3")
        assert version(lab, "s3") and lab.state("s3").ports[1].rate_bps == 40_000_000
        lab.kill_server("s4")  # its orphaned data plane has to go with the lab
    nothing_left(lab_id)


def bmv2_has_front_panels(directory: Path) -> None:
    """With a stand-in for simple_switch_grpc with its flags: ports, devices and telemetry are at its front panel."""
    fake = directory / "bin" / "simple_switch_grpc"
    fake.parent.mkdir()
    script = Path(__file__).with_name("stand_in.py")
    options = 'case "$1" in --help) echo --priority-queues --thrift-port; exit;; esac'
    command = f'exec {sys.executable} {script} --control-socket "{directory}/$$.sock" "$@"'
    fake.write_text(f"#!/bin/sh\n{options}\n{command}\n")
    fake.chmod(0o755)
    os.environ["PATH"] = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    with Lab(line(delay_ms=20, rate_mbps=40), target="bmv2", run_dir=directory) as lab:
        lab_id, link = lab.id, lab.topology.links[0]
        reports = send(lab, directory)
        assert all(report.lost == 0 and 20 <= report.delay_ms_p50 < 45 for report in reports.values())
        lab.impair("s2:2", {"loss": ((0.0, 1.0),)})
        reports = send(lab, directory)
        assert (reports["there"].received, reports["back"].lost) == (0, 0)
        lab.clear_impairments()
        lab.cut(link)
        assert {report.received for report in send(lab, directory).values()} == {0}
        lab.clear_impairments("s1:2")
        lab.clear_impairments("s2:2")
        assert send(lab, directory)["there"].lost == 0
        lab.impair("s1:1", {"loss": ((0.0, 1.0),)})  # where h1 is plugged in
        assert send(lab, directory)["there"].received == 0
        lab.clear_impairments()
        lab.impair("s1", {"capacity_pps": ((0.0, 1000.0),), "base_load": ((0.0, 0.5),), "memory": ((0.0, 0.25),)})
        lab.impair("s2:2", {"attenuation_db": ((0.0, 6.0),)})
        device = lab.state("s1")
        assert device.cpu_utilization >= 0.5 and device.memory_utilization == 0.25
        assert [item.name for item in device.ports] == ["s1-eth1", "s1-eth2"]
        healthy = lab.state("s1").ports[1].rx_power_dbm
        power = "components/component[name=2]/transceiver/physical-channels"
        eventually(lambda: gnmi_values(lab.gnmi_address("s2"), power)[0] < healthy - 3, "the power fell")
        assert gnmi_values(lab.gnmi_address("s1"), power)[0] > healthy - 3
        (cpu,) = gnmi_values(lab.gnmi_address("s1"), "system/cpus")
        assert cpu >= 50
        lab.carrier(link, up=False)
        eventually(lambda: not lab.state("s1").ports[1].up, "the port is down")
    nothing_left(lab_id)


def gnmi_values(address: str, path: str) -> list[float]:
    with grpc.insecure_channel(address) as channel:
        request = gnmi.GetRequest(path=[gnmi_path(path)], encoding=gnmi.PROTO)
        reply = channel.unary_unary("/gnmi.gNMI/Get", gnmi.GetRequest.SerializeToString, gnmi.GetResponse.FromString)(
            request, timeout=10
        )
    values = [update.val for note in reply.notification for update in note.update]
    return [float(getattr(value, value.WhichOneof("value"))) for value in values]


def gnmi_path(text: str) -> gnmi.Path:
    """Of a path with at most one key in an element."""
    path = gnmi.Path()
    for part in text.split("/"):
        name, _, key = part.rstrip("]").partition("[")
        path.elem.add(name=name, key=dict([key.split("=")]) if key else {})
    return path


def bmv2_is_missing(directory: Path) -> None:
    os.environ["PATH"] = os.pathsep.join(
        item for item in os.environ["PATH"].split(os.pathsep) if not Path(item, "simple_switch_grpc").exists()
    )
    try:
        Lab(line(), target="bmv2", run_dir=directory).start()
    except LabError as exc:
        assert "simple_switch_grpc" in str(exc)
    else:
        raise AssertionError("a missing switch was not noticed")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def unprivileged(directory: Path) -> None:
    """Run as another user: this process has to become privileged by itself."""
    port = int(os.environ.setdefault("LAB_CASE_PORT", str(_free_port())))  # this process starts itself anew
    userns.ensure(listen=[("127.0.0.1", port)])
    assert userns.outer_uid() != 0 and os.geteuid() == 0
    listener = userns.inherited_socket("127.0.0.1", port)
    assert listener is not None and userns.inherited_socket("127.0.0.1", port) is None
    with listener, socket.socket() as inside:
        assert inside.connect_ex(("127.0.0.1", port)) != 0  # it belongs to the network outside
    lifecycle(directory / "lab")
    with StandInLab(line(), run_dir=directory / "line") as lab:
        assert entry_of(os.getpid()).namespaced
        assert send(lab, directory)["there"].lost == 0


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
