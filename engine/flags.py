"""Command line of the switch: ``simple_switch_grpc``'s flags, so that existing scripts work, and a few of our own.

``python -m engine -i 1@s1-eth1 -i 2@s1-eth2 --device-id 1 program.json -- --grpc-server-addr 127.0.0.1:9559``

As with BMv2, flags after ``--`` belong to the target; here both kinds are accepted on either side.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

MAX_PORT = 511
DROP_PORT = 511


class UsageError(Exception):
    """The command line cannot be obeyed; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which packets to trace: of one port or (None) of all, at most ``count``, at most ``per_second``."""

    port: int | None = None
    count: int = 10
    per_second: float = 10.0

    @staticmethod
    def parse(text: str) -> Filter:
        """From ``port=1,count=20,per_second=5``; ValueError names what is wrong.

        >>> Filter.parse("port=1,count=20")
        Filter(port=1, count=20, per_second=10.0)
        """
        values: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, equals, value = part.partition("=")
            if name not in ("port", "count", "per_second") or not equals:
                raise ValueError(f"{part!r}: expected port=N, count=N or per_second=N")
            try:
                values[name] = float(value) if name == "per_second" else int(value)
            except ValueError:
                raise ValueError(f"{part!r}: {value!r} is no number") from None
        found = Filter(**values)
        if found.port is not None and not 0 <= found.port <= MAX_PORT:
            raise ValueError(f"port={found.port} is not within 0..{MAX_PORT}")
        if not 1 <= found.count <= 1_000_000 or not 0 < found.per_second <= 1e6:
            raise ValueError("count is not within 1..1000000, or per_second not within 0..1000000")
        return found


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for the server's TLS; ``client_ca`` is None unless clients must show a certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """A parsed command line."""

    interfaces: dict[int, str]
    device_id: int
    config: Path | None
    p4info: Path | None
    address: str
    tls: Tls | None
    cpu_port: int
    pktgen_port: int
    pktgen_interval_us: int
    pktgen_relaxed: int  # links that carry nothing are asked at each so many-th interval
    pktgen_forced: bool  # asked for by flag, whatever the program
    realtime: bool  # the P4Runtime server's threads, where permitted (engine.realtime)
    cores: int  # threads of the data plane; 0: as load and machine suggest
    control_socket: Path
    adopt: bool  # an abandoned data plane at the socket is taken over; otherwise it is replaced
    pcap: Path | None
    pcap_limit_mib: int  # of one capture file; 0: none
    trace: Filter | None
    log_level: str
    log_console: bool
    log_file: Path | None


#: Flags of simple_switch_grpc that ask for something which this switch does not have, and what it has instead.
_REFUSED = {
    "--restore-state": "state lives in the data plane and outlasts its server: see --control-socket",
    "--use-files": "`shadowplane switch trace PROGRAM.json --packet HEX` runs packets without interfaces",
    "--load-modules": "v1model has no externs that a module could bring",
    "--dp-grpc-server-addr": "packets come over interfaces, or over P4Runtime's StreamChannel",
}

JSON_VERSION = "2.23"  # of BMv2's format, as p4c 1.2 writes it

_EXAMPLES = """examples:
  shadowplane switch -i 1@veth0 -i 2@veth2 --p4info prog.p4info.txtpb prog.json
  shadowplane switch --no-p4 -i 1@s1-eth1 --device-id 1 -- --grpc-server-addr 127.0.0.1:9559
  shadowplane switch --no-p4 -i 1@veth0 --trace port=1,count=20
  shadowplane switch trace --help      a packet's way through a program
  shadowplane switch stats --help      statistics of a running switch
  shadowplane switch queue --help      rates and depths of a running switch's queues
