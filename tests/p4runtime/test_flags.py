"""The command line: simple_switch_grpc's flags on either side of ``--``, and one clear line for each mistake."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from engine.flags import UsageError, parse
from engine.server import read_p4info
from tests.p4runtime.harness import SAMPLE


def test_a_typical_command_line(tmp_path: Path) -> None:
    program, info = tmp_path / "p.json", tmp_path / "p.txtpb"
    program.write_text("{}")
    info.write_text("")
    line = f"-i 1@s1-eth1 --interface 2@s1-eth2 --device-id 3 --p4info {info} --thrift-port 9090 -L warn {program}"
    target = "-- --grpc-server-addr 127.0.0.1:50051 --cpu-port 255 --drop-port 511 --priority-queues 8"
    settings = parse(f"{line} {target}".split())
    assert settings.interfaces == {1: "s1-eth1", 2: "s1-eth2"}
    assert (settings.device_id, settings.cpu_port, settings.address) == (3, 255, "127.0.0.1:50051")
    assert (settings.config, settings.p4info, settings.log_level) == (program, info, "warning")
    assert settings.pktgen_interval_us == 10_000 and not settings.pktgen_forced and not settings.adopt


def test_defaults_bind_to_loopback() -> None:
    settings = parse(["--no-p4"])
    assert settings.address == "127.0.0.1:9559"
    assert settings.tls is None and settings.cpu_port == 510
    assert parse(["--grpc-server-addr", ":1234"]).address == "127.0.0.1:1234"
    assert parse(["--grpc-server-addr", "0.0.0.0:1234"]).address == "0.0.0.0:1234"


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_the_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([flag])
    assert caught.value.code == 0
    assert version("shadowplane") in capsys.readouterr().out


def test_the_format_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--json-version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == "2.23\n"


def test_flags_of_bmv2_that_mean_nothing_here() -> None:
    ignored = "--debugger --disable-swap --nanolog ipc:///x --log-flush --max-port-count 7 --dump-packet-data 9"
    ignored += " --max-mc-groups 9 --max-l1-entries 9 --max-l2-entries 9"
    assert parse(f"--no-p4 {ignored}".split()) == parse(["--no-p4"])


def test_pcap_with_and_without_directory(tmp_path: Path) -> None:
    assert parse(["--pcap", "dir"]).pcap == Path("dir")
    assert parse(["--pcap", "--no-p4"]).pcap == Path()
    program = tmp_path / "p.json"
    program.write_text("{}")
    settings = parse(["--p4info", str(program), "--pcap", str(program)])
    assert (settings.pcap, settings.config) == (Path(), program)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-i s1-eth1", "PORT@INTERFACE"),
        ("-i x@s1-eth1", "PORT@INTERFACE"),
        ("-i 512@e", "0..511"),
        ("-i 510@e", "CPU"),
        ("-i 1@a -i 1@b", "given twice"),
        ("-i 1@a -i 2@a", "given twice"),
        ("--device-id x", "device-id"),
        ("--device-id -1", "device-id"),
        ("--no-such-flag", "unrecognized"),
        ("--restore-state file", "--control-socket"),
        ("--use-files 0", "switch trace"),
        ("--load-modules a.so", "externs"),
        ("--dp-grpc-server-addr 127.0.0.1:1", "StreamChannel"),
        ("/no/such/program.json --p4info /etc/hostname", "no such file"),
        ("--no-p4 /etc/hostname --p4info /etc/hostname", "contradicts"),
        ("--drop-port 7", "511"),
        ("--cpu-port 511", "--cpu-port"),
        ("--cpu-port 509", "both"),
        ("--pktgen-interval-us -1", "pktgen-interval"),
        ("--grpc-server-addr nonsense", "HOST:PORT"),
        ("--grpc-server-addr 127.0.0.1:99999", "HOST:PORT"),
        ("--log-level loud", "log-level"),
        ("--grpc-server-ssl", "--grpc-server-cert"),
        ("--grpc-server-cert x", "without --grpc-server-ssl"),
        ("--grpc-server-ssl --grpc-server-cert a --grpc-server-key b --grpc-server-with-client-auth", "cacert"),
    ],
)
def test_mistakes_are_named(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_p4info_in_text_and_binary(tmp_path: Path) -> None:
    binary = tmp_path / "info.bin"
    binary.write_bytes(SAMPLE.SerializeToString())
    assert read_p4info(binary) == SAMPLE
    assert read_p4info(Path(__file__).parent / "sample.p4info.txtpb") == SAMPLE
    bad = tmp_path / "bad"
    bad.write_text("tables { nonsense }")
    with pytest.raises(UsageError, match="not a P4Info"):
        read_p4info(bad)