"""


CALLED = "SHADOWPLANE_CALLED"  # environment: what the user typed, where that was not `python -m engine`


def program_name() -> str:
    """How the switch was called, for usage and messages."""
    usual = "python -m engine" if Path(sys.argv[0]).name == "__main__.py" else "shadowplane switch"
    return os.environ.get(CALLED, usual)


class _Version(argparse.Action):
    """Prints the installed package's version; read when asked for, since it takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **more)

    def __call__(self, parser: argparse.ArgumentParser, *_given: Any, **_more: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("shadowplane")
        except PackageNotFoundError:
            found = "not installed as a package"
        print(f"{parser.prog}: {found}")
        parser.exit()


class _Refuse(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_given: Any, **_more: Any) -> NoReturn:
        flag = self.option_strings[0]
        parser.error(f"{flag} is not there: {_REFUSED[flag]}")


class _JsonVersion(_Version):
    """Prints the newest version of BMv2's JSON that programs may have; all 2.x are read."""

    def __call__(self, parser: argparse.ArgumentParser, *_given: Any, **_more: Any) -> NoReturn:
        print(JSON_VERSION)
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program_name(),
        description="A P4 switch: runs a BMv2 JSON program natively and serves P4Runtime and gNMI.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("config", nargs="?", metavar="CONFIG.json", help="program to start with; P4Runtime also needs its --p4info")
    add("-i", "--interface", action="append", default=[], metavar="PORT@IFACE", help="attach an interface; repeatable")
    add("--device-id", type=int, default=0, metavar="N", help="P4Runtime device id (default 0)")
    add("--no-p4", action="store_true", help="start without a program; a controller pushes it")
    add("--p4info", metavar="FILE", help="P4Info (text or binary protobuf) of CONFIG.json")
    add("--pcap", nargs="?", const=".", metavar="DIR", help="write a pcap file per port and direction")
    add("--pcap-limit", type=int, default=1024, metavar="MIB", help="size at which a capture restarts (default 1024)")
    add("--trace", nargs="?", const="", metavar="FILTER", help="print packets' ways; e.g. port=1,count=20,per_second=5")
    add("--log-console", action="store_true", help="log to standard error")
    add("-L", "--log-level", default="info", metavar="LEVEL", help="trace, debug, info, warn, error or off")
    add("--log-file", metavar="FILE", help="log to a file")
    add("--thrift-port", metavar="N", help="ignored: there is no Thrift server")
    add("--nanolog", metavar="ADDR", help="ignored")
    add("--log-flush", action="store_true", help="ignored: logs are not buffered")
    add("--log-file-max-size", metavar="N", help="ignored")
    add("--log-file-max-files", metavar="N", help="ignored")
    add("--notifications-addr", metavar="ADDR", help="ignored")
    add("--max-port-count", metavar="N", help="ignored: 511 ports")
    add("--priority-queues", metavar="N", help="ignored: each port has 8 strict-priority queues")
    add("--dump-packet-data", metavar="N", help="ignored")
    add("--debugger", nargs="?", metavar="ADDR", help="ignored: see `shadowplane switch trace`")
    add("--disable-swap", action="store_true", help="ignored: controllers may always push a program")
    for limit in ("--max-mc-groups", "--max-l1-entries", "--max-l2-entries"):
        add(limit, metavar="N", help="ignored: memory bounds multicast groups")
    for flag in _REFUSED:
        add(flag, action=_Refuse, nargs="?", help=argparse.SUPPRESS)
    add("--json-version", action=_JsonVersion, help="print the newest BMv2 JSON version that is read and end")
    add("-v", "--version", action=_Version, help="print the version and end")
    add("--control-socket", metavar="PATH", help="Unix socket of the data plane; a running one there is taken over")
    add("--cpu-port", type=int, default=510, metavar="N", help="packet-in and packet-out port (default 510)")
    add("--drop-port", type=int, default=DROP_PORT, metavar="N", help="must be 511")
    add("--pktgen-port", type=int, default=509, metavar="N", help="port of the packet generator (default 509)")
    add("--no-realtime", action="store_true", help="no real-time priority for the P4Runtime server, permitted or not")
    add("--pktgen-interval-us", type=int, metavar="N", help="heartbeat interval, 0: none (default 10000)")
    add(
        "--pktgen-relaxed",
        type=int,
        default=4,
        choices=(1, 2, 4, 8),
        metavar="N",
        help="links that carry nothing send heartbeats at each Nth interval only, if that is at most 50 ms: 1, 2, 4 "
        "(default) or 8",
    )
    add("--cores", type=int, default=0, metavar="N", help="threads of the data plane (default 0: by load)")
    add("--grpc-server-addr", default="127.0.0.1:9559", metavar="ADDR", help="default 127.0.0.1:9559 (loopback)")
    add("--grpc-server-ssl", action="store_true", help="serve TLS")
    add("--grpc-server-cert", metavar="PEM", help="server's certificate chain")
    add("--grpc-server-key", metavar="PEM", help="server's private key")
    add("--grpc-server-cacert", metavar="PEM", help="CA that signs clients' certificates")
    add("--grpc-server-with-client-auth", action="store_true", help="clients must show a certificate (mutual TLS)")
    return parser


def parse(arguments: Sequence[str]) -> Settings:
    """Settings from the command line; :class:`UsageError` says what is wrong with it."""
    found = _parser().parse_args([argument for argument in arguments if argument != "--"])
    if found.pcap and found.pcap.endswith(".json") and found.config is None:
        found.pcap, found.config = ".", found.pcap  # BMv2's --pcap may stand alone before the program
    if found.no_p4 and found.config:
        raise UsageError(f"--no-p4 contradicts the program {found.config}")
    if found.drop_port != DROP_PORT:
        raise UsageError(f"--drop-port {found.drop_port}: the drop port is {DROP_PORT}")
    _within("--cpu-port", found.cpu_port, 1, MAX_PORT - 1)
    _within("--pktgen-port", found.pktgen_port, 0, MAX_PORT - 1)
    if found.pktgen_port == found.cpu_port:
        raise UsageError(f"--pktgen-port and --cpu-port are both {found.cpu_port}")
    if not 0 <= found.device_id < 1 << 64:
        raise UsageError(f"--device-id {found.device_id} is not an unsigned 64-bit number")
    _within("--pcap-limit", found.pcap_limit, 0, 1 << 20)
    if found.trace and found.trace.endswith(".json") and found.config is None:
        found.trace, found.config = "", found.trace  # --trace may stand alone before the program
    interval = 10_000 if found.pktgen_interval_us is None else found.pktgen_interval_us
    _within("--pktgen-interval-us", interval, 0, 1_000_000_000)
    _within("--cores", found.cores, 0, 64)
    level = _level(found.log_level)
    address = _address(found.grpc_server_addr)
    return Settings(
        interfaces=_interfaces(found.interface, {found.cpu_port, found.pktgen_port, DROP_PORT}),
        device_id=found.device_id,
        config=_file(found.config),
        p4info=_file(found.p4info),
        address=address,
        tls=_tls(found),
        cpu_port=found.cpu_port,
        pktgen_port=found.pktgen_port,
        pktgen_interval_us=interval,
        pktgen_relaxed=found.pktgen_relaxed,
        pktgen_forced=found.pktgen_interval_us is not None,
        realtime=not found.no_realtime,
        cores=found.cores,
        control_socket=Path(found.control_socket) if found.control_socket else default_socket(address),
        adopt=found.control_socket is not None,
        pcap=Path(found.pcap) if found.pcap else None,
        pcap_limit_mib=found.pcap_limit,
        trace=_filter(found.trace),
        log_level=level,
        log_console=found.log_console,
        log_file=Path(found.log_file) if found.log_file else None,
    )


def _filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    try:
        return Filter.parse(text)
    except ValueError as error:
        raise UsageError(f"--trace: {error}") from None


def default_socket(address: str) -> Path:
    """The data plane's socket when none is named: one per user and server address."""
    base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    name = "".join(c if c.isalnum() else "-" for c in address)
    return Path(base) / f"shadowplane-{os.getuid()}-{name}.sock"


def _within(flag: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{flag} {value} is not within {low}..{high}")


def _interfaces(given: Sequence[str], reserved: set[int]) -> dict[int, str]:
    out: dict[int, str] = {}
    for item in given:
        number, at, name = item.partition("@")
        if not at or not number.isdecimal() or not name:
            raise UsageError(f"-i {item}: expected PORT@INTERFACE, e.g. 1@s1-eth1")
        port = int(number)
        _within(f"-i {item}: port", port, 0, MAX_PORT)
        if port in reserved:
            raise UsageError(f"-i {item}: port {port} is the CPU, generator or drop port")
        if port in out:
            raise UsageError(f"-i {item}: port {port} is given twice")
        if name in out.values():
            raise UsageError(f"-i {item}: interface {name} is given twice")
        out[port] = name
    return out


def _level(text: str) -> str:
    levels = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "warning": "warning"}
    levels |= {"error": "error", "critical": "error", "off": "error"}
    if text not in levels:
        raise UsageError(f"--log-level {text}: expected trace, debug, info, warn, error or off")
    return levels[text]


def _address(text: str) -> str:
    if text.startswith(("unix:", "unix-abstract:")):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--grpc-server-addr {text}: expected HOST:PORT")
    return f"{host or '127.0.0.1'}:{port}"


def _file(text: str | None) -> Path | None:
    if text is None:
        return None
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"{text}: no such file")
    return path


def _tls(found: argparse.Namespace) -> Tls | None:
    named = (found.grpc_server_cert, found.grpc_server_key, found.grpc_server_cacert)
    if not found.grpc_server_ssl:
        if any(named) or found.grpc_server_with_client_auth:
            raise UsageError("TLS files are given without --grpc-server-ssl")
        return None
    if not found.grpc_server_cert or not found.grpc_server_key:
        raise UsageError("--grpc-server-ssl needs --grpc-server-cert and --grpc-server-key")
    if found.grpc_server_with_client_auth and not found.grpc_server_cacert:
        raise UsageError("--grpc-server-with-client-auth needs --grpc-server-cacert")
    certificate, key = _file(found.grpc_server_cert), _file(found.grpc_server_key)
    assert certificate is not None and key is not None
    return Tls(certificate, key, _file(found.grpc_server_cacert) if found.grpc_server_with_client_auth else None)
